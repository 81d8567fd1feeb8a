"""`MarginModeChanged` and `MarginTransferred`, and what events do to the wallets of positions."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from tests.support.domain import Log, Seen, given
from tests.support.events import (
    Sent,
    collateral,
    deposit,
    event,
    funding,
    instrument,
    mark,
    opened,
    trade,
    withdrawal,
)

TIERS = [{"notional_floor": "0", "maintenance_rate": "0.01"}]
SYMBOL = "BTC-PERP"


def margin_mode(number: int, mode: str = "isolated", **more: Any) -> Sent:
    return event("MarginModeChanged", {"symbol": SYMBOL, "mode": mode, **more}, number)


def moved(number: int, amount: str, **more: Any) -> Sent:
    return event("MarginTransferred", {"symbol": SYMBOL, "amount": amount, **more}, number)


def fill(number: int, side: str, quantity: str, price: str, **more: Any) -> Sent:
    payload = {"symbol": SYMBOL, "side": side, "quantity": quantity, "price": price, **more}
    return event("TradeExecuted", payload, number)


def isolated(*more: Sent) -> Log:
    """Return an account of 1000 with BTC-PERP isolated at leverage 10."""
    return given(
        instrument(margin_tiers=TIERS), opened(1), deposit(2), margin_mode(3),
        event("LeverageChanged", {"leverage": "10", "symbol": SYMBOL}, 4), *more,
    )  # fmt: skip


def wallet(log: Log) -> str | None:
    """Return the isolated margin as published."""
    found: str | None = log.position()["isolated_margin"]
    return found


def flags(seen: Seen) -> list[str]:
    found: list[str] = seen.payload("StateUpdated")["flags"]
    return found


def test_opening_sets_aside_notional_over_leverage() -> None:
    """Cash and equity are as in cross margin; what is shared is less."""
    log = isolated(fill(5, "buy", "10", "100", commission="2"))
    position, state = log.position(), log.state()
    assert (position["margin_mode"], wallet(log)) == ("isolated", "100")
    assert (state["cash"], state["equity"]) == ({"USDT": "998"}, "998")
    assert (state["margin_initial"], state["margin_maintenance"]) == ("0", "0")
    assert (state["margin_available"], state["withdrawable"]) == ("898", "898")
    log.when(mark(1, "95"))
    assert log.state()["equity"] == "948"
    assert log.state()["withdrawable"] == "898"


def test_reducing_returns_a_share_and_closing_all() -> None:
    """The gain goes to the account, not to the wallet."""
    log = isolated(fill(5, "buy", "10", "100"), fill(6, "sell", "4", "110"))
    assert (wallet(log), log.state()["cash"]["USDT"]) == ("60", "1040")
    log.when(fill(7, "sell", "6", "90"))
    assert (wallet(log), log.state()["cash"]["USDT"]) == ("0", "980")
    assert log.state()["withdrawable"] == "980"


def test_a_flip_returns_all_and_sets_aside_anew() -> None:
    """Both at the price of the fill."""
    log = isolated(fill(5, "buy", "10", "100"), fill(6, "sell", "15", "120"))
    assert (log.position()["side"], wallet(log)) == ("short", "60")


def test_what_the_venue_says_goes_before_the_rule() -> None:
    """`isolated_margin` is signed, of the wallet."""
    log = isolated(fill(5, "buy", "10", "100", isolated_margin="123.4"))
    assert wallet(log) == "123.4"
    log.when(fill(6, "sell", "5", "100", isolated_margin="-23.4"))
    assert wallet(log) == "100"
    said = {"leverage": "20", "symbol": SYMBOL, "isolated_margin": "-50"}
    log.when(event("LeverageChanged", said, 7))
    assert wallet(log) == "50"
    log.when(event("FeeCharged", {"symbol": SYMBOL, "amount": "1", "isolated_margin": "-1"}, 8))
    assert (wallet(log), log.state()["cash"]["USDT"]) == ("49", "999")


def test_funding_moves_the_wallet_and_below_zero_is_published_as_zero() -> None:
    """The wallet is an earmark: cash moves too, and nothing is cut."""
    log = isolated(fill(5, "buy", "10", "100"), funding(6, "-30"))
    assert (wallet(log), log.state()["cash"]["USDT"]) == ("70", "970")
    log.when(funding(7, "-90"))
    assert (wallet(log), log.state()["cash"]["USDT"]) == ("0", "880")
    assert log.account().ledger.wallets.of(SYMBOL) == -20
    log.when(funding(8, "50"))
    assert wallet(log) == "30"


def test_funding_that_says_what_moved_moves_that() -> None:
    """A venue may take it from the account instead."""
    log = isolated(fill(5, "buy", "10", "100"))
    said = {"symbol": SYMBOL, "funding_payment": "-30", "isolated_margin": "0"}
    log.when(event("FundingApplied", said, 6))
    assert (wallet(log), log.state()["cash"]["USDT"]) == ("100", "970")


def test_a_loss_beyond_the_wallet_is_booked_in_full() -> None:
    """Nothing stands between the venue's fact and the books."""
    log = isolated(fill(5, "buy", "10", "100"), fill(6, "sell", "10", "80"))
    assert (wallet(log), log.state()["cash"]["USDT"]) == ("0", "800")


def test_margin_moves_between_wallet_and_account() -> None:
    """Equity stays; what may leave does not."""
    log = isolated(fill(5, "buy", "10", "100"), moved(6, "50"))
    assert (wallet(log), log.state()["equity"], log.state()["withdrawable"]) == (
        "150", "1000", "850",
    )  # fmt: skip
    seen = log.when(moved(7, "-20"))
    assert seen.payload("PositionUpdated")["isolated_margin"] == "130"


def test_prices_of_liquidation_and_bankruptcy_are_the_positions_own() -> None:
    """The wallet alone carries it, however rich the account is."""
    log = isolated(fill(5, "buy", "10", "100"))
    # 100 + 10 (x - 100) = 0.1 x
    assert log.position()["liquidation_price"] == "90.909090909090909091"
    assert log.position()["bankruptcy_price"] == "90"
    log.when(deposit(6, "9000"))
    assert log.position()["liquidation_price"] == "90.909090909090909091"
    log.when(moved(7, "100"))
    assert log.position()["bankruptcy_price"] == "80"
    log.when(fill(8, "sell", "20", "100"))
    # 100 + 10 (100 - x) = 0.1 x
    assert log.position()["liquidation_price"] == "108.910891089108910891"
    assert log.position()["bankruptcy_price"] == "110"


def test_inverse_contracts_have_those_prices_too() -> None:
    """As ccxt's formula: long Q (1 + MMR) / (Q / E + w)."""
    log = given(
        instrument(kind="inverse_perp", quote="USD", settle="BTC", margin_tiers=TIERS),
        opened(1, currency="BTC"), deposit(2, "1"), margin_mode(3),
        fill(4, "buy", "100", "100", isolated_margin="0.25"), mark(1, "100"),
    )  # fmt: skip
    # 100 x 1.01 / (1 + 0.25), 100 / (1 + 0.25)
    assert log.position()["liquidation_price"] == "80.8"
    assert log.position()["bankruptcy_price"] == "80"


def test_a_position_is_warned_of_alone() -> None:
    """With its symbol and side; the account, which has enough, is not."""
    log = isolated(fill(5, "buy", "10", "100"))
    seen = log.when(mark(1, "91.5"))
    (warning,) = seen.payloads("MarginWarning")
    assert (warning["symbol"], warning["position_side"], warning["level"]) == (
        SYMBOL, "net", "0.5",
    )  # fmt: skip
    assert (warning["equity"], warning["margin_maintenance"]) == ("15", "9.15")
    assert warning["margin_ratio"] == "0.61"
    seen = log.when(mark(2, "90"))
    assert [w["level"] for w in seen.payloads("MarginWarning")] == ["1.0"]
    assert "isolated_liquidatable" in log.state()["flags"]
    assert "liquidatable" not in log.state()["flags"]
    assert log.when(mark(3, "90.01")).payloads("MarginWarning") == []
    log.when(mark(4, "100"))
    assert [w["level"] for w in log.when(mark(5, "91.5")).payloads("MarginWarning")] == ["0.5"]


def test_the_account_is_warned_of_what_it_shares_alone() -> None:
    """An isolated loss is no loss of the others' margin."""
    other = [
        instrument(1, "ETH-PERP", base="ETH", margin_tiers=TIERS),
        trade(5, "buy", "100", "10", "ETH-PERP"),
        withdrawal(6, "970"),
    ]
    log = isolated(*other, mark(1, "10", "ETH-PERP"))
    assert log.state()["margin_maintenance"] == "10"
    log.when(fill(7, "buy", "1", "100"))
    assert (log.state()["equity"], log.state()["margin_available"]) == ("30", "0")
    margin = log.when(mark(1, "95")).payloads("MarginUpdated")
    assert all(m["margin_ratio"] == "0.5" for m in margin)
    ratios = {w["margin_ratio"] for w in log.when(mark(2, "92")).payloads("MarginWarning")}
    assert ratios == set()


def test_an_open_position_becomes_isolated_with_its_amount() -> None:
    """And cross again: all of its wallet comes back."""
    log = given(instrument(), opened(1), deposit(2), fill(3, "buy", "1", "100"))
    seen = log.when(margin_mode(4, amount="40"))
    assert "margin_unknown" not in flags(seen)
    assert seen.payload("PositionUpdated")["isolated_margin"] == "40"
    seen = log.when(margin_mode(5, "cross"))
    position = seen.payload("PositionUpdated")
    assert (position["margin_mode"], position["isolated_margin"]) == ("cross", None)
    assert log.account().ledger.wallets.amounts == {}


def test_without_an_amount_nothing_moves_and_it_is_flagged() -> None:
    """Nobody knows what the venue moved."""
    log = given(instrument(), opened(1), deposit(2), fill(3, "buy", "1", "100"))
    seen = log.when(margin_mode(4))
    assert ("margin_unknown" in flags(seen), wallet(log)) == (True, "0")


def test_margin_of_what_has_none_is_ignored_and_flagged() -> None:
    """In cross margin, and of shares."""
    log = given(instrument(), opened(1), deposit(2), fill(3, "buy", "1", "100"))
    assert "not_isolated" in flags(log.when(moved(4, "5")))
    assert "not_isolated" in flags(log.when(fill(5, "buy", "1", "100", isolated_margin="9")))
    assert log.account().ledger.wallets.amounts == {}
    log.when(instrument(1, "AAPL", kind="equity", base="AAPL"))
    said = {"symbol": "AAPL", "mode": "isolated"}
    assert "not_isolated" in flags(log.when(event("MarginModeChanged", said, 6)))
    assert log.state()["withdrawable"] == "800"


def test_legs_have_wallets_of_their_own() -> None:
    """In hedge mode, with the leg in warning and update."""
    log = isolated(
        event("PositionModeChanged", {"mode": "hedge"}, 5),
        fill(6, "buy", "10", "100", position_side="long"),
        fill(7, "sell", "5", "100", position_side="short"),
        moved(8, "7", position_side="short"),
    )
    found = {k: p["isolated_margin"] for k, p in log.state()["positions"].items()}
    assert found == {"BTC-PERP#long": "100", "BTC-PERP#short": "57"}
    (warning,) = log.when(mark(1, "91.5")).payloads("MarginWarning")
    assert warning["position_side"] == "long"
    log.when(margin_mode(9, "cross"))
    assert log.account().ledger.wallets.amounts == {}


@pytest.mark.parametrize("kind", ["expiry", "session"])
def test_a_settlement_returns_all_where_it_closes(kind: str) -> None:
    """A session leaves position and wallet."""
    log = isolated(fill(5, "buy", "10", "100"))
    said = {"symbol": SYMBOL, "settlement_price": "103", "kind": kind}
    log.when(event("PositionSettled", said, 6))
    assert wallet(log) == ("0" if kind == "expiry" else "100")


def test_a_wallet_of_a_foreign_asset_counts_at_its_rate() -> None:
    """What the account shares leaves it out in its own currency."""
    log = given(
        instrument(1, "BTCUSDT", kind="spot"), mark(1, "1000", "BTCUSDT"),
        instrument(kind="inverse_perp", quote="USD", settle="BTC", margin_tiers=TIERS),
        opened(1), deposit(2), deposit(3, "1", currency="BTC"), margin_mode(4),
        fill(5, "buy", "100", "1000", isolated_margin="0.25"), mark(1, "1000"),
    )  # fmt: skip
    state = log.state()
    assert state["equity"] == "2000"
    assert state["margin_available"] == "1750"
    log.when(collateral(1, "BTC", "0.2"))
    assert log.state()["margin_available"] == "1600"


def test_transfers_and_modes_are_refused_and_repeated_as_all_events_are() -> None:
    """The three questions for both types."""
    log = isolated(fill(5, "buy", "10", "100"))
    assert log.when(margin_mode(6, "portfolio")).reason == "invalid_payload"
    assert log.when(moved(7, "x")).reason == "invalid_payload"
    assert log.when(moved(8, "5", reference="m")).outcome == "applied"
    before = log.hashes()
    assert log.when(moved(8, "5", reference="m")).outcome == "duplicate"
    assert log.hashes() == before
    assert log.when(moved(9, "5", reference="m")).reason == "duplicate_reference"
    again = event("MarginModeChanged", {"symbol": SYMBOL, "mode": "cross"}, 8)
    assert log.when(again).outcome == "conflict"
    assert wallet(log) == "105"


def test_a_busted_fill_gives_its_margin_back() -> None:
    """As if it had never been; the wallet is the ledger's, so a correction rebooks it."""
    log = isolated(fill(5, "buy", "10", "100"), fill(6, "buy", "10", "200", fill_id="f"))
    assert wallet(log) == "300"
    seen = log.when(event("TradeBusted", {"fill_id": "f", "reason": "?"}, 7))
    assert seen.payload("PositionUpdated")["isolated_margin"] == "100"


def test_fee_and_funding_before_any_position_move_the_wallet_of_their_symbol() -> None:
    """No position has to be known for its wallet to be."""
    log = given(
        instrument(1),
        opened(1),
        deposit(2),
        event("MarginModeChanged", {"symbol": SYMBOL, "mode": "isolated"}, 3),
    )
    log.when(event("FeeCharged", {"amount": "1", "symbol": SYMBOL, "isolated_margin": "-2"}, 4))
    assert log.account().ledger.wallets.amounts == {SYMBOL: Decimal(-2)}


@pytest.mark.parametrize(
    ("held", "margin", "collateral_"),
    [("1", "0.4", "54"), ("1", "1", "0"), ("0.2", "0.5", "-30"), ("-0.1", "0.5", "-60")],
)
def test_what_is_left_without_the_wallets_secures_by_its_haircut(
    held: str, margin: str, collateral_: str
) -> None:
    """0.6 of a coin at 100 less a tenth are 54; what wallets have beyond the holding is owed."""
    inverse = {"kind": "inverse_perp", "base": "BTC", "quote": "USD", "settle": "BTC"}
    spot = instrument(1, "BTCUSDT", kind="spot", base="BTC", quote="USDT", settle="USDT")
    log = given(spot, mark(1, "100", "BTCUSDT"), collateral(1, "BTC", "0.1"))
    log.when(instrument(1, SYMBOL, **inverse), opened(1), margin_mode(2))
    way = "CashDeposited" if Decimal(held) > 0 else "CashWithdrawn"
    log.when(event(way, {"amount": held.lstrip("-"), "currency": "BTC"}, 3))
    log.when(moved(4, margin))
    assert log.account().value().collateral == Decimal(collateral_)
    assert Decimal(log.state()["equity"]) == Decimal(held) * 100
