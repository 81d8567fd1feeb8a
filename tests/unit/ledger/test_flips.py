"""A flip closes what was opened, and opens by the definition there is by then."""

from __future__ import annotations

from tests.support.domain import given
from tests.support.events import deposit, event, instrument, mark, trade

TIERS = [{"notional_floor": "0", "maintenance_rate": "0.1"}]
OTHER = [{"notional_floor": "0", "maintenance_rate": "0.2"}]


def test_flip_takes_up_a_definition_that_came_meanwhile() -> None:
    """Opened as linear by default, closed so; the new leg is inverse and settles in its coin."""
    log = given(
        deposit(1),
        trade(2, "buy", "2", "100"),
        instrument(kind="inverse_perp", quote="USD", settle="BTC", multiplier="10"),
    )
    seen = log.when(trade(3, "sell", "5", "110", commission="0.5", commission_currency="USDT"))
    closed, opened = seen.payloads("PositionUpdated")
    assert (closed["change"], closed["realized_pnl"]) == ("closed", "20")
    assert (opened["change"], opened["size"], opened["entry_price"]) == ("opened", "3", "110")
    position = log.account().ledger.positions["BTC-PERP"]
    assert (position.instrument.kind, position.instrument.settle) == ("inverse_perp", "BTC")
    assert "instrument_undefined" not in log.state()["flags"]
    assert log.state()["cash"]["USDT"] == "1019.5"  # the fee is paid once, in parts
    log.when(deposit(4), trade(5, "buy", "3", "110"))
    assert log.state()["open_positions"] == 0


def test_flip_pays_for_the_leg_that_is_fully_paid() -> None:
    """The new leg is of an equity: it costs its notional; the closed one moved its gain only."""
    log = given(
        deposit(1),
        trade(2, "sell", "2", "100"),
        instrument(kind="equity", quote="USDT", settle="USDT"),
    )
    log.when(trade(3, "buy", "5", "90"))
    assert log.state()["cash"] == {"USDT": "750"}  # 1000 + 2 x 10 - 3 x 90


def test_flip_takes_up_the_current_margin_tiers() -> None:
    """An open position keeps the tiers it opened with; the other side has today's."""
    log = given(
        instrument(1, margin_tiers=TIERS),
        deposit(1),
        trade(2, "buy", "1", "100"),
        instrument(2, margin_tiers=OTHER),
        mark(1, "100"),
        trade(3, "buy", "1", "100"),
    )
    assert log.state()["margin_maintenance"] == "20"
    log.when(trade(4, "sell", "4", "100"))
    assert log.state()["margin_maintenance"] == "40"


def test_corrections_know_both_definitions() -> None:
    """A bust of the flip brings back the leg as it was opened; an amendment flips again."""
    log = given(
        deposit(1),
        trade(2, "buy", "2", "100", fill_id="open"),
        instrument(kind="inverse_perp", quote="USD", settle="BTC"),
        trade(3, "sell", "5", "110", fill_id="flip"),
    )
    amended = {"fill_id": "flip", "quantity": "4", "reason": "venue"}
    log.when(event("TradeAmended", amended, 4))
    position = log.account().ledger.positions["BTC-PERP"]
    assert (str(position.size), position.instrument.kind) == ("-2", "inverse_perp")
    log.when(event("TradeBusted", {"fill_id": "flip", "reason": "venue"}, 5))
    position = log.account().ledger.positions["BTC-PERP"]
    assert (str(position.size), position.instrument.kind) == ("2", "linear_perp")
    assert {c: amount for c, amount in log.state()["cash"].items() if amount != "0"} == {
        "USDT": "1000"
    }
    log.when(trade(6, "sell", "2", "105"))
    assert log.state()["open_positions"] == 0
