"""Checks that look at more than a state: ages, windows, repetitions, sessions."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from psm.domain.market.mark import Mark
from psm.domain.money import ONE, add, exact_text, multiply, published_text, quotient, subtract
from psm.risk.engine.path import LatchEnd, Path, Repeats
from psm.risk.engine.scopes import Ordered, latch_scope
from psm.risk.engine.windows import SECOND, Windows
from psm.risk.facts import Fact
from psm.risk.limits import Limits, text
from psm.risk.measured import OrderPlace
from psm.risk.rulebook import Rulebook
from psm.risk.state import ProposedOrder


class LookBack:
    """What the checks of one order look back at."""

    def __init__(
        self,
        ordered: Ordered,
        place: OrderPlace,
        mark: Mark | None,
        path: Path,
        windows: Windows,
        rulebook: Rulebook,
    ) -> None:
        self._ordered, self._place, self._mark = ordered, place, mark
        self._path, self._windows, self._rulebook = path, windows, rulebook

    def hard(self, scope: str, limits: Limits) -> Iterator[Fact]:
        """Yield the checks of one scope that reject, those that have a limit."""
        if limits.mark_age is not None:
            yield self._mark_age(scope, limits.mark_age)
        if limits.collar_period is not None:
            yield self._collar_period(scope, limits, limits.collar_period)
        if limits.duplicate_order is not None:
            yield self._duplicate(scope, limits.duplicate_order)
        if limits.order_rate is not None:
            seconds, most = limits.order_rate_seconds, limits.order_rate
            yield self._rate("order_rate", scope, seconds, most)
        if limits.message_rate is not None:
            seconds, most = limits.message_rate_seconds, limits.message_rate
            yield self._rate("message_rate", scope, seconds, most)
        if limits.repeated_execution is not None:
            yield self._repeated(scope, limits.repeated_execution)

    def latches(self, scope: str, limits: Limits) -> Iterator[Fact]:
        """Yield the checks of one scope that leave no more than closing."""
        if limits.cooldown is None:
            return
        ordered = self._ordered
        latch = latch_scope(scope, ordered.account_id, ordered.group)
        ended = self._path.get(LatchEnd, "ended", latch)
        since = None if ended is None else ordered.clock - ended.clock
        yield Fact(
            name="cooldown", scope=scope,
            passed=since is None or since >= int(limits.cooldown) * SECOND,
            value=None if since is None else seconds_text(since), limit=text(limits.cooldown),
        )  # fmt: skip

    def session(self) -> Fact:
        """Return whether the symbol may be traded now."""
        ordered = self._ordered
        symbol = ordered.order.symbol
        is_open = self._rulebook.in_session(ordered.account_id, symbol, ordered.clock)
        return Fact(name="session", scope=f"symbol:{symbol}", passed=is_open)

    def _mark_age(self, scope: str, most: int) -> Fact:
        """A market order that only closes passes at an old mark, and says so."""
        order, mark = self._ordered.order, self._mark
        if mark is None:
            return Fact(
                name="mark_age", scope=scope, passed=False, limit=text(most), detail="no mark"
            )
        age = max(0, self._ordered.clock - mark.time // 1000)
        fresh = age <= int(most) * SECOND
        closing = order.type == "market" and order.quantity <= self._place.room
        return Fact(
            name="mark_age", scope=scope, passed=fresh or closing, value=seconds_text(age),
            limit=text(most), detail=None if fresh or not closing else "stale",
        )  # fmt: skip

    def _collar_period(self, scope: str, limits: Limits, width: Decimal) -> Fact:
        """Mean of the approved prices of a period, the order's own among them, against the mark."""
        ordered, order = self._ordered, self._ordered.order
        name = ordered.window("price", scope, order.symbol, order.side)
        seconds = limits.collar_period_seconds
        count = self._windows.count(name, ordered.clock, seconds)
        total = self._windows.total(name, ordered.clock, seconds)
        if order.price is not None:
            count += 1
            total = add(total, order.price)
        if not count or self._mark is None:
            return Fact(
                name="collar_period", scope=scope, passed=not count, limit=text(width),
                detail="no mark" if count else None,
            )  # fmt: skip
        buys = order.side == "buy"
        bound = multiply(self._mark.price, add(ONE, width) if buys else subtract(ONE, width))
        whole = multiply(bound, Decimal(count))
        return Fact(
            name="collar_period", scope=scope,
            passed=total <= whole if buys else total >= whole,
            value=published_text(quotient(total, Decimal(count))), limit=text(bound),
        )  # fmt: skip

    def _duplicate(self, scope: str, seconds: int) -> Fact:
        ordered = self._ordered
        last = self._windows.last(ordered.window("same", scope, *fingerprint(ordered.order)))
        since = None if last is None else ordered.clock - last
        return Fact(
            name="duplicate_order", scope=scope,
            passed=since is None or since >= int(seconds) * SECOND,
            value=None if since is None else seconds_text(since), limit=text(seconds),
        )  # fmt: skip

    def _rate(self, kind: str, scope: str, seconds: int, most: int) -> Fact:
        """So many have been already; the order is one more."""
        count = self._windows.count(self._ordered.window(kind, scope), self._ordered.clock, seconds)
        return Fact(
            name=kind, scope=scope, passed=count < most, value=text(count), limit=text(most)
        )

    def _repeated(self, scope: str, most: int) -> Fact:
        count = repeats(self._path, self._rulebook, self._ordered).count
        return Fact(
            name="repeated_execution", scope=scope, passed=count < most,
            value=text(count), limit=text(most),
        )  # fmt: skip


def repeats_key(ordered: Ordered) -> str:
    """Return what repeated executions are counted under."""
    order = ordered.order
    return "|".join((ordered.group, order.strategy_id or "", order.symbol, order.side))


def repeats(path: Path, rulebook: Rulebook, ordered: Ordered) -> Repeats:
    """Return how often the strategy, symbol and side were approved since it was enabled."""
    enabled = rulebook.enabled_at(ordered.order.strategy_id or "")
    found = path.get(Repeats, "repeats", repeats_key(ordered))
    if found is None or found.enabled != enabled:
        return Repeats(count=0, enabled=enabled)
    return found


def fingerprint(order: ProposedOrder) -> tuple[str, ...]:
    """Return what makes two orders the same one again, ids apart."""
    price = "" if order.price is None else exact_text(order.price)
    quantity = exact_text(order.quantity)
    return (order.strategy_id or "", order.symbol, order.side, order.type, quantity, price)


def seconds_text(microseconds: int) -> str:
    """Return a duration in seconds."""
    return exact_text(multiply(Decimal(microseconds), _MICROSECOND))


_MICROSECOND = Decimal("0.000001")
