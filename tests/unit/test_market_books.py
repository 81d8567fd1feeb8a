"""The books of a stream of depth events: rows per bucket, saving, trimming, forgetting."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from tests.support.market_feed import CHECKED_BOOK, Feed, kraken_book

from psm.analytics.market_books import (
    BUCKET,
    FORGOTTEN_AFTER,
    SAVED_EVERY,
    BookRow,
    BookSaved,
    MarketBooks,
    MarketChange,
    MarketRules,
    RowsTrimmed,
    VenueRules,
    moment,
    top_hash,
)
from psm.contracts.errors import ConfigError
from psm.projections.market import MARKET, update_of
from psm.projections.rows import Row
from psm.risk.messages import Stored

RULES = MarketRules(keep_s=60)


def run(
    messages: Iterable[Stored], sizes: Sequence[int] = (1,), books: MarketBooks | None = None
) -> list[list[MarketChange]]:
    """Return the changes of each batch; sizes are taken in turn."""
    books = books or MarketBooks(RULES)
    waiting = list(messages)
    batches: list[list[MarketChange]] = []
    while waiting:
        size = sizes[len(batches) % len(sizes)]
        batch, waiting = waiting[:size], waiting[size:]
        changes: list[MarketChange] = []
        for one in batch:
            changes += books.take(one.sequence, one.time, one.subject, one.data)
        batches.append([*changes, *books.settle()])
    return batches


def tables(batches: Iterable[Iterable[MarketChange]]) -> dict[str, dict[tuple[str, ...], Row]]:
    """Return what the views hold after batches: the statements, without a database."""
    found: dict[str, dict[tuple[str, ...], Row]] = {view.table: {} for view in MARKET.views}
    for changes in batches:
        updates = [update_of(change) for change in changes]
        for view in MARKET.views:
            rows = found[view.table]
            for statement, written in view.reduce(updates).items():
                for row in written:
                    if statement == "trim":
                        for key in [key for key in rows if key[2] < row["before"]]:
                            del rows[key]
                    elif statement == "delete":
                        rows.pop(tuple(row[name] for name in view.key), None)
                    else:
                        rows[tuple(row[name] for name in view.key)] = row
    return found


def latest(messages: Iterable[Stored], **rules: Any) -> dict[str, Row]:
    books = MarketBooks(MarketRules(**rules) if rules else RULES)
    rows = tables(run(messages, books=books))["orderbook_latest"]
    return {key[1]: row for key, row in rows.items()}


# --- one book -------------------------------------------------------------------------------------


def test_row_says_what_the_book_is() -> None:
    """Best levels as the venue wrote them, figures from them, the place in the stream."""
    feed = Feed("generic")
    feed.snapshot("A", 10, bids=[["99.50", "1"], ["99", "2"]], asks=[["100.50", "3"]])
    row = latest(feed.messages)["A"]
    assert (row["state"], row["last_id"], row["market_sequence"]) == ("synced", 10, 1)
    assert (row["bids"], row["asks"]) == ([("99.50", "1"), ("99", "2")], [("100.50", "3")])
    assert (row["mid"], row["spread"], row["microprice"]) == ("100", "1", "99.75")
    assert row["imbalance"] == "0"
    assert row["top_hash"] == top_hash([("99.5", "1.0"), ("99.0", "2")], [("100.5", "3")])
    assert row["since"] == row["log_time"] == moment(feed.messages[-1].time)


def test_only_a_synced_book_shows_levels() -> None:
    """Whoever reads the row of a broken one finds nothing to trade on; its state says why."""
    feed = Feed("generic")
    feed.snapshot("A", 10)
    feed.delta("A", 12, 12)
    row = latest(feed.messages)["A"]
    assert (row["state"], row["bids"], row["mid"], row["top_hash"]) == ("gap", [], None, None)
    assert row["since"] == moment(feed.messages[-1].time)


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b'{"payload":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"payload":{"kind":"delta","bids":[["x","1"]]}}',
        b'{"payload":{"kind":"delta","bids":[["1","-1"]]}}',
        b'{"payload":{"kind":"delta","bids":[["1"]]}}',
        b'{"payload":{"kind":"delta","last_id":1e30}}',
        b'{"payload":{"kind":"else"}}',
        b'{"payload":' * 100_000,
        b'{"a":' * 100_000,
        b'{"payload":{"kind":"delta","last_id":' + b"1" * 5_000 + b"}}",
        b'{"payload":{"kind":"delta","bids":[[' + b"1" * 5_000 + b',"1"]]}}',
        b'{"payload":{"kind":"delta","symbol":"B","first_id":11,"last_id":11}}',
        b'{"payload":{"kind":"delta","exchange":"other","first_id":11,"last_id":11}}',
    ],
)
def test_event_that_cannot_be_read_is_a_missing_change(data: bytes) -> None:
    """The book waits for its next snapshot, and says how many there were; the others go on."""
    feed = Feed("generic")
    feed.snapshot("A", 10)
    feed.snapshot("C", 10)
    feed.raw("A", data)
    rows = latest(feed.messages)
    assert (rows["A"]["state"], rows["A"]["unread"], rows["C"]["state"]) == ("gap", 1, "synced")
    feed.snapshot("A", 11)
    assert (latest(feed.messages)["A"]["state"], latest(feed.messages)["A"]["unread"]) == (
        "synced",
        0,
    )


@pytest.mark.parametrize(
    "subject",
    ["marketdata.ticker.A", "marketdata.depth.x", "a.b.c.d", "marketdata.depth.x.%00",
     "marketdata.depth.x.%zz"],
)  # fmt: skip
def test_other_subjects_are_passed_over(subject: str) -> None:
    """Nothing is said of them, not even the time."""
    one = Stored(sequence=1, time=1, subject=subject, data=b"{}")
    assert run([one]) == [[]]


def test_numbers_that_are_no_texts_and_more_values_of_a_level() -> None:
    """As venues send them: bare numbers keep their digits, a level may have a time."""
    feed = Feed("kraken")
    feed.raw(
        "A",
        b'{"payload":{"kind":"snapshot","bids":[[99.10,1,"170.5"]],"asks":[["100.0","2",5]]}}',
    )
    row = latest(feed.messages)["A"]
    assert [list(level) for level in (*row["bids"], *row["asks"])] == [
        ["99.10", "1"],
        ["100.0", "2"],
    ]


# --- venues ---------------------------------------------------------------------------------------


def test_venues_have_their_profiles() -> None:
    """By setting, else by a profile of that name, else the generic one."""
    rules = MarketRules.of(["a=kraken:flag", "b=binance_spot", "c=kraken:resync"], 60)
    assert rules.of_exchange("a") == VenueRules(profile="kraken", flag_checksums=True)
    assert rules.of_exchange("b") == VenueRules(profile="binance_spot")
    assert rules.of_exchange("c") == rules.of_exchange("kraken") == VenueRules(profile="kraken")
    assert rules.of_exchange("other") == VenueRules(profile="generic")


@pytest.mark.parametrize("text", ["", "a", "a=", "=kraken", "a=nasdaq", "a=kraken:ignore"])
def test_setting_that_says_nothing_is_refused(text: str) -> None:
    """A word that is misspelt must not become the generic profile."""
    with pytest.raises(ConfigError, match="PSM_MARKET_VENUES"):
        MarketRules.of([text], 60)


@pytest.mark.parametrize(
    ("flag", "states"),
    [(False, ["synced", "bad_checksum"]), (True, ["synced", "synced"])],
)
def test_documented_checksum_of_kraken(flag: bool, states: list[str]) -> None:
    """docs.kraken.com prints 974947235 for this book; another one is resynced or flagged."""
    feed = Feed("kraken")
    kraken_book(feed, CHECKED_BOOK)
    kraken_book(feed, CHECKED_BOOK + 1, kind="delta")
    venues = {"kraken": VenueRules(profile="kraken", flag_checksums=flag)}
    found = [latest(feed.messages[:count], venues=venues)["XBT/USD"] for count in (1, 2)]
    assert [row["state"] for row in found] == states
    assert [row["checksum_failures"] for row in found] == [0, 1]


# --- a recorded stream ----------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", ["binance_futures", "binance_spot", "generic", "kraken"])
def test_faults_of_a_feed_are_noticed_and_healed(exchange: str) -> None:
    """Gaps, duplicates, crossed and unreadable events: a synced book is always the venue's own."""
    feed = Feed(exchange, seed=3)
    feed.trade(400, faults=True)
    books = MarketBooks(MarketRules())
    seen = set()
    for one, truth in zip(feed.messages, feed.truth, strict=True):
        books.take(one.sequence, one.time, one.subject, one.data)
        for row in books.settle():
            assert isinstance(row, BookRow)
            seen.add(row.state)
            if row.state == "synced" and truth is not None:
                assert row.top_hash == truth
    assert {"buffering", "synced", "gap", "crossed"} <= seen
    feed.snapshots()
    rows = latest(feed.messages)
    assert {row["state"] for row in rows.values()} == {"synced"}


@pytest.mark.parametrize("seed", range(6))
def test_rows_are_the_same_however_messages_are_batched(seed: int) -> None:
    """Every table, bit by bit."""
    feed = Feed("binance_spot", seed=seed)
    feed.trade(600, faults=True, pace=400_000)
    once = tables(run(feed.messages, [len(feed.messages)]))
    dice = random.Random(seed)
    sizes = [dice.randint(1, 40) for _ in range(17)]
    assert tables(run(feed.messages)) == once == tables(run(feed.messages, sizes))
    assert all(once.values())


def test_one_row_per_bucket_has_the_last_state() -> None:
    """100 ms of log time are one row."""
    feed = Feed("generic")
    feed.snapshot("A", 1)
    for place in range(2, 30):
        feed.delta("A", place, place, step=BUCKET // 4)
    rows = tables(run(feed.messages))["orderbook_snapshot"]
    last = {one.time // BUCKET: one.sequence for one in feed.messages}
    assert [row["market_sequence"] for row in rows.values()] == list(last.values())


# --- state ----------------------------------------------------------------------------------------


def kept(batches: Iterable[Iterable[MarketChange]]) -> list[BookSaved]:
    """Return what the table of saved books would give."""
    rows = tables(batches)["orderbook_saved"].values()
    return [BookSaved(**row) for row in rows]


@pytest.mark.parametrize("seed", range(4))
def test_fold_goes_on_from_what_was_saved(seed: int) -> None:
    """Stopped anywhere, restored, read again from where it says: the rest comes out the same."""
    feed = Feed(["binance_futures", "kraken", "generic", "binance_spot"][seed], seed=seed)
    feed.trade(500, faults=True, pace=600_000)
    whole = run(feed.messages)
    for stop in random.Random(seed).sample(range(1, len(whole)), 12):
        books = MarketBooks(RULES)
        again = books.restore(kept(whole[:stop]))
        for one in feed.messages[max(again, 1) - 1 : stop]:
            books.take(one.sequence, one.time, one.subject, one.data)
        books.settle()
        assert run(feed.messages[stop:], books=books) == whole[stop:]


def test_books_that_may_lack_changes_wait_for_a_snapshot() -> None:
    """What expired while nobody read cannot be had again."""
    feed = Feed("kraken")
    feed.snapshot("A", None)
    feed.delta("A", None, None, step=SAVED_EVERY)
    books = MarketBooks(RULES)
    books.restore(kept(run(feed.messages)))
    books.lose()
    (row,) = books.settle()
    assert isinstance(row, BookRow)
    assert row.state == "gap"


def test_old_rows_go_by_the_clock_of_the_stream() -> None:
    """A minute's begin less what is kept; the latest state stays."""
    feed = Feed("generic")
    feed.snapshot("A", 1)
    feed.snapshot("B", 1)
    for place in range(2, 20):
        feed.delta("A", place, place, step=10_000_000)
    batches = run(feed.messages)
    (*_, before) = [c.before for batch in batches for c in batch if isinstance(c, RowsTrimmed)]
    found = tables(batches)
    buckets = [key[2] for key in found["orderbook_snapshot"]]
    assert min(buckets) >= before
    assert len(buckets) < 18
    assert {key[1] for key in found["orderbook_latest"]} == {"A", "B"}


def test_book_of_which_nothing_comes_is_forgotten() -> None:
    """A symbol that is traded no more must not stay for ever."""
    feed = Feed("generic")
    feed.snapshot("A", 1)
    feed.snapshot("B", 1, step=SAVED_EVERY)
    feed.snapshot("B", 2, step=FORGOTTEN_AFTER)
    feed.snapshot("B", 3, step=2 * SAVED_EVERY * 6)
    for sizes in ([1], [10]):
        found = tables(run(feed.messages, sizes))
        assert {key[1] for key in found["orderbook_latest"]} == {"B"}
        assert {key[1] for key in found["orderbook_saved"]} == {"B"}


def test_clock_never_goes_back() -> None:
    """Another leader's clock may be behind: rows stay in the order of the stream."""
    feed = Feed("generic")
    feed.snapshot("A", 1)
    feed.delta("A", 2, 2, step=1_000_000)
    feed.delta("A", 3, 3, step=-900_000)
    times = [row["log_time"] for batch in run(feed.messages) for row in map(_row, batch)]
    assert all(before <= after for before, after in pairwise(times))
    assert json.loads(feed.messages[-1].data)["payload"]["last_id"] == 3


def _row(change: MarketChange) -> Row:
    assert isinstance(change, BookRow)
    return {"log_time": change.log_time}
