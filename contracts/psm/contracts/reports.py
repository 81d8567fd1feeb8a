"""What others say that an account has: the statement of a venue or a custodian, to compare with.

A report is no event of the account: it has no number, takes no place and enters no chain. It is
known by its `event_id`, and answered with `ReconciliationReported`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from psm.contracts import limits
from psm.contracts.fields import (
    Currency,
    Identifier,
    Instant,
    Key,
    MarginMode,
    NotNegative,
    Payload,
    PositionSide,
    Rates,
    Signed,
    Symbol,
)
from psm.contracts.personal import Source

Compared = Annotated[str, Meta(min_length=1, max_length=limits.TEXT_BYTES)]
"""What is compared, such as `assets.USDT`, `positions.BTCUSDT.size`, `wallets.BTCUSDT#long`."""
_MOST = Meta(max_length=limits.REPORT_NAMES)


class AssetReport(msgspec.Struct, frozen=True, kw_only=True):
    """One asset of a report, in the parts that the reporter shows.

    Its quantity is `quantity`, else `free` + `locked` - `borrowed` - `interest`; on the basis of
    settle dates `unsettled` comes on top.
    """

    quantity: Signed | None = None
    free: Signed | None = None
    locked: Signed | None = None
    borrowed: NotNegative | None = None
    interest: NotNegative | None = None
    unsettled: Signed | None = None


class PositionReport(msgspec.Struct, frozen=True, kw_only=True):
    """One position of a report; `size` is below zero for what is short, on whichever side.

    `currency` is that of `entry_price`, where it is not the instrument's own.
    """

    symbol: Symbol
    size: Signed
    position_side: PositionSide = "net"
    margin_mode: MarginMode | None = None
    entry_price: Signed | None = None
    currency: Currency | None = None
    unrealized_pnl: Signed | None = None
    mark_price: Signed | None = None


class WalletReport(msgspec.Struct, frozen=True, kw_only=True):
    """Isolated margin that stands behind one position."""

    symbol: Symbol
    amount: Signed
    position_side: PositionSide = "net"


class AccountReported(Payload, frozen=True, kw_only=True):
    """What an account has by somebody else's books, to be compared with ours; it changes nothing.

    The report is whole: what it leaves out the account does not have. `through` is the last fact
    that it contains: a `fill_id`, `reference`, `transfer_id`, or an `event_id`. `tolerance` is how
    far apart two figures may be, of all, or by name as in `differences`.
    """

    source: Source
    as_of: Instant
    assets: Annotated[dict[Currency, Signed | AssetReport], _MOST]
    positions: tuple[PositionReport, ...]
    through: Identifier | None = None
    wallets: tuple[WalletReport, ...] = ()
    basis: Literal["trade", "settle"] = "trade"
    equity: Signed | None = None
    rates: Rates | None = None
    cost_method: Key | None = None
    tolerance: NotNegative | Annotated[dict[Compared, NotNegative], _MOST] | None = None
