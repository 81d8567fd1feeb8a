"""MarkPriceUpdated."""

from __future__ import annotations

from tests.support.domain import given
from tests.support.events import deposit, mark, opened, trade


def test_mark_price_updated_is_booked() -> None:
    """What is held is worth it from here on; no money moves."""
    log = given(opened(1), deposit(2), trade(3, "buy", "2", "100"))
    assert log.when(mark(1, "130")).outcome == "applied"
    assert (log.position()["mark_price"], log.position()["unrealized_pnl"]) == ("130", "60")
    assert (log.state()["equity"], log.state()["cash"]) == ("1060", {"USDT": "1000"})


def test_mark_price_updated_with_a_bad_payload_is_refused() -> None:
    """The last mark stays; the refusal names the field."""
    log = given(opened(1), deposit(2), trade(3, "buy", "2", "100"), mark(1, "130"))
    seen = log.when(mark(2, "-1"))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == "payload.price"
    assert log.state()["equity"] == "1060"


def test_mark_price_updated_repeated_is_stale() -> None:
    """The same bytes change nothing, and an old number cannot bring back an old price."""
    log = given(opened(1), deposit(2), trade(3, "buy", "2", "100"), mark(2, "130"))
    before = log.state()["equity"]
    for again in (mark(2, "130"), mark(2, "90", salt="other"), mark(1, "90")):
        assert log.when(again).outcome == "stale"
    assert log.state()["equity"] == before
