"""Timelines of all accounts in memory, with the rows that they told and their journals."""

from __future__ import annotations

from psm.analytics.buckets import LENGTHS
from psm.analytics.feed import KINDS, told
from psm.analytics.rows import JournalRow, LotRow, PnlRow, Timeframe, TradeRow
from psm.analytics.timeline import AccountTimeline
from psm.contracts.updates_read import ReadUpdate
from psm.domain.messages import Update


class TimelineRows:
    """What one account's timeline has told so far; a later row replaces one with its key.

    Args:
        timeframes: of pnl that is kept.

    Attributes:
        pnl: by strategy, symbol, timeframe and bucket.
        trades: by symbol, position side, strategy and cycle.
        lots: by symbol, position side and number.
        journal: in order.
    """

    def __init__(self, timeframes: tuple[Timeframe, ...]) -> None:
        self._timeframes = timeframes
        self.pnl: dict[tuple[str, str, str, int], PnlRow] = {}
        self.trades: dict[tuple[str, str, str, int], TradeRow] = {}
        self.lots: dict[tuple[str, str, int], LotRow] = {}
        self.journal: list[JournalRow] = []

    def take(self, timeline: AccountTimeline) -> None:
        """Take in what a timeline has new."""
        changes = timeline.changes()
        for row in changes.pnl:
            if row.timeframe in self._timeframes:
                self.pnl[row.strategy_id, row.symbol, row.timeframe, row.bucket] = row
        for trade in changes.trades:
            key = trade.symbol, trade.position_side, trade.strategy_id, trade.cycle
            self.trades[key] = trade
        for lot in changes.lots:
            self.lots[lot.symbol, lot.position_side, lot.lot] = lot
        self.journal.extend(changes.journal)


class Timelines:
    """Timelines of all accounts whose updates it is fed.

    Args:
        timeframes: of pnl that is kept.

    Attributes:
        rows: what they told, by account.
    """

    def __init__(self, timeframes: tuple[Timeframe, ...] = tuple(LENGTHS)) -> None:
        self._kept = timeframes
        self._through = 0
        self.rows: dict[str, TimelineRows] = {}
        self._timelines: dict[str, AccountTimeline] = {}

    def take(self, update: Update) -> None:
        """Take the next update of the log."""
        if update.kind not in KINDS:
            return
        name = update.stream_id
        timeline = self._timelines.get(name)
        if timeline is None:
            self._timelines[name] = timeline = AccountTimeline(name)
            self.rows[name] = TimelineRows(self._kept)
        read = told(ReadUpdate(kind=update.kind, data=update.data))
        if timeline.needs_journal(read):
            self.rows[name].take(timeline)
            timeline.recall(self.rows[name].journal)
        timeline.take(read)

    def pass_to(self, closed_through: int | None) -> None:
        """Take notice that minutes up to this log time, in nanoseconds, are complete."""
        if closed_through is None or closed_through <= self._through:
            return
        self._through = closed_through
        for timeline in self._timelines.values():
            timeline.pass_to(closed_through)

    def settle(self) -> None:
        """Take in what all of them have new."""
        for name, timeline in self._timelines.items():
            self.rows[name].take(timeline)

    def restart(self) -> None:
        """Go on from what their states say."""
        self.settle()
        for name, timeline in self._timelines.items():
            self._timelines[name] = AccountTimeline.restored(timeline.state())

    def states(self) -> dict[str, bytes]:
        """Return the state of each, by account."""
        self.settle()
        return {name: one.state() for name, one in sorted(self._timelines.items())}
