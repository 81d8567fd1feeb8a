"""One decision: a pure function of limits, of what they are measured on, and of an order.

All checks are always evaluated and reported, with the value of the order as it was requested. A
hard one rejects. What only closes is never in the way of exposure, loss or drawdown limits. The
approved quantity is the largest multiple of the lot that is within the room for closing, or at
which no figure is above max(limit, what it is without the order): an account that is above a
limit may still do what does not raise it. Comparisons are of products, never of quotients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from psm.domain.money import ZERO, absolute, add, exact_text, multiply, published_text, subtract
from psm.risk.bands import Band, Bands, binds_closing
from psm.risk.exposure import Exposure, ExposureLine, Sums, cluster_of
from psm.risk.facts import (
    Fact,
    latch_facts,
    limit_facts,
    mode_fact,
    order_facts,
    reduce_only_fact,
)
from psm.risk.limits import CATALOGUE, Check, Limits, text
from psm.risk.measured import Measured, OrderPlace
from psm.risk.sizing import SMALLEST_LOT, floor_to, whole_lots
from psm.risk.state import Contract, OpenOrder, ProposedOrder, RiskState

Verdict = Literal["approved", "reduced", "rejected"]
Restriction = Literal["buy", "sell", "both"]

_PLACES = {name: place for place, name in enumerate(CATALOGUE)}
_UNITS = {name: unit for name, (_, unit) in CATALOGUE.items()}


class RiskCase(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one decision in the short form depends on: one account, one set of limits.

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


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """An order and all that it is judged by, whoever collected it.

    Attributes:
        measured: limits with what they are measured on, in the order in which they are reported.
        hard: facts that reject, beyond those that follow from the rest.
        latches: facts that leave no more than closing, likewise.
        excused: checks that this order may fail.
        scope: of what is the account's.
    """

    order: ProposedOrder
    place: OrderPlace
    measured: tuple[Measured, ...]
    hard: tuple[Fact, ...] = ()
    latches: tuple[Fact, ...] = ()
    excused: tuple[str, ...] = ()
    scope: str = "account"


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """A decision, and the figures that it was made by.

    Attributes:
        bands: of all scopes, in the order in which they are reported.
        most: quantity that would be approved under `on_limit` reduce.
    """

    decision: Decision
    bands: tuple[Band, ...]
    most: Decimal


def decide(case: RiskCase) -> Decision:
    """Return what may be sent of an order, and why."""
    state, order = case.state, case.order
    contract = state.contracts.get(order.symbol, Contract())
    lines = _lines(state, order.symbol, case.clusters)
    sums = Sums()
    for line in lines.values():
        sums.replace(None, line)
    line = lines[order.symbol]
    place = OrderPlace(
        contract=contract,
        mark=state.marks.get(order.symbol),
        size=line.size,
        room=line.room(order.side),
        others=state.open_orders,
        known=order.order_id != "" and order.order_id in [o.order_id for o in state.open_orders],
    )
    opened = state.day_open_equity
    profit = None if opened is None else subtract(subtract(state.equity, opened), state.flows)
    measured = Measured(
        scope=None,
        limits=case.limits,
        equity=state.equity,
        exposure=Exposure(sums, line),
        money=lambda price: multiply(price, contract.multiplier),
        open_orders=len(state.open_orders),
        profit=profit,
        opened=opened,
        drawdown=state.drawdown,
        loss_streak=state.loss_streak,
    )
    restricted = case.restricted.get(order.symbol)
    halt = None if state.mode == "reducing" else mode_fact(state.mode)
    hard = (
        Fact(name="account_known", passed=True),
        Fact(name="instrument_known", scope=f"symbol:{order.symbol}", passed=True),
        *order_facts(order, place, mode=halt, restricted=restricted, scope="account"),
    )
    latches = () if halt is not None else (mode_fact(state.mode),)
    return answer(
        Question(order=order, place=place, measured=(measured,), hard=hard, latches=latches)
    ).decision


def answer(question: Question) -> Judgement:
    """Return what may be sent of an order, why, and the figures behind it."""
    order, place, excused = question.order, question.place, question.excused
    hard, latches, bands = _collected(question)
    free = _all_pass(latches, excused) or order.quantity <= place.room
    bound = order.quantity if free else place.room
    lot, most = place.contract.lot_size or SMALLEST_LOT, ZERO
    if _all_pass(hard, excused):
        counted = [band for band in bands if band.name not in excused]
        most = _largest(order.quantity, bound, lot, _allowed(counted, place.room))
        most = ZERO if _below_minimum(place, most) else most
    checks = _Step(order.quantity, most, lot, place.room, excused).checks(hard, latches, bands)
    reasons = {fact.name: fact.reason for fact in hard if fact.reason and not fact.passed}
    decision = _decision(question, most, checks, reasons)
    return Judgement(decision=decision, bands=tuple(bands), most=most)


def _collected(question: Question) -> tuple[list[Fact], list[Fact], list[Band]]:
    """Return all facts that reject, all that leave closing, and all figures, scope by scope."""
    order, place = question.order, question.place
    hard = [*question.hard]
    latches = [reduce_only_fact(order, place.room, question.scope), *question.latches]
    bands: list[Band] = []
    for measured in question.measured:
        hard = [*hard, *limit_facts(order, place, measured)]
        latches = [*latches, *latch_facts(measured)]
        bands = [*bands, *Bands(order, place, measured).all()]
    bands.sort(key=lambda band: _PLACES[band.name])
    return hard, latches, bands


def _lines(state: RiskState, symbol: str, clusters: Mapping[str, str]) -> dict[str, ExposureLine]:
    """Return the line of each symbol that is held or ordered, and of the order's own."""
    orders: dict[str, list[OpenOrder]] = {}
    for order in state.open_orders:
        orders.setdefault(order.symbol, []).append(order)
    return {
        name: _line(state, name, orders.get(name, ()), clusters)
        for name in sorted({**state.positions, **orders, symbol: ZERO})
    }


def _line(
    state: RiskState, symbol: str, orders: Sequence[OpenOrder], clusters: Mapping[str, str]
) -> ExposureLine:
    contract, mark = state.contracts.get(symbol, Contract()), state.marks.get(symbol)
    return line_of(
        ExposureLine(
            symbol=symbol,
            size=state.positions.get(symbol, ZERO),
            unit=None if mark is None else multiply(mark, contract.multiplier),
            margin_rate=contract.initial_margin_rate or ZERO,
            tags=(("cluster", cluster_of(symbol, clusters)),) if clusters else (),
        ),
        orders,
    )


def line_of(held: ExposureLine, orders: Sequence[OpenOrder]) -> ExposureLine:
    """Return a line with what is ordered of it."""
    opening = {"buy": ZERO, "sell": ZERO}
    every = {"buy": ZERO, "sell": ZERO}
    for order in orders:
        every[order.side] = add(every[order.side], order.open_quantity)
        if not order.reduce_only:
            opening[order.side] = add(opening[order.side], order.open_quantity)
    return msgspec.structs.replace(
        held, buys=opening["buy"], sells=opening["sell"],
        all_buys=every["buy"], all_sells=every["sell"],
    )  # fmt: skip


def line_with(line: ExposureLine, order: OpenOrder) -> ExposureLine:
    """Return a line with one more order."""
    more = order.open_quantity
    opens = ZERO if order.reduce_only else more
    if order.side == "buy":
        return msgspec.structs.replace(
            line, buys=add(line.buys, opens), all_buys=add(line.all_buys, more)
        )
    return msgspec.structs.replace(
        line, sells=add(line.sells, opens), all_sells=add(line.all_sells, more)
    )


def _all_pass(facts: list[Fact], excused: tuple[str, ...]) -> bool:
    return all(fact.passed or fact.name in excused for fact in facts)


def _allowed(bands: list[Band], room: Decimal) -> Callable[[Decimal], bool]:
    """Return what tells whether a quantity is allowed: a closing one by the order's size alone."""
    always = [band for band in bands if binds_closing(band.name)]

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


def _below_minimum(place: OrderPlace, quantity: Decimal) -> bool:
    """Return whether a quantity is less than the venue takes, and closes less than all."""
    if quantity == absolute(place.size):
        return False
    contract = place.contract
    notional = multiply(multiply(quantity, contract.multiplier), place.mark or ZERO)
    return quantity < contract.min_quantity or notional < contract.min_notional


class _Step:
    """The approved quantity and the next lot above it: what stops that one is binding."""

    def __init__(
        self,
        wanted: Decimal,
        most: Decimal,
        lot: Decimal,
        room: Decimal,
        excused: tuple[str, ...],
    ) -> None:
        self._wanted, self._cut = wanted, most < wanted
        self._room, self._excused = room, excused
        following = floor_to(most, lot)
        self._next = multiply(Decimal(whole_lots(following, lot) + 1), lot)
        self.exceeds_room = self._cut and self._next > room

    def checks(self, hard: list[Fact], latches: list[Fact], bands: list[Band]) -> list[Check]:
        """Return everything that is reported, in the order of the catalogue."""
        beyond = self.exceeds_room
        found = [
            *[_passed(one) if one.passed else self.failed(one, binding=True) for one in hard],
            *[_passed(one) if one.passed else self.failed(one, binding=beyond) for one in latches],
            *[self.of_band(band) for band in bands],
        ]
        found.sort(key=lambda check: _PLACES[check.name])
        return found

    def failed(self, fact: Fact, *, binding: bool) -> Check:
        """Return what is reported of a fact that stands in the way, unless it is excused."""
        excused = fact.name in self._excused
        return Check(
            name=fact.name,
            scope=fact.scope,
            passed=False,
            value=fact.value,
            limit=fact.limit,
            unit=_UNITS[fact.name],
            binding=binding and not excused,
            detail="overridden" if excused else fact.detail,
        )

    def of_band(self, band: Band) -> Check:
        """Return what is reported of a figure: at the requested quantity."""
        value, limit = band.value, band.limit
        if band.shown is not None:
            figure, limit = band.shown
            value = figure(self._wanted)
        binds = self._next > self._room or binds_closing(band.name)
        binds = binds and band.name not in self._excused
        passed = band.within(self._wanted)
        unknown = band.unknown if band.limit is not None else None
        return Check(
            name=band.name,
            scope=band.scope,
            passed=passed,
            value=None if value is None else published_text(value),
            limit=text(limit),
            unit=_UNITS[band.name],
            binding=self._cut and binds and not band.allows(self._next),
            detail="overridden" if not passed and band.name in self._excused else unknown,
        )


def _passed(fact: Fact) -> Check:
    """Return what is reported of a fact that is no obstacle."""
    return Check(
        name=fact.name,
        scope=fact.scope,
        passed=True,
        value=fact.value,
        limit=fact.limit,
        unit=_UNITS[fact.name],
        detail=fact.detail,
    )


def _decision(
    question: Question, most: Decimal, checks: list[Check], reasons: Mapping[str, str]
) -> Decision:
    verdict = _verdict(question, most)
    reason = None if verdict == "approved" else _reason(checks, question.excused)
    return Decision(
        decision=verdict,
        approved_quantity="0" if verdict == "rejected" else exact_text(most),
        max_quantity=exact_text(most),
        reason=None if reason is None else reasons.get(reason, reason),
        reducing_room=exact_text(question.place.room),
        checks=tuple(checks),
    )


def _verdict(question: Question, most: Decimal) -> Verdict:
    """Return what becomes of an order of which so much is allowed."""
    if most >= question.order.quantity:
        return "approved"
    default = any(measured.limits.on_limit == "reduce" for measured in question.measured)
    on_limit = question.order.on_limit or ("reduce" if default else "reject")
    return "reduced" if most and on_limit == "reduce" else "rejected"


def _reason(checks: list[Check], excused: tuple[str, ...]) -> str:
    """Return the name of what decided: the first hard check that failed, else what set the size."""
    failed = [check for check in checks if not check.passed and check.name not in excused]
    for check in failed:
        if CATALOGUE[check.name][0] == "hard":
            return check.name
    return next((check.name for check in failed if check.binding), "below_minimum")
