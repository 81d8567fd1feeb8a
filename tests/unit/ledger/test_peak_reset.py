"""Net asset value per unit, its peak, the deepest fall, and what an operator may restate."""

from __future__ import annotations

import pytest
from tests.support.domain import Log, given
from tests.support.events import (
    Sent,
    deposit,
    event,
    fee,
    instrument,
    mark,
    opened,
    trade,
    withdrawal,
)


def reset(number: int, peak_nav: str, max_drawdown: str = "0", **more: str) -> Sent:
    said = {"peak_nav": peak_nav, "max_drawdown": max_drawdown, "actor": "ann", "reason": "mark"}
    return event("PeakReset", {**said, **more}, number)


def figures(log: Log) -> tuple[str, ...]:
    """Return nav, epoch, peak, drawdown and the deepest one."""
    state = log.state()
    names = ("nav", "nav_epoch", "peak_equity", "drawdown", "max_drawdown")
    return tuple(str(state[name]) for name in names)


def marked() -> Log:
    """Return an account of 1000 with a long of 1 from 100, which a wrong mark took to 1100."""
    return given(
        instrument(), opened(1), deposit(2), trade(3, "buy", "1", "100"), mark(1, "1100"),
        mark(2, "100"),
    )  # fmt: skip


def test_a_wrong_mark_is_forgotten_by_a_reset() -> None:
    """The next mark repairs equity; the peak is restated by an operator, with a number."""
    log = marked()
    assert figures(log) == ("1", "1", "2000", "0.5", "0.5")
    seen = log.when(reset(4, "1"))
    assert seen.outcome == "applied"
    assert figures(log) == ("1", "1", "1000", "0", "0")
    log.when(mark(3, "50"))
    assert figures(log)[3:] == ("0.05", "0.05")


def test_a_reset_states_the_deepest_fall_too() -> None:
    """It stays until a deeper one comes."""
    log = marked()
    log.when(reset(4, "1.25", "0.3"))
    assert figures(log) == ("1", "1", "1250", "0.2", "0.3")
    log.when(mark(3, "0.5"))
    assert figures(log)[4] == "0.3"
    log.when(fee(5, "100"))
    assert figures(log)[3:] == ("0.3596", "0.3596")


@pytest.mark.parametrize(
    ("peak_nav", "more"),
    [("0.999999", {}), ("0", {}), ("-1", {}), ("2", {"actor": ""}), ("2", {"reason": ""})],
)
def test_a_reset_below_the_nav_of_now_is_refused(peak_nav: str, more: dict[str, str]) -> None:
    """Or without actor and reason; nothing changes."""
    log = marked()
    before = figures(log)
    seen = log.when(reset(4, peak_nav, **more))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert figures(log) == before


def test_without_units_there_is_nothing_to_reset() -> None:
    """An account that never had equity."""
    log = given(opened(1))
    assert log.when(reset(2, "1")).reason == "invalid_payload"


def test_the_same_reset_again_is_a_duplicate() -> None:
    """A repeat changes nothing; another event at its number is a conflict."""
    log = marked()
    log.when(reset(4, "1"))
    before = log.hashes()
    assert log.when(reset(4, "1")).outcome == "duplicate"
    assert log.when(deposit(4)).outcome == "conflict"
    assert log.hashes() == before


def test_flows_change_units_and_no_nav() -> None:
    """A gain of 10 %, a deposit that doubles, a withdrawal: nav stays, flows add up."""
    log = given(instrument(), opened(1), deposit(2), trade(3, "buy", "1", "100"), mark(1, "200"))
    assert figures(log) == ("1.1", "1", "1100", "0", "0")
    log.when(deposit(4, "1100"))
    assert figures(log) == ("1.1", "1", "2200", "0", "0")
    log.when(withdrawal(5, "550"))
    assert figures(log) == ("1.1", "1", "1650", "0", "0")
    assert log.state()["flows"] == "1550"


@pytest.mark.parametrize("currency", [None, "EUR"])
def test_a_flow_that_opens_the_account_counts(currency: str | None) -> None:
    """As one after `AccountOpened` does, in the currency that it opens the account with."""
    named = {} if currency is None else {"currency": currency}
    log = given(deposit(1, "1000", **named))
    assert log.state()["flows"] == "1000"
    assert figures(log) == ("1", "1", "1000", "0", "0")
    log.when(withdrawal(2, "400"))
    assert log.state()["flows"] == "600"


def test_a_withdrawal_that_opens_the_account_counts() -> None:
    """It leaves nothing to share, so units begin with the deposit that brings something."""
    log = given(withdrawal(1, "10"))
    assert log.state()["flows"] == "-10"
    log.when(deposit(2, "30"))
    assert log.state()["flows"] == "20"
    assert figures(log) == ("1", "1", "20", "0", "0")


def test_an_epoch_ends_where_a_flow_leaves_nothing() -> None:
    """All is withdrawn: no nav, no peak; the next deposit begins at 1 again."""
    log = given(opened(1), deposit(2), fee(3, "100"))
    assert figures(log) == ("0.9", "1", "1000", "0.1", "0.1")
    log.when(withdrawal(4, "900"))
    assert figures(log) == ("None", "1", "None", "None", "None")
    log.when(deposit(5, "50"))
    assert figures(log) == ("1", "2", "50", "0", "0")


def test_the_deepest_fall_between_two_updates_is_seen() -> None:
    """Marks that are not published count: the throttle hides none."""
    log = given(instrument(), opened(1), deposit(2), trade(3, "buy", "1", "100"), mark(1, "100"))
    start = log.messages[log.books.position].time
    for number, price in enumerate(("60", "10", "90"), 2):
        log.when(mark(number, price, at=start + number))
    assert figures(log) == ("0.99", "1", "1000", "0.01", "0.09")
