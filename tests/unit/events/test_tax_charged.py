"""TaxCharged."""

from __future__ import annotations

from tests.support.questions import Question

ASK = Question(
    "TaxCharged",
    {"amount": "30", "kind": "stamp"},
    wrong={"kind": ""},
)


def test_tax_charged_is_booked() -> None:
    """A tax is no fee, and no flow: it is performance."""
    state = ASK.booked().state()
    assert (state["cash"], state["taxes"]) == ({"USDT": "970"}, "30")
    assert (state["fees"], state["flows"], state["nav"]) == ("0", "1000", "0.97")


def test_tax_charged_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_tax_charged_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
