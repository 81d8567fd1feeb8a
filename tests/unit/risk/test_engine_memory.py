"""What a slot remembers: days, latches, reservations, requests, and what a restart leaves of it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from tests.support.risk_log import ACCOUNT, GROUP, RiskLog, check_of, payload_of
from tests.support.rules import ADA, SECOND, T0

from psm.contracts import recorded
from psm.contracts.errors import InvariantError
from psm.contracts.feed import FeedInput
from psm.contracts.subjects import order_command
from psm.domain.messages import Update
from psm.risk.engine import Slot
from psm.risk.messages import RiskOutput

DAY = 86_400
LIMIT = {"type": "limit", "price": "100"}


def kinds(outputs: list[RiskOutput]) -> list[str]:
    """Return kind and code of records."""
    return [f"{o.kind}:{payload_of(o).get('code', '')}" for o in outputs]


def held(limits: dict[str, Any] | None = None, **more: Any) -> RiskLog:
    """Return a log that holds 100 at 100, of 10 000."""
    log = RiskLog(limits, **more)
    log.trade("buy", "100", "100")
    return log


# --- days and latches -----------------------------------------------------------------------------


def test_reaching_the_daily_loss_latches_and_only_closing_is_left() -> None:
    """At the cap counts as reached: -500 of -500."""
    log = held({"daily_loss": "0.05"})
    assert "halt:daily_loss" not in kinds(log.mark("BTC-PERP", "95.01"))
    assert "halt:daily_loss" in kinds(log.mark("BTC-PERP", "95"))
    found = log.order("buy", "1")
    assert (found["decision"], found["reason"], found["mode"]) == ("rejected", "mode", "reducing")
    assert check_of(found, "daily_loss")["value"] == "-500"
    assert check_of(found, "mode")["detail"] == "daily_loss"
    assert log.order("sell", "100")["decision"] == "approved"


@pytest.mark.parametrize("what", ["recovery", "deposit", "raised cap"])
def test_nothing_unlatches_but_two_persons(what: str) -> None:
    """Neither a recovery, nor money, nor a higher cap within the day."""
    log = held({"daily_loss": "0.05"})
    log.mark("BTC-PERP", "95")
    if what == "recovery":
        log.mark("BTC-PERP", "120")
    elif what == "deposit":
        log.event(ACCOUNT, "CashDeposited", amount="10000", currency="USDT")
    else:
        log.limits({"daily_loss": "0.5"})
    assert log.order("buy", "1")["reason"] == "mode"
    latch = next(o for o in log.outputs if o.kind == "halt")
    (hashed,) = [one.hash for _, one in log.slot._path.items(*_latches())]
    assert hashed == _sha256(latch.data)
    lifted = log.both("HaltLifted", scope="group", id=GROUP, halt_hash=hashed)
    assert "alert:latch_lifted" in kinds(lifted)
    assert log.order("buy", "1")["decision"] == "approved"


def test_after_a_lift_the_loss_counts_from_there() -> None:
    """Else the next mark would latch again, and lifting would lift nothing."""
    log = held({"daily_loss": "0.05"})
    log.mark("BTC-PERP", "95")
    (hashed,) = [one.hash for _, one in log.slot._path.items(*_latches())]
    log.both("HaltLifted", scope="group", id=GROUP, halt_hash=hashed)
    assert "halt:daily_loss" not in kinds(log.mark("BTC-PERP", "90.01"))
    assert "halt:daily_loss" in kinds(log.mark("BTC-PERP", "90"))


def test_a_latch_ends_with_the_day_unless_it_is_sticky() -> None:
    """And then, for the cooldown, only closing is allowed."""
    log = held({"daily_loss": "0.05", "cooldown": 60})
    log.mark("BTC-PERP", "95")
    log.wait(DAY)
    log.mark("BTC-PERP", "95")
    found = log.order("buy", "1")
    assert found["reason"] == "cooldown"
    assert not [c for c in found["checks"] if c["name"] == "daily_loss" and not c["passed"]]
    log.wait(60)
    log.mark("BTC-PERP", "95")
    assert log.order("buy", "1")["decision"] == "approved"
    log = held({"daily_loss": "0.05", "daily_loss_sticky": True})
    log.mark("BTC-PERP", "95")
    log.wait(DAY)
    log.mark("BTC-PERP", "95")
    assert log.order("buy", "1")["reason"] == "mode"


def test_a_day_opens_with_the_equity_before_it_and_flows_are_no_profit() -> None:
    """Yesterday's loss is not today's, nor is a withdrawal."""
    log = held({"daily_loss": "0.05"})
    log.mark("BTC-PERP", "96")
    log.wait(DAY)
    log.event(ACCOUNT, "CashWithdrawn", amount="1000", currency="USDT")
    log.mark("BTC-PERP", "96")
    found = log.order("buy", "1")
    assert found["decision"] == "approved"
    # 5 % of the 9 600 that the day began with
    assert check_of(found, "daily_loss")["limit"] == "-480"
    assert check_of(found, "daily_loss")["value"] == "0"


def test_an_account_that_is_funded_within_the_day_begins_it_with_its_first_flow() -> None:
    """And its later ones count as flows."""
    log = RiskLog({"daily_loss": "0.05"}, deposit="0")
    log.event(ACCOUNT, "CashDeposited", amount="1000", currency="USDT")
    log.event(ACCOUNT, "CashDeposited", amount="9000", currency="USDT")
    found = check_of(log.order("buy", "1"), "daily_loss")
    assert (found["value"], found["limit"]) == ("0", "-50")


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ({"daily_loss": "0.05"}, "-500"),
        ({"daily_loss": "300"}, "-300"),
        ({"daily_loss": "0.05", "daily_loss_money": "400"}, "-400"),
        ({"daily_loss_money": "600"}, "-600"),
    ],
)
def test_a_cap_is_a_fraction_money_or_the_tighter(limits: dict[str, str], limit: str) -> None:
    """Up to 1 a fraction of the day's opening equity, above it money."""
    assert check_of(held(limits).order("sell", "1"), "daily_loss")["limit"] == limit


def test_realized_loss_alone_may_count() -> None:
    """What is unrealized latches nothing then."""
    log = held({"daily_loss": "0.05", "daily_loss_basis": "realized"})
    assert "halt:daily_loss" not in kinds(log.mark("BTC-PERP", "90"))
    assert "halt:daily_loss" in kinds(log.trade("sell", "50", "90"))


def test_a_drawdown_latches_until_it_is_lifted_and_the_peak_may_be_rebased() -> None:
    """Else nothing could ever be opened again."""
    log = held({"drawdown": "0.1"})
    assert "halt:drawdown" in kinds(log.mark("BTC-PERP", "90"))
    log.wait(DAY)
    log.mark("BTC-PERP", "90")
    assert log.order("buy", "1")["reason"] == "mode"
    (hashed,) = [one.hash for _, one in log.slot._path.items(*_latches())]
    log.both("HaltLifted", scope="group", id=GROUP, halt_hash=hashed, rebase_peak=True)
    log.mark("BTC-PERP", "90")
    found = log.order("buy", "1")
    assert (found["decision"], check_of(found, "drawdown")["value"]) == ("approved", "0")


def test_flows_change_units_and_not_their_value() -> None:
    """A deposit in a drawdown hides nothing: nav 0.95 stays 0.95."""
    log = held({"drawdown": "0.1"})
    log.mark("BTC-PERP", "95")
    log.event(ACCOUNT, "CashDeposited", amount="9500", currency="USDT")
    found = check_of(log.order("sell", "1"), "drawdown")
    assert found["value"] == "0.05"
    log.mark("BTC-PERP", "85")  # 18 000 of 19 000
    assert Decimal(check_of(log.order("sell", "1"), "drawdown")["value"]) == Decimal("0.1")


def test_eighty_percent_is_told_once_until_it_was_below_seventy() -> None:
    """Of losses, and of figures that orders bring there."""
    log = held({"daily_loss": "0.05"})
    assert kinds(log.mark("BTC-PERP", "96")) == ["alert:near_limit"]
    assert kinds(log.mark("BTC-PERP", "95.9")) == []
    assert kinds(log.mark("BTC-PERP", "96.4")) == []
    assert kinds(log.mark("BTC-PERP", "96.6")) == []
    assert kinds(log.mark("BTC-PERP", "96")) == ["alert:near_limit"]
    log = RiskLog({"exposure_gross": "1"})
    log.order("buy", "79")
    assert "alert:near_limit" not in kinds(log.outputs)
    log.order("buy", "1")
    assert kinds(log.outputs).count("alert:near_limit") == 1


def test_a_kill_switch_is_set_by_one_and_lifted_by_two() -> None:
    """All but cancels are refused, closing too."""
    log = held({})
    log.say(ADA, "HaltSet", scope="firm", id="firm", mode="halted")
    found = log.order("sell", "1")
    assert (found["reason"], check_of(found, "mode")["scope"]) == ("mode", "firm")
    cancel = log.request("cancel_request", {"account_id": ACCOUNT, "order_id": "o1"})
    assert cancel["decision"] == "approved"


def test_a_group_is_the_sum_of_its_members() -> None:
    """Equity, profit and exposure; one member's gain pays for another's loss."""
    log = RiskLog({"daily_loss": "0.05", "exposure_gross": "2"}, accounts=(ACCOUNT, "acc_2"))
    log.trade("buy", "100", "100")
    log.trade("sell", "40", "100", account="acc_2")
    log.mark("BTC-PERP", "95")
    found = log.order("buy", "1")
    assert found["figures"]["group_profit"] == "-300"
    assert check_of(found, "daily_loss")["limit"] == "-1000"
    gross = check_of(found, "exposure_gross")
    assert (gross["value"], gross["limit"]) == ("13395", "39400")  # (101 + 40) x 95


def test_members_in_another_currency_count_at_its_rate() -> None:
    """Limits of the group are in its currency, those of the account in the account's."""
    log = RiskLog(None, accounts=(ACCOUNT, "acc_2"))
    log.instrument("EURUSDT", kind="spot", base="EUR")
    log.mark("EURUSDT", "2")
    log.event("acc_3", "AccountOpened", currency="EUR")
    log.event("acc_3", "CashDeposited", amount="1000", currency="EUR")
    log.both("GroupDefined", group=GROUP, members=[ACCOUNT, "acc_2", "acc_3"], currency="USDT")
    log.limits({"exposure_gross": "1"})
    log.limits({"exposure_gross": "1"}, "account", "acc_3")
    found = log.order("buy", "3", account_id="acc_3")
    checks = {c["scope"]: c for c in found["checks"] if c["name"] == "exposure_gross"}
    assert checks["group:desk"]["limit"] == "22000"
    assert (checks["account:acc_3"]["value"], checks["account:acc_3"]["limit"]) == ("150", "1000")


# --- reservations and requests --------------------------------------------------------------------


def test_a_reservation_is_counted_until_psm_shows_the_order() -> None:
    """Never twice, never not at all."""
    log = RiskLog({"exposure_symbol": "1"})
    first = log.order("buy", "60", **LIMIT)
    assert log.order("buy", "41", **LIMIT)["max_quantity"] == "40"
    log.shows(first["order_id"], quantity="60")
    assert log.order("buy", "41", **LIMIT)["max_quantity"] == "40"
    log.trade("buy", "20", "100", order_id=first["order_id"])
    assert log.order("buy", "41", **LIMIT)["max_quantity"] == "40"
    log.event(ACCOUNT, "OrderCancelled", order_id=first["order_id"])
    assert log.order("buy", "81", **LIMIT)["max_quantity"] == "80"


def test_fills_alone_take_an_order_out_of_the_reservations() -> None:
    """Not every venue tells of orders."""
    log = RiskLog({"exposure_symbol": "1"})
    first = log.order("buy", "60")
    log.trade("buy", "20", "100", order_id=first["order_id"])
    assert log.order("buy", "41")["max_quantity"] == "40"
    log.trade("buy", "40", "100", order_id=first["order_id"])
    log.wait(60)
    log.mark("BTC-PERP", "100")
    assert "alert:reservation_expired" not in kinds(log.outputs)
    assert log.order("buy", "41")["max_quantity"] == "40"


def test_an_approved_order_that_never_shows_counts_until_a_person_releases_it() -> None:
    """Fail safe: somebody is told."""
    log = RiskLog({"exposure_symbol": "1"})
    first = log.order("buy", "60", **LIMIT)
    assert "alert:reservation_expired" in kinds(log.wait(30))
    log.mark("BTC-PERP", "100")
    assert log.order("buy", "41", **LIMIT)["max_quantity"] == "40"
    log.both("ReservationReleased", account_id=ACCOUNT, order_id=first["order_id"])
    assert log.order("buy", "100", **LIMIT)["decision"] == "approved"


def test_an_order_that_came_and_went_while_nobody_followed_counts_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole account shows open orders alone; what PSM told of the others says the rest."""
    log = RiskLog({"exposure_symbol": "1"})
    first = log.order("buy", "60", **LIMIT)["order_id"]
    memory = log.slot.checkpoint()
    told: list[bytes] = []
    feed = log.folder._feed

    def heard(account_id: str, updates: list[Update]) -> None:
        told.extend(update.data for update in updates)
        feed(account_id, updates)

    monkeypatch.setattr(log.folder, "_feed", heard)
    log.shows(first, quantity="60")
    log.event(ACCOUNT, "OrderCancelled", order_id=first)
    log.restart(Slot.restored(memory))
    assert log.slot.reserved_since(ACCOUNT) is not None
    assert log.order("buy", "41", **LIMIT)["max_quantity"] == "40"
    log.slot.take_told(ACCOUNT, [one for one in told if b"cancelled" not in one])
    assert log.order("buy", "41", **LIMIT)["max_quantity"] == "40"
    assert log.slot.take_told(ACCOUNT, told) == []
    assert log.slot.reserved_since(ACCOUNT) is None
    assert log.order("buy", "100", **LIMIT)["decision"] == "approved"


def test_an_order_that_nobody_approved_counts_and_is_told_of() -> None:
    """As one that may open something, whatever it says."""
    log = RiskLog({"exposure_symbol": "1"})
    found = log.shows("rogue", quantity="60", reduce_only=True)
    assert kinds(found) == ["alert:unapproved_order"]
    assert log.order("buy", "41", **LIMIT)["max_quantity"] == "40"


def test_an_order_that_came_while_an_account_was_lost_is_told_of() -> None:
    """The whole account is read anew; the record is part of the chain like any other."""
    log = RiskLog({})
    log.slot.lose(ACCOUNT)
    document = json.dumps({**log.document(), "orders": {"rogue": log.shown("rogue")}})
    found = log.slot.enter(ACCOUNT, document.encode(), log.folder.books.position)
    assert kinds(found) == ["alert:unapproved_order"]
    assert payload_of(found[0])["n"] == log.slot.n


def test_a_change_counts_as_the_worse_of_both() -> None:
    """Until PSM shows the new one; less frees nothing before that."""
    log = RiskLog({"exposure_symbol": "1"})
    order = log.order("buy", "60", **LIMIT)["order_id"]
    log.shows(order, quantity="60")
    change = {"account_id": ACCOUNT, "order_id": order}
    more = log.request("replace_request", {**change, "quantity": "101"})
    assert (more["decision"], more["max_quantity"]) == ("rejected", "100")
    assert check_of(more, "exposure_symbol")["value"] == "10100"
    less = log.request("replace_request", {**change, "quantity": "30"})
    assert less["decision"] == "approved"
    assert log.order("buy", "41", **LIMIT)["max_quantity"] == "40"
    log.event(ACCOUNT, "OrderReplaced", order_id=order, quantity="30")
    assert log.order("buy", "70", **LIMIT)["decision"] == "approved"
    unknown = log.request("replace_request", {**change, "order_id": "none", "quantity": "1"})
    assert unknown["reason"] == "unknown_order"


def test_the_same_request_gets_the_same_bytes() -> None:
    """And nothing new is decided; other bytes under the same id are refused."""
    log = RiskLog({})
    payload = {"account_id": ACCOUNT, "order_id": "mine", "symbol": "BTC-PERP", "side": "buy",
               "type": "market", "quantity": "1"}  # fmt: skip
    log.request("order_request", payload)
    first, n = log.outputs[-1], log.slot.n
    log.request("order_request", payload)
    assert log.outputs[-1] == first
    assert log.slot.n == n
    found = log.request("order_request", {**payload, "quantity": "2"})
    assert found["reason"] == "duplicate_order_id"
    second, n = log.outputs[-1], log.slot.n
    for more, answer in (({}, first), ({"quantity": "2"}, second)):
        log.request("order_request", {**payload, **more})
        assert log.outputs[-1] == answer, "each keeps its own answer"
    assert log.slot.n == n


def test_a_request_of_long_ago_is_not_decided() -> None:
    """15 minutes after ORDERS stored it at the latest."""
    log = RiskLog({})
    late = log.clock
    log.wait(901)
    log.mark("BTC-PERP", "100")
    now, log.clock = log.clock, late
    found = log.order("buy", "1")
    log.clock = now
    assert found["reason"] == "expired"


def test_an_override_lets_one_order_fail_one_check_once() -> None:
    """Granted by two for the order's hash; then the same request is decided anew."""
    log = RiskLog({"max_order_quantity": "1", "exposure_symbol": "1"})
    payload = {"account_id": ACCOUNT, "order_id": "big", "symbol": "BTC-PERP", "side": "buy",
               "type": "market", "quantity": "2"}  # fmt: skip
    refused = log.request("order_request", payload)
    assert refused["reason"] == "max_order_quantity"
    log.both(
        "OverrideGranted", account_id=ACCOUNT, order_hash=refused["order_hash"],
        check="max_order_quantity", expires="2026-12-01T00:10:00Z",
    )  # fmt: skip
    found = log.request("order_request", payload)
    assert found["decision"] == "approved"
    assert check_of(found, "max_order_quantity")["detail"] == "overridden"
    again = log.request("order_request", {**payload, "order_id": "big2"})
    assert again["reason"] == "max_order_quantity"


def test_nothing_is_decided_on_an_account_that_is_not_known() -> None:
    """Lost, or in no group; of a group whose other member is lost, closing is left."""
    log = RiskLog({"exposure_gross": "5"}, accounts=(ACCOUNT, "acc_2"))
    log.trade("buy", "5", "100")
    assert log.order("buy", "1", account_id="nobody")["reason"] == "no_group"
    log.slot.lose("acc_2")
    found = log.order("buy", "1")
    assert found["reason"] == "exposure_gross"
    assert check_of(found, "exposure_gross")["detail"] == "an account is not known"
    assert log.order("sell", "5")["decision"] == "approved"
    assert log.order("sell", "5", account_id="acc_2")["reason"] == "account_unknown"
    log.slot.regain("acc_2")
    assert log.order("buy", "1")["decision"] == "approved"


def test_an_input_that_is_not_the_next_leaves_the_account_unknown() -> None:
    """Nothing is decided on a state that the log never had."""
    log = held({})
    at = log.folder.books.position
    hole = FeedInput(account_id=ACCOUNT, log_sequence=at + 9, previous=at + 5, updates=(b"{}",))
    log.slot.take_input(hole)
    assert log.order("sell", "1")["reason"] == "account_unknown"
    log.slot.enter(ACCOUNT, json.dumps(log.document()).encode(), at)
    assert log.order("sell", "1")["decision"] == "approved"


def test_what_psm_has_not_folded_for_five_seconds_leaves_closing() -> None:
    """Told at once, counted by the clock, remembered, over when the input comes or is folded."""
    log = held({})
    at = log.folder.books.position
    assert kinds(log.slot.unfolded(ACCOUNT, at, log.clock)) == []  # it came already
    behind = (ACCOUNT, at + 1, log.clock)
    assert kinds(log.slot.unfolded(*behind)) == ["alert:state_stale"]
    assert kinds(log.slot.unfolded(*behind)) == []
    assert log.order("buy", "1")["decision"] == "approved"
    log.clock = behind[2] + 5 * SECOND - 1
    assert log.order("buy", "1")["decision"] == "approved"
    log.clock = behind[2] + 5 * SECOND
    for _ in range(2):
        found = log.order("buy", "1")
        assert (found["decision"], found["reason"], found["mode"]) == (
            "rejected", "mode", "reducing",
        )  # fmt: skip
        mode = check_of(found, "mode")
        assert (mode["scope"], mode["detail"]) == (f"group:{GROUP}", "state_stale")
        assert log.order("sell", "1")["decision"] == "approved"
        log.restart(Slot.restored(log.slot.checkpoint()))
    log.trade("buy", "1", "100")
    assert log.order("buy", "1")["decision"] == "approved"
    log.slot.unfolded(ACCOUNT, 10**6, T0)
    assert log.order("buy", "1")["reason"] == "mode"
    log.slot.unfolded(ACCOUNT, 10**6, None)
    assert log.order("buy", "1")["decision"] == "approved"


def test_marks_must_be_as_far_as_the_accounts() -> None:
    """Else a decision would be on no state that the log ever had."""
    log = RiskLog({})
    log.trade("buy", "5", "100")
    slot = log.slot
    slot._market.position -= 1
    request = log.body("order_request", ACCOUNT, side="buy", quantity="1")
    (found,) = slot.decide(log.stored(request), dry_run=True)
    assert payload_of(found)["reason"] == "state_behind"


def test_a_dry_run_changes_nothing() -> None:
    """It is the decision that would be made, numbered 0."""
    log = held({"exposure_symbol": "2"})
    slot, before = log.slot, log.slot.state_hash()
    request = log.body("order_request", ACCOUNT, side="buy", quantity="101")
    (dry,) = slot.decide(log.stored(request), dry_run=True)
    assert slot.state_hash() == before
    found = payload_of(dry)
    assert (found["decision"], found["max_quantity"]) == ("rejected", "100")
    assert "n" not in found or found["n"] == 0


# --- chain and restart ----------------------------------------------------------------------------


def test_records_are_numbered_and_chained() -> None:
    """Without a hole; each names the hash of the one before."""
    log = held({"daily_loss": "0.05"})
    log.order("buy", "1")
    log.mark("BTC-PERP", "95")
    log.order("sell", "1")
    previous = None
    for number, output in enumerate(log.outputs, 1):
        payload = payload_of(output)
        assert payload["n"] == number
        assert previous in (None, payload["previous"])
        assert len(output.data) <= 16 * 1024
        previous = _sha256(output.data)


def test_a_latch_survives_a_restart() -> None:
    """From the checkpoint before it and the records after."""
    log = held({"daily_loss": "0.05"})
    checkpoint = log.slot.checkpoint()
    start = len(log.outputs)
    log.mark("BTC-PERP", "95")
    log.order("sell", "1")
    again = Slot.restored(checkpoint)
    for output in log.outputs[start:]:
        again.take_recorded(output)
    assert again.state_hash() == log.slot.state_hash()
    log.restart(again)
    log.mark("BTC-PERP", "99")
    assert log.order("buy", "1")["reason"] == "mode"


def test_a_hole_is_refused() -> None:
    """Recovery stops where a record is missing, or is of another chain."""
    log = held({})
    checkpoint, start = log.slot.checkpoint(), len(log.outputs)
    log.order("buy", "1")
    log.order("buy", "2")
    again = Slot.restored(checkpoint)
    with pytest.raises(InvariantError, match="one is missing"):
        again.take_recorded(log.outputs[-1])
    with pytest.raises(InvariantError, match="checkpoint"):
        Slot.restored(checkpoint.replace(b'"clock":', b'"clock":1'))
    assert start < len(log.outputs)


def test_an_account_that_moves_takes_its_memory_along() -> None:
    """And the new group knows what the old one approved."""
    log = held({})
    order = log.order("buy", "1", **LIMIT)["order_id"]
    log.both("GroupDefined", group="other", members=[ACCOUNT], currency="USDT")
    (release,) = [o for o in log.outputs if o.kind == "release"]
    memory = payload_of(release)["memory"]
    assert f"reservation/{ACCOUNT}/{order}" in memory
    assert payload_of(release)["orders_sequence"] == 1
    found = log.order("buy", "1")
    assert (found["decision"], found["group"]) == ("approved", "other")
    again = log.request("order_request", {**found["order"], "order_id": order})
    assert again["reason"] == "duplicate_order_id"


def test_what_is_printed_is_the_same_in_one_go() -> None:
    """The same lines, the same records."""
    log = held({"daily_loss": "0.05", "exposure_symbol": "2"})
    log.order("buy", "50", **LIMIT)
    log.mark("BTC-PERP", "95")
    log.order("sell", "10")
    assert log.again() == log.outputs
    assert json.loads(log.outputs[-1].data)["payload"]["slot"] == log.slot.number
    assert log.clock > T0 + SECOND


def _latches() -> Any:
    from psm.risk.engine.path import Latch

    return Latch, "latch"


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def test_every_record_is_as_its_schema_says() -> None:
    """And may stand where the shell stores it."""
    log = held({"daily_loss": "0.05", "exposure_symbol": "2", "repeated_execution": 1})
    log.order("buy", "1", strategy_id="s1")
    log.order("buy", "1", strategy_id="s1")
    log.request("cancel_request", {"account_id": ACCOUNT, "order_id": "o1"})
    log.mark("BTC-PERP", "95")
    log.order("sell", "1", type="magic")
    log.wait(60)
    log.both("GroupDefined", group="other", members=[ACCOUNT], currency="USDT")
    told = {o.kind: None for o in log.outputs}
    assert sorted(told) == ["alert", "decision", "halt", "release"]
    for output in log.outputs:
        recorded.check(f"risk.{output.kind}.{log.slot.number}.{output.key}", output.data)
    for request in ("order_request", "replace_request", "cancel_request"):
        assert recorded.subject_of(request, {"account_id": ACCOUNT}) == order_command(ACCOUNT)


def test_a_request_turns_no_day() -> None:
    """Days turn by the log's time alone: an order of a moment later sees yesterday's loss."""
    log = held({"daily_loss": "0.05", "mark_age": 2 * DAY})
    log.mark("BTC-PERP", "95")
    log.clock = T0 + DAY * SECOND + SECOND
    assert log.order("buy", "1")["reason"] == "mode"
    log.mark("BTC-PERP", "95")
    assert log.order("buy", "1")["decision"] == "approved"


def test_many_accounts_and_a_large_order_fit_into_records() -> None:
    """What one record cannot hold goes before it, in records of their own."""
    accounts = tuple(f"account_number_{n:03}" for n in range(120))
    log = RiskLog({"exposure_gross": "5"}, accounts=(ACCOUNT, *accounts))
    for account in accounts:
        log.trade("buy", "1", "100", account=account)
    log.mark("BTC-PERP", "100")
    found = log.order("buy", "1", context={"why": "x" * 20_000})
    assert found["decision"] == "approved"
    assert "context" not in found["order"]
    assert len(found["vector"]) <= 24
    assert all(len(o.data) <= 16 * 1024 for o in log.outputs)
    vectors = [payload_of(o) for o in log.outputs if payload_of(o).get("code") == "vector"]
    told = {name for one in vectors for name in one["vector"]} | set(found["vector"])
    assert told == {ACCOUNT, *accounts}
