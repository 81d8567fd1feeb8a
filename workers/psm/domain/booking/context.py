"""Context of an event: what its effect depends on besides its own account's ledger."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from psm.contracts.fields import Payload, PositionSide
from psm.contracts.position_keys import position_key
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import Position, PositionStep
from psm.domain.ledger.prices import AccountPrices
from psm.domain.market.instrument import Instrument, undefined_instrument
from psm.domain.market.tables import Market

DEFAULT_CURRENCY = "USDT"


class EventContext(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Knowledge at the moment an event is applied.

    Attributes:
        prices: marks, rates and definitions as the account sees them; marks may decide flags only,
            never the ledger.
        home: currency of the account, or the one it opens with.
        time: log time at which the event is folded, ns.
        corrected: whether this is a corrected past, in which a stated size may not fit any more.
    """

    prices: AccountPrices
    home: str = DEFAULT_CURRENCY
    time: int = 0
    corrected: bool = False


def opened_at(steps: Sequence[PositionStep], context: EventContext) -> tuple[PositionStep, ...]:
    """Return the steps of an event; what it opened is opened at its time."""
    if steps[-1].change != "opened":
        return tuple(steps)
    *before, last = steps
    position = msgspec.structs.replace(last.position, cycle_opened_at=context.time)
    return (*before, msgspec.structs.replace(last, position=position))


def opening_currency(event: Payload, market: Market) -> str:
    """Return the currency of an account that `event` opens: named, of its instrument, or USDT."""
    named = getattr(event, "currency", None)
    if named is not None:
        return str(named)
    instrument = market.instruments.get(getattr(event, "symbol", None) or "")
    return DEFAULT_CURRENCY if instrument is None else instrument.settle


def instrument_of(ledger: Ledger, symbol: str, context: EventContext) -> Instrument:
    """Return what a symbol is for this account.

    An open position keeps the definition it opened with; from flat it takes the current one.
    """
    held = ledger.open_position(symbol)
    return current_instrument(symbol, context) if held is None else held.instrument


def current_instrument(symbol: str, context: EventContext) -> Instrument:
    """Return what a symbol is for a position that opens now."""
    known = context.prices.definition(symbol)
    return known or undefined_instrument(symbol, context.home)


def asset_meant(ledger: Ledger, symbol: str, context: EventContext) -> str | None:
    """Return the asset that an event means by what it names; None: a contract or a share.

    It is what the account holds under that name, else a defined instrument, of a pair its base,
    else an asset.
    """
    if ledger.open_position(symbol) is not None:
        return None
    known = context.prices.definition(symbol)
    if ledger.cash.get(symbol) or known is None:
        return symbol
    return known.base if known.is_pair else None


def quoted_in(symbol: str, context: EventContext) -> str:
    """Return the asset that prices of a pair are in; of a bare asset the account currency."""
    known = context.prices.definition(symbol)
    return known.quote if known is not None and known.is_pair else context.home


def position_for(
    ledger: Ledger,
    symbol: str,
    context: EventContext,
    price: Decimal,
    position_side: PositionSide = "net",
) -> Position:
    """Return the position an event acts on: the open one, or a flat one with its history."""
    held = ledger.positions.get(position_key(symbol, position_side))
    if held is not None and held.size:
        return held
    instrument = current_instrument(symbol, context)
    if held is None:
        return Position(instrument=instrument, position_side=position_side, last_fill=price)
    return msgspec.structs.replace(held, instrument=instrument)
