"""PositionTransferredOut."""

from __future__ import annotations

from tests.support.events import instrument, trade
from tests.support.questions import FUNDED, Question

ASK = Question(
    "PositionTransferredOut",
    {"symbol": "ABC", "quantity": "4", "transfer_id": "t"},
    wrong={"transfer_id": ""},
    before=(
        instrument(1, "ABC", kind="equity", base="ABC"),
        *FUNDED,
        trade(3, "buy", "10", "20", "ABC", fill_id="f3"),
    ),
)


def test_position_transferred_out_is_booked() -> None:
    """Shares leave at what they cost; nothing is realized."""
    log = ASK.booked()
    held = log.position("ABC")
    assert (held["size"], held["entry_price"]) == ("6", "20")
    assert (log.state()["transfers"], log.state()["realized_pnl"]) == ("-80", "0")


def test_position_transferred_out_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_position_transferred_out_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
