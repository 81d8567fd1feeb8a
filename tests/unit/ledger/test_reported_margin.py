"""Margins that the venue reports: in place of leverage and tiers, until the position is gone."""

from __future__ import annotations

from typing import Any

from tests.support.domain import Log, given, restarted
from tests.support.events import Sent, deposit, event, instrument, mark, opened, trade

TIERS = [{"notional_floor": "0", "maintenance_rate": "0.1"}]


def reported(number: int, initial: str, maintenance: str, **more: Any) -> Sent:
    payload = {"symbol": "BTC-PERP", "initial": initial, "maintenance": maintenance, **more}
    return event("MarginReported", payload, number)


def long(*sent: Sent, cash: str = "1000", **settle: Any) -> Log:
    """Return a log where 2 at 100 are long, and these messages."""
    return given(
        instrument(margin_tiers=TIERS, **settle), opened(1), deposit(2, cash),
        trade(3, "buy", "2", "100", fill_id="f3"), mark(1, "100"), *sent,
    )  # fmt: skip


def margins(log: Log) -> tuple[Any, Any, list[str]]:
    state = log.state()
    return state["margin_initial"], state["margin_maintenance"], state["flags"]


def test_stands_until_the_position_changes_and_is_kept_then() -> None:
    """Marks leave it; a fill, a funding make it old; the next one is new; flat there is none."""
    log = long()
    assert margins(log) == ("200", "20", [])
    log.when(reported(4, "35", "15"), mark(2, "120"))
    assert margins(log) == ("35", "15", [])
    log.when(trade(5, "buy", "1", "120"))
    assert margins(log) == ("35", "15", ["margin_unknown"])
    log.when(reported(6, "50", "22"))
    assert margins(log) == ("50", "22", [])
    log.when(event("FundingApplied", {"symbol": "BTC-PERP", "funding_payment": "-1"}, 7))
    assert margins(log) == ("50", "22", ["margin_unknown"])
    log.when(trade(8, "sell", "3", "120"))
    assert margins(log) == ("0", "0", [])
    log.when(trade(9, "buy", "1", "120"))
    assert margins(log) == ("120", "12", [])


def test_flip_begins_a_position_without_it() -> None:
    """What was reported was of the other side."""
    log = long(reported(4, "35", "15"), trade(5, "sell", "3", "100"))
    assert margins(log) == ("100", "10", [])


def test_of_nothing_it_says_nothing() -> None:
    """Booked and flagged: no position is open for it."""
    log = given(instrument(margin_tiers=TIERS), opened(1), deposit(2))
    seen = log.when(reported(3, "35", "15"))
    assert (seen.outcome, seen.payload("StateUpdated")["flags"]) == ("applied", ["margin_unknown"])
    log.when(trade(4, "buy", "2", "100"))
    assert margins(log) == ("200", "20", [])


def test_reference_is_its_identity() -> None:
    log = long(reported(4, "35", "15", reference="r1"))
    seen = log.when(reported(5, "36", "16", reference="r1"))
    assert (seen.outcome, seen.reason) == ("refused", "duplicate_reference")
    assert margins(log) == ("35", "15", [])


def test_each_leg_has_its_own() -> None:
    """The other leg goes by its tiers, and both share a liquidation price."""

    def leg(number: int, verb: str, size: str, side: str) -> Sent:
        named = {"symbol": "BTC-PERP", "side": verb, "position_side": side}
        return event("TradeExecuted", {**named, "quantity": size, "price": "100"}, number)

    log = given(
        instrument(margin_tiers=TIERS), opened(1), deposit(2, "138"),
        event("PositionModeChanged", {"mode": "hedge"}, 3),
        leg(4, "buy", "2", "long"), leg(5, "sell", "1", "short"),
        reported(6, "7", "5", position_side="long"),
    )  # fmt: skip
    assert margins(log) == ("107", "15", [])
    log.when(leg(7, "buy", "0.5", "short"))
    assert margins(log) == ("57", "10", [])
    # 138 - 5 + 1.5 x (p - 100) = 0.1 x 0.5 x p
    assert log.position("BTC-PERP#long")["liquidation_price"].startswith("11.72413793103448275")


def test_liquidation_price_is_where_the_reported_margin_is_not_covered() -> None:
    """1 000 + 2 x (p - 100) = 900 at 50; of an isolated one 60 + 2 x (p - 100) = 20 at 80."""
    log = long(reported(4, "950", "900"))
    assert log.position()["liquidation_price"] == "50"
    log.when(event("MarginModeChanged", {"symbol": "BTC-PERP", "mode": "isolated"}, 5))
    log.when(event("MarginTransferred", {"symbol": "BTC-PERP", "amount": "60"}, 6))
    log.when(reported(7, "30", "20"))
    held = log.position()
    assert (held["liquidation_price"], log.state()["margin_maintenance"]) == ("80", "0")


def test_warns_as_soon_as_it_is_reported() -> None:
    """The venue asks for more than half of the collateral."""
    seen = long().when(reported(4, "700", "600"))
    assert [u["payload"]["level"] for u in seen.updates if u["event_type"] == "MarginWarning"] == [
        "0.5"
    ]


def test_moves_with_the_symbol() -> None:
    """A relabelling: it is as new, or as old, as it was."""
    renamed = {"symbol": "BTC-PERP", "new_symbol": "XBT"}
    log = long(reported(4, "35", "15"), event("SymbolChanged", renamed, 5))
    assert margins(log) == ("35", "15", [])
    log.when(trade(6, "buy", "1", "100", "XBT"))
    assert margins(log) == ("35", "15", ["margin_unknown"])


def test_long_option_may_need_margin_too() -> None:
    """Without a report what is paid needs none."""
    fixed = {"kind": "option", "base": "ABC", "quote": "USDT", "settle": "USDT"}
    log = given(
        instrument(1, "CALL", **fixed), opened(1), deposit(2), trade(3, "buy", "2", "5", "CALL")
    )
    assert margins(log) == ("0", "0", [])
    log.when(reported(4, "4", "3", symbol="CALL"))
    assert margins(log) == ("4", "3", [])


def test_restart_and_bust_give_the_same() -> None:
    """What the ledger has of it is in its hash, in the snapshot, and booked again."""
    log = long(reported(4, "35", "15"), trade(5, "buy", "1", "100", fill_id="f5"))
    again = restarted(log)
    assert (again.end(), margins(again)) == (log.end(), ("35", "15", ["margin_unknown"]))
    said = {"fill_id": "f5", "reason": "error"}
    for one in (log, again):
        one.when(event("TradeBusted", said, 6))
        assert margins(one) == ("35", "15", [])
    plain = long(reported(4, "35", "15"))
    plain.when(event("FeeCharged", {"amount": "0"}, 5), event("FeeCharged", {"amount": "0"}, 6))
    assert again.hashes() == log.hashes() == plain.hashes()
    other = long(reported(4, "35", "16"))
    other.when(event("FeeCharged", {"amount": "0"}, 5), event("FeeCharged", {"amount": "0"}, 6))
    assert other.hashes() != log.hashes()
