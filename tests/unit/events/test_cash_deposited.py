"""CashDeposited."""

from __future__ import annotations

from tests.support.questions import Question

ASK = Question(
    "CashDeposited",
    {"amount": "250.5", "reference": "r"},
    wrong={"amount": "0"},
)


def test_cash_deposited_is_booked() -> None:
    """Cash rises, as a flow: neither gain nor drawdown."""
    state = ASK.booked().state()
    assert (state["cash"], state["deposits"]) == ({"USDT": "1250.5"}, "1250.5")
    assert (state["nav"], state["realized_pnl"], state["drawdown"]) == ("1", "0", "0")


def test_cash_deposited_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_cash_deposited_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
