"""Every check of the catalogue at its border, by examples computed by hand."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.risk_log import ACCOUNT, GROUP, RiskLog, check_of
from tests.support.rules import ADA

from psm.risk.engine import answers, ids, inquiry

Case = tuple[dict[str, Any], str, dict[str, Any], dict[str, Any]]


def judged(
    limits: dict[str, Any], order: dict[str, Any], position: str = "0", **log: Any
) -> dict[str, Any]:
    """Return the decision on an order of a log with a position bought or sold at 100."""
    made = RiskLog(limits, **log)
    if position != "0":
        side = "sell" if position.startswith("-") else "buy"
        made.trade(side, position.removeprefix("-"), "100")
    return made.order(**order)


def buy(quantity: str, **more: Any) -> dict[str, Any]:
    return {"side": "buy", "quantity": quantity, **more}


def sell(quantity: str, **more: Any) -> dict[str, Any]:
    return {"side": "sell", "quantity": quantity, **more}


LIMIT = {"type": "limit", "price": "100"}


@pytest.mark.parametrize(
    ("name", "limits", "within", "beyond", "value", "limit"),
    [
        ("max_order_quantity", {"max_order_quantity": "5"}, buy("5"), buy("5.1"), "5.1", "5"),
        (
            "max_order_quantity", {"max_order_quantity": {"BTC-PERP": "5"}},
            buy("5"), buy("6"), "6", "5",
        ),
        (
            "max_order_notional", {"max_order_notional": "500"},
            buy("5"), buy("5.01"), "501", "500",
        ),
        (  # the order's own price, where that is more
            "max_order_notional", {"max_order_notional": "550"},
            buy("5", type="limit", price="110"), buy("5.1", type="limit", price="110"),
            "561", "550",
        ),
        (  # 10 x (100 - 90) = 100 = 1 % of 10 000
            "risk_per_trade", {"risk_per_trade": "0.01"},
            buy("10", stop_loss="90"), buy("10.1", stop_loss="90"), "101", "100",
        ),
        (  # 10 x (10 + 190 x 0.001) = 101.9
            "risk_per_trade", {"risk_per_trade": "0.01019", "fee_rate": "0.001"},
            buy("10", stop_loss="90"), buy("10.1", stop_loss="90"), "102.919", "101.9",
        ),
        ("available_margin", {"available_margin": "1"}, buy("100"), buy("101"), "10100", "10000"),
        (
            "available_margin", {"available_margin": "1", "fee_rate": "0.25"},
            buy("80"), buy("81"), "10125", "10000",
        ),
        ("leverage", {"leverage": "2"}, buy("200"), buy("201"), "20100", "20000"),
        ("exposure_symbol", {"exposure_symbol": "1"}, buy("100"), buy("101"), "10100", "10000"),
        ("exposure_gross", {"exposure_gross": "1"}, sell("100"), sell("101"), "10100", "10000"),
        ("exposure_net", {"exposure_net": "1"}, sell("100"), sell("101"), "10100", "10000"),
        (
            "open_orders_notional", {"open_orders_notional": "1000"},
            buy("10", **LIMIT), buy("10.1", **LIMIT), "1010", "1000",
        ),
        (
            "notional_period", {"notional_period": "1000", "notional_period_seconds": 60},
            buy("10"), buy("11"), "1100", "1000",
        ),
    ],
)  # fmt: skip
def test_a_size_at_its_limit_passes_and_beyond_it_does_not(
    name: str,
    limits: dict[str, Any],
    within: dict[str, Any],
    beyond: dict[str, Any],
    value: str,
    limit: str,
) -> None:
    """`<=` is within; the value is that of the order as it was requested."""
    assert judged(limits, within)["decision"] == "approved"
    refused = judged(limits, beyond)
    assert (refused["decision"], refused["reason"]) == ("rejected", name)
    found = check_of(refused, name)
    assert (found["value"], found["limit"], found["passed"]) == (value, limit, False)
    assert found["binding"]
    assert found["scope"] == f"group:{GROUP}"
    reduced = judged(limits, {**beyond, "on_limit": "reduce"})
    assert reduced["decision"] == "reduced"
    assert reduced["approved_quantity"] == refused["max_quantity"]


@pytest.mark.parametrize(
    ("limits", "order", "reason"),
    [
        ({"price_collar": "0.1"}, buy("1", type="limit", price="110"), None),
        ({"price_collar": "0.1"}, buy("1", type="limit", price="110.01"), "price_collar"),
        ({"price_collar": "0.1"}, sell("1", type="limit", price="90"), None),
        ({"price_collar": "0.1"}, sell("1", type="limit", price="89.99"), "price_collar"),
        (
            {"price_collar": "0.1", "price_collar_passive": "0.2"},
            buy("1", type="limit", price="79.9"), "price_collar",
        ),
        ({"price_collar": "0.1"}, buy("1", type="stop", stop_price="99"), "price_collar"),
        ({"price_collar": "0.1"}, buy("1", type="stop", stop_price="101"), None),
        ({"stop_required": True}, buy("1"), "stop_required"),
        ({"stop_required": True}, buy("1", stop_loss="90"), None),
        ({"open_orders_count": 1}, buy("1"), None),
        ({"mark_age": 3600}, buy("1"), None),
        ({"mark_age": 1}, buy("1"), "mark_age"),
        ({"collar_period": "0.1"}, buy("1", type="limit", price="110"), None),
        ({"collar_period": "0.1"}, buy("1", type="limit", price="110.1"), "collar_period"),
        ({"order_rate": 1}, buy("1"), None),
        ({"order_rate": 0}, buy("1"), "order_rate"),
        ({"message_rate": 0}, buy("1"), "message_rate"),
        ({}, buy("1", symbol="NOBODYS"), "instrument_known"),
        ({}, buy("1", expires_at="2026-11-30T00:00:00Z"), "expired"),
        ({}, buy("1", expires_at="2026-12-02T00:00:00Z"), "expired"),
        ({}, buy("1", expects={ACCOUNT: 2}), None),
        ({}, buy("1", expects={ACCOUNT: 3}), "state_behind"),
        ({}, buy("1", side="up"), "well_formed"),
    ],
)  # fmt: skip
def test_a_hard_check_rejects(
    limits: dict[str, Any], order: dict[str, Any], reason: str | None
) -> None:
    """At its border it passes."""
    found = judged(limits, order)
    assert found["reason"] == (reason or "approved")
    assert found["decision"] == ("approved" if reason is None else "rejected")
    if reason is not None:
        assert found["approved_quantity"] == "0"


def test_more_requests_than_can_be_remembered_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the first ones have expired, and no memory is made for them."""
    for module in (answers, ids, inquiry):
        monkeypatch.setattr(module, "ORDERS_MAX", 2)
    log = RiskLog({"mark_age": 3600})
    assert [log.order("buy", "1")["reason"] for _ in range(2)] == ["approved"] * 2
    refused = log.order("buy", "1")
    assert (refused["decision"], refused["reason"]) == ("rejected", "too_many_orders")
    assert check_of(refused, "too_many_orders")["limit"] == "2"
    assert log.slot._remembered.count(log.clock) == 2
    log.wait(16 * 60)
    assert log.order("buy", "1")["decision"] == "approved"


def test_a_grid_is_kept() -> None:
    """Quantities off the lot and prices off the tick are no orders."""
    log = RiskLog({})
    log.instrument("ETH-PERP", quantity_increment="0.5", price_increment="0.25")
    log.mark("ETH-PERP", "10")
    eth = {"symbol": "ETH-PERP", "type": "limit"}
    assert log.order("buy", "1.5", price="10.25", **eth)["decision"] == "approved"
    off_lot = log.order("buy", "1.4", price="10.25", **eth)
    assert check_of(off_lot, "increment")["detail"] == "off the lot"
    off_tick = log.order("buy", "1.5", price="10.2", **eth)
    assert check_of(off_tick, "increment")["detail"] == "off the tick"


def test_a_cut_is_to_the_lot() -> None:
    """The largest multiple that is allowed, never rounded up."""
    log = RiskLog({"exposure_symbol": "0.01"})  # 100
    log.instrument("ETH-PERP", quantity_increment="0.5")
    log.mark("ETH-PERP", "30")
    found = log.order("buy", "4", symbol="ETH-PERP", on_limit="reduce")
    assert (found["decision"], found["approved_quantity"]) == ("reduced", "3")  # 3.33


def test_scopes_are_reported_in_order_and_the_tightest_binds() -> None:
    """Firm, group, account, strategy, symbol; each with its own value and limit."""
    log = RiskLog({"exposure_symbol": "3"}, accounts=(ACCOUNT, "acc_2"))
    log.limits({"exposure_symbol": "4"}, "firm")
    log.limits({"exposure_symbol": "1"}, "account", ACCOUNT)
    log.limits({"exposure_symbol": "2"}, "strategy", "s1")
    log.limits({"exposure_symbol": "5"}, "symbol", "BTC-PERP")
    log.trade("buy", "50", "100", account="acc_2")
    found = log.order("buy", "150", strategy_id="s1", on_limit="reduce")
    checks = [c for c in found["checks"] if c["name"] == "exposure_symbol"]
    assert [(c["scope"], c["value"], c["limit"]) for c in checks] == [
        ("firm", "20000", "80000"),
        ("group:desk", "20000", "60000"),
        ("account:acc_1", "15000", "10000"),
        ("strategy:s1", "15000", "20000"),
        ("symbol:BTC-PERP", "20000", "100000"),
    ]
    assert [c["scope"] for c in checks if c.get("binding")] == ["account:acc_1"]
    assert found["approved_quantity"] == "100"


def test_buys_and_sells_never_net_and_approved_orders_count_at_once() -> None:
    """Worst subset of fills: 60 bought and 60 sold are 60 either way, not 0."""
    log = RiskLog({"exposure_symbol": "1"})
    assert log.order("buy", "60", **LIMIT)["decision"] == "approved"
    assert log.order("sell", "100", **LIMIT)["decision"] == "approved"
    found = log.order("buy", "41", **LIMIT)
    assert check_of(found, "exposure_symbol")["value"] == "10100"
    assert found["max_quantity"] == "40"


def test_what_is_worse_already_may_stay_as_it_is() -> None:
    """An account above its limit may do what does not raise it."""
    log = RiskLog(None)
    log.trade("buy", "150", "100")
    log.limits({"exposure_symbol": "1"})
    assert log.order("buy", "1")["decision"] == "rejected"
    assert log.order("sell", "300")["decision"] == "approved"  # from 15 000 long to 15 000 short
    assert log.order("sell", "1")["decision"] == "rejected"


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({"exposure_currency": "1"}, "exposure_currency"),
        ({"exposure_sector": "1"}, "exposure_sector"),
        ({"exposure_cluster": "1"}, "exposure_cluster"),
    ],
)
def test_what_is_tagged_alike_counts_together(limits: dict[str, Any], name: str) -> None:
    """60 of one and 41 of another are 101; a hedge is credited only in a share."""
    log = RiskLog(limits)
    log.instrument("ETH-PERP")
    log.mark("ETH-PERP", "100")
    tags = {"sector": "layer1", "currency": "CRYPTO"}
    log.both("TagsDefined", name="all", tags={"BTC-PERP": tags, "ETH-PERP": tags})
    both = ["BTC-PERP", "ETH-PERP"]
    log.say(
        ADA, "ClustersDefined", version=1, as_of_day="2026-11-30", window=90, symbols=both,
        clusters={"BTC-PERP": both}, beta={}, sigma={}, matrix_hash="0" * 64,
        returns_hash="0" * 64, code="1", shrinkage="0.1",
    )  # fmt: skip
    log.trade("buy", "60", "100")
    assert log.order("buy", "40", symbol="ETH-PERP")["decision"] == "approved"
    found = log.order("buy", "1", symbol="ETH-PERP")
    assert found["reason"] == name
    assert check_of(found, name)["value"] == "10100"
    # Long 100 at most: short 100 of it is as large; without credit the larger side counts.
    assert log.order("sell", "100", symbol="ETH-PERP")["decision"] == "approved"


def test_a_hedge_is_credited() -> None:
    """max(L, S) - h min(L, S): long 100 and short 100 at half credit are 50, so 200 may be."""
    log = RiskLog({"exposure_sector": "1", "hedge_credit": "0.5"})
    log.instrument("ETH-PERP")
    log.mark("ETH-PERP", "100")
    tags = {"sector": "layer1"}
    log.both("TagsDefined", name="all", tags={"BTC-PERP": tags, "ETH-PERP": tags})
    log.trade("buy", "100", "100")
    found = log.order("sell", "200", symbol="ETH-PERP", on_limit="reduce")
    # S - h L <= 10 000 where L = 10 000: S = 15 000
    assert found["approved_quantity"] == "150"


def test_concentration_is_a_share_above_half_of_the_equity() -> None:
    """A single symbol is all of it, as soon as that is more than half of the equity."""
    log = RiskLog({"concentration": "0.6"})
    assert log.order("buy", "50")["decision"] == "approved"
    found = log.order("buy", "1")
    assert found["reason"] == "concentration"
    assert check_of(found, "concentration")["value"] == "1"
    log.instrument("DARK-PERP")
    unknown = check_of(log.order("buy", "1", symbol="DARK-PERP"), "concentration")
    assert (unknown["passed"], unknown["limit"]) == (False, "0.6"), "a share, not money"
    log.instrument("ETH-PERP")
    log.mark("ETH-PERP", "100")
    assert log.order("buy", "75", symbol="ETH-PERP", on_limit="reduce")["approved_quantity"] == "75"


def test_what_cannot_be_computed_does_not_pass() -> None:
    """Without a mark there is no exposure; what is not limited does not ask for one."""
    log = RiskLog({"exposure_gross": "5"})
    log.instrument("DARK-PERP")
    found = log.order("buy", "1", symbol="DARK-PERP")
    assert check_of(found, "mark_age")["detail"] == "no mark"
    assert check_of(found, "exposure_gross")["detail"] == "no mark of DARK-PERP"
    assert not check_of(found, "exposure_gross")["passed"]


def test_restricted_symbols_and_sides() -> None:
    """A list may forbid buying alone."""
    log = RiskLog({})
    content = {"name": "no", "kind": "restricted", "symbols": ["BTC-PERP"], "side": "buy"}
    log.say(ADA, "ListDefined", **content)
    assert log.order("buy", "1")["reason"] == "restricted"
    assert log.order("sell", "1")["decision"] == "approved"


def test_orders_that_would_trade_with_one_another() -> None:
    """A buy at 100 crosses a sell at 100, not one at 101."""
    log = RiskLog({"self_cross": True}, accounts=(ACCOUNT, "acc_2"))
    assert log.order("sell", "1", type="limit", price="101")["decision"] == "approved"
    below = log.order("buy", "1", type="limit", price="100", account_id="acc_2")
    assert below["decision"] == "approved"
    found = log.order("buy", "1", type="limit", price="101", account_id="acc_2")
    assert found["reason"] == "self_cross"


def test_the_same_order_again() -> None:
    """Same strategy, symbol, side, type, quantity and price within so many seconds."""
    log = RiskLog({"duplicate_order": 10})
    assert log.order("buy", "1", **LIMIT)["decision"] == "approved"
    assert log.order("buy", "1", **LIMIT)["reason"] == "duplicate_order"
    assert log.order("buy", "1.1", **LIMIT)["decision"] == "approved"
    log.wait(10)
    assert log.order("buy", "1", **LIMIT)["decision"] == "approved"


def test_rates_count_what_was_approved_and_messages_everything() -> None:
    """A rejected order does not lock out the next one; cancels count, and are never refused."""
    log = RiskLog({"order_rate": 2, "order_rate_seconds": 60})
    assert [log.order("buy", "1")["decision"] for _ in range(2)] == ["approved"] * 2
    assert log.order("buy", "1")["reason"] == "order_rate"
    log.wait(60)
    log.mark("BTC-PERP", "100")
    assert log.order("buy", "1")["decision"] == "approved"
    log = RiskLog({"message_rate": 2, "message_rate_seconds": 60})
    for _ in range(3):
        cancel = log.request("cancel_request", {"account_id": ACCOUNT, "order_id": "o1"})
        assert cancel["decision"] == "approved"
    found = log.order("buy", "1")
    assert found["reason"] == "message_rate"
    assert check_of(found, "message_rate")["value"] == "3"


def test_notional_of_a_period_adds_up_slices() -> None:
    """Fat finger in slices: 600 and 500 are more than 1 000, on one side."""
    log = RiskLog({"notional_period": "1000", "notional_period_seconds": 60})
    assert log.order("buy", "6")["decision"] == "approved"
    assert log.order("buy", "5")["reason"] == "notional_period"
    assert log.order("sell", "5")["decision"] == "approved"
    log.wait(60)
    log.mark("BTC-PERP", "100")
    assert log.order("buy", "10")["decision"] == "approved"


def test_repeated_executions_halt_a_strategy_until_it_is_enabled() -> None:
    """By a named person; the strategy stands still meanwhile, also in other symbols."""
    log = RiskLog({"repeated_execution": 2})
    mine = {"strategy_id": "s1"}
    assert [log.order("buy", "1", **mine)["decision"] for _ in range(2)] == ["approved"] * 2
    assert log.order("buy", "1", **mine)["reason"] == "repeated_execution"
    assert [o.key for o in log.outputs if o.kind == "halt"] == ["strategy:s1"]
    assert log.order("sell", "1", **mine)["reason"] == "mode"
    assert log.order("sell", "1", strategy_id="s2")["decision"] == "approved"
    log.say(ADA, "StrategyEnabled", strategy_id="s1")
    assert log.order("buy", "1", **mine)["decision"] == "approved"


def test_losing_trades_in_a_row() -> None:
    """Two in loss leave no more than closing; a gain starts the count anew."""
    log = RiskLog({"loss_streak": 2})
    for price in ("99", "98"):
        log.trade("buy", "1", "100")
        log.trade("sell", "1", price)
    found = log.order("buy", "1")
    assert found["reason"] == "loss_streak"
    assert check_of(found, "loss_streak")["value"] == "2"
    log.trade("buy", "1", "100")
    log.trade("sell", "1", "101")
    assert log.order("buy", "1")["decision"] == "approved"


def test_sessions() -> None:
    """Outside of the trading windows nothing is approved."""
    log = RiskLog({})
    windows = [{"day": "tue", "opens": "08:00", "closes": "16:00"}]
    log.say(ADA, "SessionsDefined", name="day", windows=windows)
    assert log.order("buy", "1")["reason"] == "session"
    log.wait(8 * 3600)
    log.mark("BTC-PERP", "100")
    assert log.order("buy", "1")["decision"] == "approved"


def test_a_reducing_market_order_passes_at_an_old_mark() -> None:
    """And says so; one that opens does not."""
    log = RiskLog({"mark_age": 5})
    log.mark("BTC-PERP", "100")
    log.trade("buy", "5", "100")
    log.wait(60)
    found = log.order("sell", "5")
    assert found["decision"] == "approved"
    assert check_of(found, "mark_age")["detail"] == "stale"
    assert log.order("sell", "5")["reason"] == "mark_age"


def test_reduce_only_is_up_to_the_room() -> None:
    """A flip is reducing only as far as the position goes."""
    log = RiskLog({})
    log.trade("buy", "5", "100")
    assert log.order("sell", "6", reduce_only=True)["reason"] == "reduce_only"
    found = log.order("sell", "6", reduce_only=True, on_limit="reduce")
    assert (found["approved_quantity"], found["reducing_room"]) == ("5", "5")
    assert log.order("sell", "1", reduce_only=True)["reducing_room"] == "0"


def test_an_inverse_contract_counts_in_its_coin() -> None:
    """100 / 50 000 = 0.002 BTC a contract; a lower mark makes it more."""
    log = RiskLog({"exposure_symbol": "1"}, currency="BTC", deposit="10")
    log.instrument(
        "BTC-INV", kind="inverse_perp", base="BTC", quote="USD", settle="BTC", multiplier="100",
        quantity_increment="1",
    )  # fmt: skip
    log.mark("BTC-INV", "50000")
    found = log.order("sell", "5001", symbol="BTC-INV", on_limit="reduce")
    assert found["approved_quantity"] == "5000"
    assert check_of(found, "exposure_symbol")["value"] == "10.002"
    log.mark("BTC-INV", "40000")
    assert check_of(log.order("sell", "1", symbol="BTC-INV"), "exposure_symbol")["value"] == (
        "12.5025"
    )


def test_of_a_pair_its_base_is_held() -> None:
    """What was bought may be sold, whatever the limits; pending buys and holdings add up."""
    log = RiskLog({"exposure_symbol": "0.8"})
    log.instrument("BTCUSDT", kind="spot", base="BTC")
    log.mark("BTCUSDT", "100")
    spot = {"symbol": "BTCUSDT"}
    first = log.order("buy", "60", **spot)
    assert check_of(first, "exposure_symbol")["value"] == "6000"
    assert log.order("buy", "21", **spot)["max_quantity"] == "20"
    log.trade("buy", "60", "100", "BTCUSDT", order_id=first["order_id"])
    assert log.order("buy", "21", **spot)["max_quantity"] == "20"
    log.limits({"exposure_symbol": "0"})
    found = log.order("sell", "60", **spot)
    assert (found["decision"], found["reducing_room"]) == ("approved", "60")


def test_a_leg_is_closed_by_the_other_side_of_its_own() -> None:
    """Long 50 and short 50 are 100 of gross; a sell of the short leg opens."""
    log = RiskLog({"exposure_gross": "1"})
    log.event(ACCOUNT, "PositionModeChanged", mode="hedge")
    for side, leg in (("buy", "long"), ("sell", "short")):
        log.trade(side, "50", "100", position_side=leg)
    closing = log.order("sell", "50", position_side="long")
    assert (closing["decision"], closing["reducing_room"]) == ("approved", "50")
    opening = log.order("sell", "1", position_side="short")
    assert (opening["reason"], opening["reducing_room"]) == ("exposure_gross", "0")
    assert check_of(opening, "exposure_gross")["value"] == "10100"


def test_an_account_of_which_nothing_is_known_yet_opens_nothing() -> None:
    """A member that no event has opened is flat, and cannot be valued."""
    log = RiskLog({"exposure_gross": "1"}, accounts=(ACCOUNT, "later"), deposit="10000")
    log.both("GroupDefined", group=GROUP, members=[ACCOUNT, "never"], currency="USDT")
    assert log.order("buy", "1", account_id="never")["reason"] == "stream_open"
    assert log.order("buy", "1")["decision"] == "approved"


def test_a_stream_that_waits_decides_nothing() -> None:
    """A missing number: who knows what it says; when it came orders are decided again."""
    log = RiskLog({})
    log.event(ACCOUNT, "CashDeposited", amount="1", currency="USDT", number=4)
    found = log.order("buy", "1")
    assert (found["reason"], check_of(found, "stream_open")["value"]) == ("stream_open", "gap")
    log.event(ACCOUNT, "CashDeposited", amount="1", currency="USDT", number=3)
    assert log.order("buy", "1")["decision"] == "approved"
