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
"""Symbol of what no symbol explains: interest, taxes, coins that are held, changes of rates."""

UNATTRIBUTED = "unattributed"
"""Strategy of fills whose order names none."""

NETTING = "netting"
"""Strategy of what the books of strategies and the account's own realize apart; sums to nothing."""


class PnlRow(msgspec.Struct, frozen=True, kw_only=True):
    """One bucket of one account, strategy and symbol; sums over symbols add up to `*` exactly.

    A bucket in which an account, strategy or symbol did not change has no row: it ended as the one
    before it. Sums over strategies, `netting` among them, add up to strategy `*` of each symbol;
    an account whose fills never named a strategy has no rows but those of `*`.

    Attributes:
        bucket: its start; weeks start on Monday.
        epoch: of the units; nav starts at 1 in each.
        equity, nav: at its end, None but for `*`/`*`. `ret` is nav over that of the bucket before,
            or over 1 in an epoch's first bucket, less 1; None where that was not above zero.
        realized, fees, funding, other: what events booked within it. An event counts for the symbol
            that it names. Fees are positive where paid; `other` is interest, dividends, adjustments
            and losses covered, less taxes.
        unrealized_change: of what is held; of `*` all that pnl has beside what was booked.
        pnl: their sum, fees taken off. Of `*`/`*` it is the change of equity less flows, and None
            where equity does not compute at an end; the next one counts from the last that did.
        pnl_corrected: of it, what corrections brought, at the marks that they found.
        flows: external ones, of `*`/`*` alone.
        turnover: value of its fills of contracts and shares. `peak_gross`: highest gross exposure
            that was told of it, that at its start and its end among them.
        contribution: pnl over the account's equity at the bucket's start; contributions add up.
        return_on_gross: pnl over its own mean gross exposure at start and end.
        max_drawdown: of `*`/`*`, how far its unit had fallen by its end from a peak of the epoch at
            most, as a fraction above zero; every mark counts.
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
    other: Decimal
    pnl: Decimal | None
    pnl_corrected: Decimal
    flows: Decimal
    turnover: Decimal
    fills: int
    peak_gross: Decimal | None
    contribution: Decimal | None
    return_on_gross: Decimal | None
    max_drawdown: Decimal | None
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


class JournalRow(msgspec.Struct, frozen=True, kw_only=True):
    """What an event did to positions, kept for corrections: they book an account's past again.

    Attributes:
        n: its place among those of the account, from 1.
        entry: canonical JSON; only the timeline reads it.
    """

    account_id: str
    n: int
    entry: str


class TimelineChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that an account's timeline has new or changed; the last one of a key counts.

    Keys: `pnl` account, strategy, symbol, timeframe, bucket; `trades` account, symbol, position
    side, strategy, cycle; `lots` account, symbol, position side, lot; `journal` account, n.
    """

    pnl: list[PnlRow] = []
    trades: list[TradeRow] = []
    lots: list[LotRow] = []
    journal: list[JournalRow] = []
