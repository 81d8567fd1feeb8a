"""Effects on the wallets of isolated positions.

What moved is what the event says. Without that, what opens moves notional / leverage at its price
in, what reduces by f of q returns f / q of the wallet, what closes returns all of it, and a flip
does both. Realized PnL and fees are the account's, so a wallet only loses by funding.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from psm.contracts.margin_events import (
    MarginModeChanged,
    MarginReported,
    MarginTransferred,
    PositionModeChanged,
)
from psm.contracts.position_keys import position_key
from psm.domain.booking.context import EventContext, instrument_of
from psm.domain.booking.identities import new_reference
from psm.domain.booking.legs import Flags, fill_leg, open_legs
from psm.domain.ledger.effect import Effect
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import Position, PositionStep, ReportedMargin, notional_of
from psm.domain.ledger.wallets import WalletChange
from psm.domain.money import ZERO, absolute, add, negate, quotient, scaled, subtract


def position_mode_changed(ledger: Ledger, event: PositionModeChanged, _: EventContext) -> Effect:
    """Ask for another position mode; it waits while something is open."""
    symbol = event.symbol or ""
    waits = ledger.modes.of(symbol) != event.mode and not ledger.is_flat(symbol)
    flags = ("position_mode_waiting",) if waits else ()
    return Effect(position_mode=(symbol, event.mode), flags=flags)


def margin_mode_changed(ledger: Ledger, event: MarginModeChanged, context: EventContext) -> Effect:
    """Give the positions of a symbol wallets of their own, or take those back."""
    symbol = event.symbol
    if instrument_of(ledger, symbol, context).full_notional:
        return Effect(flags=("not_isolated",))
    held = open_legs(ledger, symbol)
    steps = tuple(PositionStep(position=position, change="adjusted") for position in held)
    if event.mode == "cross":
        return Effect(
            margin_mode=(symbol, "cross"),
            wallets=_all_back(ledger, symbol),
            steps=steps,
        )
    amount = event.amount if event.isolated_margin is None else event.isolated_margin
    flags: Flags = ()
    wallets: tuple[WalletChange, ...] = ()
    if amount is not None:
        leg, flags = fill_leg(ledger, symbol, event.position_side, context)
        wallets = ((position_key(symbol, leg), amount),)
    told = dict(wallets)
    if symbol not in ledger.wallets.symbols and any(each.key not in told for each in held):
        flags = (*flags, "margin_unknown")
    return Effect(margin_mode=(symbol, "isolated"), wallets=wallets, steps=steps, flags=flags)


def margin_transferred(ledger: Ledger, event: MarginTransferred, context: EventContext) -> Effect:
    """Move money between a position's wallet and what the account shares."""
    leg, flags = fill_leg(ledger, event.symbol, event.position_side, context)
    key, named = new_reference(
        ledger, "MarginTransferred", event.symbol, event.reference, event.position_side
    )
    position = position_key(event.symbol, leg)
    effect = Effect(flags=(*flags, *named), reference_key=key)
    return with_stated(ledger, effect, event.symbol, position, event.amount)


def margin_reported(ledger: Ledger, event: MarginReported, context: EventContext) -> Effect:
    """Keep the venue's margin of an open position; of none there is nothing to keep."""
    symbol = event.symbol
    leg, flags = fill_leg(ledger, symbol, event.position_side, context)
    key, named = new_reference(
        ledger, "MarginReported", symbol, event.reference, event.position_side
    )
    position = ledger.positions.get(position_key(symbol, leg))
    if position is None or not position.size:
        return Effect(flags=(*flags, *named, "margin_unknown"), reference_key=key)
    margin = ReportedMargin(event.initial, event.maintenance)
    after = msgspec.structs.replace(position, margin=margin)
    step = PositionStep(position=after, change="adjusted")
    return Effect(steps=(step,), keeps_margin=True, flags=(*flags, *named), reference_key=key)


def with_stated(
    ledger: Ledger, effect: Effect, symbol: str, key: str, amount: Decimal | None
) -> Effect:
    """Return an effect that also moves a stated amount into a wallet, if that is one."""
    if amount is None:
        return effect
    if symbol not in ledger.wallets.symbols:
        flags = (*effect.flags, "not_isolated") if amount else effect.flags
        return msgspec.structs.replace(effect, flags=flags)
    steps = effect.steps
    position = ledger.positions.get(key)
    if position is not None and not any(step.position.key == key for step in steps):
        steps = (*steps, PositionStep(position=position, change="adjusted"))
    return msgspec.structs.replace(effect, wallets=(*effect.wallets, (key, amount)), steps=steps)


def with_wallet(
    ledger: Ledger,
    effect: Effect,
    before: Position,
    price: Decimal | None,
    stated: Decimal | None = None,
) -> Effect:
    """Return an effect that also moves what its steps move of the position's wallet.

    Args:
        ledger: before the event.
        effect: of the event; all its steps are of this position.
        before: the position before the event.
        price: at which units were added; None where none can have been.
        stated: what moved, as the event says.
    """
    symbol = before.instrument.symbol
    if stated is not None:
        return with_stated(ledger, effect, symbol, before.key, stated)
    if symbol not in ledger.wallets.symbols or before.instrument.full_notional:
        return effect
    change = _moved(ledger, before, effect.steps, price)
    if not change:
        return effect
    return msgspec.structs.replace(effect, wallets=(*effect.wallets, (before.key, change)))


def _moved(
    ledger: Ledger, before: Position, steps: Sequence[PositionStep], price: Decimal | None
) -> Decimal:
    """Return what steps move into a wallet; out of it below zero."""
    held = wallet = ledger.wallets.of(before.key)
    size = before.size
    for step in steps:
        after = step.position.size
        if size and (not after or (after > 0) != (size > 0)):
            wallet, size = ZERO, ZERO
        if absolute(after) < absolute(size):
            gone = subtract(absolute(size), absolute(after))
            wallet = subtract(wallet, scaled(wallet, gone, absolute(size)))
        elif absolute(after) > absolute(size) and price is not None:
            units = subtract(absolute(after), absolute(size))
            notional = absolute(notional_of(before.instrument, units, price))
            wallet = add(wallet, quotient(notional, ledger.leverage_of(before.key)))
        size = after
    return subtract(wallet, held)


def _all_back(ledger: Ledger, symbol: str) -> tuple[WalletChange, ...]:
    wallets = ledger.wallets.amounts
    keys = [position_key(symbol, side) for side in ("net", "long", "short")]
    return tuple((key, negate(wallets[key])) for key in keys if key in wallets)
