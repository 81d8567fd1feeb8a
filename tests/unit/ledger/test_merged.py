"""Merged."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.support.domain import given
from tests.support.events import Sent, deposit, event, instrument, mark, opened, trade
from tests.unit.ledger.actions import act, cost_less_realized, costs, holder, share

STOCK: dict[str, Any] = {"new_symbol": "BIG", "numerator": "1", "denominator": "4"}


def _up(size: str, cash: str) -> dict[str, str]:
    return {"quantity_after": size, "cash_in_lieu": cash}


def merge(number: int = 4, **terms: Any) -> Sent:
    return act("Merged", number, symbol="OLD", **terms)


def test_merged_is_booked() -> None:
    """Units for units: the cost goes over, nothing is realized, equity stays."""
    log = holder("10", "100")
    seen = log.when(merge(**STOCK))
    assert seen.outcome == "applied"
    assert costs(log) == {"BIG": ("2.5", "1000")}
    state = log.state()
    assert (state["realized_pnl"], state["equity"], state["open_positions"]) == ("0", "10000", 1)
    assert (log.position("BIG")["kind"], log.position("BIG")["mark_price"]) == ("equity", "400")
    changes = {p["symbol"]: p["change"] for p in seen.payloads("PositionUpdated")}
    assert changes == {"BIG": "opened", "OLD": "closed"}


@pytest.mark.parametrize(
    ("field", "terms"),
    [
        ("payload.new_symbol", {"new_symbol": "BIG"}),
        ("payload.new_symbol", {"numerator": "1", "denominator": "2"}),
        ("payload.new_symbol", {**STOCK, "new_symbol": "OLD"}),
        ("payload.denominator", {**STOCK, "denominator": "0"}),
        ("payload.quantity_after", {**STOCK, "cash_in_lieu": "1"}),
        ("payload.cash", {"cash": "much"}),
    ],
)
def test_merged_with_a_bad_payload_is_refused(field: str, terms: dict[str, Any]) -> None:
    """It keeps its place, changes nothing, and names the field."""
    log = holder("10", "100")
    seen = log.when(merge(**terms))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == field
    assert costs(log) == {"OLD": ("10", "1000")}


def test_merged_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing, its number is taken, its reference is known."""
    log = holder("10", "100")
    again = merge(cash="1100", reference="m")
    log.when(again)
    before = log.hashes()
    assert log.when(again).outcome == "duplicate"
    assert log.hashes() == before
    assert log.when(merge(4, cash="1")).outcome == "conflict"
    assert log.when(merge(5, cash="1100", reference="m")).reason == "duplicate_reference"


@pytest.mark.parametrize(
    ("side", "terms", "big", "realized", "cash"),
    [
        ("buy", {"cash": "1200"}, None, "200", "10200"),
        ("buy", {"cash": "700"}, None, "-300", "9700"),
        ("buy", {}, None, "-1000", "9000"),
        ("buy", {**STOCK, "cash": "300"}, ("2.5", "700"), "0", "9300"),
        ("buy", {**STOCK, "cash": "1300"}, ("2.5", "0"), "300", "10300"),
        ("buy", {**STOCK, "cash": "-50"}, ("2.5", "1050"), "0", "8950"),
        # 700 of cost for 2.5 units; 2 came, and 145 for the half, whose cost is 140.
        (
            "buy",
            {**STOCK, "cash": "300", "quantity_after": "2", "cash_in_lieu": "145"},
            ("2", "560"),
            "5",
            "9445",
        ),
        ("buy", {**STOCK, "quantity_after": "3"}, ("3", "1000"), "0", "9000"),
        ("buy", {**STOCK, **_up("3", "-20")}, ("3", "1000"), "-20", "8980"),
        ("buy", {**STOCK, "quantity_after": "0", "cash": "300"}, None, "-700", "9300"),
        ("sell", {"cash": "-1200"}, None, "-200", "9800"),
        ("sell", {**STOCK}, ("-2.5", "1000"), "0", "11000"),
        ("sell", {**STOCK, "cash": "-300"}, ("-2.5", "700"), "0", "10700"),
        ("sell", {**STOCK, "cash": "-1300"}, ("-2.5", "0"), "-300", "9700"),
        (
            "sell",
            {**STOCK, "quantity_after": "2", "cash_in_lieu": "-190"},
            ("-2", "800"),
            "10",
            "10810",
        ),
    ],
)  # fmt: skip
def test_cash_units_and_fractions(
    side: str, terms: dict[str, Any], big: tuple[str, str] | None, realized: str, cash: str
) -> None:
    """Cash lowers the cost to zero and the rest is realized; shorts mirrored; all conserved."""
    log = holder("10", "100", side=side)
    before = cost_less_realized(log)
    assert log.when(merge(**terms)).outcome == "applied"
    assert costs(log) == ({} if big is None else {"BIG": big})
    assert (log.state()["realized_pnl"], log.state()["cash"]["USD"]) == (realized, cash)
    paid = log.account().ledger.cash["USD"] - (9000 if side == "buy" else 11000)
    assert cost_less_realized(log) == before - paid
    assert log.position("OLD")["side"] == "flat"


def test_into_what_is_held_already() -> None:
    """The same side adds up, the other side is covered at the cost that comes."""
    log = holder("10", "100")
    log.when(share("BIG"), trade(4, "buy", "1", "500", "BIG"), merge(5, **STOCK))
    assert costs(log) == {"BIG": ("3.5", "1500")}
    short = holder("10", "100")
    short.when(share("BIG"), trade(4, "sell", "5", "500", "BIG"))
    before = cost_less_realized(short)
    short.when(merge(5, **STOCK))
    # 2.5 that cost 1000 cover half of what was sold for 2500.
    assert costs(short) == {"BIG": ("-2.5", "1250")}
    assert (short.state()["realized_pnl"], cost_less_realized(short)) == ("250", before)


def test_cash_in_another_currency_leaves_the_cost() -> None:
    """Euro without a rate count nothing, so the cost is realized; with one they lower it."""
    log = holder("10", "100")
    log.when(merge(cash="900", currency="EUR"))
    ledger = log.account().ledger
    assert (ledger.cash["EUR"], ledger.total("realized_pnl")) == (Decimal(900), Decimal(-1000))
    rated = holder("10", "100")
    rated.when(merge(cash="900", currency="EUR", rates={"EUR": "1.2"}))
    assert rated.account().ledger.total("realized_pnl") == Decimal(80)


def test_flat_account_is_paid_a_dividend() -> None:
    """What it no longer holds has no cost."""
    log = given(share("OLD"), opened(1, currency="USD"), deposit(2, "10"))
    log.when(merge(3, cash="4"))
    assert (log.state()["cash"], log.state()["dividends"]) == ({"USD": "14"}, "4")
    log.when(merge(4, **STOCK, quantity_after="0", cash_in_lieu="1"))
    assert log.state()["dividends"] == "5"


def test_contract_is_not_merged() -> None:
    """A contract has no capital that could go over."""
    log = given(opened(1), deposit(2), trade(3, "buy", "1", "10", "OLD"))
    assert log.when(merge(cash="5")).reason == "invalid_payload"


def test_new_symbol_has_a_value_before_its_mark() -> None:
    """What the old units were worth less what was paid, by the account's own last price."""
    log = holder("10", "100")
    log.when(mark(1, "120", "OLD"), merge(**STOCK, cash="300"))
    assert (log.position("BIG")["mark_price"], log.state()["equity"]) == ("280", "10000")
    log.when(mark(1, "360", "BIG"))
    assert log.state()["equity"] == "10200"


def test_bust_with_a_merger_between_is_the_log_without_the_fill() -> None:
    """What was bought for less goes over for less."""
    log, plain = holder("10", "100"), holder("10", "100")
    wrong = trade(4, "buy", "2", "50", "OLD", fill_id="f4")
    terms = {**STOCK, "cash": "300", "quantity_after": "2", "cash_in_lieu": "145"}
    log.when(wrong, merge(5, **terms))
    log.when(event("TradeBusted", {"fill_id": "f4", "reason": "error"}, 6))
    plain.when(act("FeeCharged", 4, amount="0"), merge(5, **terms))
    assert costs(log) == costs(plain) == {"BIG": ("2", "560")}
    assert log.state()["cash"] == plain.state()["cash"]
    assert log.position("BIG")["mark_price"] == plain.position("BIG")["mark_price"]


def test_stated_size_that_no_longer_fits_is_void_in_a_correction() -> None:
    """20 shares made 5; of the 10 that are left after the bust 2.5 came, not 5."""
    log = holder("10", "100")
    log.when(
        trade(4, "buy", "10", "100", "OLD", fill_id="f4"), merge(5, **STOCK, quantity_after="5")
    )
    seen = log.when(event("TradeBusted", {"fill_id": "f4", "reason": "error"}, 6))
    assert seen.payload("StateUpdated")["flags"] == ["void_in_correction"]
    assert costs(log) == {"BIG": ("2.5", "1000")}
    again = log.when(event("TradeBusted", {"fill_id": "f3", "reason": "error"}, 7))
    assert (again.outcome, costs(log)) == ("applied", {})


def test_stated_size_that_never_fitted_is_believed_until_a_correction() -> None:
    """The venue's fact is booked as it came, also after a correction of what came before it."""
    log = holder("10", "100")
    log.when(trade(4, "buy", "1", "100", "X", fill_id="f4"))
    log.when(event("TradeBusted", {"fill_id": "f4", "reason": "error"}, 5))
    log.when(merge(6, **STOCK, quantity_after="7"))
    assert costs(log) == {"BIG": ("7", "1000")}
    log.when(trade(7, "buy", "1", "100", "X", fill_id="f7"))
    seen = log.when(event("TradeBusted", {"fill_id": "f7", "reason": "error"}, 8))
    assert (seen.outcome, costs(log)) == ("applied", {"BIG": ("2.5", "1000")})


def test_reversed_merger_never_happened() -> None:
    """The old units are held again."""
    log = holder("10", "100")
    sent = merge(**STOCK)
    log.when(sent)
    wrong = msgspec.json.decode(sent.data)["event_id"]
    said = {"event_id": wrong, "reason": "called off", "actor": "ann"}
    assert log.when(event("EventReversed", said, 5)).outcome == "applied"
    assert costs(log) == {"OLD": ("10", "1000")}


def test_cost_in_the_account_currency_goes_with_the_units() -> None:
    """Shares in euro of a dollar account: both costs go over, and both are conserved."""
    euro = {"quote": "EUR", "settle": "EUR"}
    log = given(share("OLD", **euro), opened(1, currency="USD"), deposit(2, "10000"))
    bought = {"symbol": "OLD", "side": "buy", "quantity": "10", "price": "100"}
    log.when(act("TradeExecuted", 3, **bought, rates={"EUR": "1.1"}))
    log.when(act("SpinOff", 4, symbol="OLD", cost_share="0.25", **{**STOCK, "new_symbol": "KID"}))
    log.when(merge(5, **STOCK, cash="150", rates={"EUR": "1.2"}))
    held = log.account().ledger.positions
    assert costs(log) == {"BIG": ("2.5", "600"), "KID": ("2.5", "250")}
    # 1100 dollars: 275 went with the child; 180 of 825 were paid back.
    assert held["KID"].home_cost.amount == 275
    assert held["BIG"].home_cost.amount == 645
    # The 150 euro covered a part of what was owed: 180 dollars for what had brought 165.
    assert log.account().ledger.total("realized_pnl") == -15


def test_a_symbol_that_reads_like_a_leg_is_its_own() -> None:
    """What comes is a position of that name; the leg of another symbol stays as it is."""
    leg = {"symbol": "X", "side": "buy", "quantity": "2", "price": "7", "position_side": "long"}
    log = holder("10", "100")
    log.when(
        instrument(1, "X", quote="USD", settle="USD"),
        event("PositionModeChanged", {"mode": "hedge"}, 4),
        event("TradeExecuted", leg, 5),
    )
    assert log.when(merge(6, **{**STOCK, "new_symbol": "X#long"})).outcome == "applied"
    assert costs(log) == {"X#long": ("2", "14"), "X#long#net": ("2.5", "1000")}
    assert log.state()["equity"] == "10000"
