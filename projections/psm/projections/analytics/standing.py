"""Where the fold of an account stands, beside the timeline itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from psm.analytics.feed import MINUTE_NS, Told, minute_of
from psm.analytics.timeline import AccountTimeline

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class HeldTimeline(msgspec.Struct, kw_only=True):
    """A timeline in memory, as its row has it.

    Attributes:
        version: of the row; empty for none.
        sequence_number, log_sequence: of its last update.
        log_time: of its last update, RFC 3339; empty before the first.
        told: end of the minutes of which its rows tell; None before the first.
    """

    timeline: AccountTimeline
    version: str = ""
    sequence_number: int = 0
    log_sequence: int = 0
    log_time: str = ""
    told: int | None = None

    def reach(self, update: Told) -> None:
        """Note the place of its next update."""
        self.sequence_number = update.payload.sequence_number
        self.log_sequence = update.payload.log_sequence
        self.log_time = update.timestamp

    def pass_to(self, closed_through: int) -> None:
        """Let it tell of the minutes that are complete, up to that of its last update.

        Later ones are as that one ended; so where it stands does not depend on when it was told.
        """
        last = (minute_of(self.log_time) + 1) * MINUTE_NS
        told = min(closed_through, last)
        if self.told is None or told > self.told:
            self.timeline.pass_to(told)
            self.told = told


def nanoseconds(moment: datetime | None) -> int | None:
    """Return a time of a column in nanoseconds since 1970."""
    return None if moment is None else (moment - _EPOCH) // _MICROSECOND * 1000


def moment(time_ns: int | None) -> datetime | None:
    """Return nanoseconds since 1970 as a column has them."""
    return None if time_ns is None else _EPOCH + timedelta(microseconds=time_ns // 1000)
