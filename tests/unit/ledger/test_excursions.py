"""How far a position went against and in favour of its owner within one cycle."""

from __future__ import annotations

from tests.support.domain import Log, given
from tests.support.events import SYMBOL, Sent, deposit, event, mark, opened, trade

from psm.domain.books import Books
from psm.domain.snapshot import dump_account, load_account


def extremes(log: Log) -> tuple[str, str]:
    """Return the worst and the best of the cycle."""
    position = log.position()
    return position["cycle_mae"], position["cycle_mfe"]


def held(*more: Sent) -> Log:
    """Return a long of 2 from 100."""
    return given(opened(1), deposit(2, "10000"), trade(3, "buy", "2", "100"), *more)


def test_marks_that_no_update_shows_count() -> None:
    """Between two publications it fell to 70 and rose to 130."""
    log = held(mark(1, "100"))
    assert extremes(log) == ("0", "0")
    start = log.messages[log.books.position].time
    for number, price in enumerate(("70", "130", "100"), 2):
        log.when(mark(number, price, at=start + number))
    assert extremes(log) == ("-60", "60")


def test_what_was_realized_in_the_cycle_counts() -> None:
    """Half is sold at 150; then the rest falls to 90: still above nothing."""
    log = held(mark(1, "100"), trade(4, "sell", "1", "150"), mark(2, "90"))
    assert extremes(log) == ("0", "50")
    log.when(mark(3, "20"))
    assert extremes(log) == ("-30", "50")
    log.when(trade(5, "sell", "1", "10"))
    assert extremes(log) == ("-40", "50")


def test_a_new_cycle_begins_at_nothing() -> None:
    """Also that of a flip, whose closing half keeps its own."""
    log = held(mark(1, "80"), mark(2, "100"))
    seen = log.when(trade(4, "sell", "3", "130"))
    closed, begun = seen.payloads("PositionUpdated")
    assert (closed["cycle_mae"], closed["cycle_mfe"]) == ("-40", "60")
    assert (begun["cycle_mae"], begun["cycle_mfe"]) == ("0", "30")
    log.when(mark(3, "140"))
    assert extremes(log) == ("-10", "30")


def test_a_snapshot_keeps_them() -> None:
    """Marks of before are not read again."""
    log = held(mark(1, "70"), mark(2, "100"))
    saved = dump_account(log.account(), log.books.position, b"hash")
    books = Books(partitions=16)
    books.market.restore(log.books.market.tables())
    books.restore(load_account(saved)[0])
    again = Log(books=books)
    assert extremes(again) == ("-60", "0")


def test_a_correction_restores_them() -> None:
    """As if the fill had not been there when the mark came."""
    log = held(trade(4, "buy", "8", "100", fill_id="f"), mark(1, "70"), mark(2, "100"))
    assert extremes(log) == ("-300", "0")
    log.when(event("TradeBusted", {"fill_id": "f", "reason": "x"}, 5))
    assert extremes(log) == ("-60", "0")
    assert log.position()["symbol"] == SYMBOL
