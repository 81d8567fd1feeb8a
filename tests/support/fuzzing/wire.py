"""NATS and HTTP as bytes on a socket: what no client library would ever send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

WAIT_S = 30.0
_CONNECT = {
    "verbose": False,
    "pedantic": False,
    "headers": True,
    "no_responders": True,
    "lang": "raw",
    "version": "1",
    "name": "fuzz",
}


class Odd(msgspec.Struct, frozen=True, kw_only=True):
    """One message as the protocol takes it.

    Attributes:
        name: what is odd about it.
        subject: bytes without blanks and line ends, which would be another command.
        body: any bytes.
        headers: the block as it goes over the wire, `NATS/1.0` included; None for none.
    """

    name: str
    subject: bytes
    body: bytes = b"{}"
    headers: bytes | None = None

    def command(self) -> bytes:
        """Return the command that publishes it."""
        if self.headers is None:
            return b"PUB %b %d\r\n%b\r\n" % (self.subject, len(self.body), self.body)
        both = self.headers + self.body
        return b"HPUB %b %d %d\r\n%b\r\n" % (self.subject, len(self.headers), len(both), both)


async def publish(url: str, messages: Sequence[Odd]) -> list[str]:
    """Publish in order and wait until the broker read all of it; return its complaints.

    A broker that hangs up on a message is connected to again, for the messages after it.
    """
    complaints: list[str] = []
    rest = list(messages)
    while rest:
        sent, said = await _published(url, rest)
        complaints += said
        rest = rest[sent:]
    return complaints


async def _published(url: str, messages: Sequence[Odd]) -> tuple[int, list[str]]:
    """Publish until the broker hangs up; return how many messages are dealt with."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port or 4222)
    said: list[str] = []
    try:
        await reader.readline()
        writer.write(b"CONNECT " + json.dumps(_CONNECT).encode() + b"\r\n")
        for count, message in enumerate(messages, start=1):
            writer.write(message.command() + b"PING\r\n")
            await writer.drain()
            if not await _answered(reader, said):
                return count, said
        return len(messages), said
    except OSError as error:
        return 1, [*said, f"{type(error).__name__}"]
    finally:
        writer.close()


async def _answered(reader: asyncio.StreamReader, said: list[str]) -> bool:
    """Read up to the PONG; return whether the connection is still there."""
    async with asyncio.timeout(WAIT_S):
        while line := await reader.readline():
            if line == b"PONG\r\n":
                return True
            if line.startswith(b"-ERR"):
                said.append(line.decode("utf-8", "replace").strip())
    return False


async def http(url: str, request: bytes, *, wait: bool = True) -> bytes:
    """Send bytes to an HTTP service; return its answer, or nothing if it hung up.

    Args:
        url: of the service.
        request: the whole request as bytes.
        wait: False hangs up at once, in the middle of it.
    """
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(request)
        await writer.drain()
        if not wait:
            return b""
        async with asyncio.timeout(WAIT_S):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()
