"""Where the fold of an account stands, beside the timeline itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from psm.analytics.feed import MINUTE_NS, minute_of
from psm.analytics.timeline import AccountTimeline
from psm.contracts.errors import InvariantError
from psm.contracts.updates_read import ReadUpdate

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class _Payload(msgspec.Struct, frozen=True, gc=False):
    account_id: str
    sequence_number: int
    log_sequence: int


class UpdatePlace(msgspec.Struct, frozen=True, gc=False):
    """Of which account an update is, and where it stands in the log."""

    timestamp: str
    payload: _Payload


_decoder = msgspec.json.Decoder(UpdatePlace)


def place_of(update: ReadUpdate) -> UpdatePlace:
    """Return an update's account and place.

    Raises:
        InvariantError: PSM published something that is not its own contract.
    """
    try:
        return _decoder.decode(update.data)
    except msgspec.DecodeError as error:
        raise InvariantError(f"a {update.kind} update cannot be read: {error}") from error


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

    def reach(self, place: UpdatePlace) -> None:
        """Note the place of its next update."""
        self.sequence_number = place.payload.sequence_number
        self.log_sequence = place.payload.log_sequence
        self.log_time = place.timestamp

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
