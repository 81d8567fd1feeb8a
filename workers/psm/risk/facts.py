"""Checks that do not depend on the quantity: what rejects an order, and what lets it only close."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import msgspec

from psm.domain.money import ONE, add, multiply, negate, subtract
from psm.risk.limits import Limits, text
from psm.risk.measured import Measured, OrderPlace, loss_cap
from psm.risk.sizing import floor_to
from psm.risk.state import Mode, OpenOrder, ProposedOrder


class Fact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one of them found; texts as they are reported.

    Attributes:
        reason: by which a decision names the failure, where that is not the check's name.
    """

    name: str
    passed: bool
    scope: str = "account"
    value: str | None = None
    limit: str | None = None
    detail: str | None = None
    reason: str | None = None


def order_facts(
    order: ProposedOrder,
    place: OrderPlace,
    *,
    mode: Fact | None,
    restricted: str | None,
    scope: str,
) -> list[Fact]:
    """Return what an order is judged by that is the same under all limits.

    Args:
        order: as requested.
        place: what it is of.
        mode: what the halts say; None where they leave closing.
        restricted: side that must not be traded.
        scope: of what is the account's.
    """
    symbol = f"symbol:{order.symbol}"
    return [
        _increment(order, place),
        *([] if mode is None else [mode]),
        Fact(
            name="restricted", scope=symbol, passed=restricted not in ("both", order.side),
            value=order.side, limit=restricted,
        ),
        Fact(name="duplicate_order_id", scope=scope, passed=not place.known),
    ]  # fmt: skip


def limit_facts(order: ProposedOrder, place: OrderPlace, measured: Measured) -> list[Fact]:
    """Return the checks of one scope that reject an order, each with what it found."""
    limits, scope = measured.limits, measured.scope or "account"
    opened, most = measured.open_orders + 1, limits.open_orders_count
    return [
        _collar(order, place, measured),
        Fact(
            name="stop_required", scope=scope,
            passed=not limits.stop_required or _stop(order) is not None,
            value=text(_stop(order)), limit="true" if limits.stop_required else None,
        ),
        Fact(
            name="open_orders_count", scope=scope, passed=most is None or opened <= most,
            value=text(opened), limit=text(most),
        ),
        _self_cross(order, place, measured),
    ]  # fmt: skip


def reduce_only_fact(order: ProposedOrder, room: Decimal, scope: str) -> Fact:
    """Return whether an order that must only close is within the room for that."""
    return Fact(
        name="reduce_only",
        scope=scope,
        passed=not order.reduce_only or order.quantity <= room,
        value=text(order.quantity) if order.reduce_only else None,
        limit=text(room) if order.reduce_only else None,
    )


def latch_facts(measured: Measured) -> list[Fact]:
    """Return the checks of one scope that, failing, leave an order no more than closing."""
    fall, streak = measured.limits.drawdown, measured.limits.loss_streak
    scope, drawdown, losses = measured.scope or "account", measured.drawdown, measured.loss_streak
    return [
        _daily_loss(measured),
        Fact(
            name="drawdown", scope=scope,
            passed=fall is None
            or (not _latched(measured, "drawdown") and (drawdown is None or drawdown < fall)),
            value=text(drawdown), limit=text(fall), detail=_detail(measured, "drawdown"),
        ),
        Fact(
            name="loss_streak", scope=scope,
            passed=streak is None or losses is None or losses < streak,
            value=text(losses), limit=text(streak),
        ),
    ]  # fmt: skip


def mode_fact(mode: Mode, scope: str = "account", code: str | None = None) -> Fact:
    """Return what the tightest of the halts says, and which it is."""
    return Fact(
        name="mode", scope=scope, passed=mode == "active", value=mode, limit="active", detail=code
    )


def _increment(order: ProposedOrder, place: OrderPlace) -> Fact:
    """Quantity and prices are on the venue's grid."""
    lot, tick = place.contract.lot_size, place.contract.tick_size
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


def _collar(order: ProposedOrder, place: OrderPlace, measured: Measured) -> Fact:
    """A price is not too far from the mark, and a stop on its side of it."""
    width, mark, price = measured.limits.price_collar, place.mark, order.price
    scope = measured.scope or f"symbol:{order.symbol}"
    triggers = order.type.startswith("stop") and order.stop_price is not None
    if width is None or (price is None and not triggers):
        return Fact(name="price_collar", scope=scope, passed=True, value=text(price))
    if mark is None:
        return Fact(name="price_collar", scope=scope, passed=False, detail="no mark")
    for given, bound, too_far in _bounds(measured.limits, order, mark, width, triggers=triggers):
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


def _self_cross(order: ProposedOrder, place: OrderPlace, measured: Measured) -> Fact:
    """An order would trade with an open one of the same books."""
    crossing = sorted(other.order_id for other in place.others if _crosses(order, other))
    wanted = measured.limits.self_cross
    return Fact(
        name="self_cross",
        scope=measured.scope or f"symbol:{order.symbol}",
        passed=not (wanted and crossing),
        value=crossing[0] if crossing else None,
        limit="true" if wanted and measured.scope is not None else None,
    )


def _crosses(order: ProposedOrder, other: OpenOrder) -> bool:
    if other.symbol != order.symbol or other.side == order.side:
        return False
    if order.price is None or other.price is None:
        return True
    return order.price >= other.price if order.side == "buy" else order.price <= other.price


def _daily_loss(measured: Measured) -> Fact:
    """Profit of the day, flows apart, against the cap; reaching it is enough."""
    limits, profit, scope = measured.limits, measured.profit, measured.scope
    cap = loss_cap(limits, measured.opened)
    if profit is None or (cap is None and limits.daily_loss is not None):
        return _unknown_loss(cap or limits.daily_loss, scope)
    limit = None if cap is None else negate(cap)
    latched = limit is not None and _latched(measured, "daily_loss")
    return Fact(
        name="daily_loss", scope=scope or "account",
        passed=limit is None or (profit > limit and not latched),
        value=text(profit), limit=text(limit), detail="latched" if latched else None,
    )  # fmt: skip


def _unknown_loss(cap: Decimal | None, scope: str | None) -> Fact:
    """Return what is said where there is no opening equity: it passes in the short form alone."""
    return Fact(
        name="daily_loss", scope=scope or "account", passed=cap is None or scope is None,
        limit=text(cap), detail="no opening equity",
    )  # fmt: skip


def _latched(measured: Measured, code: str) -> bool:
    return code in measured.latched


def _detail(measured: Measured, code: str) -> str | None:
    return "latched" if _latched(measured, code) else None


def _stop(order: ProposedOrder) -> Decimal | None:
    return order.stop_loss if order.stop_loss is not None else order.stop_price
