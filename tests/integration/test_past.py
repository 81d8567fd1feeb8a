"""Past states from the log: what the views held then, folded again from one account's events."""

from __future__ import annotations

import random
import threading
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.support.events import (
    changed,
    deposit,
    dismissed,
    event,
    fee,
    mark,
    retried,
    trade,
    unknown,
    voided,
)
from tests.support.market import Market
from tests.support.views import Views, views_of
from tests.support.workbench import Bench, open_bench

from psm.contracts.codec import decode_untyped
from psm.contracts.position_keys import position_key
from psm.domain.folding.rebooking import Rebooked, Rebooking
from psm.workers.history.as_of import PastState, When, past_state, place_at
from psm.workers.history.timeline import NoSuchPlaceError, UnknownStreamError, read_ledger
from psm.workers.history.verify import verify
from psm.workers.log.shape import LogShape

PARTITIONS = 2
TERMINAL = ("filled", "cancelled", "rejected", "expired")


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url, partitions=PARTITIONS) as opened:
        yield opened


def shape(bench: Bench) -> LogShape:
    return LogShape(
        partitions=PARTITIONS,
        slots=bench.settings.valuation_slots,
    )


async def published(bench: Bench, stream_id: str) -> list[dict[str, Any]]:
    """Run a worker over the log; return the account's updates in order."""
    async with bench.worker():
        verdict = await bench.judge()
    return [
        decode_untyped(data)
        for found in verdict.updates.values()
        for subject, data in found
        if subject.endswith(f".{stream_id}")
    ]


MOVED_BY_MARKS = (
    "mark_price", "mark_source", "mark_log_sequence", "mark_time", "notional", "unrealized_pnl",
    "unrealized_pnl_account", "cycle_mae", "cycle_mfe", "liquidation_price",
)  # fmt: skip


def views_at(updates: list[dict[str, Any]], number: int) -> Views:
    """Return the views as they were right behind a number's `StateUpdated`."""
    for end, update in enumerate(updates, start=1):
        payload = update["payload"]
        if update["event_type"] == "StateUpdated" and payload["sequence_number"] == number:
            return views_of(updates[:end])
    raise AssertionError(f"number {number} was never announced")


def assert_same(past: PastState, views: Views) -> None:
    """Compare every figure of the documents with the rows."""
    (balances,) = views["balances_view"].values()
    rows = views["positions_view"].values()
    positions = {
        position_key(row["symbol"], row["position_side"]): row
        for row in rows
        if row["class"] != "asset"
    }
    assets = {row["symbol"]: row for row in rows if row["class"] == "asset"}
    orders = {order_id: row for (_, order_id), row in views["orders_view"].items()}
    apart = ("positions", "orders", "assets")
    assert _without_nulls(past.state, *apart) == _only(balances, past.state)
    held = {asset: found for asset, found in past.state["assets"].items() if asset in assets}
    assert {asset: found["quantity"] for asset, found in held.items()} == {
        asset: f"{'-' if row['side'] == 'short' else ''}{row['size']}"
        for asset, row in assets.items()
        if row["size"] != "0"
    }
    assert past.state["positions"].keys() == positions.keys()
    for symbol, found in past.state["positions"].items():
        # The view keeps what marks move until the position itself changes or its slot comes; the
        # past is told exactly.
        stale = positions[symbol]["log_sequence"] != past.state["log_sequence"]
        out = MOVED_BY_MARKS if stale else ()
        row = _only(positions[symbol], found)
        assert _without_nulls(found, *out) == _without_nulls(row, *out), symbol
    assert past.orders.keys() <= orders.keys()
    assert past.state["orders"].keys() == {
        order_id for order_id, row in orders.items() if row["status"] not in TERMINAL
    }
    for order_id, found in past.orders.items():
        assert _without_nulls(found) == _only(orders[order_id], found), order_id
    (margin,) = views["margin_view"].values()
    assert _without_nulls(past.margin) == _only(margin, past.margin)


def _without_nulls(figures: dict[str, Any], *leave_out: str) -> dict[str, Any]:
    return {k: v for k, v in figures.items() if v is not None and k not in leave_out}


def _only(row: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name in names}


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_number_gives_what_the_views_held_then(bench: Bench, seed: int) -> None:
    """All event types, busts and gaps; marks of other symbols are not even read."""
    author = Market(seed=seed, length=220, accounts=2).author()
    await bench.publish(author.sent)
    updates = await published(bench, "acc_000")
    ledger = await read_ledger(bench.nc, shape(bench), "acc_000")
    numbers = [place.sequence_number for place in ledger.places]
    assert numbers == list(range(1, len(numbers) + 1)), "every place once, in order"
    for number in numbers[::3]:
        when = When(sequence=number)
        past = await past_state(bench.nc, shape(bench), "acc_000", when, ledger=ledger)
        assert_same(past, views_at(updates, number))


@pytest.mark.parametrize("seed", [3, 4])
async def test_what_follows_changes_no_past(bench: Bench, seed: int) -> None:
    """Neither what a moment is known by, nor what the account does and holds after it."""
    author = Market(seed=seed, length=160, accounts=1).author()
    first, rest = author.sent[:90], author.sent[90:]
    for n, one in enumerate(first):
        timed = changed(one, timestamp=f"2026-01-01T00:{n // 60:02}:{n % 60:02}Z")
        await bench.publish(timed, mark(n + 1, "7", "LATER"))
    early = await read_ledger(bench.nc, shape(bench), "acc_000")
    dice = random.Random(seed)
    moments = []
    for place in dice.sample(early.places[:-1], 8):
        moments.append(When(sequence=place.sequence_number))
        following = early.following(place)
        assert following is not None
        before = datetime.fromisoformat(following.log_time) - timedelta(microseconds=1)
        moments.append(When(at=before.isoformat().replace("+00:00", "Z"), log_time=True))
        when = When(at=place.timestamp)
        if early.following(place_at(early, when)) is not None:
            moments.append(when)

    async def asked() -> list[PastState]:
        return [await past_state(bench.nc, shape(bench), "acc_000", when) for when in moments]

    then = await asked()
    later = trade(author.next("acc_000"), "buy", "1", "7", "LATER", stream="acc_000")
    await bench.publish(rest, later)
    assert await asked() == then
    whole = await read_ledger(bench.nc, shape(bench), "acc_000")
    assert "LATER" in whole.symbols
    for when, past in zip(moments, then, strict=True):
        known = await past_state(bench.nc, shape(bench), "acc_000", when, ledger=whole)
        assert known == past, "read as far as was needed, or all of it"


async def test_corrected_past_is_booked_beside_the_event_loop(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be long: whoever else this process answers does not wait for it."""
    threads, rebook = [], Rebooking.rebook

    def noted(self: Rebooking, *args: Any, **named: Any) -> Rebooked:
        threads.append(threading.current_thread())
        return rebook(self, *args, **named)

    monkeypatch.setattr(Rebooking, "rebook", noted)
    bust = event("TradeBusted", {"fill_id": "f", "reason": "erroneous"}, 3)
    await bench.publish(deposit(1, "100"), trade(2, "buy", "1", "20", fill_id="f"), bust)
    past = await past_state(bench.nc, shape(bench), "acc_001", When(sequence=3))
    assert past.state["positions"] == {}
    assert threads
    assert threading.main_thread() not in threads


async def test_number_that_a_gap_released_has_a_state_of_its_own(bench: Bench) -> None:
    """2 to 4 were all folded as part of message 2; each is shown as if it were the last."""
    await bench.publish(
        deposit(1, "1000"),
        trade(3, "buy", "1", "100"),
        fee(4, "5"),
        mark(1, "120"),
        deposit(2, "50"),
    )
    updates = await published(bench, "acc_001")
    for number, cash in ((1, "1000"), (2, "1050"), (3, "1050"), (4, "1045")):
        past = await past_state(bench.nc, shape(bench), "acc_001", When(sequence=number))
        assert past.state["cash"] == {"USDT": cash}
        if number > 1:
            assert_same(past, views_at(updates, number))


async def test_repairs_do_not_shift_the_numbers(bench: Bench) -> None:
    """A void fills many numbers with one place; a retry in vain takes no number at all."""
    repairs = (unknown(2), deposit(3, "10"), retried(), dismissed(2))
    void = (trade(7, "buy", "1", "20"), voided(4, 6))
    await bench.publish(deposit(1, "100"), *repairs, *void, deposit(8, "1"))
    updates = await published(bench, "acc_001")
    ledger = await read_ledger(bench.nc, shape(bench), "acc_001", hashed=True)
    assert [place.sequence_number for place in ledger.places] == [1, 1, 2, 3, 6, 7, 8]
    assert [place.event_type for place in ledger.places[:2]] == ["CashDeposited", "StreamRetried"]
    assert ledger.last_number == 8
    expected = {1: (1, "100"), 2: (2, "100"), 3: (3, "110"), 4: (6, "110"), 6: (6, "110")}
    for number, (stands_at, cash) in {**expected, 7: (7, "110"), 8: (8, "111")}.items():
        when = When(sequence=number)
        past = await past_state(bench.nc, shape(bench), "acc_001", when, ledger=ledger)
        assert (past.state["sequence_number"], past.state["cash"]["USDT"]) == (stands_at, cash)
        if number > 1:
            assert_same(past, views_at(updates, stands_at))
    with pytest.raises(NoSuchPlaceError, match="its last one is 8"):
        ledger.place(9)
    for place in ledger.places:
        kept = place.ledger_hash
        number = place.sequence_number
        assert (await verify(bench.nc, shape(bench), "acc_001", number, kept)).agrees
    other = ledger.place(8).ledger_hash
    assert not (await verify(bench.nc, shape(bench), "acc_001", 7, other)).agrees


async def test_time_selects_by_the_events_or_by_the_log(bench: Bench) -> None:
    """The longest run before the first later event; a late one that is backdated counts."""
    await bench.publish(
        deposit(1, "100", timestamp="2025-12-01T10:00:00Z"),
        deposit(2, "10", timestamp="2025-12-01T12:00:00Z"),
        deposit(3, "1", timestamp="2025-12-01T11:00:00Z"),
    )
    await published(bench, "acc_001")
    known = (await read_ledger(bench.nc, shape(bench), "acc_001")).places

    async def cash(**when: Any) -> Decimal:
        past = await past_state(bench.nc, shape(bench), "acc_001", When(**when))
        return Decimal(past.state["cash"]["USDT"])

    assert await cash(at="2025-12-01T10:00:00Z") == 100
    assert await cash(at="2025-12-01T11:59:59.999Z") == 100, "3 is behind the later 2"
    assert await cash(at="2025-12-01T12:00:00Z") == 111
    assert await cash(at=known[1].log_time, log_time=True) == 110
    with pytest.raises(NoSuchPlaceError, match=r"its first one is of 2025-12-01T10:00:00Z"):
        await cash(at="2025-12-01T09:59:59Z")
    with pytest.raises(NoSuchPlaceError, match="its last one is 3"):
        await cash(sequence=4)
    with pytest.raises(UnknownStreamError, match="no event of account acc_999"):
        await past_state(bench.nc, shape(bench), "acc_999", When(sequence=1))


async def test_time_takes_the_marks_up_to_the_next_event(bench: Bench) -> None:
    """The account is valued by the last mark before the first event that is too late."""
    await bench.publish(
        deposit(1, "1000", timestamp="2025-12-01T10:00:00Z"),
        trade(2, "buy", "1", "100", timestamp="2025-12-01T10:00:01Z"),
        mark(1, "110"),
        mark(2, "130"),
        deposit(3, "1", timestamp="2025-12-01T11:00:00Z"),
        mark(3, "900"),
    )
    await published(bench, "acc_001")
    past = await past_state(bench.nc, shape(bench), "acc_001", When(at="2025-12-01T10:30:00Z"))
    assert past.place.sequence_number == 2
    (position,) = past.state["positions"].values()
    assert (position["mark_price"], position["unrealized_pnl"]) == ("130", "30")
    assert past.state["cause"] == "mark"
