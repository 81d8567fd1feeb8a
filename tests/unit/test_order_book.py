"""Order books: joins, gaps, crossed books, checksums; against a table of prices kept apart."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psm.analytics.order_book import PROFILES, Depth, OrderBook, top_of
from psm.workers.cli import main

ASKS = [(f"0.0{price}", "0.00000500") for price in range(5005, 5055, 5)]
BIDS = [
    (f"0.0{price}", "0.00000500")
    for price in (5000, 4995, 4990, 4980, 4975, 4970, 4965, 4960, 4955, 4950)
]


def snapshot(last: int | None = 10, **more: Any) -> Depth:
    return Depth(kind="snapshot", bids=[("99", "1")], asks=[("101", "2")], last_id=last, **more)


def change(first: int, last: int, prev: int | None = None, **sides: Any) -> Depth:
    return Depth(kind="delta", first_id=first, last_id=last, prev_id=prev, **sides)


def states(profile: str, *events: Depth) -> list[str]:
    book = OrderBook(PROFILES[profile])
    return [book.take(event) for event in events]


def test_the_printed_example_of_kraken() -> None:
    """docs.kraken.com: the checksum of ten levels is 974947235."""
    book = OrderBook(PROFILES["kraken"])
    book.take(Depth(kind="snapshot", bids=BIDS, asks=ASKS, checksum=974947235))
    assert (book.state, book.checksum()) == ("synced", 974947235)


def test_a_checksum_that_does_not_fit() -> None:
    """The book waits for a snapshot, or goes on and counts."""
    start = Depth(kind="snapshot", bids=BIDS, asks=ASKS)
    wrong = Depth(kind="delta", bids=[("0.05000", "0.00000600")], checksum=974947235)
    assert states("kraken", start, wrong, start) == ["synced", "bad_checksum", "synced"]
    book = OrderBook(PROFILES["kraken"], flag_checksums=True)
    assert [book.take(event) for event in (start, wrong)] == ["synced", "synced"]
    assert book.checksum_failures == 1


def test_levels_beyond_the_depth_are_dropped() -> None:
    """A better level pushes the worst out; it does not come back when the better one goes."""
    book = OrderBook(PROFILES["kraken"])
    book.take(Depth(kind="snapshot", bids=BIDS, asks=ASKS))
    book.take(Depth(kind="delta", asks=[("0.05001", "1")]))
    book.take(Depth(kind="delta", asks=[("0.05001", "0")]))
    assert [level[0] for level in book.asks.best(20)] == [price for price, _ in ASKS[:-1]]


@pytest.mark.parametrize(
    ("profile", "events", "expected"),
    [
        ("binance_futures", [change(5, 12, 4), change(13, 15, 12)], ["synced", "synced"]),
        ("binance_futures", [change(1, 9, 0), change(5, 12, 9)], ["synced", "synced"]),
        ("binance_futures", [change(11, 12, 11)], ["gap"]),
        ("binance_futures", [change(5, 12, 4), change(14, 15, 13)], ["synced", "gap"]),
        ("binance_futures", [change(5, 12, 4), change(5, 12, 4)], ["synced", "synced"]),
        ("binance_spot", [change(9, 11), change(12, 12)], ["synced", "synced"]),
        ("binance_spot", [change(8, 10), change(11, 11)], ["synced", "synced"]),
        ("binance_spot", [change(12, 12)], ["gap"]),
        ("binance_spot", [change(11, 11), change(13, 13)], ["synced", "gap"]),
        ("generic", [change(11, 11), change(12, 12, 11), change(14, 14, 13)],
         ["synced", "synced", "gap"]),
        ("generic", [Depth(kind="delta", bids=[("98", "1")])], ["synced"]),
    ],
)  # fmt: skip
def test_changes_join_or_are_missing(
    profile: str, events: list[Depth], expected: list[str]
) -> None:
    """Each venue's own rule, the first change after the snapshot included."""
    assert states(profile, snapshot(), *events) == ["synced", *expected]


def test_changes_wait_for_their_snapshot() -> None:
    """Those that it has are old, those after it are applied, and a hole is seen."""
    early = [change(n, n, bids=[("98", str(n))]) for n in (9, 10, 11, 12)]
    book = OrderBook(PROFILES["binance_spot"])
    assert [book.take(event) for event in early] == ["buffering"] * 4
    assert book.take(snapshot()) == "synced"
    assert (book.last_id, book.bids.best(2)) == (12, [("99", "1"), ("98", "12")])
    del early[2]
    assert states("binance_spot", *early, snapshot())[-1] == "gap"


def test_a_crossed_book_waits_for_a_snapshot() -> None:
    """After the whole event: what takes the ask away in the same event does not cross."""
    through = [("101", "1")]
    assert states("generic", snapshot(), change(11, 11, bids=through))[-1] == "crossed"
    both = change(11, 11, bids=through, asks=[("101", "0"), ("102", "1")])
    assert states("generic", snapshot(), both)[-1] == "synced"
    events = [snapshot(), change(11, 11, bids=through), change(12, 12), snapshot(20)]
    assert states("generic", *events)[2:] == ["crossed", "synced"]


def test_the_best_levels() -> None:
    """Mid 100, spread 2, and the price leans to the side with less."""
    book = OrderBook(PROFILES["generic"])
    assert top_of(book).mid is None
    book.take(snapshot())
    top = top_of(book)
    assert top.mid == 100
    assert top.spread == 2
    assert 99 < (top.microprice or 0) < 100
    assert -1 < (top.imbalance or 0) < 0


levels = st.tuples(st.integers(1, 40).map(str), st.integers(0, 3).map(str))
sides = st.lists(levels, max_size=3)


@given(st.lists(st.tuples(sides, sides), max_size=30), st.data())
def test_a_book_that_is_healed_is_the_book(
    steps: list[tuple[list[tuple[str, str]], list[tuple[str, str]]]], data: st.DataObject
) -> None:
    """Lost and repeated changes: while it is synced, the book is that of all changes."""
    book = OrderBook(PROFILES["generic"])
    bids: dict[str, str] = {}
    asks: dict[str, str] = {}
    book.take(Depth(kind="snapshot", last_id=0))
    for number, (bought, sold) in enumerate(steps, 1):
        # Bids are 1 to 40, asks 101 to 140: never crossed.
        asked = [(str(int(price) + 100), quantity) for price, quantity in sold]
        for table, side in ((bids, bought), (asks, asked)):
            for price, quantity in side:
                table[price] = quantity
                if quantity == "0":
                    del table[price]
        event = change(number, number, bids=bought, asks=asked)
        for _ in range(data.draw(st.integers(0, 2))):
            book.take(event)
        if book.state != "synced" and data.draw(st.booleans()):
            book.take(
                Depth(kind="snapshot", last_id=number, bids=[*bids.items()], asks=[*asks.items()])
            )
        if book.state == "synced" and book.last_id == number:
            assert dict(book.bids.best(99)) == bids
            assert dict(book.asks.best(99)) == asks
            assert book.bids.prices == sorted(map(Decimal, bids))


def test_the_command_follows_every_book(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bare payloads and events, by exchange and symbol; a line that is none is named."""
    rows: list[Any] = [
        {"kind": "delta", "symbol": "A", "first_id": 11, "last_id": 11, "bids": [["98.50", "3"]]},
        {"kind": "snapshot", "symbol": "A", "last_id": 10, "bids": [["99", "1"]],
         "asks": [[101, 2]]},
        {"subject": "marketdata.depth.venue.A", "data": {"event_type": "market_data", "payload": {
            "kind": "snapshot", "symbol": "A", "last_id": 5, "bids": [["7", "1"]]}}},
        {"kind": "delta", "symbol": "A", "bids": [["x", "1"]]},
        {"kind": "delta", "symbol": "A", "first_id": 13, "last_id": 13},
    ]  # fmt: skip
    file = tmp_path / "depth.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    assert main(["book", str(file), "--profile", "binance_spot"]) == 1
    printed = capsys.readouterr()
    found = [json.loads(line) for line in printed.out.splitlines()]
    assert [row["state"] for row in found] == ["buffering", "synced", "synced", "gap"]
    assert found[1]["best_bid"] == ["99", "1"]
    assert (found[1]["last_id"], found[1]["bids"]) == (11, 2)
    assert found[2]["exchange"] == "venue"
    assert (
        'line 4: malformed_field: "x" is no number of zero or more (field bids[0])' in printed.err
    )
    assert main(["book", str(file), "-o", "jsonl"]) == 1
    assert json.loads(capsys.readouterr().err)["line"] == 4
