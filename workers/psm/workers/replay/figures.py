"""Performance of the accounts of a file: daily closes, trades from flat to flat, lots.

The very timelines that make the views, fed by the updates of the lines' own fold. At the end what
waits for a slot is told, so that every day before the last message's is complete. Daily closes stay
as they were known before a correction. Trades and lots of an account that was corrected are those
of a second fold, of the log as corrected.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from psm.analytics.closes import BucketClose, closes_of, counted, standing_of, units
from psm.analytics.corrected import corrected_rows
from psm.analytics.documents import exact_document
from psm.analytics.lots import ClosedLot
from psm.analytics.performance import PerformanceFigures, performance
from psm.analytics.rows import EVERY, LotRow, TradeRow
from psm.analytics.timelines import TimelineRows, Timelines
from psm.analytics.trades import Trade, TradeMetrics, trade_metrics, trade_metrics_by_currency
from psm.domain.messages import Folded, LogMessage, Outcome
from psm.domain.money import ONE, exact_text
from psm.domain.publication.log_times import log_time
from psm.workers.replay.lines import LineFolder

_REFUSED = (Outcome.REFUSED, Outcome.REJECTED, Outcome.CONFLICT)


class FileFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What `psm fold --metrics` prints of one account. Statistics are of the latest epoch."""

    account_id: str
    periods_per_year: int
    epochs: int
    ruined: bool
    daily: list[BucketClose]
    metrics: PerformanceFigures
    trades: list[Trade]
    trade_metrics: TradeMetrics
    trade_metrics_by_currency: dict[str, TradeMetrics]


class TimelineFolder(LineFolder):
    """A folder of lines that feeds the timelines of its accounts.

    Attributes:
        timelines: of all accounts, with daily closes.
    """

    def __init__(self, partitions: int) -> None:
        super().__init__(partitions=partitions)
        self.timelines = Timelines(("1d",))
        self._last: LogMessage | None = None

    def corrected(self) -> dict[str, TimelineRows]:
        """Return the trades and lots of accounts that were corrected, by account, folded anew."""
        return corrected_rows(self.books, self._streams, Timelines(("1d",)))

    def finish(self) -> int:
        """Tell what waits for a slot; return the log time up to which the file's days are over."""
        return 0 if self._last is None else self.timelines.finish(self.books, self._last)

    def _fold(self, message: LogMessage) -> Folded:
        result = super()._fold(message)
        self._last = message
        self.timelines.take_folded(self.books, result)
        return result


class FigureFolder:
    """Folds the lines of a file, and says afterwards what the accounts made of them.

    Args:
        periods: days a year, for figures that are annual.
        partitions: of the log.
    """

    def __init__(self, *, periods: int, partitions: int) -> None:
        self._periods = periods
        self._folder = TimelineFolder(partitions)
        self._refused: dict[str, list[int]] = {}

    def take(self, line: bytes) -> None:
        """Fold the next line.

        Raises:
            LineError: it is no event that could stand in a log; nothing changed.
        """
        result = self._folder.take(line)
        if result is not None and result.outcome in _REFUSED:
            what = f"{result.outcome} ({result.reason})"
            self._refused.setdefault(what, []).append(result.log_sequence)

    def without_effect(self) -> dict[str, list[int]]:
        """Return log sequences of events that did nothing so far, by what became of them."""
        found = dict(self._refused)
        for _, account in sorted(self._folder.books.accounts.items()):
            delivery = account.delivery
            waiting = [parked.log_sequence for parked in delivery.parked.values()]
            if waiting:
                why = f"waiting for number {delivery.version + 1} of {account.stream_id}"
                found[why] = sorted(waiting)
            if delivery.blocked is not None:
                why = f"blocking {account.stream_id} ({delivery.blocked.reason})"
                found[why] = [delivery.blocked.log_sequence]
        return found

    def accounts(self) -> Iterator[FileFigures]:
        """Yield the figures of every account, ascending by `account_id`; no line comes after it."""
        over, corrected = self._folder.finish(), self._folder.corrected()
        for stream_id in sorted(self._folder.books.accounts):
            rows = self._folder.timelines.rows.get(stream_id)
            daily = [] if rows is None else _daily(rows, over)
            trades = [] if rows is None else _trades(corrected.get(stream_id, rows))
            entering = counted(daily)
            navs, standing = units(entering, ONE), standing_of(daily, entering)
            metrics = performance(navs, self._periods, standing=standing)
            yield FileFigures(
                account_id=stream_id,
                periods_per_year=self._periods,
                epochs=daily[-1].epoch if daily else 0,
                ruined=metrics.ruined,
                daily=daily,
                metrics=metrics,
                trades=trades,
                trade_metrics=trade_metrics(trades),
                trade_metrics_by_currency=trade_metrics_by_currency(trades),
            )

    def lots(self) -> Iterator[tuple[str, ClosedLot]]:
        """Yield account and lot of every lot that was closed; no line comes after it."""
        self._folder.finish()
        rows_of = {**self._folder.timelines.rows, **self._folder.corrected()}
        for stream_id, rows in sorted(rows_of.items()):
            for lot in rows.lots.values():
                if not lot.gone:
                    yield stream_id, _lot(lot)


def _daily(rows: TimelineRows, over: int) -> list[BucketClose]:
    """Return a close for each day since the account first had equity, the last message's too."""
    totals = [
        row
        for row in sorted(rows.pnl.values(), key=lambda row: row.bucket)
        if row.strategy_id == row.symbol == EVERY
    ]
    closes = closes_of(totals, "1d", over)
    while closes and not closes[0].epoch:
        closes.pop(0)
    return closes


def _trades(rows: TimelineRows) -> list[Trade]:
    """Return the account's own trades in the order in which they closed, as the views do."""
    own = [row for row in rows.trades.values() if row.strategy_id == EVERY and not row.gone]
    order = sorted(own, key=lambda row: (row.closed, row.symbol, row.position_side, row.cycle))
    return [_trade(row) for row in order]


def _trade(row: TradeRow) -> Trade:
    names = Trade.__struct_fields__
    return Trade(**{name: getattr(row, name) for name in names})


def _lot(row: LotRow) -> ClosedLot:
    names = ClosedLot.__struct_fields__
    return ClosedLot(**{name: getattr(row, name) for name in names})


def account_document(figures: FileFigures) -> dict[str, Any]:
    """Return figures as JSON shows them: numbers as texts, times in UTC."""
    return {**exact_document(figures), "trades": [_timed(trade) for trade in figures.trades]}


def lot_document(account_id: str, lot: ClosedLot) -> dict[str, Any]:
    """Return a closed lot as JSON shows it."""
    return {"account_id": account_id, **_timed(lot), "days_held": lot.days_held}


def _timed(row: Trade | ClosedLot) -> dict[str, Any]:
    times = {"opened": log_time(row.opened), "closed": log_time(row.closed)}
    if isinstance(row, Trade):
        times["holding_s"] = exact_text(row.holding_s)
    return {**exact_document(row), **times}
