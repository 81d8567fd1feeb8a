"""Rules of the engine change in mid-group; and what waited for an hour is asked at last."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.support.risk_log import ACCOUNT, RiskLog

from psm.contracts.errors import InvariantError
from psm.contracts.subjects import order_command
from psm.domain.money import exact_text, subtract
from psm.risk.engine import ENGINE, Slot
from psm.risk.engine.inquiry import Inquiry, Judged
from psm.risk.engine.proof_records import Deviation
from psm.risk.engine.rules import RULES, EngineRules, Registry
from psm.risk.messages import Stored
from psm.workers.proof.risk.offline import RecordedRisk, prove_lines

NEXT = "1.1.0"
MOST = {"max_order_quantity": "5"}


class Stricter(Inquiry):
    """What the next rules ask: they approve one less of a reduced order."""

    def judge(self) -> Judged:
        judged = super().judge()
        decision = judged.answer.decision
        if decision.decision != "reduced":
            return judged
        less = exact_text(subtract(Decimal(decision.approved_quantity), Decimal(1)))
        decision = msgspec.structs.replace(decision, approved_quantity=less)
        answer = msgspec.structs.replace(judged.answer, decision=decision)
        return msgspec.structs.replace(judged, answer=answer)


BOTH = (*RULES, EngineRules(version=NEXT, inquiry=Stricter))


class NextSlot(Slot):
    """The slot of a process that was upgraded."""

    rules = BOTH


def recorded(log: RiskLog, upgraded_at: int, engine: type[Slot] = NextSlot) -> RecordedRisk:
    """Fold a log; from one of its lines on another process has the slot."""
    found = RecordedRisk(1)
    for number, line in enumerate(log.lines):
        if number == upgraded_at:
            before = found.slots[log.slot.number]
            found.replace_slot(engine.restored(before.checkpoint()), before.clock)
        found.take_line(line)
    return found


def deviations(made: RecordedRisk, rules: Registry = BOTH) -> list[Deviation]:
    return asyncio.run(prove_lines(made, 1, rules=rules)).deviations


@pytest.fixture
def log() -> RiskLog:
    found = RiskLog({**MOST, "on_limit": "reduce"})
    for _ in range(6):
        found.order("buy", "7", type="limit", price="90")
    return found


def decided(made: RecordedRisk) -> list[dict[str, Any]]:
    return [dict(one.payload) for one in made.records if one.is_decision]


def test_the_next_rules_in_mid_group(log: RiskLog) -> None:
    """One chain over both, and each decision is made again by the rules that it names."""
    made = recorded(log, len(log.lines) - 3)
    assert [one["engine"] for one in decided(made)] == [ENGINE] * 3 + [NEXT] * 3
    assert [one["approved_quantity"] for one in decided(made)] == ["5"] * 3 + ["4"] * 3
    numbers = [one.payload["n"] for one in made.records]
    assert numbers == list(range(1, len(numbers) + 1))
    assert deviations(made) == []


def test_what_these_rules_did_not_decide_is_named(log: RiskLog) -> None:
    """Code without the next rules says which decisions it cannot make, and proves the rest."""
    made = recorded(log, len(log.lines) - 3)
    found = deviations(made, RULES)
    assert [(one.n, one.field, one.recorded, one.recomputed) for one in found] == [
        (one["n"], "engine", NEXT, ENGINE) for one in decided(made)[3:]
    ]


def test_rules_that_changed_under_an_old_name_are_found(log: RiskLog) -> None:
    """Who changes rules and not their version is told by the first field that differs."""
    made = recorded(log, len(log.lines))
    assert deviations(made) == []
    found = deviations(made, (EngineRules(version=ENGINE, inquiry=Stricter),))
    assert [
        (one.n, one.field.rpartition(".")[2], one.recorded, one.recomputed) for one in found
    ] == [
        (one["n"], field, "5", "4")
        for one in decided(made)
        for field in ("approved_quantity", "quantity")  # of the decision, and of what it reserves
    ]


def test_nobody_goes_back_to_older_rules(log: RiskLog) -> None:
    """A process that was not upgraded yet takes neither such a record nor such a checkpoint."""
    start = log.slot.checkpoint()
    slot = NextSlot.restored(start)
    log.restart(slot)
    told = len(log.outputs)
    assert log.order("buy", "7", type="limit", price="90")["engine"] == NEXT
    old = Slot.restored(start)
    (record,) = log.outputs[told:]
    with pytest.raises(InvariantError, match=f"{NEXT} decided last, and this code has rules up to"):
        old.take_recorded(record)
    with pytest.raises(InvariantError, match=f"{NEXT} decided last"):
        Slot.restored(slot.checkpoint())
    again = NextSlot.restored(slot.checkpoint())
    assert again.state_hash() == slot.state_hash()


def test_an_hours_backlog_is_refused_order_by_order() -> None:
    """What nobody decided in time expired: one rejection each, nothing is kept of it, and fast."""
    log = RiskLog(MOST)
    log.wait(3600)
    log.mark("BTC-PERP", "100")
    slot, count = log.slot, 12_000
    since = log.clock - 3600 * 1_000_000
    started = time.process_time()
    reasons: dict[str, int] = {}
    for number in range(count):
        at = since + number * 200_000  # 40 minutes of five orders a second
        payload = {
            "account_id": ACCOUNT, "order_id": f"late{number}", "symbol": "BTC-PERP",
            "side": "buy", "type": "limit", "quantity": "1", "price": "90",
        }  # fmt: skip
        body = log._envelope(None, "order_request", payload)
        command = Stored(sequence=number + 1, time=at, subject=order_command(ACCOUNT), data=body)
        before = slot.n
        (*_, decision) = slot.decide(command)
        assert slot.n == before + 1
        told = msgspec.json.decode(decision.data)["payload"]
        assert told["decision"] == "rejected"
        reasons[told["reason"]] = reasons.get(told["reason"], 0) + 1
    seconds = time.process_time() - started
    assert reasons == {"expired": count}
    assert seconds < 20, f"{count} in {seconds:.1f} s"
    assert log.order("buy", "1", type="limit", price="90")["decision"] == "approved"
