"""Checks that do not depend on the quantity: what rejects an order, and what lets it only close."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

import msgspec

from psm.domain.money import ONE, add, multiply, negate, subtract
from psm.risk.limits import Limits, text
from psm.risk.sizing import floor_to
from psm.risk.state import Contract, OpenOrder, ProposedOrder, RiskState


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """What one of them found; texts as they are reported."""

    name: str
    passed: bool
    scope: str = "account"
    value: str | None = None
    limit: str | None = None
    detail: str | None = None


def hard_facts(
    state: RiskState, limits: Limits, order: ProposedOrder, restricted: Mapping[str, str]
) -> list[Fact]:
    """Return the checks that reject an order, each with what it found."""
    symbol = f"symbol:{order.symbol}"
    listed = restricted.get(order.symbol)
    opened = len(state.open_orders) + 1
    most = limits.open_orders_count
    known = [other.order_id for other in state.open_orders]
    return [
        Fact(name="account_known", passed=True),
        Fact(name="instrument_known", scope=symbol, passed=True),
        _increment(state.contracts.get(order.symbol, Contract()), order),
        *([] if state.mode == "reducing" else [_mode(state)]),
        Fact(
            name="restricted", scope=symbol, passed=listed not in ("both", order.side),
            value=order.side, limit=listed,
        ),
        _collar(state, limits, order),
        Fact(
            name="stop_required",
            passed=not limits.stop_required or _stop(order) is not None,
            value=text(_stop(order)),
        ),
        Fact(
            name="open_orders_count", passed=most is None or opened <= most,
            value=text(opened), limit=text(most),
        ),
        Fact(name="duplicate_order_id", passed=order.order_id == "" or order.order_id not in known),
        _self_cross(state, limits, order),
    ]  # fmt: skip


def reducing_facts(
    state: RiskState, limits: Limits, order: ProposedOrder, room: Decimal
) -> list[Fact]:
    """Return the checks that, failing, leave an order no more than the room for closing."""
    fall, streak = limits.drawdown, limits.loss_streak
    return [
        Fact(
            name="reduce_only",
            passed=not order.reduce_only or order.quantity <= room,
            value=text(order.quantity) if order.reduce_only else None,
            limit=text(room) if order.reduce_only else None,
        ),
        *([_mode(state)] if state.mode == "reducing" else []),
        _daily_loss(state, limits),
        Fact(
            name="drawdown",
            passed=fall is None or state.drawdown is None or state.drawdown < fall,
            value=text(state.drawdown),
            limit=text(fall),
        ),
        Fact(
            name="loss_streak",
            passed=streak is None or state.loss_streak is None or state.loss_streak < streak,
            value=text(state.loss_streak),
            limit=text(streak),
        ),
    ]


def _mode(state: RiskState) -> Fact:
    return Fact(name="mode", passed=state.mode == "active", value=state.mode, limit="active")


def _increment(contract: Contract, order: ProposedOrder) -> Fact:
    """Quantity and prices are on the venue's grid."""
    lot, tick = contract.lot_size, contract.tick_size
    scope = f"symbol:{order.symbol}"
    if lot is not None and floor_to(order.quantity, lot) != order.quantity:
        return Fact(
            name="increment", scope=scope, passed=False,
            value=text(order.quantity), limit=text(lot), detail="off the lot",
        )  # fmt: skip
    for price in (order.price, order.stop_price):
        if tick is not None and price is not None and floor_to(price, tick) != price:
            return Fact(
                name="increment", scope=scope, passed=False,
                value=text(price), limit=text(tick), detail="off the tick",
            )  # fmt: skip
    return Fact(name="increment", scope=scope, passed=True, limit=text(lot))


def _collar(state: RiskState, limits: Limits, order: ProposedOrder) -> Fact:
    """A price is not too far from the mark, and a stop on its side of it."""
    width, mark = limits.price_collar, state.marks.get(order.symbol)
    scope, price = f"symbol:{order.symbol}", order.price
    triggers = order.type.startswith("stop") and order.stop_price is not None
    if width is None or (price is None and not triggers):
        return Fact(name="price_collar", scope=scope, passed=True, value=text(price))
    if mark is None:
        return Fact(name="price_collar", scope=scope, passed=False, detail="no mark")
    for given, bound, too_far in _bounds(limits, order, mark, width, triggers=triggers):
        if too_far:
            return Fact(
                name="price_collar", scope=scope, passed=False, value=text(given), limit=text(bound)
            )
    bound = multiply(mark, add(ONE, width if order.side == "buy" else negate(width)))
    return Fact(name="price_collar", scope=scope, passed=True, value=text(price), limit=text(bound))


def _bounds(
    limits: Limits, order: ProposedOrder, mark: Decimal, width: Decimal, *, triggers: bool
) -> Iterator[tuple[Decimal, Decimal, bool]]:
    """Yield each price of an order, its bound, and whether it is beyond."""
    buys, price, passive = order.side == "buy", order.price, limits.price_collar_passive
    if price is not None:
        bound = multiply(mark, add(ONE, width) if buys else subtract(ONE, width))
        yield price, bound, price > bound if buys else price < bound
        if passive is not None:
            bound = multiply(mark, subtract(ONE, passive) if buys else add(ONE, passive))
            yield price, bound, price < bound if buys else price > bound
    if triggers and order.stop_price is not None:
        trigger = order.stop_price
        yield trigger, mark, trigger < mark if buys else trigger > mark


def _self_cross(state: RiskState, limits: Limits, order: ProposedOrder) -> Fact:
    """An order would trade with an open one of the same books."""
    crossing = sorted(other.order_id for other in state.open_orders if _crosses(order, other))
    return Fact(
        name="self_cross",
        scope=f"symbol:{order.symbol}",
        passed=not (limits.self_cross and crossing),
        value=crossing[0] if crossing else None,
    )


def _crosses(order: ProposedOrder, other: OpenOrder) -> bool:
    if other.symbol != order.symbol or other.side == order.side:
        return False
    if order.price is None or other.price is None:
        return True
    return order.price >= other.price if order.side == "buy" else order.price <= other.price


def _daily_loss(state: RiskState, limits: Limits) -> Fact:
    """Profit of the day, flows apart, against the cap; reaching it is enough."""
    cap, opened = limits.daily_loss, state.day_open_equity
    if opened is None:
        return Fact(name="daily_loss", passed=True, limit=text(cap), detail="no opening equity")
    profit = subtract(subtract(state.equity, opened), state.flows)
    if cap is None:
        return Fact(name="daily_loss", passed=True, value=text(profit))
    money = multiply(cap, opened) if cap <= ONE else cap
    limit = negate(money)
    return Fact(name="daily_loss", passed=profit > limit, value=text(profit), limit=text(limit))


def _stop(order: ProposedOrder) -> Decimal | None:
    return order.stop_loss if order.stop_loss is not None else order.stop_price
