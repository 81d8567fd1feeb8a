"""A TCP proxy that cuts, stalls, delays and changes what goes through it.

For NATS it knows where a protocol frame ends, so that single messages can be dropped, doubled or
swapped. For any protocol it can go silent without closing (a half-open connection), close with a
reset, and refuse new connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

Direction = Literal["up", "down"]
Change = Callable[[Direction, bytes], list[bytes]]
"""Takes the direction (`up` is to the server) and one frame; returns what to send instead."""

_CHUNK = 64 * 1024
_WITH_BODY = re.compile(rb"^(H?PUB|H?MSG) ", re.IGNORECASE)
_END = b"\r\n"


class TcpProxy:
    """Listens on loopback and forwards to one address.

    Attributes:
        port: where it listens.
        connections: how many it has accepted.
        change: applied to every frame, or chunk of bytes where frames are not asked for.
        delay_s: added to every piece in each direction.
    """

    def __init__(self, target: str, *, frames: bool = False) -> None:
        """Nothing listens yet.

        Args:
            target: URL or host:port of the server.
            frames: whether it speaks NATS and `change` takes whole frames.
        """
        self.aim(target)
        self.port = 0
        self.connections = 0
        self.change: Change | None = None
        self.delay_s = 0.0
        self._frames = frames
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: set[asyncio.Task[object]] = set()
        self._flows: set[asyncio.Event] = set()
        self._refuses = False

    def aim(self, target: str) -> None:
        """Forward what connects from now on to this URL or host:port."""
        parts = urlsplit(target if "://" in target else f"//{target}")
        assert parts.hostname
        assert parts.port
        self._target = parts.hostname, parts.port

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything."""
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._handlers, return_exceptions=True)

    def cut(self) -> int:
        """Reset every connection; return how many there were."""
        writers, self._open = self._open, set()
        for writer in writers:
            with contextlib.suppress(OSError):
                # Linger 0: the peer gets a reset, as from a firewall or a crashed host.
                raw = writer.get_extra_info("socket")
                linger = struct.pack("ii", 1, 0)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        return len(writers) // 2

    def silence(self) -> int:
        """Forward and read nothing more on the open connections, and close nothing.

        The other side just hears nothing any more. New connections work. Returns how many it was.
        """
        for flow in self._flows:
            flow.clear()
        return len(self._flows)

    def flow(self) -> None:
        """Go on after `silence`."""
        for flow in self._flows:
            flow.set()

    def refuse(self, *, refuses: bool) -> None:
        """Accept no new connections from now on, or do again."""
        self._refuses = refuses

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)
        if self._refuses:
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self.connections += 1
        flow = asyncio.Event()
        flow.set()
        self._flows.add(flow)
        self._open |= {writer, up_writer}
        both = [
            asyncio.create_task(self._pump("up", reader, up_writer, flow)),
            asyncio.create_task(self._pump("down", up_reader, writer, flow)),
        ]
        self._tasks |= set(both)
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        self._flows.discard(flow)
        for one in (writer, up_writer):
            self._open.discard(one)
            one.close()
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        self._tasks -= set(both)

    async def _pump(
        self,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        flow: asyncio.Event,
    ) -> None:
        try:
            async for piece in self._pieces(reader):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await flow.wait()
                for changed in self.change(direction, piece) if self.change else [piece]:
                    writer.write(changed)
                await writer.drain()
        except OSError:
            return

    async def _pieces(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        if not self._frames:
            while chunk := await reader.read(_CHUNK):
                yield chunk
            return
        buffer = b""
        while chunk := await reader.read(_CHUNK):
            buffer += chunk
            start = 0
            while (end := _frame_end(buffer, start)) is not None:
                yield buffer[start:end]
                start = end
            buffer = buffer[start:]


def _frame_end(buffer: bytes, start: int) -> int | None:
    """Return where the NATS frame at `start` ends; None if it is not all there."""
    line_end = buffer.find(_END, start)
    if line_end < 0:
        return None
    end = line_end + len(_END)
    line = buffer[start:line_end]
    if _WITH_BODY.match(line):
        end += int(line.rsplit(b" ", 1)[1]) + len(_END)
    return end if end <= len(buffer) else None


def through(dsn: str, proxy: TcpProxy) -> str:
    """Return the same address of a database, by way of a proxy."""
    parts = urlsplit(dsn)
    place = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}"
    return urlunsplit(parts._replace(netloc=place))


@asynccontextmanager
async def proxied(target: str, *, frames: bool = False) -> AsyncIterator[TcpProxy]:
    """Give a proxy in front of a server."""
    proxy = TcpProxy(target, frames=frames)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
