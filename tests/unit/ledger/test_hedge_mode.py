"""`PositionModeChanged`, and what events do to the legs of hedge mode."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.domain import Log, Seen, given
from tests.support.events import Sent, deposit, event, funding, instrument, mark, opened
from tests.support.slots import even_slots

TIERS = [{"notional_floor": "0", "maintenance_rate": "0.01"}]


def mode(number: int, said: str = "hedge", **more: Any) -> Sent:
    return event("PositionModeChanged", {"mode": said, **more}, number)


def fill(number: int, side: str, quantity: str, price: str, leg: str | None, **more: Any) -> Sent:
    """Return a fill of a leg; None names none."""
    payload = {"symbol": "BTC-PERP", "side": side, "quantity": quantity, "price": price, **more}
    if leg is not None:
        payload["position_side"] = leg
    return event("TradeExecuted", payload, number)


def hedged(*more: Sent, **defined: Any) -> Log:
    """Return an account of 1000 in hedge mode."""
    return given(instrument(margin_tiers=TIERS, **defined), opened(1), deposit(2), mode(3), *more)


def sizes(log: Log) -> dict[str, str]:
    """Return the signed sizes by key."""
    sign = {"long": "", "short": "-", "flat": ""}
    return {k: sign[p["side"]] + p["size"] for k, p in log.state()["positions"].items()}


def flags(seen: Seen) -> list[str]:
    """Return the flags of the message's state."""
    found: list[str] = seen.payload("StateUpdated")["flags"]
    return found


def test_each_leg_has_its_own_size_entry_and_realized_gain() -> None:
    """A buy of the short leg closes it and leaves the long one alone."""
    log = hedged(
        fill(4, "buy", "2", "100", "long"),
        fill(5, "sell", "3", "110", "short"),
        fill(6, "buy", "1", "105", "short"),
    )
    assert sizes(log) == {"BTC-PERP#long": "2", "BTC-PERP#short": "-2"}
    short = log.position("BTC-PERP#short")
    assert (short["class"], short["symbol"], short["position_side"]) == (
        "contract", "BTC-PERP", "short",
    )  # fmt: skip
    assert (short["entry_price"], short["realized_pnl"]) == ("110", "5")
    assert log.position("BTC-PERP#long")["realized_pnl"] == "0"
    log.when(mark(1, "120"))
    state = log.state()
    assert (state["equity"], state["open_positions"]) == ("1025", 2)
    assert (state["exposure_gross"], state["exposure_net"]) == ("480", "0")


def test_a_mark_publishes_all_legs() -> None:
    """Each leg has an update of its own, in the order of their keys."""
    fills = (fill(4, "buy", "1", "100", "long"), fill(5, "sell", "1", "100", "short"))
    log = given(instrument(), opened(1), deposit(2), mode(3), *fills, slots=even_slots(1000))
    log.when(mark(1, "95"))
    seen = log.when(mark(2, "90"))
    moved = seen.payloads("PositionUpdated")
    assert [(p["position_side"], p["unrealized_pnl"]) for p in moved] == [
        ("long", "-10"),
        ("short", "10"),
    ]


def test_a_leg_closed_too_far_is_negative_until_its_next_fill() -> None:
    """The close may arrive before its open: nothing is cut, and it is flagged while it is so."""
    log = hedged()
    seen = log.when(fill(4, "sell", "1", "110", "long"))
    assert "overclose" in flags(seen)
    assert sizes(log) == {"BTC-PERP#long": "-1"}
    assert "overclose" in flags(log.when(deposit(5)))
    seen = log.when(fill(6, "buy", "1", "100", "long"))
    assert "overclose" not in flags(seen)
    assert sizes(log) == {"BTC-PERP#long": "0"}
    assert log.state()["realized_pnl"] == "10"


def test_a_fill_without_a_side_is_of_the_only_open_leg() -> None:
    """There is nothing else that it could mean."""
    log = hedged(fill(4, "buy", "2", "100", "long"))
    seen = log.when(fill(5, "sell", "1", "110", None))
    assert "leg_unknown" not in flags(seen)
    assert sizes(log) == {"BTC-PERP#long": "1"}


def test_a_fill_without_a_side_opens_the_net_leg_where_none_or_both_are_open() -> None:
    """Its cash is booked in full, and it is flagged."""
    seen = hedged().when(fill(4, "buy", "1", "100", None))
    assert "leg_unknown" in flags(seen)
    log = hedged(fill(4, "buy", "1", "100", "long"), fill(5, "sell", "1", "100", "short"))
    seen = log.when(fill(6, "sell", "1", "100", None, commission="2"))
    assert "leg_unknown" in flags(seen)
    assert sizes(log)["BTC-PERP"] == "-1"
    assert log.state()["fees"] == "2"


@pytest.mark.parametrize(
    ("event_type", "amount", "total"),
    [("FundingApplied", "funding_payment", "funding"), ("FeeCharged", "amount", "fees")],
)
def test_payments_without_a_side_are_the_accounts(event_type: str, amount: str, total: str) -> None:
    """Where both legs are open: cash and total move, no leg does."""
    log = hedged(fill(4, "buy", "1", "100", "long"), fill(5, "sell", "1", "100", "short"))
    seen = log.when(event(event_type, {"symbol": "BTC-PERP", amount: "7"}, 6))
    assert "leg_unknown" in flags(seen)
    assert log.state()[total] == "7"
    assert [log.position(key)[total] for key in sizes(log)] == ["0", "0"]
    log.when(event(event_type, {"symbol": "BTC-PERP", amount: "2", "position_side": "short"}, 7))
    assert log.position("BTC-PERP#short")[total] == "2"
    log.when(fill(8, "sell", "1", "100", "long"))
    log.when(event(event_type, {"symbol": "BTC-PERP", amount: "3"}, 9))
    assert log.position("BTC-PERP#short")[total] == "5"


def test_a_mode_change_waits_until_flat() -> None:
    """It is never refused; the mode of before holds until then, and a flag says so."""
    log = given(instrument(), opened(1), deposit(2), fill(3, "buy", "1", "100", None))
    seen = log.when(mode(4))
    assert (seen.outcome, "position_mode_waiting" in flags(seen)) == ("applied", True)
    seen = log.when(fill(5, "sell", "3", "100", "short"))
    assert {"position_mode_waiting", "position_side_ignored"} <= {*flags(seen)}
    assert sizes(log) == {"BTC-PERP": "-2"}
    seen = log.when(fill(6, "buy", "2", "100", None))
    assert "position_mode_waiting" not in flags(seen)
    log.when(fill(7, "buy", "2", "100", "long"))
    assert sizes(log) == {"BTC-PERP": "0", "BTC-PERP#long": "2"}


def test_a_mode_asked_for_may_be_taken_back_while_it_waits() -> None:
    """The mode that holds is asked for again: nothing waits any more."""
    log = given(instrument(), opened(1), deposit(2), fill(3, "buy", "1", "100", None), mode(4))
    seen = log.when(mode(5, "net"))
    assert "position_mode_waiting" not in flags(seen)


def test_a_symbol_may_have_a_mode_of_its_own() -> None:
    """It goes before the account's."""
    log = hedged(mode(4, "net", symbol="BTC-PERP"))
    seen = log.when(fill(5, "buy", "1", "100", "long"))
    assert "position_side_ignored" in flags(seen)
    assert sizes(log) == {"BTC-PERP": "1"}


def test_a_side_is_ignored_and_flagged_in_net_mode() -> None:
    """`net` is what it is anyway."""
    log = given(instrument(), opened(1), deposit(2))
    assert "position_side_ignored" in flags(log.when(fill(3, "buy", "1", "100", "long")))
    assert "position_side_ignored" not in flags(log.when(fill(4, "buy", "1", "100", "net")))
    assert sizes(log) == {"BTC-PERP": "2"}


def test_a_mode_is_refused_where_it_is_none_and_quiet_when_repeated() -> None:
    """The three questions: refused when it should be, quiet when repeated, loud when reused."""
    log = given(opened(1), deposit(2))
    assert log.when(mode(3, "both")).reason == "invalid_payload"
    before = log.when(mode(4)) and log.hashes()
    assert log.when(mode(4)).outcome == "duplicate"
    assert log.hashes() == before
    assert log.when(event("PositionModeChanged", {"mode": "net"}, 4, salt="other")).outcome == (
        "conflict"
    )


def test_both_legs_share_one_liquidation_price() -> None:
    """The net size gains or loses, the maintenance margins of both add up."""
    log = hedged(fill(4, "buy", "30", "100", "long"), fill(5, "sell", "10", "100", "short"))
    log.when(mark(1, "100"))
    prices = [log.position(key)["liquidation_price"] for key in sizes(log)]
    # 1000 + 20 (x - 100) = 0.4 x, so x = 1000 / 19.6
    assert prices == ["51.020408163265306122"] * 2
    assert log.state()["margin_maintenance"] == "40"


def test_legs_that_hedge_each_other_fall_by_their_maintenance_alone() -> None:
    """With equal legs nothing is gained, but margins grow with the price."""
    log = hedged(fill(4, "buy", "10", "100", "long"), fill(5, "sell", "10", "100", "short"))
    log.when(mark(1, "100"))
    # 1000 = 0.2 x
    assert log.position("BTC-PERP#long")["liquidation_price"] == "5000"


def test_an_inverse_contract_has_one_liquidation_price_too() -> None:
    """Searched over the reciprocal of the price."""
    log = given(
        instrument(kind="inverse_perp", quote="USD", settle="BTC", margin_tiers=TIERS),
        opened(1, currency="BTC"), deposit(2, "1"), mode(3),
        fill(4, "buy", "300", "100", "long"), fill(5, "sell", "100", "100", "short"),
        mark(1, "100"),
    )  # fmt: skip
    found = {log.position(k)["liquidation_price"] for k in sizes(log) if log.position(k)["size"]}
    # y = 1 / x: 1 + 200 (0.01 - y) = 4 y, so x = 204 / 3
    assert found == {"68"}


def test_an_expiry_settles_all_legs_and_the_fee_is_the_accounts() -> None:
    """A contract settles on both sides."""
    log = hedged(fill(4, "buy", "2", "100", "long"), fill(5, "sell", "1", "120", "short"))
    payload = {"symbol": "BTC-PERP", "settlement_price": "110", "kind": "expiry", "fee": "3"}
    log.when(event("PositionSettled", payload, 6))
    assert sizes(log) == {"BTC-PERP#long": "0", "BTC-PERP#short": "0"}
    state = log.state()
    assert (state["realized_pnl"], state["fees"], state["equity"]) == ("30", "3", "1027")


def test_a_split_is_of_both_legs_and_what_the_venue_shows_of_one() -> None:
    """`quantity_after` needs `position_side` where both are open."""
    log = hedged(fill(4, "buy", "3", "100", "long"), fill(5, "sell", "2", "100", "short"))
    split = {"symbol": "BTC-PERP", "numerator": "3", "denominator": "2"}
    refused = log.when(event("SplitApplied", {**split, "quantity_after": "4"}, 6))
    assert (refused.reason, refused.payload("EventRefused")["field"]) == (
        "invalid_payload", "payload.position_side",
    )  # fmt: skip
    log.when(event("SplitApplied", {**split, "quantity_after": "4", "position_side": "long"}, 7))
    assert sizes(log) == {"BTC-PERP#long": "4", "BTC-PERP#short": "-3"}


def test_orders_of_a_leg_reserve_for_that_leg() -> None:
    """A sell of the long leg reduces it, however small the short leg is."""
    order = {"order_id": "o", "symbol": "BTC-PERP", "type": "limit", "price": "100"}
    sell = {**order, "side": "sell", "quantity": "2", "position_side": "long"}
    log = hedged(fill(4, "buy", "2", "100", "long"), event("OrderSubmitted", sell, 5))
    assert log.state()["margin_available"] == "800"
    assert log.state()["orders"]["o"]["position_side"] == "long"
    more = {**order, "order_id": "p", "side": "sell", "quantity": "3", "position_side": "short"}
    log.when(event("OrderSubmitted", more, 6))
    assert log.state()["margin_available"] == "500"


def test_a_leg_may_have_a_leverage_of_its_own() -> None:
    """Else its symbol's, else the account's."""
    log = hedged(fill(4, "buy", "2", "100", "long"), fill(5, "sell", "2", "100", "short"))
    log.when(event("LeverageChanged", {"leverage": "2", "symbol": "BTC-PERP"}, 6))
    assert log.state()["margin_initial"] == "200"
    said = {"leverage": "10", "symbol": "BTC-PERP", "position_side": "short"}
    log.when(event("LeverageChanged", said, 7))
    assert log.state()["margin_initial"] == "120"


def test_a_corrected_fill_moves_to_another_leg() -> None:
    """`TradeAmended` with `position_side`: fold is that of a log in which it was so."""
    log = hedged(fill(4, "buy", "1", "100", None, fill_id="f"))
    seen = log.when(
        event("TradeAmended", {"fill_id": "f", "reason": "leg", "position_side": "long"}, 5)
    )
    assert seen.outcome == "applied"
    assert sizes(log) == {"BTC-PERP#long": "1"}
    right = hedged(fill(4, "buy", "1", "100", "long", fill_id="f"), deposit(5, "1"))
    assert log.position("BTC-PERP#long")["entry_price"] == "100"
    assert right.position("BTC-PERP#long")["size"] == "1"


def test_a_reference_is_of_its_leg() -> None:
    """Funding of both legs with one reference are two facts, and each is booked once."""
    log = hedged(fill(4, "buy", "1", "100", "long"), fill(5, "sell", "1", "100", "short"))
    said = {"symbol": "BTC-PERP", "funding_payment": "1", "reference": "r"}
    for number, leg in ((6, "long"), (7, "short")):
        assert log.when(
            event("FundingApplied", {**said, "position_side": leg}, number)
        ).outcome == ("applied")
    again = log.when(event("FundingApplied", {**said, "position_side": "short"}, 8))
    assert again.reason == "duplicate_reference"


def test_names_like_those_of_legs_are_no_legs() -> None:
    """A venue's symbol may end like a leg's key."""
    log = hedged(fill(4, "buy", "1", "100", "long"))
    odd = {"symbol": "BTC-PERP#long", "side": "sell", "quantity": "5", "price": "7"}
    log.when(event("PositionModeChanged", {"mode": "net", "symbol": "BTC-PERP#long"}, 5))
    log.when(event("TradeExecuted", odd, 6), mark(1, "110"), funding(7, "1", "BTC-PERP#long"))
    assert sizes(log) == {"BTC-PERP#long": "1", "BTC-PERP#long#net": "-5"}
    assert log.state()["equity"] == "1011"


def test_shares_have_no_legs() -> None:
    """Hedge mode is of contracts."""
    log = hedged()
    log.when(instrument(1, "AAPL", kind="equity", base="AAPL"))
    log.when(
        event(
            "TradeExecuted",
            {
                "symbol": "AAPL",
                "side": "buy",
                "quantity": "1",
                "price": "9",
                "position_side": "long",
            },
            4,
        )
    )
    assert sizes(log) == {"AAPL": "1"}
    assert log.position("AAPL")["class"] == "share"
