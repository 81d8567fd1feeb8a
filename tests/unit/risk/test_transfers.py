"""A transfer between accounts of a group has two halves; one alone is told."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.risk_log import ACCOUNT, RiskLog, payload_of
from tests.support.rules import SECOND

from psm.risk.engine import Slot
from psm.risk.messages import RiskOutput

OTHER = "acc_2"


@pytest.fixture
def log() -> RiskLog:
    return RiskLog(accounts=(ACCOUNT, OTHER))


def moved(log: RiskLog, account: str, direction: str, transfer: str = "t1") -> list[RiskOutput]:
    kind = f"Transferred{direction.title()}"
    return log.event(account, kind, amount="100", currency="USDT", transfer_id=transfer)


def told(outputs: list[RiskOutput]) -> list[dict[str, Any]]:
    payloads = [payload_of(one) for one in outputs if one.kind == "alert"]
    return [one for one in payloads if one["code"] == "transfer_unpaired"]


@pytest.mark.parametrize("first", ["in", "out"])
def test_both_halves_are_no_alert_whichever_comes_first(log: RiskLog, first: str) -> None:
    before = log.slot._members.groups["desk"].total()
    moved(log, ACCOUNT, first)
    moved(log, OTHER, {"in": "out", "out": "in"}[first])
    log.wait(120)
    assert told(log.outputs) == []
    assert log.slot._members.groups["desk"].total() == before


def test_one_half_alone_is_told_once_after_a_minute(log: RiskLog) -> None:
    moved(log, ACCOUNT, "out")
    assert told(log.wait(50)) == []
    (found,) = told(log.wait(20))
    assert (found["severity"], found["account_id"]) == ("warning", ACCOUNT)
    assert found["message"] == "t1 went out of acc_1 alone"
    log.wait(120)
    assert len(told(log.outputs)) == 1


def test_the_only_account_of_a_group_has_no_other_half() -> None:
    """Whatever it transfers goes outside, and comes from there."""
    log = RiskLog(accounts=(ACCOUNT,))
    moved(log, ACCOUNT, "out")
    moved(log, ACCOUNT, "in", "t2")
    assert told(log.wait(120)) == []
    assert log.slot._path.is_empty("transfer")


def test_a_half_that_comes_late_is_its_pair(log: RiskLog) -> None:
    moved(log, ACCOUNT, "out")
    log.wait(70)
    moved(log, OTHER, "in")
    log.wait(120)
    assert len(told(log.outputs)) == 1
    assert log.slot._path.is_empty("transfer")


def test_after_an_hour_nothing_is_kept(log: RiskLog) -> None:
    moved(log, ACCOUNT, "out")
    log.wait(70)
    log.wait(3600)
    assert log.slot._path.is_empty("transfer")


def test_the_same_half_twice_is_no_pair(log: RiskLog) -> None:
    moved(log, ACCOUNT, "out")
    moved(log, OTHER, "out")
    assert len(told(log.wait(70))) == 2


def test_halves_of_other_transfers_are_no_pair(log: RiskLog) -> None:
    moved(log, ACCOUNT, "out")
    moved(log, OTHER, "in", "t2")
    assert len(told(log.wait(70))) == 2


def test_one_that_came_back_is_not_missing(log: RiskLog) -> None:
    moved(log, ACCOUNT, "out")
    log.event(ACCOUNT, "TransferReversed", transfer_id="t1", direction="out", amount="100")
    assert told(log.wait(70)) == []


def test_a_position_moves_in_two_halves_too(log: RiskLog) -> None:
    log.trade("buy", "2", "100")
    log.event(ACCOUNT, "PositionTransferredOut", symbol="BTC-PERP", quantity="1", transfer_id="t1")
    log.event(
        OTHER, "PositionTransferredIn", symbol="BTC-PERP", quantity="1", transfer_id="t1",
        entry_price="100",
    )  # fmt: skip
    assert told(log.wait(70)) == []


def test_a_half_is_remembered_across_a_crash(log: RiskLog) -> None:
    moved(log, ACCOUNT, "out")
    log.restart(Slot.restored(log.slot.checkpoint()))
    log.clock += 70 * SECOND
    assert len(told(log.wait(1))) == 1
