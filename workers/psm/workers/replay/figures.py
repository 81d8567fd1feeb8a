"""Performance of the accounts of a file: daily closes, trades from flat to flat, lots.

The very timelines that make the views, fed by the updates of the lines' own fold. At the end what
waits for a slot is told, so that every day before the last message's is complete. Trades and lots
are those of a log without the fills that were busted, and with those that were amended as amended:
where there is such a correction, the events that took effect are folded once more. A trade has
`mae` and `mfe` where the views have them. Daily closes stay as they were known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from psm.analytics.buckets import MINUTE_NS
from psm.analytics.closes import BucketClose, closes_of, counted
from psm.analytics.documents import exact_document
from psm.analytics.lots import ClosedLot
from psm.analytics.performance import PerformanceFigures, performance
from psm.analytics.rows import EVERY, LotRow, TradeRow
from psm.analytics.trades import Trade, TradeMetrics, trade_metrics, trade_metrics_by_currency
from psm.contracts import codec
from psm.domain.messages import Folded, LogMessage, Outcome
from psm.domain.money import exact_text
from psm.domain.publication.log_times import log_time
from psm.domain.publication.untold import untold
from psm.workers.replay.lines import LineFolder
from psm.workers.replay.timelines import TimelineRows, Timelines

_TRADES = ("TradeBusted", "TradeAmended")
_CORRECTIONS = (*_TRADES, "EventReversed")
_AMENDABLE = (
    "quantity", "price", "side", "commission", "commission_currency", "liquidation_fee", "rates",
    "position_side", "isolated_margin",
)  # fmt: skip


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
        events: messages of events that took effect, and of the market, in order.
        corrections: payloads of those among them, by account.
    """

    def __init__(self, partitions: int) -> None:
        super().__init__(partitions=partitions)
        self.timelines = Timelines(("1d",))
        self.events: list[tuple[LogMessage, int]] = []
        self.corrections: dict[str, list[dict[str, Any]]] = {}
        self._last: LogMessage | None = None

    def finish(self) -> int:
        """Tell what waits for a slot; return the log time up to which the file's days are over."""
        last = self._last
        if last is None:
            return 0
        for update in untold(self.books, last):
            self.timelines.take(update)
        over = self.books.market.minute(last.time) * MINUTE_NS
        self.timelines.pass_to(over + MINUTE_NS)
        self.timelines.settle()
        return over

    def _fold(self, message: LogMessage) -> Folded:
        result = super()._fold(message)
        self._last = message
        for update in result.updates:
            if update.stream_id in self.books.accounts:
                self.timelines.take(update)
        self.timelines.pass_to(self.books.market.closed_through)
        if message.stream_id is None:
            self.events.append((message, message.time))
        for placement in result.placements:
            if placement.outcome is Outcome.APPLIED:
                self._note(self.message_at(placement.stream_id, placement.log_sequence), message)
        return result

    def _note(self, event: LogMessage, message: LogMessage) -> None:
        """Note an event that took effect with a message."""
        self.events.append((event, message.time))
        if any(name.encode() in event.data for name in _CORRECTIONS):
            body = codec.decode_untyped(event.data)
            if body["event_type"] in _CORRECTIONS:
                correction = {**body["payload"], "event_type": body["event_type"]}
                self.corrections.setdefault(body["stream_id"], []).append(correction)


class FigureFolder:
    """Folds the lines of a file, and says afterwards what the accounts made of them.

    Args:
        periods: days a year, for figures that are annual.
        partitions: of the log.
    """

    def __init__(self, *, periods: int, partitions: int) -> None:
        self._periods, self._partitions = periods, partitions
        self._folder = TimelineFolder(partitions)

    def take(self, line: bytes) -> None:
        """Fold the next line.

        Raises:
            LineError: it is no event that could stand in a log; nothing changed.
        """
        self._folder.take(line)

    def accounts(self) -> Iterator[FileFigures]:
        """Yield the figures of every account, ascending by `account_id`; no line comes after it."""
        over = self._folder.finish()
        corrected = self._corrected()
        for stream_id in sorted(self._folder.books.accounts):
            rows = self._folder.timelines.rows.get(stream_id)
            daily = [] if rows is None else _daily(rows, over)
            trades = _trades(corrected.rows.get(stream_id), rows)
            navs = [close.nav for close in counted(daily) if close.nav is not None]
            metrics = performance(navs, self._periods)
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
        for stream_id, rows in sorted(self._corrected().rows.items()):
            for lot in rows.lots.values():
                yield stream_id, _lot(lot)

    def _corrected(self) -> Timelines:
        """Return timelines whose trades and lots are of the log as corrected."""
        if not self._folder.corrections:
            return self._folder.timelines
        folder = TimelineFolder(self._partitions)
        for message, time in self._folder.events:
            body = _as_corrected(message, self._folder.corrections)
            if body is not None:
                line = {"subject": _published(message), "time": log_time(time), "data": body}
                folder.take(msgspec.json.encode(line))
        folder.timelines.settle()
        return folder.timelines


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


def _trades(rows: TimelineRows | None, lived: TimelineRows | None) -> list[Trade]:
    """Return the trades of rows, with worst and best of those that the account lived through.

    Args:
        rows: of the log as corrected.
        lived: what was told while the account lived; the same without corrections.
    """
    trades = _standing(rows)
    if rows is lived:
        return trades
    extremes = {
        msgspec.structs.replace(trade, mae=None, mfe=None): (trade.mae, trade.mfe)
        for trade in _standing(lived)
    }
    found = []
    for trade in trades:
        plain = msgspec.structs.replace(trade, mae=None, mfe=None)
        mae, mfe = extremes.get(plain, (None, None))
        found.append(msgspec.structs.replace(plain, mae=mae, mfe=mfe))
    return found


def _standing(rows: TimelineRows | None) -> list[Trade]:
    """Return the account's own trades in the order in which they closed, as the views do."""
    found = [] if rows is None else rows.trades.values()
    own = [row for row in found if row.strategy_id == EVERY and not row.gone]
    order = sorted(own, key=lambda row: (row.closed, row.symbol, row.position_side, row.cycle))
    return [_trade(row) for row in order]


def _trade(row: TradeRow) -> Trade:
    names = Trade.__struct_fields__
    return Trade(**{name: getattr(row, name) for name in names})


def _lot(row: LotRow) -> ClosedLot:
    names = ClosedLot.__struct_fields__
    return ClosedLot(**{name: getattr(row, name) for name in names})


def _as_corrected(
    message: LogMessage, corrections: Mapping[str, Iterable[Mapping[str, Any]]]
) -> Any:
    """Return a message as it would stand in a log without corrected fills; None for no place."""
    event = codec.decode_untyped(message.data)
    event.pop("sequence_number", None)
    if event.get("event_type") in _CORRECTIONS:
        return None
    payload = event.get("payload") or {}
    for correction in corrections.get(str(event.get("stream_id")), ()):
        if not _names(correction, event, payload):
            continue
        if correction["event_type"] != "TradeAmended":
            return None
        changed = {
            name: correction[name] for name in _AMENDABLE if correction.get(name) is not None
        }
        payload = event["payload"] = {**payload, **changed}
    return event


def _names(
    correction: Mapping[str, Any], event: Mapping[str, Any], payload: Mapping[str, Any]
) -> bool:
    """Return whether a correction means this event, a trade where it is one of trades."""
    if correction["event_type"] in _TRADES and event.get("event_type") != "TradeExecuted":
        return False
    if correction.get("event_id") is not None:
        return str(correction["event_id"]).lower() == event.get("event_id")
    return bool(correction.get("fill_id") == payload.get("fill_id"))


def _published(message: LogMessage) -> str:
    """Return the subject as a producer writes it: without the partition."""
    return message.subject if message.stream_id is None else f"trades.{message.stream_id}"


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
