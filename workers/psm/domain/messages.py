"""Input and output of the fold: messages of the log in, outcomes and updates out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal

import msgspec

from psm.contracts import subjects
from psm.contracts.envelope import event_hash
from psm.contracts.errors import ConfigError
from psm.contracts.feed import POSITION_HEADER, PREVIOUS_HEADER

Emit = Literal["updates", "unhashed", "payloads", "hashes", "nothing"]
"""What a fold makes beside the outcome: updates as bytes, the same without hashes of ledger and
state, payloads as values, only the hashes, or nothing.

State, throttle and warning levels are the same whatever it is, so it may change from one message to
the next.
"""


class LogMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message of the log, exactly as it is stored.

    Attributes:
        log_sequence: position that JetStream gave the message.
        subject: as stored, `trades.<partition>.<stream_id>` or `marks.<symbol>` and so on; bytes
            that are not UTF-8 stand in it as `surrogateescape` decodes them.
        time: JetStream timestamp, nanoseconds since the Unix epoch.
        data: the body; every hash is taken over these bytes, unless the message carries one.
        traceparent: W3C trace context of the producer; carried on, never interpreted.
        carried_hash: of the bytes as they were stored, in an edition of the log in which personal
            texts are blacked out; None everywhere else.
    """

    log_sequence: int
    subject: str
    time: int
    data: bytes
    traceparent: str | None = None
    carried_hash: bytes | None = None

    @property
    def event_hash(self) -> bytes:
        """SHA-256 of the message's bytes as they were stored."""
        return self.carried_hash or event_hash(self.data)

    @property
    def kind(self) -> str:
        """First token of the subject: `trades`, `repair`, `marks` and the like."""
        return subjects.log_subject(self.subject)[0]

    @property
    def token(self) -> str:
        """Last token of the subject: the stream, or the encoded symbol."""
        return subjects.log_subject(self.subject)[1]

    @property
    def stream_id(self) -> str | None:
        """Account whose event this may be; None for what concerns no single account."""
        kind, token = subjects.log_subject(self.subject)
        return token if kind in subjects.OF_STREAMS else None

    @property
    def history_name(self) -> str:
        """What a reader of the past keeps it under, to find it for `NeedHistory`.

        The stream, or the subject of the market; collateral is asked for as a whole.
        """
        kind, token = subjects.log_subject(self.subject)
        if kind in subjects.OF_STREAMS:
            return token
        return "collateral.*" if kind == "collateral" else self.subject


class Update(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One state change to publish.

    Attributes:
        kind: such as `position.updated`; the middle of the subject.
        stream_id: the account, or the symbol token for a refused mark or instrument.
        partition: virtual partition of the stream.
        event_id: deterministic: same input, same id.
        data: canonical bytes of the envelope.
        log_sequence: of the message whose folding produced the update.
        number: which of the updates of its stream of that message, from 1.
        count: how many there are.
        previous: log sequence of the message that updated the account before, 0 for none; None
            where there is no account.
    """

    kind: str
    stream_id: str
    partition: int
    event_id: str
    data: bytes
    log_sequence: int
    number: int = 1
    count: int = 1
    previous: int | None = None

    @property
    def subject(self) -> str:
        """The durable subject, `psm.<kind>.<verb>.<partition>.<stream_id>`."""
        return subjects.update(self.kind, self.partition, self.stream_id)

    @property
    def headers(self) -> dict[str, str]:
        """Headers by which a subscriber that may lose messages notices it: `contracts.feed`."""
        position = {POSITION_HEADER: f"{self.log_sequence}/{self.number}/{self.count}"}
        if self.previous is None:
            return position
        return {**position, PREVIOUS_HEADER: str(self.previous)}


class Published(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One update as values, for a reader in the same process.

    Attributes:
        kind: such as `position.updated`.
        stream_id: the account, or the symbol token for a refused mark or instrument.
        payload: what decoding the update's payload would give.
    """

    kind: str
    stream_id: str
    payload: dict[str, Any]


class StateHashes(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Hashes that one `StateUpdated` carries, where the update itself is not wanted.

    Attributes:
        stream_id: the account.
        sequence_number: its version.
        chain_hash, ledger_hash, state_hash: as of that update.
    """

    stream_id: str
    sequence_number: int
    chain_hash: bytes
    ledger_hash: bytes
    state_hash: bytes


class Outcome(StrEnum):
    """Outcome of a message; `skipped` only while recovering, before a snapshot.

    `compared`: what somebody reports that the account has, which takes no place.
    """

    APPLIED = "applied"
    REFUSED = "refused"
    DUPLICATE = "duplicate"
    STALE = "stale"
    CONFLICT = "conflict"
    PARKED = "parked"
    HELD = "held"
    REJECTED = "rejected"
    BLOCKED = "blocked"
    COMPARED = "compared"
    SKIPPED = "skipped"


class Placement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event that entered its stream's hash chain while one message was folded.

    Attributes:
        stream_id: whose.
        number: its place; of an operator event the number that the stream stands at after it.
        event_id: of the event.
        event_type: of the event.
        timestamp: the event's own time.
        event_hash: of its bytes.
        log_sequence: of its own message; lower than the folded message's where it waited.
        outcome: applied, refused, or blocked: a retry in vain.
        reason: code of a refusal, or of what still blocks.
        flags: opinions about the event itself.
        announced: whether a `StateUpdated` reports it; not of an operator event whose effect is
            reported with what it settles.
    """

    stream_id: str
    number: int
    event_id: str
    event_type: str
    timestamp: str
    event_hash: bytes
    log_sequence: int
    outcome: Outcome
    reason: str | None = None
    flags: tuple[str, ...] = ()
    announced: bool = True


class Folded(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of a message, and what it caused, in order.

    Attributes:
        placements: events that took a place, in the order of the hash chain; several where the
            message released some that had waited.
        updates: to publish.
        payloads: of the same updates, where values were asked for instead of bytes.
        hashes: of each `StateUpdated`, where hashes were asked for instead of updates.
    """

    outcome: Outcome
    reason: str | None = None
    stream_id: str
    sequence_number: int | None = None
    placements: Sequence[Placement] = ()
    updates: list[Update]
    payloads: Sequence[Published] = ()
    hashes: Sequence[StateHashes] = ()


class NeedHistory(msgspec.Struct, frozen=True, kw_only=True):
    """Range of the log (inclusive) that the fold needs before it can go on; nothing changed.

    Attributes:
        stream_id: whose messages are needed.
        correction: whether a correction books the stream again.
        symbols: whose definitions are needed too, in the same range.
        marks: whose marks are needed, with what collateral was; None: none of both.
    """

    stream_id: str
    from_log_sequence: int
    to_log_sequence: int
    correction: bool = False
    symbols: tuple[str, ...] = ()
    marks: tuple[str, ...] | None = None

    def market_subjects(self) -> list[str]:
        """Return the subjects of the market that are needed beside the stream."""
        found = [f"instruments.{subjects.encode_token(symbol)}" for symbol in self.symbols]
        if self.marks is None:
            return found
        marks = [f"marks.{subjects.encode_token(symbol)}" for symbol in self.marks]
        return [*found, *marks, "collateral.*"]

    def holds(self, message: LogMessage, partitions: int) -> bool:
        """Return whether a message of a log of so many partitions is one that is needed."""
        if not self.from_log_sequence <= message.log_sequence <= self.to_log_sequence:
            return False
        if message.stream_id is not None:
            return message.subject in subjects.stream_subjects(self.stream_id, partitions)
        if message.kind == "collateral":
            return self.marks is not None
        return message.subject in self.market_subjects()


class UnknownRulesError(ConfigError):
    """The log enables rules that this code does not know: run a newer version."""


History = Mapping[int, LogMessage]
"""Messages of one stream by log sequence."""
