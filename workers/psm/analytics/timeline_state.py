"""What a timeline knows of its account between two updates: what is open, never the whole past."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.analytics.books import Strategies
from psm.analytics.buckets import Booked, Bucket, Minute, Standing, Worth
from psm.analytics.cycles import Cycles
from psm.analytics.rows import EVERY
from psm.analytics.worth import Held, HeldChange
from psm.contracts.position_keys import symbol_of
from psm.domain.money import ZERO

NO_TOTALS = ("0",) * 9


class Pending(msgspec.Struct):
    """Positions and orders of an input of which the `StateUpdated` has not come yet.

    Attributes:
        positions: what was told of them, as it came.
        orders: strategies of orders.
    """

    positions: list[HeldChange]
    orders: dict[str, str]


class TimelineState(msgspec.Struct):
    """All that a timeline knows.

    Attributes:
        totals: lifetime figures as last told: realized, fees, liquidation fees, funding, interest,
            dividends, adjustments, losses covered, taxes.
        latest: the last minute in which something was told; log time does not go back.
        sealed: the first minute that is not complete.
        minutes: those that are not complete, ascending.
        standing: at the end of the last complete minute that said anything.
        told: by the last close.
        worth: of positions at the end of the last complete minute, by strategy and key.
        gross: exposure of these positions, together.
        exposure: gross, of coins that are held too, as last told.
        held: open positions, by key.
        paid: lifetime fees and funding of positions, by key, where there are any.
        cycles: and what is open of their trades and lots.
        strategies: their own books of the positions.
        journal: how many entries it has.
    """

    account_id: str
    minutes: list[Minute]
    standing: Standing
    told: Standing
    worth: dict[str, dict[str, Worth]]
    held: dict[str, Held]
    pending: Pending
    cycles: Cycles
    strategies: Strategies
    buckets: dict[str, Bucket]
    paid: dict[str, tuple[str, str]]
    totals: tuple[str, ...] = NO_TOTALS
    gross: Decimal = ZERO
    exposure: Decimal = ZERO
    epoch: int = 0
    latest: int = 0
    sealed: int = 0
    journal: int = 0

    @classmethod
    def fresh(cls, account_id: str) -> TimelineState:
        """Return that of an account of which nothing is known."""
        return cls(
            account_id=account_id,
            minutes=[],
            standing=Standing(),
            told=Standing(),
            worth={},
            held={},
            pending=Pending([], {}),
            cycles=Cycles({}, {}),
            strategies=Strategies({}),
            buckets={},
            paid={},
        )

    def minute(self, number: int, log_sequence: int) -> Minute:
        """Return a minute that is not complete; what is told too late counts in the first one."""
        number, place = max(number, self.sealed), len(self.minutes)
        if place and self.minutes[-1].number == number:  # as it is but for what comes late
            minute = self.minutes[-1]
            minute.through = log_sequence
            return minute
        while place and self.minutes[place - 1].number > number:
            place = place - 1
        if not place or self.minutes[place - 1].number != number:
            self.minutes.insert(place, Minute(number, Booked(), {}, {}, {EVERY: self.exposure}))
            place = place + 1
        minute = self.minutes[place - 1]
        minute.through = log_sequence
        return minute

    def note_worth(self, minute: Minute, key: str, worth: Worth, held: Held | None) -> None:
        """Note what a position is worth by the end of a minute, and to whom of the strategies.

        What they hold against each other of one that was flat already, `held` is None, stays so.
        """
        minute.worth.setdefault(EVERY, {})[key] = worth
        symbol = symbol_of(key)
        if worth.gross > minute.peaks.get(symbol, ZERO):
            minute.peaks[symbol] = worth.gross
        if self.strategies.named and held is not None:
            for strategy, part in self.strategies.worth(key, worth, held).items():
                minute.worth.setdefault(strategy, {})[key] = part


_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(TimelineState)
encoded = _ENCODER.encode
decoded = _DECODER.decode
