"""PositionTransferredIn."""

from __future__ import annotations

from tests.support.events import instrument, trade
from tests.support.questions import FUNDED, Question

ASK = Question(
    "PositionTransferredIn",
    {"symbol": "ABC", "quantity": "10", "cost": "250", "transfer_id": "t"},
    wrong={"quantity": "0"},
    before=(
        instrument(1, "ABC", kind="equity", base="ABC"),
        *FUNDED,
        trade(3, "buy", "10", "20", "ABC", fill_id="f3"),
    ),
)


def test_position_transferred_in_is_booked() -> None:
    """Shares come with their cost; (200 + 250) / 20 is what each cost."""
    log = ASK.booked()
    held = log.position("ABC")
    assert (held["size"], held["entry_price"]) == ("20", "22.5")
    assert (log.state()["transfers"], log.state()["cash"]) == ("250", {"USDT": "800"})


def test_position_transferred_in_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_position_transferred_in_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
