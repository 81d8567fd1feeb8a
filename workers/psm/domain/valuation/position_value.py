"""Value of one open position at a price, and what it contributes to its account's figures."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import Position, value_at
from psm.domain.ledger.prices import AccountPrices
from psm.domain.market.instrument import Instrument
from psm.domain.market.margin_tiers import maintenance_margin
from psm.domain.market.mark import Source
from psm.domain.money import (
    ONE,
    ZERO,
    absolute,
    multiply,
    multiply_wide,
    negate,
    quotient,
    subtract_wide,
)


class UnderlyingMark(NamedTuple):
    """Price of what an option is on, in its quote, and how much of its moves the option makes."""

    price: Decimal
    delta: Decimal


class PositionValue(msgspec.Struct, frozen=True, gc=False):
    """One open position at a price, in its settle currency.

    Attributes:
        worth: value of its size; below zero where the price is.
        underlying: of an option, by which it is exposed; None where it has no mark.
    """

    price: Decimal
    source: Source
    worth: Decimal
    notional: Decimal
    unrealized: Decimal
    margin_initial: Decimal
    margin_maintenance: Decimal
    underlying: UnderlyingMark | None = None


class PositionContribution(msgspec.Struct, frozen=True, gc=False):
    """Contribution of one position to the account's figures, in the account currency.

    Attributes:
        equity: unrealized PnL; of what is fully paid, the whole value.
        own: the same in its settle currency.
        rate: of that currency; None where it has none.
        paid: whether it is fully paid: shares.
        uncounted: part of `equity` that is no collateral.
        unrated_cost: what shares cost, where they have no rate.
        isolated: whether a wallet of its own covers it: then it needs no margin of the account.
    """

    value: PositionValue
    gross: Decimal
    net: Decimal
    unrealized: Decimal
    equity: Decimal
    own: Decimal
    initial: Decimal
    maintenance: Decimal
    rate: Decimal | None
    paid: bool
    defined: bool
    uncounted: Decimal = ZERO
    unrated_cost: Decimal = ZERO
    isolated: bool = False


def contribution_of(
    ledger: Ledger, position: Position, prices: AccountPrices
) -> PositionContribution:
    """Return what an open position adds to the account; nothing where its rate is unknown."""
    instrument = position.instrument
    value = position_value(ledger, position, prices)
    rate = ONE if instrument.settle == ledger.currency else prices.rate(instrument.settle)
    worth = value.worth
    if rate is ONE:
        gross, unrealized = value.notional, value.unrealized
        initial, maintenance = value.margin_initial, value.margin_maintenance
    elif rate is None:
        gross = unrealized = initial = maintenance = worth = ZERO
    else:
        gross, unrealized = multiply(value.notional, rate), multiply(value.unrealized, rate)
        worth = multiply(worth, rate)
        initial = multiply(value.margin_initial, rate)
        maintenance = multiply(value.margin_maintenance, rate)
    net = worth if position.size > 0 else negate(worth)
    found = PositionContribution(
        value, gross, net, unrealized, unrealized, value.unrealized, initial, maintenance,
        rate, False, instrument.defined,
    )  # fmt: skip
    if instrument.full_notional:
        return _paid(found, position, prices)
    return _isolated(found) if instrument.symbol in ledger.wallets.symbols else found


def _paid(
    found: PositionContribution, position: Position, prices: AccountPrices
) -> PositionContribution:
    """Return the contribution of a share or an option: its whole value is equity."""
    value, rate, equity = found.value, found.rate, found.net
    gross, net, unrealized = found.gross, equity, found.unrealized
    cost = position.home_cost.amount
    if rate is not None and rate is not ONE:
        unrealized = subtract_wide(equity, cost)
    if rate is not None and value.underlying is not None:
        net = _exposure(position, value.underlying, prices, net)
        gross = absolute(net)
    own, uncounted = negate(value.worth), ZERO
    if position.size > 0:
        own = value.worth
        uncounted = _discounted(equity, prices.secures(position.instrument.symbol))
    return PositionContribution(
        value, gross, net, unrealized, equity, own, found.initial, found.maintenance, rate, True,
        found.defined, uncounted, cost if rate is None else ZERO,
    )  # fmt: skip


def _isolated(contract: PositionContribution) -> PositionContribution:
    """Return the contribution of a contract whose own wallet carries it."""
    return msgspec.structs.replace(contract, initial=ZERO, maintenance=ZERO, isolated=True)


def position_value(ledger: Ledger, position: Position, prices: AccountPrices) -> PositionValue:
    """Return the value of an open position at its price, in its settle currency."""
    price, source = prices.price_of(position)
    instrument = position.instrument
    worth, unrealized = value_at(position, price)
    value = absolute(worth)
    underlying = None
    if instrument.option is not None and instrument.full_notional:
        underlying = _underlying_mark(instrument, prices)
    margin = position.margin
    if margin is not None:  # the venue says it
        own, needed = margin.initial, margin.maintenance
        return PositionValue(price, source, worth, value, unrealized, own, needed, underlying)
    if instrument.full_notional and position.size > 0:  # it is paid: nothing secures it
        return PositionValue(price, source, worth, value, unrealized, ZERO, ZERO, underlying)
    leverage = ledger.leverage_of(position.key) if ledger.leverages else ONE
    return PositionValue(
        price,
        source,
        worth,
        value,
        unrealized,
        value if leverage is ONE or leverage == 1 else quotient(value, leverage),
        _maintenance(instrument, value, prices),
        underlying,
    )


def _underlying_mark(option: Instrument, prices: AccountPrices) -> UnderlyingMark | None:
    """Return the mark by which an option is exposed: with the delta of its own, else 1 or -1."""
    terms = option.option
    assert terms is not None, "it is an option"
    price = prices.mark(prices.underlying_of(option)[0])
    if price is None:
        return None
    own = prices.current_mark(option.symbol)
    if own is not None and own.delta is not None:
        return UnderlyingMark(price, own.delta)
    return UnderlyingMark(price, ONE if terms.right == "call" else negate(ONE))


def _exposure(
    position: Position, by: UnderlyingMark, prices: AccountPrices, own: Decimal
) -> Decimal:
    """Return the signed exposure of an option by its delta, in the account currency.

    It is its own value where the currency of the underlying's price has no rate.
    """
    instrument = position.instrument
    rate = prices.rate(prices.underlying_of(instrument)[1])
    if rate is None:
        return own
    units = multiply_wide(multiply_wide(position.size, instrument.multiplier), by.delta)
    return multiply_wide(multiply_wide(units, by.price), rate)


def _maintenance(instrument: Instrument, value: Decimal, prices: AccountPrices) -> Decimal:
    """Return the maintenance margin: by tiers, else of a short share by what borrowing needs."""
    if instrument.margin_tiers:
        return maintenance_margin(value, instrument.tiers)
    if not instrument.full_notional:
        return ZERO
    rate = prices.borrow_rate(instrument.symbol)
    return multiply(value, rate) if rate else ZERO


def _discounted(value: Decimal, secures: Decimal) -> Decimal:
    """Return the part of a value that is no collateral."""
    return subtract_wide(value, multiply_wide(value, secures)) if secures else value
