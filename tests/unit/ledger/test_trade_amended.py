"""TradeAmended."""

from __future__ import annotations

from tests.support.domain import given
from tests.support.events import Sent, deposit, event, opened, trade


def amend(number: int, **changes: str) -> Sent:
    """Return an amendment of fill `f3`."""
    return event("TradeAmended", {"fill_id": "f3", "reason": "typo", **changes}, number)


def test_an_amended_fill_happened_as_amended() -> None:
    """At its own place in the order of fills; what is left out stays as it was."""
    log = given(opened(1), deposit(2), trade(3, "buy", "2", "100", fill_id="f3", commission="1"))
    log.when(trade(4, "sell", "1", "110"))
    assert log.when(amend(5, price="90")).outcome == "applied"
    assert (log.position()["realized_pnl"], log.state()["cash"]) == ("20", {"USDT": "1019"})
    log.when(amend(6, quantity="1", commission="-0.5"))
    assert (log.position()["side"], log.state()["cash"]) == ("flat", {"USDT": "1020.5"})


def test_amendments_of_nothing_are_refused() -> None:
    """An unknown fill, or nothing to change."""
    log = given(opened(1), deposit(2))
    assert log.when(amend(3, price="90")).reason == "unknown_trade"
    log.when(trade(4, "buy", "2", "100", fill_id="f3"))
    seen = log.when(amend(5))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")


def test_an_amendment_repeated_is_a_duplicate() -> None:
    """The same bytes again change nothing."""
    log = given(opened(1), deposit(2), trade(3, "buy", "2", "100", fill_id="f3"))
    log.when(amend(4, price="90"))
    before = log.hashes()
    seen = log.when(amend(4, price="90"))
    assert (seen.outcome, seen.updates) == ("duplicate", [])
    assert log.hashes() == before
