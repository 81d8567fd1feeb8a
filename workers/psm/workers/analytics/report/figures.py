"""What a tear sheet shows; all of it comes from rows, nothing from a clock or a setting."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from psm.analytics.closes import BucketClose
from psm.analytics.performance import PerformanceFigures
from psm.analytics.rows import EVERY, Timeframe, TradeRow
from psm.analytics.trades import TradeMetrics
from psm.workers.analytics.parts import PnlPart


class ReportFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One account or group over one range.

    Attributes:
        subject: its id; asked: as commands take it.
        kind: what it is.
        strategy_id, symbol: part of it; `*` for the whole.
        members: accounts of a group.
        currency: of the money; None where members differ.
        start: first bucket asked for, None for the first there is; end: the one behind the last.
        closed_through: time up to which buckets are complete; None: none is.
        through_log_sequence: place in the log that the rows know of.
        rules: version of the fold's rules.
        periods_per_year: buckets a year; risk_free: annual rate.
        closes: a close for each bucket of the range.
        navs: of those that enter statistics, as a unit that starts at 1.
        exposure: highest gross exposure in each bucket, None where it is not known.
        symbols, strategies: what each brought.
        trades: in the order in which they closed.
    """

    subject: str
    asked: str
    kind: Literal["account", "group"]
    strategy_id: str
    symbol: str
    members: list[str]
    currency: str | None
    timeframe: Timeframe
    start: str | None
    end: str | None
    closed_through: str | None
    through_log_sequence: int
    rules: int
    periods_per_year: int
    risk_free: Decimal
    closes: list[BucketClose]
    navs: list[tuple[str, Decimal]]
    exposure: list[tuple[str, Decimal | None]]
    metrics: PerformanceFigures
    symbols: list[PnlPart]
    strategies: list[PnlPart]
    trades: list[TradeRow]
    trade_metrics: TradeMetrics

    @property
    def part(self) -> dict[str, str]:
        """Strategy and symbol that it is the part of; nothing of a whole."""
        names = {"strategy": self.strategy_id, "symbol": self.symbol}
        return {name: value for name, value in names.items() if value != EVERY}
