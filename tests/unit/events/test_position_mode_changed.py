"""PositionModeChanged."""

from __future__ import annotations

from tests.support.events import event
from tests.support.questions import Question

ASK = Question(
    "PositionModeChanged",
    {"mode": "hedge", "symbol": "BTC-PERP"},
    wrong={"mode": "both"},
)


def test_position_mode_changed_is_booked() -> None:
    """From here on a fill books into the leg it names."""
    log = ASK.booked()
    fill = {"symbol": "BTC-PERP", "side": "sell", "quantity": "1", "price": "9"}
    log.when(event("TradeExecuted", {**fill, "position_side": "short"}, 4))
    assert log.position("BTC-PERP#short")["size"] == "1"
    assert [*log.state()["positions"]] == ["BTC-PERP#short"]


def test_position_mode_changed_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_position_mode_changed_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
