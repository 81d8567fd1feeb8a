"""The head of a subject of the log: what its owner knows, and producers number by.

`psm.get.head` is a request whose body is the public subject (`trades.acc_001`, `marks.BTC-PERP`);
the worker that owns the subject answers from its books. Who numbers an event takes the head, then
judges the messages on the subject above `log_sequence` (or asks again until there are none), and
appends with `Nats-Expected-Last-Subject-Sequence`. Nothing else is safe: the last message of a
subject may be a repeat, a conflict or junk, and none of these has a number.
"""

from __future__ import annotations

import msgspec

from psm.contracts.update_fields import Status

HEAD_SUBJECT = "psm.get.head"
"""Subject of the request."""

HASH_DIGITS = 32
"""How many hex digits of an event's SHA-256 a head has."""


class HeadEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One of the last events that took a place.

    Attributes:
        number: its place.
        event_id: its identity, a UUID.
        event_hash: SHA-256 of its bytes, the first 32 hex digits.
        refused: it has its place and changed nothing.
    """

    number: int
    event_id: str
    event_hash: str
    refused: bool = False


class SubjectHead(msgspec.Struct, frozen=True, kw_only=True):
    """The head of one subject, as of a log sequence.

    Attributes:
        subject: public, as asked.
        log_sequence: everything on the subject up to here is in the head.
        last: the highest number that is taken; 0 for none.
        parked: numbers beyond it that wait for a gap to close.
        status: of the stream; `open` where the subject is no account's.
        last_of_subject: log sequence of the last message on the subject, repairs of an account
            included; 0 where that is unknown.
        events: those at the last 256 places of an account.
    """

    subject: str
    log_sequence: int
    last: int
    parked: list[int] = []
    status: Status = "open"
    last_of_subject: int = 0
    events: list[HeadEvent] = []

    @property
    def next_number(self) -> int:
        """The number to assign if nothing came since: a gap is never filled."""
        return max(self.parked, default=self.last) + 1
