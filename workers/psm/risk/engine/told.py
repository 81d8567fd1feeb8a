"""What a decision says: the payload of its record, as far as it follows from the judgement."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from psm.domain.money import add, exact_text, multiply
from psm.risk.engine.commands import Command
from psm.risk.engine.history import fingerprint
from psm.risk.engine.inquiry import Judged
from psm.risk.facts import Fact
from psm.risk.limits import CATALOGUE, Check

_ALWAYS = (
    *("well_formed", "account_known", "stream_open", "state_behind", "expired"),
    *("instrument_known", "increment", "mode", "restricted", "duplicate_order_id", "session"),
)
"""Checks that are reported whether or not somebody set a limit."""
_LIMITED = tuple(name for name in CATALOGUE if name not in (*_ALWAYS, "reduce_only"))
"""All others that may have one."""

Payload = dict[str, Any]


def told_of(judged: Judged, filled: Decimal) -> Payload:
    """Return what a decision says of an order; of a changed one what is filled counts with it."""
    decision, ordered = judged.answer.decision, judged.ordered
    order = ordered.order
    checks, unlimited = _reported(decision.checks)
    found: Payload = {
        "decision": decision.decision,
        "reason": decision.reason or "approved",
        "checks": checks,
        "unlimited": unlimited,
        "symbol": order.symbol,
        "side": order.side,
        "quantity": exact_text(add(order.quantity, filled)),
        "approved_quantity": _whole(decision.approved_quantity, filled),
        "max_quantity": _whole(decision.max_quantity, filled),
        "reducing_room": decision.reducing_room,
        "mode": judged.mode,
        "counted": _counted(judged),
    }
    if order.price is not None:
        found["price"] = exact_text(order.price)
    return found


def _counted(judged: Judged) -> Payload:
    """Return what the order counts for in windows, in the currencies of account and group."""
    ordered = judged.ordered
    order, approved = ordered.order, Decimal(judged.answer.decision.approved_quantity)
    counted: Payload = {"scopes": list(ordered.scopes), "same": list(fingerprint(order))}
    if order.price is not None:
        counted["price"] = exact_text(order.price)
    for name, unit in (("notional", judged.unit), ("group_notional", judged.group_unit)):
        if unit is not None:
            counted[name] = exact_text(multiply(unit, approved))
    return counted


def _reported(checks: Sequence[Check]) -> tuple[list[Check], list[str]]:
    """Return the checks with a limit, and the names of those that nobody limits."""
    told = [
        check
        for check in checks
        if check.limit is not None or not check.passed or check.name in _ALWAYS
    ]
    named = dict.fromkeys([check.name for check in told])
    return told, [name for name in _LIMITED if name not in named]


def refusal(facts: Sequence[Fact]) -> Payload:
    """Return a rejection for what nothing else can be said of."""
    failed = next(fact for fact in facts if not fact.passed)
    checks = [
        Check(
            name=fact.name, scope=fact.scope, passed=fact.passed, value=fact.value,
            limit=fact.limit, unit=CATALOGUE[fact.name][1], binding=not fact.passed,
            detail=fact.detail,
        )
        for fact in facts
    ]  # fmt: skip
    told, _ = _reported(checks)
    return {
        "decision": "rejected",
        "reason": failed.reason or failed.name,
        "checks": told,
        "approved_quantity": "0",
        "max_quantity": "0",
    }


def cancellation(command: Command, group: str, well_formed: Fact) -> Payload:
    """Return the answer to a cancel: it is counted, and never refused but for its form."""
    if not well_formed.passed:
        return refusal([well_formed])
    scopes = ["firm", f"group:{group}", f"account:{command.account_id}"]
    if command.strategy_id is not None:
        scopes.append(f"strategy:{command.strategy_id}")
    checks, _ = _reported([Check(name="well_formed", scope=well_formed.scope, passed=True)])
    counted = {"scopes": scopes}
    return {"decision": "approved", "reason": "cancel", "checks": checks, "counted": counted}


def _whole(left: str, filled: Decimal) -> str:
    return left if left == "0" else exact_text(add(Decimal(left), filled))


def is_change(command: Command, replaced: Payload | None) -> bool:
    """Return whether an order is there to be changed, and something is left of it then."""
    if replaced is None:
        return False
    quantity = command.number("quantity")
    return quantity is None or quantity > Decimal(replaced["filled_quantity"])


def no_change(command: Command) -> Fact:
    """Return what is said of a change of nothing."""
    return Fact(
        name="well_formed", passed=False, scope=f"account:{command.account_id}",
        reason="unknown_order", detail=f"nothing is open of {command.order_id} after it",
    )  # fmt: skip
