"""The NATS client of all our connections: nats-py, without what harms a process that must go on.

* Whatever bytes a message has in its subject and headers, it is given to its subscription.
* Nothing is sent that the broker would answer by closing the connection, which nats-py takes for
  the end: a subject or a message that is too long is refused here, by name.
* Who waits for an answer that the broker's permissions do not let come is told at once.
* A broker that takes nothing is given up.
* Files of keys and certificates may be replaced: each connection is made with them as they are.
* Where TLS is asked for, nothing is said to a server without it, not even who we are.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

import nats.errors
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg

from psm.adapters.jetstream.direct import DirectParser, parse_lines
from psm.adapters.jetstream.errors import PermissionRefusedError
from psm.adapters.jetstream.messages import DESCRIPTION, STATUS
from psm.adapters.jetstream.wire import check_message
from psm.adapters.secret_files import Look, look_at
from psm.adapters.tls import ClientTls

CLOSE_S = 2.0

_SEQUENCE = "Nats-Sequence"
_SUBJECT = b"\r\nNats-Subject: "  # the broker's own, behind whatever the producer wrote
_VERSION = b"NATS/1.0 "
_NOT_LET_IN = ("authorization violation", "authentication expired", "authentication revoked")
_REFUSED = re.compile(r"(?i)permissions violation for (publish|subscription) to \"(.*?)\"")


class RobustClient(Client):
    """A client that one message cannot end, and one broker not hold.

    Attributes:
        identity_files: in which it stands who we are. A broker that lets us in no more ends the
            connection then and not the client, for a file may be a new one; and a file that changes
            makes a new connection.
        server_asked: host and port of the last server that was tried.
    """

    def __init__(self) -> None:
        super().__init__()
        self.identity_files: tuple[str, ...] = ()
        self._identity: Look = ()
        self.server_asked = ("", 0)
        self._ps = DirectParser(self)
        self._asked: dict[asyncio.Future[Any], str] = {}
        self._deaf: str | None = None  # the inbox that the broker does not let it hear

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        reply: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Publish, unless the broker would close the connection for it.

        Raises:
            UnsendableError: the subject or the message cannot be sent.
        """
        check_message(subject, len(payload), self.max_payload, reply, headers)
        waiting = self._resp_map.get(reply.rpartition(".")[2]) if reply else None
        if waiting is not None:
            self.fail_if_refused(waiting, subject)
        await super().publish(subject, payload, reply, dict(headers) if headers else None)

    def fail_if_refused(self, answer: asyncio.Future[Any], subject: str) -> None:
        """Let a future fail as soon as the broker says that `subject` may not be published to.

        Raises:
            PermissionRefusedError: it has said before that no answer can come.
        """
        if self._deaf is not None:
            raise PermissionRefusedError("subscribe to", self._deaf)
        self._asked[answer] = subject
        answer.add_done_callback(self._asked.pop)

    async def close(self) -> None:
        """Close; what cannot be sent in `CLOSE_S` is lost."""
        # nats-py sends what it has buffered first, and waits for that without end. A frozen broker
        # takes nothing: with more buffered than the socket holds, it would never close.
        if self._flush_queue is None:
            return  # it was refused before it began
        self._abort_in(CLOSE_S)
        with contextlib.suppress(OSError):
            await super().close()

    async def _attempt_reconnect(self) -> None:
        # Nobody waits for what is still buffered: requests time out and are sent again.
        self._abort_in(0)
        self._deaf = None
        await super()._attempt_reconnect()

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """What the next connection is made with."""
        tls = self.options.get("tls")
        return tls.context() if isinstance(tls, ClientTls) else super().ssl_context

    @property
    def open_transport(self) -> object:
        """The stream of the present connection, which knows the peer's certificate."""
        return getattr(self._transport, "_io_writer", None)

    def _setup_nkeys_connect(self) -> None:
        with _credentials():
            super()._setup_nkeys_connect()

    def _connect_command(self) -> bytes:
        self._identity = look_at(self.identity_files)
        with _credentials():
            if self._nkeys_seed is not None:
                super()._setup_nkeys_connect()  # read its seed each time, its public half once
            return super()._connect_command()

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        # One of the regular ones: nobody waits for its answer.
        if future is None and self._identity != look_at(self.identity_files):
            await self.force_reconnect()
        else:
            await super()._send_ping(future)

    async def _connect_to_server(self, s: Srv) -> None:
        self.server_asked = (s.uri.hostname or "", s.uri.port or 0)
        # One whose greeting did not come in time is forgotten by nats-py, open.
        self._abort_in(0)
        await super()._connect_to_server(s)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # nats-py leaves it to the server, or to whoever stands between and greets in its place.
        if initial_connection and self._asks_for_tls():
            if not (info.get("tls_required") or info.get("tls_available")):
                raise nats.errors.SecureConnWantedError
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)

    def _asks_for_tls(self) -> bool:
        """Return whether TLS is still to begin; with `wss` it has."""
        scheme = self._current_server.uri.scheme if self._current_server else ""
        return scheme == "tls" or (scheme != "wss" and self.options.get("tls") is not None)

    async def _process_headers(self, headers: bytes | None) -> dict[str, str] | None:
        return read_headers(headers) if headers else None

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        return self.msg_class(
            subject=subject.decode("utf-8", "surrogateescape"),
            reply=reply.decode("utf-8", "surrogateescape"),
            data=data,
            headers=headers,
            _client=self,
            _sid=sid,
        )

    async def _process_err(self, err_msg: str) -> None:
        refused = _REFUSED.search(err_msg)
        if refused is not None:
            self._refuse(refused[1].lower(), refused[2])
        said = err_msg.lower()
        if self.identity_files and self.is_connected and any(text in said for text in _NOT_LET_IN):
            await self._error_cb(nats.errors.Error(f"nats: {said}"))
            await self._process_op_err(nats.errors.AuthorizationError())
            return
        await super()._process_err(said)

    def _refuse(self, kind: str, subject: str) -> None:
        """Tell who waits for what the broker has just refused."""
        if kind == "publish":
            action = "publish to"
        else:
            action = "subscribe to"
            if not subject.startswith(bytes(self._inbox_prefix).decode()):
                return
            self._deaf = subject
        for answer, asked in list(self._asked.items()):
            if not answer.done() and (kind != "publish" or asked == subject):
                answer.set_exception(PermissionRefusedError(action, subject))

    def _abort_in(self, seconds: float) -> None:
        """End the present connection then, if it did not end by itself."""
        writer = getattr(self._transport, "_io_writer", None)
        if isinstance(writer, asyncio.StreamWriter):
            asyncio.get_running_loop().call_later(seconds, writer.transport.abort)


@contextlib.contextmanager
def _credentials() -> Iterator[None]:
    """Let what is wrong with a file be one of the errors that nats-py tries again after.

    Any other would end the task that reconnects, without a word.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # nkeys' errors have no class in common
        raise nats.errors.Error(f"the credentials file cannot be used: {error}") from error


def read_headers(block: bytes) -> dict[str, str] | None:
    """Return the headers of a message, whatever bytes they are.

    The broker's own status, such as `NATS/1.0 404 Message Not Found`, is given as nats-py gives
    it. A message of a stream has a place in it and is never a status, whatever its producer wrote.
    """
    line, _, rest = block.partition(b"\r\n")
    headers = parse_lines(rest)
    if _SEQUENCE in headers:
        headers.pop(STATUS, None)
        subject = block.rpartition(_SUBJECT)[2].partition(b"\r\n")[0]
        headers["Nats-Subject"] = subject.decode("utf-8", "surrogateescape")
    elif line.startswith(_VERSION):
        code, _, description = line[len(_VERSION) :].strip().partition(b" ")
        if code.isdigit():
            headers[STATUS] = code.decode()
        if description:
            headers[DESCRIPTION] = description.strip().decode("utf-8", "replace")
    return headers or None
