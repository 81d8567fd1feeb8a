"""One decision: a pure function of state, limits and order.

All checks are always evaluated and reported, with the value of the order as it was requested. A
hard one rejects. What only closes is never in the way of exposure, loss or drawdown limits. The
approved quantity is the largest multiple of the lot that is within the room for closing, or at
which no figure is above max(limit, what it is without the order): an account that is above a
limit may still do what does not raise it. Comparisons are of products, never of quotients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Literal

import msgspec

from psm.domain.money import ZERO, absolute, multiply, published_text
from psm.risk.bands import Band, Bands
from psm.risk.exposure import reducing_room
from psm.risk.facts import Fact, hard_facts, reducing_facts
from psm.risk.limits import CATALOGUE, Check, Limits, text
from psm.risk.sizing import SMALLEST_LOT, floor_to, whole_lots
from psm.risk.state import Contract, ProposedOrder, RiskState

Verdict = Literal["approved", "reduced", "rejected"]
Restriction = Literal["buy", "sell", "both"]


class RiskCase(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one decision depends on.

    Attributes:
        clusters: cluster by symbol.
        restricted: which side may not be traded, by symbol.
    """

    state: RiskState
    limits: Limits
    order: ProposedOrder
    clusters: Mapping[str, str] = {}
    restricted: Mapping[str, Restriction] = {}


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What may be sent.

    Attributes:
        approved_quantity: exact text; "0" if rejected.
        max_quantity: what `on_limit` reduce would have approved.
        reason: name of the check that decided; None if approved.
        reducing_room: how much the order's side may still close.
        checks: in the order of the catalogue.
    """

    decision: Verdict
    approved_quantity: str
    max_quantity: str
    reason: str | None
    reducing_room: str
    checks: tuple[Check, ...]


def decide(case: RiskCase) -> Decision:
    """Return what may be sent of an order, and why."""
    state, limits, order = case.state, case.limits, case.order
    contract = state.contracts.get(order.symbol, Contract())
    room = reducing_room(state, order.symbol, order.side)
    hard = hard_facts(state, limits, order, case.restricted)
    latches = reducing_facts(state, limits, order, room)
    bands = Bands(state, limits, order, case.clusters).all()

    bound = order.quantity if _all_pass(latches) or order.quantity <= room else room
    most = ZERO
    if _all_pass(hard):
        lot = contract.lot_size or SMALLEST_LOT
        most = _largest(order.quantity, bound, lot, _allowed(bands, room))
        if _below_minimum(state, contract, order, most):
            most = ZERO
    step = _Step(order.quantity, most, contract.lot_size or SMALLEST_LOT, room)
    checks = [
        *(step.of_fact(fact, binding=not fact.passed) for fact in hard),
        *(step.of_fact(fact, binding=step.exceeds_room and not fact.passed) for fact in latches),
        *(step.of_band(band) for band in bands),
    ]
    places = {name: place for place, name in enumerate(CATALOGUE)}
    checks.sort(key=lambda check: places[check.name])
    return _decision(order, limits, most, room, checks)


def _all_pass(facts: list[Fact]) -> bool:
    return all(fact.passed for fact in facts)


def _allowed(bands: list[Band], room: Decimal) -> Callable[[Decimal], bool]:
    """Return what tells whether a quantity is allowed: a closing one by the order's size alone."""
    always = [band for band in bands if CATALOGUE[band.name][0] == "order_size"]

    def allowed(quantity: Decimal) -> bool:
        return all(band.allows(quantity) for band in (always if quantity <= room else bands))

    return allowed


def _largest(
    wanted: Decimal, bound: Decimal, lot: Decimal, allowed: Callable[[Decimal], bool]
) -> Decimal:
    """Return the largest quantity up to a bound: all that is wanted, or a multiple of the lot.

    Args:
        wanted: as requested.
        bound: at most as much.
        lot: smallest step.
        allowed: true up to some quantity and false above it, as the figures only grow.
    """
    if bound == wanted and allowed(wanted):
        return wanted
    good, bad = 0, whole_lots(bound, lot) + 1
    while bad - good > 1:
        middle = (good + bad) // 2
        if allowed(multiply(Decimal(middle), lot)):
            good = middle
        else:
            bad = middle
    return multiply(Decimal(good), lot)


def _below_minimum(
    state: RiskState, contract: Contract, order: ProposedOrder, quantity: Decimal
) -> bool:
    """Return whether a quantity is less than the venue takes, and closes less than all."""
    if quantity == absolute(state.positions.get(order.symbol, ZERO)):
        return False
    mark = state.marks.get(order.symbol, ZERO)
    notional = multiply(multiply(quantity, contract.multiplier), mark)
    return quantity < contract.min_quantity or notional < contract.min_notional


class _Step:
    """The approved quantity and the next lot above it: what stops that one is binding."""

    def __init__(self, wanted: Decimal, most: Decimal, lot: Decimal, room: Decimal) -> None:
        self._wanted, self._cut = wanted, most < wanted
        self._room = room
        following = floor_to(most, lot)
        self._next = multiply(Decimal(whole_lots(following, lot) + 1), lot)
        self.exceeds_room = self._cut and self._next > room

    def of_fact(self, fact: Fact, *, binding: bool) -> Check:
        """Return what is reported of a fact."""
        return Check(
            name=fact.name,
            scope=fact.scope,
            passed=fact.passed,
            value=fact.value,
            limit=fact.limit,
            unit=CATALOGUE[fact.name][1],
            binding=binding,
            detail=fact.detail,
        )

    def of_band(self, band: Band) -> Check:
        """Return what is reported of a figure: at the requested quantity."""
        kind, unit = CATALOGUE[band.name]
        figure, limit = band.shown or (band.after, band.limit)
        binds = self._next > self._room or kind == "order_size"
        return Check(
            name=band.name,
            scope=band.scope,
            passed=band.within(self._wanted),
            value=None if figure is None else published_text(figure(self._wanted)),
            limit=text(limit),
            unit=unit,
            binding=self._cut and binds and not band.allows(self._next),
            detail=band.unknown if band.limit is not None else None,
        )


def _decision(
    order: ProposedOrder, limits: Limits, most: Decimal, room: Decimal, checks: list[Check]
) -> Decision:
    on_limit = order.on_limit or limits.on_limit
    verdict: Verdict = "approved"
    if most < order.quantity:
        verdict = "reduced" if most and on_limit == "reduce" else "rejected"
    approved = ZERO if verdict == "rejected" else most
    return Decision(
        decision=verdict,
        approved_quantity=text(approved) or "0",
        max_quantity=text(most) or "0",
        reason=None if verdict == "approved" else _reason(checks),
        reducing_room=text(room) or "0",
        checks=tuple(checks),
    )


def _reason(checks: list[Check]) -> str:
    """Return the name of what decided: the first hard check that failed, else what set the size."""
    failed = [check for check in checks if not check.passed]
    for check in failed:
        if CATALOGUE[check.name][0] == "hard":
            return check.name
    return next((check.name for check in failed if check.binding), "below_minimum")
