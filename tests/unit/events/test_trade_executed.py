"""TradeExecuted."""

from __future__ import annotations

from tests.support.events import trade
from tests.support.questions import FUNDED, Question

ASK = Question(
    "TradeExecuted",
    {
        "symbol": "BTC-PERP",
        "side": "sell",
        "quantity": "1",
        "price": "130",
        "commission": "0.5",
        "fill_id": "f4",
    },
    wrong={"price": "many"},
    before=(*FUNDED, trade(3, "buy", "2", "100", fill_id="f3")),
)


def test_trade_executed_is_booked() -> None:
    """Half of the position is closed: 30 are gained, the entry stays."""
    log = ASK.booked()
    held = log.position()
    assert (held["size"], held["entry_price"], held["realized_pnl"]) == ("1", "100", "30")
    assert (log.state()["cash"], log.state()["fees"]) == ({"USDT": "1029.5"}, "0.5")


def test_trade_executed_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_trade_executed_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
