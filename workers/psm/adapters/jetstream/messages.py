"""What the stream keeps and what we give it: stored and outgoing messages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from psm.adapters.jetstream.direct import parse_lines

STATUS = "Status"
DESCRIPTION = "Description"
_ADDED_BY_DIRECT_GET = frozenset(
    {"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp", "Nats-Num-Pending"}
    | {"Nats-Last-Sequence"}
)


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message as a stream keeps it.

    Attributes:
        subject: as stored, after the stream's subject transform; bytes that are no UTF-8 are
            decoded by `surrogateescape`.
        sequence: position in the stream.
        time_ns: when the leader stored it, nanoseconds since the Unix epoch.
        data: the body.
        headers: the producer's headers, or None.
    """

    subject: str
    sequence: int
    time_ns: int
    data: bytes
    headers: dict[str, str] | None = None

    @property
    def subject_bytes(self) -> bytes:
        """The subject as the broker keeps it; a client may have published any bytes."""
        return self.subject.encode("utf-8", "surrogateescape")

    def header(self, name: str) -> str | None:
        """Return one header, or None."""
        return self.headers.get(name) if self.headers else None


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """One message to publish."""

    subject: str
    data: bytes
    headers: Mapping[str, str] | None = None


def from_direct_get(headers: Mapping[str, str], data: bytes) -> StoredMessage:
    """Return the message in an answer to a direct get, without the headers the broker added."""
    own = {name: text for name, text in headers.items() if name not in _ADDED_BY_DIRECT_GET}
    return StoredMessage(
        subject=headers["Nats-Subject"],
        sequence=int(headers["Nats-Sequence"]),
        time_ns=time_ns(headers["Nats-Time-Stamp"]),
        data=data,
        headers=own or None,
    )


def parse_headers(block: bytes) -> dict[str, str] | None:
    """Return the headers of a `NATS/1.0` block, or None if there are none."""
    return parse_lines(block.partition(b"\r\n")[2]) or None


def time_ns(text: str) -> int:
    """Return nanoseconds since the epoch of an RFC 3339 UTC time, to the last digit."""
    seconds, _, fraction = text.removesuffix("Z").partition(".")
    whole = datetime.fromisoformat(seconds).replace(tzinfo=UTC)
    return int(whole.timestamp()) * 1_000_000_000 + int(fraction.ljust(9, "0") or "0")
