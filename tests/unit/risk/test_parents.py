"""Budgets of parents are watched: what groups beside it lose stops a group that lost nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.risk_log import ACCOUNT, GROUP, RiskLog, check_of, payload_of

from psm.risk.engine import Slot
from psm.risk.engine.proof_records import Deviation
from psm.risk.messages import RiskOutput
from psm.risk.rulebook import slot_of
from psm.workers.proof.risk.offline import RecordedRisk, prove_lines

HOUSE, OTHER = "house", "acc_2"
FAR = "other"
NEAR = next(f"desk_{n}" for n in range(1000) if slot_of(f"desk_{n}") == slot_of(GROUP))
BESIDE = pytest.mark.parametrize("beside", [FAR, NEAR])
"""A group in another slot, and one in the same."""


def house(beside: str, limits: dict[str, Any], **children: Any) -> RiskLog:
    """Return two groups below a parent with limits; the first one holds 100 at 100."""
    log = RiskLog()
    log.event(OTHER, "AccountOpened", currency="USDT")
    log.event(OTHER, "CashDeposited", amount="10000", currency="USDT")
    log.both("GroupDefined", group=HOUSE, members=[], currency="USDT")
    own = {"daily_loss_money": "100", **children}
    for group, account in ((GROUP, ACCOUNT), (beside, OTHER)):
        log.limits(own, name=group)
        members = {"members": [account], "currency": "USDT", "parent": HOUSE}
        log.both("GroupDefined", group=group, **members)
    log.limits(limits, name=HOUSE)
    log.trade("buy", "100", "100")
    told(log)
    return log


def told(log: RiskLog, price: str = "100") -> None:
    """Let so much time pass that every group has told its figures."""
    for _ in range(7):
        log.mark("BTC-PERP", price)


def asked(log: RiskLog, **more: Any) -> dict[str, Any]:
    """Ask for an order of the group that lost nothing."""
    return log.order("buy", "1", account_id=OTHER, **more)


def latches(log: RiskLog) -> list[tuple[str, str]]:
    """Return group and scope of the latches that were set."""
    found = [payload_of(one) for one in log.outputs if one.kind == "halt"]
    return [(one["group"], one["scope"]) for one in found]


def deviations(log: RiskLog) -> list[Deviation]:
    made = RecordedRisk(1)
    for line in log.lines:
        made.take_line(line)
    return asyncio.run(prove_lines(made, 1)).deviations


@BESIDE
def test_a_loss_of_one_group_stops_the_one_beside_it(beside: str) -> None:
    """Its own cap let 300 through in one step: more than all of the parent's."""
    log = house(beside, {"daily_loss_money": "200"})
    assert asked(log)["decision"] == "approved"
    told(log, "97")
    found = asked(log)
    assert (found["decision"], found["reason"], found["mode"]) == ("rejected", "mode", "reducing")
    mode = check_of(found, "mode")
    assert (mode["scope"], mode["detail"]) == (f"group:{HOUSE}", "daily_loss")
    assert sorted(latches(log)) == sorted(
        [(GROUP, f"group:{GROUP}"), (GROUP, f"group:{HOUSE}"), (beside, f"group:{HOUSE}")]
    )
    log.trade("buy", "5", "97", account=OTHER)
    assert log.order("sell", "5", account_id=OTHER)["decision"] == "approved", "it closes"
    assert deviations(log) == []


@BESIDE
def test_profits_of_one_pay_for_losses_of_the_other(beside: str) -> None:
    """What counts is the sum."""
    log = house(beside, {"daily_loss_money": "500"}, daily_loss_money="250")
    log.trade("sell", "80", "100", account=OTHER)
    told(log, "97")
    assert latches(log) == [(GROUP, f"group:{GROUP}")]
    assert asked(log)["decision"] == "approved"
    assert deviations(log) == []


@BESIDE
def test_a_drawdown_of_the_sum_latches(beside: str) -> None:
    """From its peak; a deposit is no profit, and what was lifted with a new peak begins anew."""
    log = house(beside, {"drawdown": "0.02"}, daily_loss_money="5000")
    log.event(OTHER, "CashDeposited", amount="10000", currency="USDT")
    told(log, "103")  # 30 300, and 30 000 before
    assert not latches(log)
    told(log, "98")  # 29 800: 0.0165 below
    assert not latches(log)
    told(log, "96")  # 29 600: 0.0231
    assert sorted(latches(log)) == sorted([(GROUP, f"group:{HOUSE}"), (beside, f"group:{HOUSE}")])
    assert asked(log)["reason"] == "mode"
    halts = [one for one in log.outputs if one.kind == "halt"]
    for one in halts:
        lift(log, one)
    told(log, "96")
    assert asked(log)["decision"] == "approved"
    assert deviations(log) == []


def lift(log: RiskLog, halt: RiskOutput) -> None:
    import hashlib

    named = hashlib.sha256(halt.data).hexdigest()
    log.both("HaltLifted", scope="group", id=HOUSE, halt_hash=named, rebase_peak=True)


def test_a_sibling_that_is_silent_leaves_closing_alone() -> None:
    """Nobody tells its figures for half a minute: it may have lost everything."""
    log = house(FAR, {"daily_loss_money": "200"})
    silent = log.folder.slots.pop(slot_of(GROUP))
    for _ in range(10):
        log.mark("BTC-PERP", "100")
    assert asked(log)["decision"] == "approved"
    for _ in range(25):
        log.mark("BTC-PERP", "100")
    found = asked(log)
    assert (found["reason"], check_of(found, "mode")["detail"]) == ("mode", "parent_unknown")
    log.folder.replace_slot(silent, log.clock)
    told(log)
    assert asked(log)["decision"] == "approved"


def test_who_takes_over_knows_nothing_of_its_siblings() -> None:
    """Until they have told: then the latch of before still holds."""
    log = house(FAR, {"daily_loss_money": "200"})
    memory = log.folder.slots[slot_of(FAR)].checkpoint()
    log.restart(Slot.restored(memory))
    found = asked(log)
    assert check_of(found, "mode")["detail"] == "parent_unknown"
    told(log, "97")
    assert check_of(asked(log), "mode")["detail"] == "daily_loss"
    log.restart(Slot.restored(log.folder.slots[slot_of(FAR)].checkpoint()))
    told(log)
    assert check_of(asked(log), "mode")["detail"] == "daily_loss"


@BESIDE
def test_a_parent_whose_limits_are_gone_stops_nobody(beside: str) -> None:
    log = house(beside, {"daily_loss_money": "200"})
    log.both("LimitsRevoked", scope="group", id=HOUSE)
    count = len(log.outputs)
    told(log)
    assert len(log.outputs) == count, "figures are told where somebody watches"
    assert asked(log)["decision"] == "approved"


@BESIDE
def test_a_drawdown_over_currencies_is_not_guessed(beside: str) -> None:
    """What flowed to an account of another currency is told at the rate of now: only closing."""
    log = house(beside, {"drawdown": "0.5"}, daily_loss_money="5000")
    assert asked(log)["decision"] == "approved"
    log.instrument("EURUSDT", kind="spot", base="EUR")
    log.mark("EURUSDT", "2")
    log.event("acc_3", "AccountOpened", currency="EUR")
    log.event("acc_3", "CashDeposited", amount="1000", currency="EUR")
    members = {"members": [ACCOUNT, "acc_3"], "currency": "USDT", "parent": HOUSE}
    log.both("GroupDefined", group=GROUP, **members)
    told(log)
    mode = check_of(asked(log), "mode")
    assert (mode["scope"], mode["detail"]) == (f"group:{HOUSE}", "parent_unknown")
    log.limits({"daily_loss_money": "10000"}, name=HOUSE)  # sums of now, of which none is a guess
    told(log)
    assert asked(log)["decision"] == "approved"
    assert deviations(log) == []


def near(log: RiskLog, check: str) -> list[dict[str, Any]]:
    """Return what was told of the parent as near a limit."""
    found = [payload_of(one) for one in log.outputs if one.kind == "alert"]
    return [one for one in found if one["message"].startswith(f"{check} of group:{HOUSE} ")]


@BESIDE
def test_open_orders_of_all_groups_count_in_the_budget_of_their_parent(beside: str) -> None:
    """Each within its own part; what nobody approved is in no part. Over once it is above."""
    part = {"open_orders_notional": "1000"}
    log = house(beside, {"open_orders_notional": "2000"}, **part)
    assert log.order("buy", "8", type="limit", price="100")["decision"] == "approved"
    assert log.order("buy", "8", type="limit", price="100", account_id=OTHER)["mode"] == "active"
    told(log)
    assert near(log, "open_orders_notional")
    assert not latches(log)
    log.shows("stray", account=OTHER, quantity="4")  # 2 000 in all: reached, not above
    told(log)
    assert not latches(log)
    log.shows("stray2", quantity="0.1")
    told(log)
    assert sorted(latches(log)) == sorted([(GROUP, f"group:{HOUSE}"), (beside, f"group:{HOUSE}")])
    for account in (ACCOUNT, OTHER):
        mode = check_of(log.order("buy", "0.1", account_id=account), "mode")
        assert (mode["scope"], mode["detail"]) == (f"group:{HOUSE}", "open_orders_notional")
    assert log.order("sell", "5")["decision"] == "approved", "it closes"
    assert deviations(log) == []


@BESIDE
def test_too_much_that_is_open_stops_until_it_is_not(beside: str) -> None:
    """A minute, and again while it is above: then all go on by themselves."""
    log = house(beside, {"open_orders_notional": "2000"}, open_orders_notional="1000")
    log.shows("stray", quantity="21")
    told(log)
    log.wait(60)
    told(log)
    assert latches(log).count((GROUP, f"group:{HOUSE}")) == 2
    log.event(ACCOUNT, "OrderCancelled", order_id="stray")
    for _ in range(70):
        log.mark("BTC-PERP", "100")
    assert asked(log)["decision"] == "approved"
    assert latches(log).count((GROUP, f"group:{HOUSE}")) == 2
    assert deviations(log) == []


@BESIDE
def test_what_all_groups_had_approved_counts_in_the_period_of_their_parent(beside: str) -> None:
    """Parts that were shifted within the period let more pass than all of it."""
    part = {"notional_period": "1000", "notional_period_seconds": 60}
    log = house(beside, {"notional_period": "2000", "notional_period_seconds": 60}, **part)
    log.trade("buy", "30", "100", account=OTHER)
    for account in (ACCOUNT, OTHER):
        assert log.order("sell", "10", account_id=account)["decision"] == "approved"
    told(log)
    assert near(log, "notional_period")
    assert not latches(log)
    assert log.order("sell", "1", account_id=OTHER, reduce_only=True)["decision"] == "rejected"
    log.limits({**part, "notional_period": "900", "daily_loss_money": "100"}, name=beside)
    log.limits({**part, "notional_period": "1100", "daily_loss_money": "100"})
    assert log.order("sell", "1")["decision"] == "approved"
    told(log)
    assert sorted(latches(log)) == sorted([(GROUP, f"group:{HOUSE}"), (beside, f"group:{HOUSE}")])
    assert check_of(asked(log), "mode")["detail"] == "notional_period"
    for _ in range(70):
        log.mark("BTC-PERP", "100")
    assert asked(log)["decision"] == "approved"
    assert deviations(log) == []


def test_a_sibling_that_does_not_know_what_is_open_leaves_closing_alone() -> None:
    log = house(FAR, {"open_orders_notional": "2000"}, open_orders_notional="1000")
    assert asked(log)["decision"] == "approved"
    log.folder.slots[slot_of(GROUP)].lose(ACCOUNT)
    told(log)
    found = asked(log)
    assert (found["reason"], check_of(found, "mode")["detail"]) == ("mode", "parent_unknown")


def test_budgets_of_groups_in_other_currencies_add_up_in_that_of_the_parent() -> None:
    log = RiskLog()
    log.instrument("EURUSDT", kind="spot", base="EUR")
    log.mark("EURUSDT", "2")
    log.event(OTHER, "AccountOpened", currency="EUR")
    log.event(OTHER, "CashDeposited", amount="10000", currency="EUR")
    log.both("GroupDefined", group=HOUSE, members=[], currency="EUR")
    for group, account, currency in ((GROUP, ACCOUNT, "USDT"), (FAR, OTHER, "EUR")):
        log.limits({"open_orders_notional": "1000"}, name=group)
        log.both("GroupDefined", group=group, members=[account], currency=currency, parent=HOUSE)
    log.limits({"open_orders_notional": "2000"}, name=HOUSE)
    log.shows("stray", quantity="40")  # 4 000 USDT are 2 000 EUR
    told(log)
    assert not latches(log)
    log.shows("stray2", account=OTHER, quantity="1")
    told(log)
    assert sorted(latches(log)) == sorted([(GROUP, f"group:{HOUSE}"), (FAR, f"group:{HOUSE}")])
    assert deviations(log) == []
