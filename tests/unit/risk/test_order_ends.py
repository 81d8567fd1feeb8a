"""What the venue says of orders: those that ended are reserved no longer, what filled counts on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.risk_log import ACCOUNT, RiskLog, payload_of

from psm.risk.engine import Slot
from psm.risk.engine.proof_records import Deviation
from psm.workers.proof.risk.offline import RecordedRisk, prove_lines

LIMIT = {"type": "limit", "price": "100"}


def reserved() -> tuple[RiskLog, str]:
    """Return a log that may hold 100, with 60 approved and not shown."""
    log = RiskLog({"exposure_symbol": "1"})
    return log, log.order("buy", "60", **LIMIT)["order_id"]


def room(log: RiskLog) -> str:
    """Return how much may be bought yet."""
    found: str = log.order("buy", "100", **LIMIT).get("max_quantity", "0")
    return found


def recorded(log: RiskLog) -> RecordedRisk:
    made = RecordedRisk(1)
    for line in log.lines:
        made.take_line(line)
    return made


def deviations(made: RecordedRisk) -> list[Deviation]:
    return asyncio.run(prove_lines(made, 1)).deviations


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ({"status": "rejected"}, "100"),
        ({"status": "cancelled", "filled_quantity": "0"}, "100"),
        ({"status": "expired", "filled_quantity": "0"}, "100"),
        ({"status": "cancelled", "filled_quantity": "20"}, "80"),
        ({"status": "expired", "filled_quantity": "59.5"}, "40.5"),
        ({"status": "rejected", "filled_quantity": "20"}, "80"),
        ({"status": "filled", "filled_quantity": "60"}, "40"),
        ({"status": "filled", "filled_quantity": "70"}, "40"),
        # How much had filled is not said: all of it may have.
        ({"status": "cancelled"}, "40"),
        ({"status": "filled"}, "40"),
        ({"status": "accepted"}, "40"),
        ({"status": "partially_filled", "filled_quantity": "20"}, "40"),
        # Whose order it was is not said; or it was somebody else's, of the same id.
        ({"status": "rejected", "account_id": None}, "40"),
        ({"status": "rejected", "account_id": "acc_2"}, "40"),
    ],
)
def test_what_ended_counts_no_more_and_what_filled_does(told: dict[str, Any], left: str) -> None:
    log, order_id = reserved()
    assert log.result(order_id, **told) == []
    found = log.order("buy", "100", **LIMIT)
    assert found["approved_quantity" if left == "100" else "max_quantity"] == left
    assert deviations(recorded(log)) == []


def test_what_had_filled_counts_until_psm_shows_it_and_once() -> None:
    """The venue is faster than the log; from then on it is the position that counts."""
    log, order_id = reserved()
    log.result(order_id, "cancelled", filled_quantity="20")
    assert room(log) == "80"
    log.trade("buy", "20", "100", order_id=order_id)
    assert room(log) == "80"
    assert log.slot.reserved_since(ACCOUNT) is None
    assert deviations(recorded(log)) == []


@pytest.mark.parametrize("ends", [True, False])
def test_an_order_that_psm_shows_late_was_approved(ends: bool) -> None:
    """It is nobody's fault that the venue was faster; while PSM shows it open, it counts."""
    log, order_id = reserved()
    log.result(order_id, "cancelled", filled_quantity="0")
    log.shows(order_id, quantity="60")
    assert room(log) == "40"
    if ends:
        log.event(ACCOUNT, "OrderCancelled", order_id=order_id)
        assert log.order("buy", "100", **LIMIT)["decision"] == "approved"
    assert not [o for o in log.outputs if payload_of(o).get("code") == "unapproved_order"]
    assert deviations(recorded(log)) == []


def test_what_never_shows_is_forgotten() -> None:
    """After a quarter of an hour nothing is left of an order that the venue rejected."""
    log, order_id = reserved()
    log.result(order_id, "rejected")
    assert f"{ACCOUNT}/{order_id}".encode() in log.slot.checkpoint()
    log.wait(15 * 60 + 1)
    log.wait(31)
    log.mark("BTC-PERP", "100")
    assert b"closed" not in log.slot.checkpoint()
    assert "alert:reservation_expired" not in [
        f"{o.kind}:{payload_of(o).get('code')}" for o in log.outputs
    ]


def test_which_change_was_rejected_nobody_says() -> None:
    """So the worse of old and new counts on; that the order itself ended counts."""
    log, order_id = reserved()
    log.shows(order_id, quantity="60")
    log.request("replace_request", {"account_id": ACCOUNT, "order_id": order_id, "quantity": "80"})
    log.result(order_id, "rejected")
    assert room(log) == "20"
    log.result(order_id, "cancelled", filled_quantity="0")
    assert room(log) == "40", "PSM still shows it"
    log.event(ACCOUNT, "OrderCancelled", order_id=order_id)
    assert log.order("buy", "100", **LIMIT)["decision"] == "approved"
    assert deviations(recorded(log)) == []


def test_an_end_that_no_record_told_is_taken_again_after_a_crash() -> None:
    """What the last decision saw of ORDERS is where the next owner goes on."""
    log, order_id = reserved()
    memory, told = log.slot.checkpoint(), len(log.outputs)
    log.result(order_id, "rejected")
    lost = Slot.restored(memory)
    for output in log.outputs[told:]:
        lost.take_recorded(output)
    log.restart(lost)
    assert lost.consumed["ORDERS"] == 1
    assert room(log) == "40", "nobody told it again"
    log.result(order_id, "rejected")
    assert log.order("buy", "100", **LIMIT)["decision"] == "approved"


def test_an_end_in_a_checkpoint_is_not_asked_for_again() -> None:
    log, order_id = reserved()
    log.result(order_id, "rejected")
    slot = Slot.restored(log.slot.checkpoint())
    assert slot.consumed["ORDERS"] == 2
    assert slot.state_hash() == log.slot.state_hash()
    log.restart(slot)
    assert log.order("buy", "100", **LIMIT)["decision"] == "approved"


def test_an_end_that_nobody_told_is_found() -> None:
    """A reservation that was forgotten, or made less, without a message of ORDERS that says so."""
    for told in ({"status": "rejected"}, {"status": "cancelled", "filled_quantity": "20"}):
        log, order_id = reserved()
        log.result(order_id, **told)
        room(log)
        made = recorded(log)
        assert deviations(made) == []
        made.results.clear()
        fields = [one.field for one in deviations(made)]
        assert fields
        assert all(one.startswith(f"path.reservation/{ACCOUNT}/{order_id}") for one in fields)


def test_an_end_before_the_approval_is_none() -> None:
    """An order id is free again after its request expired: what was said of the first is over."""
    log = RiskLog({"exposure_symbol": "1"})
    log.result("again", "rejected")
    log.order("buy", "60", order_id="again", **LIMIT)
    assert room(log) == "40"
    made = recorded(log)
    assert deviations(made) == []
