"""What the fold answers: an outcome with updates, or the history it needs first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from psm.contracts.errors import ConfigError
from psm.domain.messages import LogMessage, StateHashes, Update


class Outcome(StrEnum):
    """What happened to a message; `skipped` only while recovering, behind a snapshot."""

    APPLIED = "applied"
    REFUSED = "refused"
    DUPLICATE = "duplicate"
    STALE = "stale"
    CONFLICT = "conflict"
    PARKED = "parked"
    HELD = "held"
    REJECTED = "rejected"
    BLOCKED = "blocked"
    SKIPPED = "skipped"


class Folded(msgspec.Struct, frozen=True, kw_only=True):
    """A message's outcome and the updates it caused, in order.

    `hashes` are those of its `StateUpdated`, where the books publish hashes instead of updates.
    """

    outcome: Outcome
    reason: str | None = None
    stream_id: str
    sequence_number: int | None = None
    updates: list[Update]
    hashes: Sequence[StateHashes] = ()


class NeedHistory(msgspec.Struct, frozen=True, kw_only=True):
    """The fold needs the stream's messages in this range (inclusive) to go on; nothing changed."""

    stream_id: str
    from_log_sequence: int
    to_log_sequence: int


class UnknownRulesError(ConfigError):
    """The log enables rules that this code does not know: run a newer version."""


History = Mapping[int, LogMessage]
"""Messages of one stream by log sequence."""
