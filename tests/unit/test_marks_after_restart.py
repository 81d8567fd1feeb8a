"""A restart between two marks changes nothing: neither what is published, nor nav and its hash."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.domain import Log, given, restarted
from tests.support.events import SECOND, Sent, deposit, event, instrument, mark, opened, trade

TIER = [{"notional_floor": "0", "maintenance_rate": "0.25"}]


def both(log: Log, *sent: Sent) -> list[dict[str, Any]]:
    """Take messages in with and without a restart before each; return the same updates of both."""
    again, seen = restarted(log), list[dict[str, Any]]()
    for one in sent:
        message = log.message(one)
        updates = log.take(message).updates
        assert again.take(message).updates == updates
        assert again.end() == log.end()
        again, seen = restarted(again), seen + updates
    return seen


def after_split() -> list[Sent]:
    """Return coins whose only rate is a contract's mark, which is none after a split."""
    split = {"symbol": "BTC", "numerator": "2", "denominator": "1"}
    return [mark(1, "100"), event("SplitApplied", split, 4)]


def after_index(price: str) -> list[Sent]:
    """Return the same with an index price that is no rate."""
    return [mark(1, "100", index_price="100"), mark(2, "100", index_price=price)]


@pytest.mark.parametrize(
    "before",
    [after_split(), after_index("-1"), [mark(1, "100", symbol="OTHER")]],
    ids=["split", "index below zero", "first mark"],
)
def test_rate_that_comes_back_is_a_flow_whoever_saw_it_go(before: list[Sent]) -> None:
    """What was without a rate is no gain: nav stays, whether the account was valued or restored."""
    log = given(
        instrument(), opened(1), deposit(2, "1000"), deposit(3, "10", currency="BTC"), *before
    )
    assert log.state()["flags"] == ["rate_missing"]
    both(log, mark(3, "50", index_price="50"))
    state = log.state()
    assert (state["nav"], state["max_drawdown"]) == ("1", "0")
    assert state["equity"] == state["flows"]


def isolated(wallet: str = "40") -> Log:
    """Return a log where acc_001 is long one at 100 with a wallet of its own, and much beside."""
    return given(
        instrument(margin_tiers=TIER), opened(1), deposit(2, "100000"),
        event("MarginModeChanged", {"symbol": "BTC-PERP", "mode": "isolated"}, 3),
        trade(4, "buy", "1", "100"),
        event("MarginTransferred", {"symbol": "BTC-PERP", "amount": wallet}, 5),
        mark(1, "101"),
    )  # fmt: skip


def told(updates: list[dict[str, Any]]) -> list[str]:
    return [update["event_type"] for update in updates]


def test_isolated_position_near_by_its_wallet_is_told_at_the_fast_slot_after_its_warning() -> None:
    """The warning told margin and state; the position follows within a second, not a minute."""
    log = isolated("-60")  # of the 100 that the trade put there
    log.let_pass(130)
    now = log.messages[log.books.position].time
    warned = both(log, mark(2, "81", at=now + SECOND // 2))
    assert told(warned) == ["MarginUpdated", "MarginWarning", "StateUpdated"]
    nobodys = [mark(99 + n, "1", "NOBODYS", at=now + SECOND // 2 + n * SECOND) for n in (1, 2)]
    then = both(log, *nobodys)
    assert told(then) == ["PositionUpdated", "StateUpdated"], "its equity was told already"
    assert then[0]["payload"]["mark_price"] == "81"


def test_own_event_does_not_keep_a_near_position_from_its_fast_slot() -> None:
    """It tells margin and state at another mark than the position's last update."""
    log = isolated("-60")
    log.when(mark(2, "81"))
    log.let_pass(130)
    now = log.messages[log.books.position].time
    log.when(mark(3, "82", at=now + 1), deposit(6, "1").later(now + 2))
    then = both(log, mark(100, "1", "NOBODYS", at=now + SECOND + 3))
    assert [u["payload"].get("mark_price") for u in then] == ["82", None]
