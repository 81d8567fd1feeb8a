"""AccountReported: compared with the books, which stay as they are."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.support.domain import Log, given
from tests.support.events import (
    changed,
    deposit,
    dismissed,
    event,
    event_id,
    opened,
    report,
    trade,
    unknown,
)

from psm.contracts import codec
from psm.domain.snapshot import dump_account, load_account

LONG = {"symbol": "BTC-PERP", "size": "2", "entry_price": "30"}


def traded() -> Log:
    """Return the log of an account with cash and a position."""
    fill = trade(3, "buy", "2", "30", fill_id="f3")
    return given(opened(1), deposit(2, "100", reference="d2"), fill)


def answer(log: Log, *args: Any, **more: Any) -> dict[str, Any]:
    """Return what PSM publishes of a report."""
    seen = log.when(report(*args, **more))
    assert seen.outcome == "compared", seen.reason
    assert seen.types == ["ReconciliationReported"]
    return seen.payload("ReconciliationReported")


def test_report_of_what_we_have_matches() -> None:
    """Quantities, sizes, and average prices in one currency."""
    log = traded()
    found = answer(log, {"USDT": "100"}, {**LONG, "currency": "USDT"}, cost_method="average")
    assert (found["matches"], found["differences"], found["reason"]) == (True, [], None)
    assert (found["sequence_number"], found["status"]) == (3, "open")
    assert found["ledger_hash"] == log.account().ledger_hash().hex()
    assert found["state_hash"] == log.state()["state_hash"]
    assert found["chain_hash"] == log.state()["chain_hash"]


def test_every_difference_is_named() -> None:
    """What the report adds, leaves out or says otherwise, with our figure and theirs."""
    other = {"symbol": "ETH-PERP", "size": "-1"}
    found = answer(traded(), {"BTC": "0.5"}, {**LONG, "entry_price": "31"}, other,
                   cost_method="average")  # fmt: skip
    figures = ("what", "expected", "reported", "difference")
    told = [tuple(one[name] for name in figures) for one in found["differences"]]
    assert told == [
        ("assets.BTC", "0", "0.5", "0.5"),
        ("assets.USDT", "100", "0", "-100"),
        ("positions.BTC-PERP.entry_price", "30", "31", "1"),
        ("positions.ETH-PERP.size", "0", "-1", "-1"),
    ]
    assert (found["matches"], found["differences_total"]) == (False, 4)
    assert [d["position_side"] for d in found["differences"]] == [None, None, "net", "net"]


def test_report_changes_nothing_but_its_memory() -> None:
    """No place, no chain, no hash: the books are byte for byte what they were."""
    log = traded()
    end, delivery = log.end(), log.account().delivery
    version, chain = delivery.version, delivery.chain_hash
    documents = codec.canonical_bytes(log.state())
    answer(log, {"USDT": "1"})
    assert (delivery.version, delivery.chain_hash) == (version, chain)
    state = {**msgspec.json.decode(documents), "log_sequence": log.books.position}
    assert log.state() == state
    assert end != b""
    assert log.when(deposit(4)).outcome == "applied"


def test_report_repeated_is_answered_once() -> None:
    """The same bytes again change nothing, after a snapshot too."""
    log, sent = traded(), report({"USDT": "100"}, LONG)
    log.when(sent)
    assert (log.when(sent).outcome, log.when(sent).updates) == ("duplicate", [])
    account, _ = load_account(dump_account(log.account(), log.books.position, b""))
    log.books.restore(account)
    assert log.when(sent).outcome == "duplicate"


def test_report_id_with_other_bytes_is_a_conflict() -> None:
    """The first in the log was answered; another one of its name is reported."""
    log, sent = traded(), report({"USDT": "100"}, LONG)
    log.when(sent)
    seen = log.when(changed(sent, correlation_id="other"))
    assert (seen.outcome, seen.reason) == ("conflict", "event_id_conflict")
    assert seen.types == ["EventRefused"]


def test_report_about_nobody_creates_no_account() -> None:
    """It is compared with nothing, each time, because nothing remembers it."""
    log = given()
    sent = report({"USDT": "5"})
    for _ in range(2):
        found = log.when(sent).payload("ReconciliationReported")
        assert (found["matches"], found["sequence_number"], found["event_hash"]) == (False, 0, None)
        assert found["currency"] is None
    assert log.books.accounts == {}
    assert answer(log, {})["matches"] is True


def test_report_is_answered_in_any_state() -> None:
    """In a gap, while blocked and after it; the books lack what waits, and it says so."""
    log = traded()
    log.when(deposit(5, "7"))
    assert answer(log, {"USDT": "100"}, LONG)["status"] == "gap"
    log.when(deposit(4, "3"))
    at = log.books.position + 1
    log.when(unknown(6), deposit(7, "1"))
    blocked = answer(log, {"USDT": "110"}, LONG, salt="blocked")
    assert (blocked["status"], blocked["matches"]) == ("blocked", True)
    assert log.when(dismissed(at)).outcome == "applied"
    assert answer(log, {"USDT": "111"}, LONG, salt="open")["matches"] is True


@pytest.mark.parametrize("through", ["f3", event_id("TradeExecuted", "acc_001", 3, "")])
def test_report_is_compared_at_the_fact_it_ends_with(through: str) -> None:
    """Before it is booked, and once others are, nothing is compared: no verdict, no difference."""
    log = given(opened(1), deposit(2, "100", reference="d2"))
    early = answer(log, {"USDT": "100"}, LONG, through=through)
    assert (early["matches"], early["reason"]) == (None, "through_not_last")
    assert (early["differences"], early["differences_total"]) == ([], 0)
    order = {"order_id": "o", "symbol": "X", "side": "buy", "type": "market", "quantity": "1"}
    log.when(trade(3, "buy", "2", "30", fill_id="f3"), event("OrderSubmitted", order, 4))
    assert answer(log, {"USDT": "100"}, LONG, through=through, salt="then")["matches"] is True
    log.when(event("FeeCharged", {"amount": "1"}, 5))
    assert answer(log, {"USDT": "100"}, LONG, through=through, salt="late")["matches"] is None


def test_refused_events_and_corrections_are_told_apart() -> None:
    """What was refused moved nothing; a bust did, and is no fill of that name."""
    log = traded()
    log.when(event("CashDeposited", {"amount": "-1", "reference": "no"}, 4))
    assert answer(log, {"USDT": "100"}, LONG, through="f3")["matches"] is True
    log.when(event("TradeBusted", {"fill_id": "f3", "reason": "venue"}, 5))
    assert answer(log, {"USDT": "100"}, through="f3")["matches"] is None
    bust = event_id("TradeBusted", "acc_001", 5, "")
    assert answer(log, {"USDT": "100"}, through=bust)["matches"] is True


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"assets": []}, "payload.assets"),
        ({"assets": {"USDT": None}}, "payload.assets.USDT"),
        ({"assets": {"A": "1", "B\0": "1"}}, "payload.assets"),
        ({"assets": {"A" * 33: "1"}}, "payload.assets"),
        ({"assets": {"USDT": "NaN"}}, "payload.assets.USDT"),
        ({"assets": {"USDT": "9" * 19}}, "payload.assets.USDT"),
        ({"assets": {"USDT": {"free": True}}}, "payload.assets.USDT.free"),
        ({"assets": {"USDT": {"borrowed": "1"}}}, "payload.assets.USDT"),
        ({"assets": {"USDT": {"free": "1", "borrowed": "-1"}}}, "payload.assets.USDT.borrowed"),
        ({"positions": {}}, "payload.positions"),
        ({"positions": [LONG, LONG]}, "payload.positions[1]"),
        ({"positions": [{**LONG, "size": [1]}]}, "payload.positions[0].size"),
        ({"positions": [{**LONG, "position_side": "up"}]}, "payload.positions[0].position_side"),
        ({"wallets": [{"symbol": "A"}]}, "payload.wallets[0].amount"),
        ({"rates": {"BTC": "-1"}}, "payload.rates.BTC"),
        ({"tolerance": "-1"}, "payload.tolerance"),
        ({"tolerance": {"assets.USDT": "x"}}, "payload.tolerance.assets.USDT"),
        ({"source": "a\0"}, "payload.source"),
        ({"as_of": ""}, "payload.as_of"),
    ],
)
def test_what_is_no_report_is_rejected(fields: dict[str, Any], field: str) -> None:
    """With the field's path and no value of it; nothing remembers it."""
    log = traded()
    sent = report({"USDT": "100"}, LONG)
    payload = {**msgspec.json.decode(sent.data)["payload"], **fields}
    before = log.account().delivery.chain_hash
    seen = log.when(changed(sent, payload=payload))
    assert (seen.outcome, seen.reason) == ("rejected", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == field
    assert log.account().delivery.chain_hash == before
    assert log.when(sent).outcome == "compared"


def test_report_with_a_number_is_rejected() -> None:
    """It takes no place; the number's own event still can."""
    log = traded()
    seen = log.when(changed(report({"USDT": "100"}), sequence_number=4))
    assert (seen.outcome, seen.reason) == ("rejected", "malformed_field")
    assert seen.payload("EventRefused")["field"] == "sequence_number"
    assert log.when(deposit(4)).outcome == "applied"


def test_report_of_another_major_version_is_rejected() -> None:
    """It blocks nothing."""
    seen = traded().when(changed(report({"USDT": "100"}), schema_version="2.0.0"))
    assert (seen.outcome, seen.reason) == ("rejected", "unknown_schema_version")


def test_no_update_says_who_reported() -> None:
    """`source` may name somebody."""
    log = traded()
    log.when(report({"USDT": "100"}, LONG, source="Jane Roe, account 4711"))
    assert b"4711" not in log.updates[-1].data


def test_list_of_differences_ends() -> None:
    """The count is of all; the account may hold less than somebody reports."""
    found = answer(traded(), {f"A{number:04}": "1" for number in range(600)})
    assert len(found["differences"]) == 256
    assert found["differences_total"] == 602
