"""The HTTP server: uvicorn with a limit on everything that a client can make it wait for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import h11
import msgspec
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from psm.adapters.logs import get_logger
from psm.contracts.errors import ConfigError
from psm.workers.api.door import Proxies
from psm.workers.api.problems import problem

_DRAIN_S = 10
_BACKLOG = 1024
_log = get_logger()


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one client, and all of them, may take of this process.

    Attributes:
        connections: open at a time; beyond it requests are answered 503.
        connections_per_address: open at a time from one address that is no trusted proxy.
        receive_s: for the head of a request, and again for its body.
        send_s: for a client that stopped reading to go on with it.
    """

    connections: int = 1000
    connections_per_address: int = 256
    receive_s: float = 10.0
    send_s: float = 30.0


class HttpServer(uvicorn.Server):
    """uvicorn, but signals are the command's: its own handling ends the process by the signal."""

    def __init__(
        self, app: ASGIApp, limits: ServerLimits | None = None, proxies: Proxies | None = None
    ) -> None:
        self.guard = _Guard(limits or ServerLimits(), proxies or Proxies())
        super().__init__(
            uvicorn.Config(
                app,
                http=self._protocol,  # type: ignore[arg-type]
                ws="none",
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                proxy_headers=False,  # the door decides whom to believe
                limit_concurrency=self.guard.limits.connections,
                timeout_graceful_shutdown=_DRAIN_S,
            )
        )

    def limit(self, limits: ServerLimits) -> None:
        """Judge by other limits from now on; connections that are open stay."""
        self.guard.limits = limits
        self.config.limit_concurrency = limits.connections

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    def stop(self) -> None:
        """Finish the requests at hand and end."""
        self.should_exit = True

    def _protocol(self, **given: Any) -> _Connection:
        return _Connection(self.guard, **given)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        ConfigError: the address cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port} ({error.strerror}); "
            "choose another address with --host, --port or PSM_HTTP_PORT"
        ) from error
    # Head and body of an answer are two writes: without this the second one waits for the client
    # to acknowledge the first, 40 ms. asyncio sets it only for sockets that name their protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)
    return listener


class _Guard:
    """What all connections share: the limits, and how many there are from each address."""

    def __init__(self, limits: ServerLimits, proxies: Proxies) -> None:
        self.limits = limits
        self._proxies = proxies
        self._open: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Count a connection; False where its address has too many already."""
        self._open[address] += 1
        return self._open[address] <= self.limits.connections_per_address or self._proxies.trusts(
            address
        )

    def leave(self, address: str) -> None:
        """Forget a connection."""
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]


class _Connection(H11Protocol):
    """One connection that waits for its client for a limited time only, in either direction.

    uvicorn has a time limit for idle connections alone: one on which half a request arrived, or
    whose client does not read, would stay for ever.
    """

    def __init__(self, guard: _Guard, **given: Any) -> None:
        super().__init__(**given)
        self._guard = guard
        self._address = ""
        self._awaited: type[h11.IDLE] | type[h11.SEND_BODY] | None = None
        self._receiving: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        if not self._guard.enter(self._address):
            _log.info("http.too_many_connections", client=self._address)
            transport.abort()
            return
        self._await_client()

    def connection_lost(self, exc: Exception | None) -> None:
        self._guard.leave(self._address)
        for timer in (self._receiving, self._sending):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_client()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._await_reader()
        else:
            self._await_client()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._await_reader()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._sending is not None and not self.transport.is_closing():
            self._sending.cancel()
            self._sending = None

    def send_400_response(self, msg: str) -> None:
        """Say that this is not HTTP."""
        self._end("malformed-request", msg)

    def _await_client(self) -> None:
        """Start the clock when a head or a body begins to be awaited, stop it when it is here."""
        state = self.conn.their_state
        awaited = state if state in (h11.IDLE, h11.SEND_BODY) else None
        if awaited is self._awaited:
            return
        self._awaited = awaited
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None
        if awaited is not None:
            self._receiving = self.loop.call_later(self._guard.limits.receive_s, self._too_slow)

    def _too_slow(self) -> None:
        """Close; to somebody who has asked half of something, say why."""
        what = "head" if self._awaited is h11.IDLE else "body"
        detail = f"the {what} of the request was not here after {self._guard.limits.receive_s:g} s"
        _log.info("http.client_too_slow", detail=detail, client=self._address)
        if self._awaited is h11.IDLE and not self.conn.trailing_data[0]:
            self.transport.close()  # nothing was asked: an answer would be taken for the next one's
        else:
            self._end("request-timeout", detail)

    def _await_reader(self) -> None:
        """Start the clock for a client that does not read what is ready for it."""
        if self._sending is None:
            self._sending = self.loop.call_later(self._guard.limits.send_s, self._not_read)

    def _not_read(self) -> None:
        if self.transport.get_write_buffer_size():
            _log.info("http.client_not_reading", client=self._address)
        self.transport.abort()

    def _end(self, kind: str, detail: str) -> None:
        """Close the connection, with a problem document if no answer has begun."""
        cycle = self.cycle
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            path = self.scope["path"] if self.conn.our_state is h11.SEND_RESPONSE else ""
            answer = problem(kind, detail, path)
            events = (
                h11.Response(
                    status_code=answer.status_code,
                    headers=[*answer.raw_headers, (b"connection", b"close")],
                    reason=STATUS_PHRASES[answer.status_code],
                ),
                h11.Data(data=bytes(answer.body)),
                h11.EndOfMessage(),
            )
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()
        self._await_reader()
