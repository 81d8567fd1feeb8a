"""Snapshots and checkpoints: snapshot + tail equals the full replay, byte for byte."""

from __future__ import annotations

import json
import zlib
from decimal import Decimal

import pytest
from tests.support.domain import Log, given
from tests.support.events import (
    SECOND,
    START,
    Sent,
    deposit,
    event,
    funding,
    instrument,
    mark,
    opened,
    trade,
    unknown,
    withdrawal,
)

from psm.contracts.envelope import event_hash
from psm.contracts.errors import ContractError
from psm.domain.books import Books
from psm.domain.delivery.parked import PARKED_MAX
from psm.domain.snapshot import dump_account, dump_checkpoint, load_account, load_checkpoint

TIER = [{"notional_floor": "0", "maintenance_rate": "0.3"}]
STORY: list[Sent] = [
    instrument(1, margin_tiers=TIER),
    opened(1, leverage_limit="1.5"),
    deposit(2, "1000"),
    trade(3, "buy", "7", "123.456", commission="0.1", fill_id="f1"),
    mark(1, "100", at=START),
    mark(2, "60", at=START + 1),
    trade(6, "sell", "9", "70", fill_id="f2"),
    deposit(1, stream="other"),
    funding(5, "-0.5", reference="r"),
    mark(3, "65", at=START + 2),
    withdrawal(4, "200"),
    mark(4, "300", at=START + 3),
    trade(7, "buy", "3", "80", fill_id="f1"),
    mark(1, "9", "ETH-PERP", at=START + SECOND),
    unknown(9),
    deposit(8),
    deposit(10),
]


def restored(log: Log) -> Log:
    """Return a log with the same messages whose books come from snapshots."""
    books = Books(partitions=log.books.partitions)
    position = log.books.position
    books.market.restore(load_checkpoint(dump_checkpoint(log.books, position, b"h" * 32)).tables)
    books.position = position
    for account in log.books.accounts.values():
        books.restore(load_account(dump_account(account, position, b"h" * 32))[0])
    copy = Log(books=books)
    copy.messages = dict(log.messages)
    copy._time = log._time
    return copy


@pytest.mark.parametrize("place", range(1, len(STORY)))
def test_snapshot_bootstrap(place: int) -> None:
    """A restart from snapshots goes on exactly as if there had been none."""
    full = given(*STORY)
    copy = restored(given(*STORY[:place]))
    copy.when(*STORY[place:])
    assert copy.end() == full.end()
    assert copy.updates == [u for u in full.updates if u.log_sequence > place]
    for stream, account in full.books.accounts.items():
        again = copy.books.accounts[stream]
        assert dump_account(again, 0, b"") == dump_account(account, 0, b"")


def test_snapshot_does_not_tell_how_often_its_owner_started() -> None:
    """Equity that had many decimals once leaves no zeros in the peak: the bytes are the same."""
    inverse = instrument(1, kind="inverse_perp", quote="USD", settle="BTC")
    story = [inverse, opened(1, currency="BTC"), deposit(2, "10"), trade(3, "buy", "1", "2")]
    full = given(*story, mark(1, "3"), mark(2, "4"))
    copy = restored(given(*story, mark(1, "3")))
    copy.when(mark(2, "4"))
    assert full.account().valuation.peak_equity == Decimal("10.25")
    assert dump_account(copy.account(), 6, b"") == dump_account(full.account(), 6, b"")


def test_rate_that_is_defined_late_values_what_orders_reserve() -> None:
    """The same whether the account was in memory then or comes from a snapshot made before."""
    euro = {"base": "EUR", "quote": "USDT", "settle": "USDT"}
    order = {"order_id": "o1", "symbol": "DAX", "side": "buy", "type": "limit"}
    story = [
        instrument(1, "DAX", base="DAX", quote="EUR", settle="EUR"),
        deposit(1, "1000"),
        event("OrderSubmitted", {**order, "quantity": "1", "price": "100"}, 2),
        mark(1, "1.1", "EURUSDT", at=START),
    ]
    late = [
        instrument(1, "EURUSDT", kind="spot", **euro),
        mark(1, "5", "OTHER", at=START + 2 * SECOND),
        mark(2, "1.1", "EURUSDT", at=START + 4 * SECOND),
    ]
    full = given(*story, *late)
    copy = restored(given(*story))
    copy.when(*late)
    account = full.account()
    assert account.value().order_margin == Decimal(110)
    assert copy.updates == [u for u in full.updates if u.log_sequence > len(story)]
    assert copy.end() == full.end()


def test_snapshot_of_an_overflow_releases_what_it_holds() -> None:
    """The parked list and what is held behind it survive."""
    log = given(deposit(1), *[deposit(n) for n in range(3, PARKED_MAX + 7)])
    copy = restored(log)
    copy.when(deposit(2))
    assert copy.account().delivery.version == PARKED_MAX + 6


def test_snapshot_says_where_it_stands() -> None:
    """It names its position, the message there and its ledger hash."""
    log = given(opened(1), deposit(2))
    hashed = event_hash(log.messages[2].data)
    account, snapshot = load_account(dump_account(log.account(), 2, hashed))
    assert (snapshot.log_sequence, snapshot.message_hash) == (2, hashed.hex())
    assert (account.delivery.as_of, account.delivery.version) == (2, 2)
    assert snapshot.ledger_hash == log.state()["ledger_hash"]


@pytest.mark.parametrize(
    "change",
    [
        {"form": 2},
        {"rules_version": 99},
        {"version": 3},
        {"cash": {"USDT": "1"}},
        {"currency": None},
        {"cash": {"USDT": "x"}},
    ],
)
def test_bad_snapshot_is_refused(change: dict[str, object]) -> None:
    """Another form, newer rules or a wrong number are found on reading."""
    data = json.loads(zlib.decompress(dump_account(given(deposit(1)).account(), 1, b"")))
    with pytest.raises(ContractError, match="bad_snapshot"):
        load_account(zlib.compress(json.dumps({**data, **change}).encode()))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"form":1,"log_sequence":"x"}'])
def test_unreadable_snapshot_is_refused(data: bytes) -> None:
    """Junk is reported, never guessed."""
    for load in (load_account, load_checkpoint):
        for stored in (data, zlib.compress(data), zlib.compress(data)[:-1]):
            with pytest.raises(ContractError, match="bad_snapshot"):
                load(stored)


def test_large_account_fits_into_a_message() -> None:
    """1 000 positions in tiered instruments and full windows stay far below the broker's limit."""
    tiers = [
        {"notional_floor": str(10_000 * 4**n), "maintenance_rate": f"0.0{n + 1:02}"}
        for n in range(8)
    ]
    log = Log()
    for n in range(1, 1001):
        symbol = f"S{n:04}-PERP"
        log.when(
            instrument(1, symbol, margin_tiers=tiers),
            trade(n, "buy", f"0.{n}", f"{n * 7}.5", symbol, commission="1.05", fill_id=f"f{n}"),
        )
    assert len(dump_account(log.account(), 1, b"h" * 32)) < 256 * 1024
    assert len(dump_checkpoint(log.books, 1, b"h" * 32)) < 256 * 1024


def test_same_state_gives_the_same_snapshot() -> None:
    """The bytes do not depend on the order in which things came to be."""
    one = given(deposit(1), deposit(2, "5", currency="A"), deposit(3, "5", currency="B"))
    two = restored(one)
    assert dump_account(one.account(), 3, b"") == dump_account(two.account(), 3, b"")


def test_checkpoint_of_an_empty_log() -> None:
    """A checkpoint may stand before the first message."""
    checkpoint = load_checkpoint(dump_checkpoint(Books(partitions=4), 0, None))
    assert (checkpoint.log_sequence, checkpoint.message_hash) == (0, None)
    assert (checkpoint.tables.clock, checkpoint.tables.marked_at) == (0, None)


def test_warned_levels_survive() -> None:
    """A restart does not warn again about what was warned about."""
    log = given(instrument(1, margin_tiers=TIER), deposit(1, "40"), trade(2, "buy", "1", "100"))
    assert log.account().valuation.warned == ("0.5",)
    copy = restored(log)
    assert "MarginWarning" not in copy.when(deposit(3, "0.1")).types
