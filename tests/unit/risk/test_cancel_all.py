"""Who halts a scope asks to cancel what is open in it: once, of every group, also after a crash."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from tests.support.risk_log import ACCOUNT, GROUP, RiskLog, payload_of
from tests.support.rules import ADA, BOB

from psm.contracts.recorded import decode_audit, decode_recorded
from psm.risk.engine import Slot
from psm.risk.engine.cancels import ACCOUNTS_MAX
from psm.risk.messages import RiskOutput

OTHER = "acc_2"


def asked(outputs: list[RiskOutput]) -> list[dict[str, Any]]:
    return [
        payload_of(one)
        for one in outputs
        if msgspec.json.decode(one.data)["event_type"] == "cancel_all"
    ]


def halt(log: RiskLog, scope: str, **more: Any) -> list[dict[str, Any]]:
    kind, _, name = scope.partition(":")
    content = {"scope": kind, "id": name or "firm", "mode": "halted", **more}
    return asked(log.say(ADA, "HaltSet", **content))


def last_hash(log: RiskLog) -> str:
    return hashlib.sha256(log.rules.log[-1].data).hexdigest()


@pytest.mark.parametrize(
    ("scope", "accounts"),
    [
        ("firm", [ACCOUNT, OTHER]),
        (f"group:{GROUP}", [ACCOUNT, OTHER]),
        (f"account:{OTHER}", [OTHER]),
        ("strategy:s1", [ACCOUNT, OTHER]),
        ("symbol:BTC-PERP", [ACCOUNT, OTHER]),
    ],
)
def test_a_halt_asks_to_cancel_what_is_open_in_its_scope(scope: str, accounts: list[str]) -> None:
    log = RiskLog(accounts=(ACCOUNT, OTHER))
    (found,) = halt(log, scope)
    assert (found["scope"], found["accounts"]) == (scope, accounts)
    assert found["group"] == GROUP
    assert (found["code"], found["halt_hash"]) == ("kill_switch", last_hash(log))


def test_what_is_asked_is_an_event_of_its_contract_on_the_subject_of_halts() -> None:
    log = RiskLog()
    log.say(ADA, "HaltSet", scope="firm", id="firm", mode="halted")
    (record,) = [one for one in log.outputs if b'"cancel_all"' in one.data]
    assert (record.kind, record.key) == ("halt", "firm")
    assert decode_audit(decode_recorded(record.data))["accounts"] == [ACCOUNT]


@pytest.mark.parametrize("scope", ["group:strangers", "account:nobody"])
def test_nobody_is_asked_where_nobody_trades(scope: str) -> None:
    log = RiskLog()
    assert halt(log, scope) == []


def test_a_halt_that_lets_close_cancels_nothing() -> None:
    log = RiskLog()
    assert halt(log, "firm", mode="reducing") == []


def test_each_halt_asks_once_and_a_new_one_again() -> None:
    log = RiskLog()
    assert len(halt(log, "firm")) == 1
    first = last_hash(log)
    log.limits({"leverage": "2"})
    log.wait(5)
    assert len(asked(log.outputs)) == 1
    log.both("HaltLifted", scope="firm", id="firm", halt_hash=first)
    assert len(halt(log, "firm")) == 1
    assert len(asked(log.outputs)) == 2


def test_a_parent_asks_for_its_groups() -> None:
    log = RiskLog()
    log.both("GroupDefined", group="house", members=[], currency="USDT")
    log.both("GroupDefined", group=GROUP, members=[ACCOUNT], currency="USDT", parent="house")
    (found,) = halt(log, "group:house")
    assert (found["scope"], found["group"]) == ("group:house", GROUP)


def test_a_halt_that_is_over_is_forgotten() -> None:
    log = RiskLog()
    halt(log, "firm", until="2026-12-01T00:01:00Z")
    log.wait(120)
    log.limits({"leverage": "2"})
    assert not log.slot.checkpoint().count(b"cancel_all")


def test_who_takes_over_asks_for_what_nobody_asked() -> None:
    """Killed before the record was stored: the next owner asks; stored, it does not."""
    log = RiskLog()
    before = log.slot.checkpoint()
    (said,) = log.say(ADA, "HaltSet", scope="firm", id="firm", mode="halted")
    for stored, count in ((False, 1), (True, 0)):
        slot = Slot.restored(before)
        if stored:
            slot.take_recorded(said)
        found = asked(slot.take_rulebook(log.rules.book, log.clock))
        assert len(found) == count


def test_a_large_group_is_asked_in_parts_and_wholly_again_if_the_last_is_missing() -> None:
    names = tuple(f"acc_{n:03}" for n in range(ACCOUNTS_MAX + 1))
    log = RiskLog(accounts=names, deposit="0")
    before = log.slot.checkpoint()
    records = log.say(BOB, "HaltSet", scope="firm", id="firm", mode="halted")
    assert [len(one["accounts"]) for one in asked(records)] == [ACCOUNTS_MAX, 1]
    assert max(len(one.data) for one in records) < 16 * 1024
    slot = Slot.restored(before)
    slot.take_recorded(records[0])
    again = asked(slot.take_rulebook(log.rules.book, log.clock))
    assert [one["accounts"] for one in again] == [one["accounts"] for one in asked(records)]
