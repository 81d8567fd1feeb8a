"""CashWithdrawn."""

from __future__ import annotations

from tests.support.questions import Question

ASK = Question(
    "CashWithdrawn",
    {"amount": "400"},
    wrong={"amount": "-1"},
)


def test_cash_withdrawn_is_booked() -> None:
    """Cash falls, as a flow: no loss, and no drawdown."""
    state = ASK.booked().state()
    assert (state["cash"], state["withdrawals"]) == ({"USDT": "600"}, "400")
    assert (state["flows"], state["nav"], state["drawdown"]) == ("600", "1", "0")


def test_cash_withdrawn_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_cash_withdrawn_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
