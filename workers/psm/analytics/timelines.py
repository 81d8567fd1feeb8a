"""Timelines of all accounts in memory, with the rows that they told and their journals."""

from __future__ import annotations

from collections.abc import Callable

from psm.analytics.buckets import LENGTHS
from psm.analytics.feed import KINDS, MINUTE_NS, told
from psm.analytics.revision import BookedPast, Pasts
from psm.analytics.rows import JournalRow, LotRow, PnlRow, Timeframe, TradeRow
from psm.analytics.timeline import AccountTimeline
from psm.contracts.updates_read import ReadUpdate
from psm.domain.books import Books
from psm.domain.messages import Folded, LogMessage, Update
from psm.domain.publication.untold import untold

PastsOf = Callable[[str, int], Pasts]
"""What the log says of an account's positions without and with the correction of that number."""


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
        pasts: asked where a correction needs the log; without it trades and lots of such an account
            are only what updates tell.
        shares: as of each timeline.

    Attributes:
        rows: what they told, by account.
    """

    def __init__(
        self,
        timeframes: tuple[Timeframe, ...] = tuple(LENGTHS),
        *,
        pasts: PastsOf | None = None,
        shares: bool = False,
    ) -> None:
        self._kept, self._pasts, self._shares = timeframes, pasts, shares
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
            self._timelines[name] = timeline = AccountTimeline(name, shares=self._shares)
            self.rows[name] = TimelineRows(self._kept)
        read = told(ReadUpdate(kind=update.kind, data=update.data))
        if timeline.needs_journal(read):
            self.rows[name].take(timeline)
            timeline.recall(self.rows[name].journal)
            if self._pasts is not None and timeline.needs_pasts(read):
                timeline.recall_pasts(self._pasts(name, read.payload.sequence_number))
        timeline.take(read)

    def pass_to(self, closed_through: int | None) -> None:
        """Take notice that minutes up to this log time, in nanoseconds, are complete."""
        if closed_through is None or closed_through <= self._through:
            return
        self._through = closed_through
        for timeline in self._timelines.values():
            timeline.pass_to(closed_through)

    def take_folded(self, books: Books, folded: Folded) -> None:
        """Take what the fold of a message published of accounts."""
        for update in folded.updates:
            if update.stream_id in books.accounts:
                self.take(update)
        self.pass_to(books.market.closed_through)

    def finish(self, books: Books, last: LogMessage) -> int:
        """Take what waits for a slot; return the log time up to which days are over.

        Args:
            books: after the last message.
            last: of the log.
        """
        for update in untold(books, last):
            self.take(update)
        over = books.market.minute(last.time) * MINUTE_NS
        self.pass_to(over + MINUTE_NS)
        self.settle()
        return over

    def settle(self) -> None:
        """Take in what all of them have new."""
        for name, timeline in self._timelines.items():
            self.rows[name].take(timeline)

    def past(self, name: str) -> dict[str, BookedPast]:
        """Return an account's positions as they are, by key; `settle` before it."""
        if name not in self.rows:
            return {}
        rows = self.rows[name]
        return self._timelines[name].past(rows.trades.values(), rows.lots.values())

    def restart(self) -> None:
        """Go on from what their states say."""
        self.settle()
        for name, timeline in self._timelines.items():
            self._timelines[name] = AccountTimeline.restored(timeline.state())

    def states(self) -> dict[str, bytes]:
        """Return the state of each, by account."""
        self.settle()
        return {name: one.state() for name, one in sorted(self._timelines.items())}
