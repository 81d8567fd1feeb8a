"""A parser that reads whatever a broker may send, and hands messages straight to their reader.

nats-py decodes subjects as UTF-8 and splits lines at more blanks than the broker does. A message
with other bytes in its subject, which any client may publish, would end the connection, again at
each reconnect. `DirectParser` cuts every message out of what was received as the broker wrote it.

nats-py also gives each message a regular expression, an object, a place in a queue and a coroutine,
6 to 8 µs. Who reads a log needs the bytes: a subscription that is attached gets them at once.
What is no message is parsed by nats-py, one complete operation at a time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import ProtocolError
from nats.protocol.parser import CRLF_SIZE, Parser

_LINE_END = b"\r\n"
_FIELDS = {b"MSG": (4, 5), b"HMSG": (5, 6)}  # without and with a reply subject
_ERROR = b"-ERR"


class Receiver(Protocol):
    """Takes the messages of one subscription."""

    def receive(
        self, subject: str, reply: str, headers: dict[str, str] | None, data: bytes
    ) -> None:
        """Take a message; called in the order of arrival."""


class DirectParser(Parser):
    """The parser of one connection."""

    def __init__(self, nc: Client) -> None:
        self._receivers: dict[bytes, tuple[bytes, Receiver]] = {}
        self._resets = 0
        super().__init__(nc)

    def attach(self, subscription: Subscription, receiver: Receiver) -> None:
        """From now on hand over what arrives, but for messages on the subscribed subject itself.

        Those are what the broker says about a pull. They are left to the subscription's callback,
        which may be called later than the receiver.
        """
        sid = str(subscription._id).encode()  # noqa: SLF001 - the wire knows nothing else
        self._receivers[sid] = (subscription.subject.encode(), receiver)

    def detach(self, subscription: Subscription) -> None:
        """Leave what arrives to the subscription's callback again."""
        self._receivers.pop(str(subscription._id).encode(), None)  # noqa: SLF001 - likewise

    def reset(self) -> None:
        """Forget what is half received: the connection has ended."""
        self._resets += 1
        super().reset()

    async def parse(self, data: bytes = b"") -> None:
        """Take what was received."""
        resets = self._resets
        if self.buf:
            data = bytes(self.buf) + data
            self.buf.clear()
        at = 0
        while self._resets == resets:
            try:
                at = self._hand_over(data, at)
                end = _end_of_operation(data, at)
                if end < 0:
                    self.buf += data[at:]
                    return
                await self._process(data[at:end])
            except ValueError as error:
                raise ProtocolError("nats: malformed message") from error
            at = end

    async def _process(self, operation: bytes) -> None:
        """Give one complete operation to the connection."""
        line, _, body = operation.partition(_LINE_END)
        fields = line.split(b" ")
        if fields[0] in _FIELDS:
            least, most = _FIELDS[fields[0]]
            if not least <= len(fields) <= most:
                raise ProtocolError(f"nats: {len(fields)} fields in a message")
            reply = fields[3] if len(fields) == most else b""
            head = int(fields[-2]) if fields[0] == b"HMSG" else 0
            payload, block = body[head:-CRLF_SIZE], body[:head]
            await self.nc._process_msg(int(fields[2]), fields[1], reply, payload, block)  # noqa: SLF001 - what nats-py calls
        elif fields[0] == _ERROR:
            # It may repeat a subject, with bytes that are no text.
            text = line[len(_ERROR) :].strip().decode("utf-8", "backslashreplace")
            await self.nc._process_err(text)  # noqa: SLF001 - likewise
        else:
            await super().parse(operation)

    def _hand_over(self, data: bytes, at: int) -> int:
        """Hand over the messages at `at`; return where the first stands that is not one."""
        receivers = self._receivers
        size = len(data)
        count = received = 0
        while True:
            line_end = data.find(_LINE_END, at)
            if line_end < 0:
                break
            fields = data[at:line_end].split(b" ")
            if len(fields) < 4 or fields[0] not in _FIELDS:
                break
            found = receivers.get(fields[2])
            if found is None or found[0] == fields[1]:
                break
            body = line_end + CRLF_SIZE
            end = body + int(fields[-1])
            if end + CRLF_SIZE > size:
                break
            headers = None
            if fields[0] == b"HMSG":
                block = data[body : body + int(fields[-2])]
                body += len(block)
                # Behind the line with the protocol's version.
                headers = parse_lines(block[block.find(_LINE_END) + CRLF_SIZE :])
            reply = fields[3] if len(fields) == _FIELDS[fields[0]][1] else b""
            found[1].receive(_text(fields[1]), _text(reply), headers or None, data[body:end])
            count += 1
            received += end - body
            at = end + CRLF_SIZE
        self.nc.stats["in_msgs"] += count
        self.nc.stats["in_bytes"] += received
        return at


def parse_lines(block: bytes) -> dict[str, str]:
    """Return the headers in `block` as nats-py reads them, each name looked at only once."""
    headers: dict[str, str] = {}
    for line in block.split(_LINE_END):
        name, colon, value = line.partition(b":")
        if colon and (known := _header_name(name)) is not None:
            headers[known] = value.strip().decode("utf-8", "replace")
    return headers


@lru_cache(maxsize=1024)
def _header_name(name: bytes) -> str | None:
    """Return a name as text; None where nats-py leaves the line out."""
    return next(iter(Client._parse_header_lines(name + b":")), None)  # noqa: SLF001 - its rule


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _end_of_operation(data: bytes, at: int) -> int:
    """Return where the operation that begins at `at` ends; -1 if it has not arrived in full."""
    line_end = data.find(_LINE_END, at)
    if line_end < 0:
        return -1
    end = line_end + CRLF_SIZE
    fields = data[at:line_end].split(b" ")
    if fields and fields[0] in _FIELDS:
        end += int(fields[-1]) + CRLF_SIZE
    return end if end <= len(data) else -1
