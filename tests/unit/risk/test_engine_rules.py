"""Rules of the engine change in mid-group; and what waited for an hour is asked at last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.support.risk_log import ACCOUNT, RiskLog

from psm.contracts.subjects import order_command
from psm.domain.money import subtract
from psm.risk.engine import ENGINE, answers, proof
from psm.risk.engine.proof_records import Deviation
from psm.risk.engine.told import told_of
from psm.risk.messages import Stored
from psm.workers.proof.risk.offline import RecordedRisk, prove_lines

NEXT = "1.1.0"
MOST = {"max_order_quantity": "5"}


def recorded(log: RiskLog, upgraded_at: int, use: Callable[[str], None]) -> RecordedRisk:
    """Fold a log; from one of its lines on by the next engine, until its end."""
    found = RecordedRisk(1)
    use(ENGINE)
    for number, line in enumerate(log.lines):
        if number == upgraded_at:
            use(NEXT)
        found.take_line(line)
    use(ENGINE)
    return found


def deviations(made: RecordedRisk) -> list[Deviation]:
    return asyncio.run(prove_lines(made, 1)).deviations


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Decide by other rules from now on: the next ones approve one less of a reduced order."""

    def stricter(judged: Any, filled: Any) -> dict[str, Any]:
        told = told_of(judged, filled)
        if told["decision"] == "reduced":
            less = subtract(msgspec.convert(told["approved_quantity"], Decimal), 1)
            told["approved_quantity"] = str(less)
        return told

    def chosen(engine: str) -> None:
        monkeypatch.setattr(answers, "ENGINE", engine)
        monkeypatch.setattr(answers, "told_of", told_of if engine == ENGINE else stricter)

    return chosen


@pytest.fixture
def log() -> RiskLog:
    found = RiskLog({**MOST, "on_limit": "reduce"})
    for _ in range(3):
        found.order("buy", "7", type="limit", price="90")
    return found


def test_the_next_rules_in_mid_group(log: RiskLog, use: Callable[[str], None]) -> None:
    """Records name their engine; what these rules did not decide is named, the rest is proved."""
    upgraded_at = len(log.lines)
    for _ in range(3):
        log.order("buy", "7", type="limit", price="90")
    made = recorded(log, upgraded_at, use)
    decisions = [one.payload for one in made.records if one.is_decision]
    assert [one["engine"] for one in decisions] == [ENGINE] * 3 + [NEXT] * 3
    assert [one["approved_quantity"] for one in decisions] == ["5"] * 3 + ["4"] * 3
    numbers = [one.payload["n"] for one in made.records]
    assert numbers == list(range(1, len(numbers) + 1)), "one chain over both"
    found = deviations(made)
    assert [(one.n, one.field, one.recorded, one.recomputed) for one in found] == [
        (one["n"], "engine", NEXT, ENGINE) for one in decisions[3:]
    ]


def test_rules_that_changed_under_an_old_name_are_found(
    log: RiskLog, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who changes rules and not their version is told by the first field that differs."""
    made = recorded(log, len(log.lines), use)
    assert deviations(made) == []
    use(NEXT)
    monkeypatch.setattr(answers, "ENGINE", ENGINE)
    decisions = [one.payload for one in made.records if one.is_decision]
    found = deviations(made)
    assert [(one.n, one.field, one.recorded, one.recomputed) for one in found] == [
        (one["n"], "approved_quantity", "5", "4") for one in decisions
    ]


def test_old_decisions_under_the_next_rules_are_named(
    log: RiskLog, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prover of the next rules says which decisions it cannot make, and blames nothing else."""
    made = recorded(log, len(log.lines), use)
    use(NEXT)
    monkeypatch.setattr(proof, "ENGINE", NEXT)
    found = deviations(made)
    assert [(one.field, one.recorded, one.recomputed) for one in found] == [
        ("engine", ENGINE, NEXT)
    ] * 3


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
