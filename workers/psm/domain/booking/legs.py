"""Legs that events mean: where a fill, a cost or a wallet's money is booked.

In net mode there is one position per symbol, and a leg that an event names is ignored and flagged.
In hedge mode an event books into the leg that it names; without one into the open leg, if there is
only one. Else a fill opens a leg of its own, the net one, and a cost is the account's; flagged.
"""

from __future__ import annotations

from psm.contracts.fields import PositionSide
from psm.contracts.position_keys import position_key
from psm.domain.booking.context import EventContext, instrument_of
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import Position

Flags = tuple[str, ...]


def fill_leg(
    ledger: Ledger, symbol: str, stated: PositionSide | None, context: EventContext
) -> tuple[PositionSide, Flags]:
    """Return the leg that a fill or a wallet's money belongs to, and what there is to flag."""
    if stated is None and not ledger.modes.own:
        return "net", ()  # the usual case
    leg, flags = cost_leg(ledger, symbol, stated, context)
    return leg or "net", flags


def cost_leg(
    ledger: Ledger, symbol: str, stated: PositionSide | None, context: EventContext
) -> tuple[PositionSide | None, Flags]:
    """Return the leg that a payment belongs to, None for the account, and what there is to flag."""
    if not is_hedged(ledger, symbol, context):
        flags = ("position_side_ignored",)
        return "net", flags if stated in ("long", "short") else ()
    if stated is not None:
        return stated, ()
    held = open_legs(ledger, symbol)
    if len(held) == 1:
        return held[0].position_side, ()
    flags = ("leg_unknown",)
    return None, flags


def is_hedged(ledger: Ledger, symbol: str, context: EventContext) -> bool:
    """Return whether a symbol's fills go to a leg for each side; shares always net."""
    if not ledger.modes.own or ledger.modes.of(symbol) == "net":
        return False
    return not instrument_of(ledger, symbol, context).full_notional


def open_legs(ledger: Ledger, symbol: str) -> list[Position]:
    """Return the open positions of a symbol, the net one first."""
    found = [ledger.positions.get(key) for key in ledger.keys_of(symbol)]
    return [position for position in found if position is not None and position.size]


def known_leg(ledger: Ledger, symbol: str, leg: PositionSide | None) -> Position | None:
    """Return the position that a payment counts for; None for the account."""
    return None if leg is None else ledger.positions.get(position_key(symbol, leg))
