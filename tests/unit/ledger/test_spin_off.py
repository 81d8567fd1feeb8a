"""SpinOff."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.support.domain import given
from tests.support.events import Sent, deposit, event, instrument, mark, opened, trade
from tests.unit.ledger.actions import act, cost_less_realized, costs, holder, share


def _left(size: str, cash: str) -> dict[str, str]:
    return {"quantity_after": size, "cash_in_lieu": cash}


def spin(number: int = 4, **terms: Any) -> Sent:
    """Return one new share for each four old ones, with a fifth of the cost."""
    named = {"symbol": "OLD", "new_symbol": "CHILD", "numerator": "1", "denominator": "4"}
    if "cost" not in terms:
        named["cost_share"] = "0.2"
    return act("SpinOff", number, **{**named, **terms})


def test_spin_off_is_booked() -> None:
    """A part of the cost goes with the new units; nothing is realized, equity stays."""
    log = holder("10", "100")
    seen = log.when(spin())
    assert seen.outcome == "applied"
    assert costs(log) == {"CHILD": ("2.5", "200"), "OLD": ("10", "800")}
    state = log.state()
    assert (state["realized_pnl"], state["equity"], state["open_positions"]) == ("0", "10000", 2)
    assert (log.position("CHILD")["kind"], log.position("CHILD")["mark_price"]) == ("equity", "80")
    changes = {p["symbol"]: p["change"] for p in seen.payloads("PositionUpdated")}
    assert changes == {"CHILD": "opened", "OLD": "adjusted"}


@pytest.mark.parametrize(
    ("field", "terms"),
    [
        ("payload.numerator", {"numerator": "0"}),
        ("payload.cost_share", {"cost_share": "1.01"}),
        ("payload.cost", {"cost": "1", "cost_share": "0.1"}),
        ("payload.cost", {"cost_share": None}),
        ("payload.quantity_after", {"cash_in_lieu": "1"}),
        ("payload.new_symbol", {"new_symbol": "OLD"}),
        ("payload.quantity_after", {"quantity_after": "-1"}),
    ],
)
def test_spin_off_with_a_bad_payload_is_refused(field: str, terms: dict[str, Any]) -> None:
    """It keeps its place, changes nothing, and names the field."""
    log = holder("10", "100")
    seen = log.when(spin(**terms))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == field
    assert costs(log) == {"OLD": ("10", "1000")}


def test_spin_off_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing, its number is taken, its reference is known."""
    log = holder("10", "100")
    again = spin(reference="s")
    log.when(again)
    before = log.hashes()
    assert log.when(again).outcome == "duplicate"
    assert log.hashes() == before
    assert log.when(spin(4, cost="1")).outcome == "conflict"
    assert log.when(spin(5, reference="s")).reason == "duplicate_reference"


@pytest.mark.parametrize(
    ("side", "terms", "child", "old_cost", "realized", "cash"),
    [
        # 2.5 units with a cost of 200; the venue gives 2 and pays for the half, whose cost is 40.
        ("buy", {"quantity_after": "2", "cash_in_lieu": "45"}, ("2", "160"), "800", "5", "9045"),
        ("buy", {"quantity_after": "2", "cash_in_lieu": "0"}, ("2", "160"), "800", "-40", "9000"),
        ("buy", {"quantity_after": "2"}, ("2", "200"), "800", "0", "9000"),
        ("buy", {"quantity_after": "3", "cash_in_lieu": "-9"}, ("3", "200"), "800", "-9", "8991"),
        ("buy", {"quantity_after": "0", "cash_in_lieu": "210"}, None, "800", "10", "9210"),
        ("buy", {"quantity_after": "0"}, None, "800", "-200", "9000"),
        ("buy", {"cost": "300"}, ("2.5", "300"), "700", "0", "9000"),
        ("buy", {"cost": "0"}, ("2.5", "0"), "1000", "0", "9000"),
        ("buy", {"cost": "1200"}, ("2.5", "1000"), "0", "0", "9000"),
        ("sell", {}, ("-2.5", "200"), "800", "0", "11000"),
        ("sell", _left("2", "-45"), ("-2", "160"), "800", "-5", "10955"),
        ("sell", {"quantity_after": "0"}, None, "800", "200", "11000"),
    ],
)  # fmt: skip
def test_fraction_and_cost(
    side: str,
    terms: dict[str, Any],
    child: tuple[str, str] | None,
    old_cost: str,
    realized: str,
    cash: str,
) -> None:
    """Shorts mirrored; cost less realized PnL moves by the cash alone."""
    log = holder("10", "100", side=side)
    before = cost_less_realized(log)
    assert log.when(spin(**terms)).outcome == "applied"
    held = costs(log)
    assert held.pop("OLD")[1] == old_cost
    assert held == ({} if child is None else {"CHILD": child})
    assert (log.state()["realized_pnl"], log.state()["cash"]["USD"]) == (realized, cash)
    paid = log.account().ledger.cash["USD"] - (9000 if side == "buy" else 11000)
    assert cost_less_realized(log) == before - paid


def test_into_a_short_of_the_child() -> None:
    """Units that come cover it at the cost that they bring."""
    log = holder("10", "100")
    log.when(share("CHILD"), trade(4, "sell", "2", "90", "CHILD"), spin(5))
    # 2.5 for 200: 2 cover what was sold for 180 at a cost of 160, 0.5 are left for 40.
    assert costs(log) == {"CHILD": ("0.5", "40"), "OLD": ("10", "800")}
    assert log.state()["realized_pnl"] == "20"
    assert log.position("CHILD")["cycle"] == 2


def test_flat_account_is_paid_a_dividend() -> None:
    """What it no longer holds has no cost."""
    log = given(share("OLD"), opened(1, currency="USD"), deposit(2, "10"))
    log.when(spin(3, quantity_after="0", cash_in_lieu="4"))
    assert (log.state()["cash"], log.state()["dividends"]) == ({"USD": "14"}, "4")
    assert log.state()["positions"] == {}


def test_contract_has_no_capital_and_other_kinds_conflict() -> None:
    """A perpetual spins nothing off, and a share no future."""
    log = given(opened(1), deposit(2), trade(3, "buy", "1", "10", "OLD"))
    assert log.when(spin()).reason == "invalid_payload"
    shares = holder("10", "100")
    shares.when(instrument(1, "CHILD", kind="linear_future", quote="USD", settle="USD"))
    assert shares.when(spin()).reason == "instrument_conflict"


def test_marks_value_parent_and_child() -> None:
    """Until the child has a mark it is worth its cost; the parent keeps its mark."""
    log = holder("10", "100")
    log.when(mark(1, "120", "OLD"), spin(), mark(2, "95", "OLD"), mark(1, "90", "CHILD"))
    assert log.state()["equity"] == "10175"  # 9000 + 950 + 225


def test_child_under_an_old_alias_is_another_thing() -> None:
    """The name that the parent had is free again."""
    log = holder("10", "100", "CHILD")
    log.when(act("SymbolChanged", 4, symbol="CHILD", new_symbol="OLD"), spin(5))
    assert costs(log) == {"CHILD": ("2.5", "200"), "OLD": ("10", "800")}
    log.when(trade(6, "sell", "0.5", "80", "CHILD"))
    assert costs(log) == {"CHILD": ("2", "160"), "OLD": ("10", "800")}


def test_reversed_spin_off_never_happened() -> None:
    """Parent and child are as without it; what was sold of the child is a short."""
    log = holder("10", "100")
    sent = spin()
    log.when(sent, trade(5, "sell", "1", "90", "CHILD"))
    wrong = msgspec.json.decode(sent.data)["event_id"]
    said = {"event_id": wrong, "reason": "wrong account", "actor": "ann"}
    assert log.when(event("EventReversed", said, 6)).outcome == "applied"
    assert costs(log) == {"CHILD": ("-1", "90"), "OLD": ("10", "1000")}
