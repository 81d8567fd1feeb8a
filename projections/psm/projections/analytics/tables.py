"""Tables of analytics: columns are the fields of the rows that a timeline tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from psm.analytics import feed
from psm.analytics.performance import PerformanceFigures
from psm.analytics.rows import JournalRow, LotRow, PnlRow, TradeRow
from psm.analytics.trades import TradeMetrics
from psm.contracts.updates_read import ReadUpdate
from psm.domain.publication.log_times import log_time
from psm.projections.closes import MINUTES_CLOSED
from psm.projections.rows import PLACE, Row
from psm.projections.statements import upsert

KINDS = frozenset({*feed.KINDS, MINUTES_CLOSED})
"""Updates that a timeline is made of."""

_TIMES = ("bucket", "through_bucket", "opened", "closed", "revised_at")

_PLACE = ("through_log_sequence", "rules")
"""Columns of what the figures of a day know, and by which rules."""


class FoldedTable:
    """Table whose rows a fold gives.

    Attributes:
        table: name of the table.
        kinds: updates that the fold reads.
        key: columns that identify a row, the account's first.
        statements: `upsert`, where rows are told by a struct.
        adds_up: True; what follows from a state that could not be written would be wrong.
        place: columns that an entry of the quarantine has of the update at fault.
    """

    kinds = KINDS
    adds_up = True
    place = PLACE

    def __init__(
        self,
        table: str,
        key: Sequence[str],
        told: type[msgspec.Struct] | None = None,
        *,
        more: Sequence[str] = (),
    ) -> None:
        """Describe a table.

        Args:
            table: its name.
            key: columns that identify a row.
            told: struct of a row, of which the key may be a part; None where the table is the
                fold's own.
            more: other columns.
        """
        self.table = table
        self.key = tuple(key)
        self._key_of: Callable[[Row], Any] = itemgetter(*key)
        fields = () if told is None else told.__struct_fields__
        columns = (*key, *more, *(name for name in fields if name not in key))
        self._times = tuple(name for name in _TIMES if name in columns)
        self.statements: dict[str, str] = {"upsert": upsert(table, columns, key)} if told else {}

    def reduce(self, updates: Sequence[ReadUpdate]) -> Mapping[str, list[Row]]:
        """Nothing follows from updates alone."""
        return {}

    def rows(self, told: Sequence[msgspec.Struct]) -> list[Row]:
        """Return rows as columns, the last one of each key."""
        found: dict[Any, Row] = {}
        for one in told:
            row: Row = msgspec.structs.asdict(one)
            for name in self._times:
                time = row[name]
                row[name] = None if time is None else log_time(time)
            found[self._key_of(row)] = row
        return list(found.values())


PNL = FoldedTable(
    "pnl_timeseries", ("account_id", "strategy_id", "symbol", "timeframe", "bucket"), PnlRow
)
TRADES = FoldedTable(
    "trades",
    ("account_id", "symbol", "position_side", "strategy_id", "cycle", "through_log_sequence"),
    TradeRow,
)
LOTS = FoldedTable(
    "lots", ("account_id", "symbol", "position_side", "lot", "through_log_sequence"), LotRow
)
JOURNAL = FoldedTable("analytics_journal", ("account_id", "n"), JournalRow)
TRADE_STATISTICS = FoldedTable(
    "trade_statistics",
    ("account_id", "strategy_id", "symbol", "time_window", "day", "currency"),
    TradeMetrics,
    more=_PLACE,
)
RISK_METRICS = FoldedTable(
    "risk_metrics",
    ("account_id", "strategy_id", "symbol", "time_window", "day"),
    PerformanceFigures,
    more=("epoch", "periods_per_year", *_PLACE),
)
ACCOUNTS = FoldedTable("analytics_accounts", ("account_id",))
PROGRESS = FoldedTable("analytics_progress", ("partition",))

TOLD = (PNL, TRADES, LOTS, JOURNAL)
"""Tables of what timelines tell."""

TABLES = (*TOLD, TRADE_STATISTICS, RISK_METRICS, ACCOUNTS, PROGRESS)
"""All that a rebuild makes anew and compares."""
