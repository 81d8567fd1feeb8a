"""Records of the risk engine and events of the rulebook as rows of views."""

from __future__ import annotations

import json

import msgspec
import pytest
from tests.support.risk_log import GROUP, RiskLog
from tests.support.risk_views import (
    LIMITS,
    assert_remembered,
    memory_of,
    rows_of,
    sha256,
    stored,
    traded,
    updates,
)
from tests.support.rules import ADA, BOB, EVE, Rules

from psm.adapters.jetstream import StoredMessage
from psm.contracts.errors import InvariantError, LogDamagedError, TransientError
from psm.projections.risk import RULEBOOK
from psm.projections.rows import Row
from psm.projections.source import RISK_RECORDS
from psm.risk.messages import Stored
from psm.risk.rulebook import slot_of
from psm.workers.ops.keys import made_signature
from psm.workers.projector.risk_records import updates_of_record
from psm.workers.projector.rules import RulebookEntries
from psm.workers.projector.streams import require_contiguous

SLOT = slot_of(GROUP)


def state(log: RiskLog) -> dict[str, Row]:
    """Return the rows of `risk_state` by entry."""
    rows = rows_of(updates(stored(log.outputs)))["risk_state"]
    return {row["entry"]: row for row in rows}


def said(rules: Rules) -> dict[str, list[Row]]:
    """Return the rows that the rulebook leaves, by table."""
    entries = RulebookEntries(made_signature)
    found = [update for one in rules.log for update in entries.take(one)]
    return rows_of(found, RULEBOOK)


# --- decisions ------------------------------------------------------------------------------------


def test_each_decision_is_a_row_with_its_record() -> None:
    """Every field of the row is the record's, and the record is there byte for byte."""
    records = stored(traded().outputs)
    rows = rows_of(updates(records))["risk_decisions"]
    decided = [one for one in records if one.kind == "decision"]
    assert len(rows) == len(decided) > 6
    for row, output in zip(rows, decided, strict=True):
        payload = json.loads(output.data)["payload"]
        assert row["record"].encode() == output.data
        assert row["decision_hash"] == sha256(output.data)
        assert row["risk_group"] == GROUP == payload["group"]
        for name in ("n", "previous", "decision", "reason", "order_id", "approved_quantity"):
            assert row[name] == payload[name], name
        failed = [check["name"] for check in payload["checks"] if not check["passed"]]
        assert list(row["failed"]) == list(dict.fromkeys(failed))
    assert {row["decision"] for row in rows} == {"approved", "reduced", "rejected"}


def test_what_others_say_about_risk_and_owner_records_are_no_rows() -> None:
    """Recorded subjects have three tokens; owner records change nothing in the views."""
    for subject in ("risk.decision.acc", "risk.owner.7.record", "risk.owner.7.checkpoint.0"):
        assert updates_of_record(subject, 1, b"no JSON") == []


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"payload":{}}'])
def test_record_that_is_none_stops_the_view(data: bytes) -> None:
    """It is not the data that is wrong then, but who wrote it."""
    with pytest.raises(InvariantError, match="RISK 7"):
        updates_of_record("risk.decision.3.acc", 7, data)


# --- state ----------------------------------------------------------------------------------------


def test_latch_is_there_until_it_is_lifted() -> None:
    """With the hash by which two persons lift it."""
    log = RiskLog(LIMITS)
    log.trade("buy", "100", "100")
    log.mark("BTC-PERP", "94")
    (latch,) = [one for one in log.outputs if one.kind == "halt"]
    row = state(log)[f"{SLOT}/latch/{GROUP}|group:{GROUP}|daily_loss"]
    assert (row["scope"], row["code"], row["mode"]) == (f"group:{GROUP}", "daily_loss", "reducing")
    assert (row["risk_value"], row["risk_limit"]) == ("-600", "-500")
    assert row["record_hash"] == sha256(latch.data)
    assert row["since"].startswith("2026-12-01T00:00:")
    assert row["until"] == "2026-12-02T00:00:00.000000Z"
    log.both("HaltLifted", scope="group", id=GROUP, halt_hash=row["record_hash"])
    assert row["entry"] not in state(log)


def test_near_limit_is_there_until_it_is_below_70_percent() -> None:
    """With value and limit of the crossing."""
    log = RiskLog(LIMITS)
    log.trade("buy", "100", "100")
    log.mark("BTC-PERP", "96")
    entry = f"{SLOT}/raised/group:{GROUP}|daily_loss"
    row = state(log)[entry]
    assert (row["kind"], row["code"]) == ("near_limit", "daily_loss")
    assert (row["risk_value"], row["risk_limit"]) == ("400", "500")
    log.mark("BTC-PERP", "100")
    log.order("buy", "1")  # what was forgotten is told with the next record
    assert entry not in state(log)


def test_figures_are_those_of_the_last_decision() -> None:
    """Of the account, and of its group."""
    log = RiskLog(LIMITS)
    log.order("buy", "1")
    log.event("acc_1", "CashDeposited", amount="5000", currency="USDT")
    log.order("buy", "1")
    rows = state(log)
    assert rows[f"{SLOT}/figures/account:acc_1"]["figures"]["equity"] == "15000"
    assert rows[f"{SLOT}/figures/group:{GROUP}"]["figures"]["equity"] == "15000"


def test_account_that_left_leaves_nothing_behind() -> None:
    """Its latches and figures are those of the slot that takes it, once that has told them."""
    log = RiskLog(LIMITS, accounts=("acc_1", "acc_2"))
    log.limits({"daily_loss": "0.05"}, "account", "acc_1")
    log.trade("buy", "100", "100")
    log.mark("BTC-PERP", "94")
    log.order("buy", "1")
    own = [row for row in state(log).values() if row["scope"] == "account:acc_1"]
    assert {row["kind"] for row in own} == {"latch", "near_limit", "figures"}
    log.both("GroupDefined", group="other", members=["acc_1"], currency="USDT")
    slots = [(json.loads(one.data)["payload"]["slot"], one) for one in log.outputs]
    log.outputs = [one for slot, one in slots if slot == log.slot.number]
    assert not [row for row in state(log).values() if row["scope"] == "account:acc_1"]


def test_latch_that_came_with_an_account_keeps_its_hash() -> None:
    """No record of the new slot sets it; the memory that it tells names the one that did."""
    log = RiskLog(LIMITS)
    log.trade("buy", "100", "100")
    log.mark("BTC-PERP", "94")
    latches = memory_of(stored(log.outputs))["latch"]
    log.order("buy", "1")
    event = json.loads(log.outputs[-1].data)
    event["payload"]["path"] = {f"latch/{key}": latch for key, latch in latches.items()}
    subject = f"risk.decision.{SLOT}.acc_1"
    moved = updates_of_record(subject, 9, json.dumps(event).encode())
    (latch,) = [row for row in rows_of(moved)["risk_state"] if row["kind"] == "latch"]
    assert latch["record_hash"] == latches[f"{GROUP}|group:{GROUP}|daily_loss"]["hash"]
    assert latch["since"].startswith("2026-12-01T00:00:")


def test_views_remember_what_the_records_do() -> None:
    """After every record of a day the same latches and near limits as the engine's memory."""
    records = stored(traded(2).outputs)
    for end in range(1, len(records) + 1):
        assert_remembered(records[:end])


# --- the rulebook ---------------------------------------------------------------------------------


def test_versions_of_limits_say_what_became_of_them() -> None:
    """Tightening at once, looser by two, superseded, withdrawn, revoked by two."""
    rules = Rules()
    rules.propose(ADA, {"leverage": "3"})
    rules.propose(ADA, {"leverage": "5"})
    proposal = rules.propose(ADA, {"leverage": "6"})
    rules.approve(BOB, proposal)
    withdrawn = rules.propose(ADA, {"leverage": "7"})
    rules.say(ADA, "LimitsRevoked", scope="group", id="desk", proposal_hash=withdrawn.hash)
    rules.propose(EVE, {"leverage": "1"})  # refused: no key
    rows = said(rules)["risk_limits"]
    assert [(row["version"], row["status"]) for row in rows] == [
        (1, "agreed"), (2, "superseded"), (3, "agreed"), (4, "withdrawn"),
    ]  # fmt: skip
    assert [row["approved_by"] for row in rows] == [None, None, "bob", None]
    assert [row["limits"]["leverage"] for row in rows] == ["3", "5", "6", "7"]
    assert rows[2]["proposal_hash"] == proposal.hash
    assert rows[2]["agreed_sequence"] == rows[2]["rulebook_sequence"]
    rules.both("LimitsRevoked", scope="group", id="desk")
    assert {row["status"] for row in said(rules)["risk_limits"]} == {
        "superseded", "revoked", "withdrawn",
    }  # fmt: skip


def test_halts_say_who_set_them_and_whose_word_lifted_them() -> None:
    """The first of the two who lift is a word that waits."""
    rules = Rules()
    halt = rules.say(ADA, "HaltSet", scope="firm", id="firm", mode="halted", why="fat finger")
    rules.say(ADA, "HaltLifted", scope="firm", id="firm", halt_hash=halt.hash)
    (row,) = said(rules)["risk_halts"]
    assert (row["scope"], row["set_by"], row["set_because"]) == ("firm", "ada", "fat finger")
    assert row["lifted_sequence"] is None
    rules.say(BOB, "HaltLifted", scope="firm", id="firm", halt_hash=halt.hash)
    (row,) = said(rules)["risk_halts"]
    assert (row["lifted_by"], row["lifted_sequence"]) == ("bob", len(rules.log))


def test_hole_in_the_rulebook_stops_the_view() -> None:
    """Nothing that was folded over it could be trusted."""
    entries = RulebookEntries(made_signature)
    with pytest.raises(LogDamagedError, match="message 1 is missing"):
        entries.take(Stored(sequence=2, time=0, subject="rulebook.firm.firm", data=b"{}"))


def test_message_that_is_hidden_is_noticed() -> None:
    """A batch that leaves one out is read again, not written."""
    require_contiguous(RISK_RECORDS, 4, [message(5), message(6)])
    require_contiguous(RISK_RECORDS, 4, [])
    for hidden in ([message(6)], [message(5), message(7)]):
        with pytest.raises(TransientError, match="and not"):
            require_contiguous(RISK_RECORDS, 4, hidden)


def message(sequence: int) -> StoredMessage:
    return StoredMessage(subject="risk.owner.1.record", sequence=sequence, time_ns=0, data=b"")


def test_entries_are_canonical() -> None:
    """The same records give the same bytes: a rebuild compares them."""
    records = stored(traded().outputs)
    first = [(one.kind, one.data) for one in updates(records)]
    assert first == [(one.kind, one.data) for one in updates(records)]
    assert all(msgspec.json.decode(data)["timestamp"] for _, data in first)
