"""Spin-offs and mergers of coins: forks, migrations, redemptions. The cost goes with the units.

As of shares: cost less realized PnL is conserved but for the cash that comes, and an account that
owes coins owes the new ones, too. All costs are in the account currency.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from psm.contracts.corporate_actions import Merged, SpinOff
from psm.contracts.errors import ContractError
from psm.domain.booking.context import EventContext, asset_meant, quoted_in
from psm.domain.booking.fractions import in_new_units
from psm.domain.booking.movements import Leg, Movements
from psm.domain.booking.position_changes import fallen
from psm.domain.ledger.holdings import AssetHolding, Cost
from psm.domain.ledger.ledger import Ledger
from psm.domain.money import ONE, ZERO, absolute, exactly_scaled, negate, scaled, subtract

Flags = tuple[str, ...]


def coins_spun_off(
    moves: Movements, ledger: Ledger, event: SpinOff, asset: str, context: EventContext
) -> Flags:
    """Book units of another coin that came with a part of the cost; return flags."""
    held = moves.holding(asset)
    moved = _moved_cost(event, held, own=asset == moves.home)
    if moved:
        moves.rescale(asset, held.quantity, subtract(held.cost.amount, moved))
    cost = Cost(moved, held.cost.unknown)
    return _received(moves, ledger, event, held.quantity, cost, context).flags


def coins_merged(
    moves: Movements, ledger: Ledger, event: Merged, asset: str, context: EventContext
) -> Flags:
    """Book that all units went, for cash, for units of another coin, or both; return flags."""
    if asset == moves.home:
        raise ContractError(
            "invalid_payload",
            f"{asset} is the account currency: AssetsExchanged says what it was exchanged for",
            "payload.symbol",
        )
    held, left = moves.holding(asset), moves.holding(asset).cost.amount
    paid = ZERO
    if event.cash:
        currency = event.currency or quoted_in(event.symbol, context)
        if currency == asset:
            raise ContractError(
                "invalid_payload", "all of it went: it is not paid in itself", "payload.currency"
            )
        paid = moves.take(currency, event.cash)
        beyond, left = fallen(held, paid)
        moves.realize(beyond, unknown=held.cost.unknown)
    moves.rescale(asset, ZERO, ZERO)
    came = _received(moves, ledger, event, held.quantity, Cost(left, held.cost.unknown), context)
    if came.units is not None:
        moves.note_became(Leg(asset, held.quantity), came.units, paid)
    return came.flags


def _moved_cost(event: SpinOff, held: AssetHolding, *, own: bool) -> Decimal:
    """Return the cost that goes with the new units, signed: at most all of it."""
    whole = absolute(held.cost.amount)
    if event.cost is not None:
        moved = min(event.cost, whole)
    elif event.cost_share is not None:
        moved = scaled(whole, event.cost_share, ONE)
    else:
        raise ContractError("invalid_payload", "cost or cost_share must be given", "payload.cost")
    if moved and own:
        raise ContractError(
            "invalid_payload",
            "the account currency keeps its cost: 0 must be given",
            "payload.cost",
        )
    return moved if held.cost.amount > 0 else negate(moved)


class _Came(NamedTuple):
    """Coins that came, None where no unit did, and flags."""

    units: Leg | None
    flags: Flags


def _received(
    moves: Movements,
    ledger: Ledger,
    event: SpinOff | Merged,
    quantity: Decimal,
    cost: Cost,
    context: EventContext,
) -> _Came:
    """Take in the new coins with their cost; what no unit carries is realized against the cash.

    Args:
        moves: of the event.
        ledger: of the account.
        event: with its terms.
        quantity: signed, of the coins that it is for.
        cost: signed, of what comes.
        context: of the event.
    """
    came, kept = _Came(None, ()), ZERO
    if event.new_symbol is not None and event.numerator is not None:
        assert event.denominator is not None, "both or none"
        exact = exactly_scaled(absolute(quantity), event.numerator, event.denominator)
        units = in_new_units(exact, cost.amount, event, context)
        kept, came = units.cost, _Came(None, units.flags)
        if units.size:
            signed = units.size if quantity > 0 else negate(units.size)
            new = _new_asset(ledger, event.new_symbol, context)
            moves.come_at_cost(new, signed, Cost(kept, cost.unknown))
            came = _Came(Leg(new, signed), units.flags)
    moves.realize(subtract(kept, cost.amount), unknown=cost.unknown)
    if event.cash_in_lieu is not None:
        currency = event.currency or quoted_in(event.symbol, context)
        moves.earn(currency, event.cash_in_lieu, "realized_pnl")
    return came


def _new_asset(ledger: Ledger, symbol: str, context: EventContext) -> str:
    """Return the asset that came, of a pair its base."""
    asset = asset_meant(ledger, symbol, context)
    if asset is None:
        raise ContractError(
            "instrument_conflict", "coins do not become shares or contracts", "payload.new_symbol"
        )
    return asset
