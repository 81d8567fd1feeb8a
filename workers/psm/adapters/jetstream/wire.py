"""The messages of an atomic batch, all but the last, in one write.

`Client.publish` of nats-py checks, frames and queues each message by itself. The headers of a
batch are known, so a batch can be framed at a third of the cost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from nats.aio.client import Client
from nats.errors import BadHeaderError, BadSubjectError, MaxPayloadError

from psm.adapters.jetstream.messages import Outgoing

BATCH_ID = "Nats-Batch-Id"
BATCH_SEQUENCE = "Nats-Batch-Sequence"

_BLANK = re.compile(r"[ \t\r\n]")
_NAME = re.compile(r"[!-9;-~]+")  # printable ASCII without the colon
_LINE_ENDS = str.maketrans("\r\n", "  ")


async def send_batch(
    nc: Client, messages: Sequence[Outgoing], batch_id: str, guard: Mapping[str, str]
) -> None:
    """Hand the messages of a batch to the connection, in order and from number 1, or none.

    Args:
        nc: connection.
        messages: without the one that commits.
        batch_id: of the batch.
        guard: headers that the first message carries besides.

    Raises:
        BadSubjectError, BadHeaderError, MaxPayloadError: one of them cannot be sent.
    """
    most = nc.max_payload
    common = f"NATS/1.0\r\n{BATCH_ID}: {batch_id}\r\n{BATCH_SEQUENCE}: "
    parts: list[bytes] = []
    lines = _lines(guard)
    for number, message in enumerate(messages, start=1):
        subject, data = message.subject, message.data
        if not subject or _BLANK.search(subject):
            raise BadSubjectError
        if len(data) > most:
            raise MaxPayloadError
        if message.headers:
            lines += _lines(message.headers)
        head = f"{common}{number}\r\n{lines}\r\n".encode("utf-8", "surrogateescape")
        lines = ""
        parts += (
            f"HPUB {subject} {len(head)} {len(head) + len(data)}\r\n".encode(),
            head,
            data,
            b"\r\n",
        )
    # What `publish` ends with, too.
    await nc._send_command(b"".join(parts))  # noqa: SLF001 - nats-py offers no write of many


def _lines(headers: Mapping[str, str]) -> str:
    """Return headers as they are sent; a producer's text cannot end its line."""
    for name in headers:
        if not _NAME.fullmatch(name):
            raise BadHeaderError(name)
    return "".join(
        f"{name}: {text.strip().translate(_LINE_ENDS)}\r\n" for name, text in headers.items()
    )
