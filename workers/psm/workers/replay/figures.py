"""Performance of the accounts of a file: daily closes, trades from flat to flat, lots.

Everything comes from the fold of the lines themselves. Trades and lots are those of a log without
the fills that were busted, and with those that were amended as amended: where there is such a
correction, the events that took effect are folded once more. Daily closes stay as they were known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from psm.analytics.documents import exact_document
from psm.analytics.lots import ClosedLot
from psm.analytics.performance import PerformanceFigures, performance
from psm.analytics.trades import Trade, TradeMetrics, trade_metrics
from psm.contracts import codec
from psm.domain.books import Books
from psm.domain.messages import LogMessage
from psm.domain.money import exact_text
from psm.domain.publication.log_times import log_time
from psm.workers.replay.closes import DailyClose, DailyCloses
from psm.workers.replay.cycles import Cycles
from psm.workers.replay.watched import FoldedStep, WatchedFolder

_CORRECTIONS = ("TradeBusted", "TradeAmended")


class FileFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What `psm fold --metrics` prints of one account. Statistics are of the latest epoch."""

    account_id: str
    periods_per_year: int
    epochs: int
    ruined: bool
    daily: list[DailyClose]
    metrics: PerformanceFigures
    trades: list[Trade]
    trade_metrics: TradeMetrics


class FigureFolder:
    """Folds the lines of a file, and says afterwards what the accounts made of them.

    Args:
        periods: days a year, for figures that are annual.
        partitions: of the log.
    """

    def __init__(self, *, periods: int, partitions: int) -> None:
        self._periods, self._partitions = periods, partitions
        self._closes = DailyCloses()
        self._cycles = Cycles()
        self._effective: list[tuple[LogMessage, int]] = []
        self._corrections: dict[str, list[dict[str, Any]]] = {}
        self._folder = WatchedFolder(partitions, before=self._before, after=self._after)

    def take(self, line: bytes) -> None:
        """Fold the next line.

        Raises:
            LineError: it is no event that could stand in a log; nothing changed.
        """
        self._folder.take(line)

    def accounts(self) -> Iterator[FileFigures]:
        """Yield the figures of every account, ascending by `account_id`."""
        cycles = self._corrected()
        for stream_id in sorted(self._folder.books.accounts):
            daily = self._closes.rows(stream_id, self._folder.books)
            counted = [row.nav for row in daily if row.complete and row.epoch == daily[-1].epoch]
            navs = [nav for nav in counted if nav is not None]
            metrics = performance(navs, self._periods)
            trades = cycles.trades.get(stream_id, [])
            yield FileFigures(
                account_id=stream_id,
                periods_per_year=self._periods,
                epochs=daily[-1].epoch if daily else 0,
                ruined=metrics.ruined,
                daily=daily,
                metrics=metrics,
                trades=trades,
                trade_metrics=trade_metrics(trades),
            )

    def lots(self) -> Iterator[tuple[str, ClosedLot]]:
        """Yield account and lot of every lot that was closed, in the order of the log."""
        cycles = self._corrected()
        for stream_id, lots in sorted(cycles.lots.items()):
            for lot in lots:
                yield stream_id, lot

    def _before(self, message: LogMessage, books: Books) -> None:
        self._closes.reach(message.time, books)

    def _after(self, step: FoldedStep) -> None:
        self._cycles.see(step)
        if step.message.stream_id is None:
            self._effective.append((step.message, step.message.time))
        self._effective += [(event, step.message.time) for event in step.events]
        for event in step.applied:
            if event["event_type"] in _CORRECTIONS:
                correction = {**event["payload"], "event_type": event["event_type"]}
                self._corrections.setdefault(event["stream_id"], []).append(correction)

    def _corrected(self) -> Cycles:
        """Return trades and lots of the log as corrected."""
        if not self._corrections:
            return self._cycles
        corrected = Cycles()
        folder = WatchedFolder(self._partitions, after=corrected.see)
        for message, time in self._effective:
            body = _as_corrected(message, self._corrections)
            if body is not None:
                line = {"subject": _published(message), "time": time, "data": body}
                folder.take(msgspec.json.encode(line))
        return corrected


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
        if event.get("event_type") != "TradeExecuted" or not _names(correction, event, payload):
            continue
        if correction["event_type"] == "TradeBusted":
            return None
        changed = {
            name: correction[name]
            for name in ("quantity", "price", "commission")
            if correction.get(name) is not None
        }
        payload = event["payload"] = {**payload, **changed}
    return event


def _names(
    correction: Mapping[str, Any], event: Mapping[str, Any], payload: Mapping[str, Any]
) -> bool:
    """Return whether a correction means this trade."""
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
