"""AccountOpened."""

from __future__ import annotations

from tests.support.questions import Question

ASK = Question(
    "AccountOpened",
    {"currency": "EUR", "leverage_limit": "3"},
    wrong={"currency": ""},
    before=(),
)


def test_account_opened_is_booked() -> None:
    """It has a currency and a limit from here on, and nothing else."""
    state = ASK.booked().state()
    assert (state["currency"], state["cash"], state["equity"]) == ("EUR", {}, "0")
    assert state["leverage_limit"] == "3"


def test_account_opened_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_account_opened_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
