"""Events that wait for a gap to close, and the message that blocks a stream."""

from __future__ import annotations

import msgspec

from psm.contracts import limits, registry

PARKED_MAX = limits.PARKED_EVENTS
GAP_OVERFLOW = "gap_overflow"
STATE_TOO_LARGE = "state_too_large"


class Parked(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event that waits for the numbers before it; its bytes stay in the log.

    `correction`: a bust or an amendment, whose release needs the whole stream.
    """

    identity: bytes
    event_hash: bytes
    log_sequence: int
    correction: bool = False


class Blocked(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Why a stream stopped, and where its held messages begin.

    Attributes:
        reason: stable code.
        log_sequence: of the message that blocks.
        event_hash: of that message; it is read back when the stream goes on.
        event_type: of that message, and its major schema version: do the rules know it by now?
        held_from: log sequence of the first held message, None before there is one.
        corrections: whether a bust or an amendment is held: its release needs the whole stream.
        rules: under which it blocked.
        came_at: (log sequence, version): held messages below that position came when the stream
            had that version; the others at its version now. A number is judged by its own time.
    """

    reason: str
    log_sequence: int
    event_hash: bytes
    event_type: str
    major: int
    rules: int = 1
    held_from: int | None = None
    corrections: bool = False
    came_at: tuple[tuple[int, int], ...] = ()

    @property
    def is_next(self) -> bool:
        """True if the message that blocks is the next in order: it may be retried or dismissed."""
        return self.reason != GAP_OVERFLOW

    def known_by(self, rules: int) -> bool:
        """Return whether these rules know the message that blocks, so that it may go on.

        What is too large for the state stays so until there are other rules.
        """
        if self.reason == STATE_TOO_LARGE:
            return rules > self.rules
        return self.is_next and registry.is_account_event(self.event_type, self.major, rules)

    def version_at(self, log_sequence: int, version: int) -> int:
        """Return the stream's version when the held message at `log_sequence` came."""
        for before, then in self.came_at:
            if log_sequence < before:
                return then
        return version
