"""What goes into the fold and what comes out: log messages in, updates out."""

from __future__ import annotations

import msgspec

from psm.contracts import subjects


class LogMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message of the log, exactly as it is stored.

    Attributes:
        log_sequence: position that JetStream gave the message.
        subject: as stored, `trades.<partition>.<stream_id>` or `marks.<symbol>` and so on.
        time: JetStream timestamp, nanoseconds since the Unix epoch.
        data: the body; every hash is taken over these bytes.
        traceparent: W3C trace context of the producer; carried on, never interpreted.
    """

    log_sequence: int
    subject: str
    time: int
    data: bytes
    traceparent: str | None = None


class Update(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One state change to publish.

    Attributes:
        kind: such as `position.updated`; the middle of the subject.
        stream_id: the account, or the symbol token for a refused mark or instrument.
        partition: virtual partition of the stream.
        event_id: deterministic: same input, same id.
        data: canonical bytes of the envelope.
        log_sequence: of the message whose folding produced the update.
    """

    kind: str
    stream_id: str
    partition: int
    event_id: str
    data: bytes
    log_sequence: int

    @property
    def subject(self) -> str:
        """The durable subject, `psm.<kind>.<verb>.<partition>.<stream_id>`."""
        return subjects.update(self.kind, self.partition, self.stream_id)


class StateHashes(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The hashes that one `StateUpdated` carries, where nobody wants the update itself.

    Attributes:
        stream_id: the account.
        sequence_number: its version.
        ledger_hash, state_hash: as of that update.
    """

    stream_id: str
    sequence_number: int
    ledger_hash: bytes
    state_hash: bytes
