"""Rows of the read side of analytics: what an account's timeline says, one struct per table.

Times are nanoseconds of log time (JetStream's, never going back); money is in the account's
currency unless said otherwise; what is not defined is None. `through_log_sequence` is the place in
the log of the last input that a row knows of, `through_bucket` the end of the last minute that was
complete then, `rules` the version of the fold's rules.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

Timeframe = Literal["1m", "5m", "1h", "1d", "1w"]
Window = Literal["all", "30d", "90d", "365d"]

EVERY = "*"
"""Strategy or symbol of a row that sums up all of them."""

ACCOUNT_ITEMS = "@account"
"""Symbol of what belongs to no symbol: interest, taxes, adjustments, changes of rates."""

UNATTRIBUTED = "unattributed"
"""Strategy of fills whose order names none."""

NETTING = "netting"
"""Strategy of what the books of strategies and the account's own realize apart; sums to nothing."""


class PnlRow(msgspec.Struct, frozen=True, kw_only=True):
    """One bucket of one account, strategy and symbol; sums over symbols add up to `*` exactly.

    Attributes:
        bucket: its start; weeks start on Monday.
        epoch: of the units; nav starts at 1 in each.
        equity, nav: at its end, None but for `*`/`*`; carried forward from before where nothing
            happened. `ret` is nav over that of the bucket before, less 1.
        realized, unrealized_change, fees, funding: within it; fees are positive where paid.
        pnl: their sum, fees taken off.
        pnl_corrected: of it, what a bust or an amendment of an earlier bucket's fill brought.
        flows: external ones, of `*`/`*` alone.
        turnover: value of its fills. `peak_gross`: highest gross exposure that was published in it.
        contribution: pnl over the account's equity at the bucket's start; contributions add up.
        return_on_gross: pnl over its own mean gross exposure at start and end.
    """

    account_id: str
    strategy_id: str
    symbol: str
    timeframe: Timeframe
    bucket: int
    epoch: int
    equity: Decimal | None
    nav: Decimal | None
    ret: Decimal | None
    realized: Decimal
    unrealized_change: Decimal | None
    fees: Decimal
    funding: Decimal
    pnl: Decimal | None
    pnl_corrected: Decimal
    flows: Decimal
    turnover: Decimal
    fills: int
    peak_gross: Decimal | None
    contribution: Decimal | None
    return_on_gross: Decimal | None
    through_log_sequence: int
    through_bucket: int
    rules: int


class TradeRow(msgspec.Struct, frozen=True, kw_only=True):
    """A position from flat to flat, in the currency it settles in; strategy `*` is the account's.

    Attributes:
        cycle: its number among those of this account, strategy and symbol, from 1.
        net: gross - fees + funding.
        mae, mfe: worst and best that it stood at; None of a strategy's own book.
        revised_at: log time of the correction that made the row what it is; None: never corrected.
            Rows before it stay, with the `through_log_sequence` up to which they were right.
        gone: the correction took the trade away.
    """

    account_id: str
    symbol: str
    position_side: str
    strategy_id: str
    cycle: int
    side: Literal["long", "short"]
    currency: str
    opened: int
    closed: int
    peak_size: Decimal
    gross: Decimal
    fees: Decimal
    funding: Decimal
    net: Decimal
    mae: Decimal | None
    mfe: Decimal | None
    return_on_peak_notional: Decimal | None
    holding_s: Decimal
    fills: int
    through_log_sequence: int
    revised_at: int | None = None
    gone: bool = False


class LotRow(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a fill that a later one closed, first in, first out, before fees.

    Attributes:
        lot: its number among the closed lots of this account and position, from 1.
        revised_at, gone: as of a trade.
    """

    account_id: str
    symbol: str
    position_side: str
    lot: int
    side: Literal["long", "short"]
    currency: str
    opened: int
    closed: int
    quantity: Decimal
    open_price: Decimal
    close_price: Decimal
    pnl: Decimal
    days_held: int
    through_log_sequence: int
    revised_at: int | None = None
    gone: bool = False
