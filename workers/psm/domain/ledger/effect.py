"""Effect of one event on an account: computed by `evolve`, taken in by `Ledger.commit`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Literal, TypeVar

import msgspec

from psm.contracts.events import PeakReset
from psm.contracts.fields import MarginMode
from psm.contracts.margin_events import PositionMode
from psm.domain.ledger.booked_flows import BookedFlow
from psm.domain.ledger.holdings import Cost
from psm.domain.ledger.orders import Order
from psm.domain.ledger.own_fills import OwnFill
from psm.domain.ledger.positions import PositionStep
from psm.domain.ledger.renames import Renamed
from psm.domain.ledger.wallets import WalletChange
from psm.domain.money import ZERO, add
from psm.domain.windows import FillKey

TotalName = Literal[
    "realized_pnl",
    "fees",
    "funding",
    "deposits",
    "withdrawals",
    "transfers",
    "adjustments",
    "interest",
    "dividends",
    "liquidation_fees",
    "taxes",
    "losses_covered",
    "unknown_cost",
]
"""Lifetime sums in the account currency; `unknown_cost`: proceeds of what had no known cost."""


class Effect(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Change by one event, fully computed.

    Attributes:
        currency: the account currency, where the event opens the account.
        leverage_limit: of the account, where the event opens it.
        cash: (asset, signed amount) entries.
        costs: (asset, its cost after the event); the last entry of an asset counts.
        totals: (name, amount in the account currency) entries.
        steps: positions after the event; two for a flip.
        flows: external flows as (asset, signed amount), worth what the asset is afterwards.
        legs: (asset, signed value it was booked at) of trades; a flow where it has no rate.
        leverage: (position key, or empty for the account; new leverage).
        position_mode: (symbol, or empty for the account; mode that was asked for).
        margin_mode: (symbol; new mode).
        wallets: changes of isolated positions' wallets.
        orders: orders after the event.
        split: (symbol, new units, for so many old ones).
        mark_adjusted: whether the current mark is of new units already.
        own_fill: symbol and price of a fill in a spot pair.
        renamed: names after a symbol became another.
        borrowed: (asset, signed amount) that is owed from here on.
        keeps_margin: whether margins that venues reported are of the positions after it.
        peak_reset: peak that an operator stated.
        flags: opinions about this event.
        fill_key: identity of a fill to remember.
        reference_key: identity of another fact to remember.
        by_mark: whether a mark said what shares cost.
        booked_flow: identity and booked value of a flow in kind, for its reversal.
    """

    currency: str | None = None
    leverage_limit: Decimal | None = None
    cash: tuple[tuple[str, Decimal], ...] = ()
    costs: tuple[tuple[str, Cost], ...] = ()
    totals: tuple[tuple[TotalName, Decimal], ...] = ()
    steps: tuple[PositionStep, ...] = ()
    flows: tuple[tuple[str, Decimal], ...] = ()
    legs: tuple[tuple[str, Decimal], ...] = ()
    leverage: tuple[str, Decimal] | None = None
    position_mode: tuple[str, PositionMode] | None = None
    margin_mode: tuple[str, MarginMode] | None = None
    wallets: tuple[WalletChange, ...] = ()
    orders: tuple[Order, ...] = ()
    split: tuple[str, Decimal, Decimal] | None = None
    mark_adjusted: bool = False
    own_fill: tuple[str, OwnFill] | None = None
    renamed: Renamed | None = None
    borrowed: tuple[str, Decimal] | None = None
    keeps_margin: bool = False
    peak_reset: PeakReset | None = None
    flags: tuple[str, ...] = ()
    fill_key: FillKey | None = None
    reference_key: bytes | None = None
    by_mark: bool = False
    booked_flow: tuple[bytes, BookedFlow] | None = None


_Name = TypeVar("_Name", str, TotalName)


def added(
    known: Mapping[_Name, Decimal], changes: Iterable[tuple[_Name, Decimal]]
) -> dict[_Name, Decimal]:
    """Return the amounts that changes make of known ones; those are not changed.

    Raises:
        ArithmeticError: a sum is not exact in 100 digits.
    """
    found: dict[_Name, Decimal] = {}
    for name, change in changes:
        before = found[name] if name in found else known.get(name, ZERO)
        found[name] = add(before, change)
    return found
