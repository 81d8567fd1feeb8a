"""Busts and amendments on a real log: the whole stream is read back, whatever was snapshotted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.support.events import (
    ACCOUNT,
    Sent,
    collateral,
    deposit,
    event,
    instrument,
    mark,
    trade,
)
from tests.support.twins import FaultyLog
from tests.support.workbench import Bench, open_bench, until

from psm.domain.messages import LogMessage
from psm.domain.publication.figures import state_document
from psm.workers.log import reader
from psm.workers.partition import jetstream
from psm.workers.replay.account import Selection, replay_account


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url) as opened:
        yield opened


def busted(number: int, fill_id: str) -> Sent:
    return event("TradeBusted", {"fill_id": fill_id, "reason": "venue error"}, number)


def amended(number: int, fill_id: str, **fields: str) -> Sent:
    payload = {"fill_id": fill_id, "reason": "venue error", **fields}
    return event("TradeAmended", payload, number)


def two_cycles() -> Iterator[Sent]:
    """Yield a cycle that closes (buy 1 + 1, sell 2) and one that stays open, among other things."""
    yield instrument()
    yield deposit(1, "10000")
    yield trade(2, "buy", "1", "100", fill_id="f1", commission="0.1")
    yield mark(1, "105")
    yield deposit(1, stream="other")
    yield trade(3, "buy", "1", "110", fill_id="f2", commission="0.2")
    yield trade(4, "sell", "2", "120", fill_id="f3")
    yield mark(2, "121")
    yield trade(5, "buy", "3", "130", fill_id="f4")
    yield from (deposit(n, stream="other") for n in range(2, 40))
    yield trade(6, "sell", "1", "140", fill_id="f5")


async def stopped_or_crashed(bench: Bench, last: int, *, crash: bool) -> FaultyLog:
    """Run the partition until all is committed; end it with a snapshot, or without."""
    log = bench.log()
    partition = bench.partition(log=log)
    if not crash:
        await bench.run_until(partition, last)
        return log
    try:
        async with bench.running(partition) as task:
            await until(lambda: partition.stats.position >= last, "all is folded")
            await bench.judge()
            task.cancel()
            raise TimeoutError
    except TimeoutError:
        return log


def figures(document: dict[str, Any]) -> tuple[Any, ...]:
    position = document["positions"]["BTC-PERP"]
    names = ("size", "entry_price", "realized_pnl", "fees", "cycle")
    return (*(position[name] for name in names), document["cash"])


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "crashed"])
async def test_bust_after_a_restart_equals_the_refold(bench: Bench, crash: bool) -> None:
    """A worker that knows the account from a snapshot only corrects a fill of a closed cycle."""
    before = await bench.publish(two_cycles())
    await stopped_or_crashed(bench, before, crash=False)
    last = await bench.publish(busted(7, "f2"), amended(8, "f4", price="131"), mark(3, "150"))
    log = await stopped_or_crashed(bench, last, crash=crash)
    assert log.started_at == [before + 1], "the account comes from its snapshot"
    assert log.histories == [(ACCOUNT, 1, before), (ACCOUNT, 1, before + 1)]
    last = await bench.publish(busted(9, "f2"), trade(10, "buy", "1", "150"))
    await stopped_or_crashed(bench, last, crash=False)
    verdict = await bench.judge()
    (refusal,) = verdict.payloads("EventRefused")
    assert (refusal["reason"], refusal["sequence_number"]) == ("unknown_trade", 9)
    # Without f2: buy 1, sell 2 is a flip to short 1 at 120; buy 3 at 131 closes it, long 2.
    books = verdict.books[0]
    document = state_document(books, books.accounts[ACCOUNT])
    assert figures(document) == ("2", "140.5", "18", "0.1", 3, {"USDT": "10017.9"})


async def test_correction_that_waited_behind_a_gap_and_a_restart(bench: Bench) -> None:
    """What is released reads the stream from its beginning, not from the first parked message."""
    parked = [amended(8, "f1", quantity="2"), busted(9, "f3")]
    await stopped_or_crashed(bench, await bench.publish(two_cycles(), parked), crash=False)
    await stopped_or_crashed(bench, await bench.publish(busted(7, "f5")), crash=True)
    verdict = await bench.judge()
    books = verdict.books[0]
    document = state_document(books, books.accounts[ACCOUNT])
    assert (document["sequence_number"], document["status"]) == (9, "open")
    assert figures(document) == ("6", "116.666666666666666667", "0", "0.3", 1, {"USDT": "9999.7"})


async def test_replay_of_one_account_reads_it_back_too(bench: Bench) -> None:
    """`psm replay` gives the states that were published, the corrected ones included."""
    last = await bench.publish(two_cycles(), busted(7, "f2"))
    await stopped_or_crashed(bench, last, crash=False)
    verdict = await bench.judge()
    published = [
        payload
        for payload in verdict.payloads("StateUpdated")
        if payload["account_id"] == ACCOUNT and payload["cause"] == "event"
    ]
    settings = bench.settings
    steps = replay_account(
        bench.nc,
        ACCOUNT,
        partitions=settings.partitions,
        slots=settings.valuation_slots,
        selection=Selection(),
    )
    assert [step.state async for step in steps] == published


@pytest.mark.parametrize("hidden", [{0}, {1, 2}, {3, 4}], ids=["first", "middle", "last"])
async def test_marks_that_a_replica_hides_count_in_a_corrected_past(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, hidden: set[int]
) -> None:
    """A consumer reads them back; where their numbers have a gap, and at the end, the leader."""
    prices = [f"10{place}" for place in range(5)]
    prices[min(hidden)] = "500"  # how far it went in favour of the position
    await bench.publish(instrument(), deposit(1, "1000"), trade(2, "buy", "1", "100", fill_id="f"))
    first = await bench.publish(trade(3, "buy", "1", "100", fill_id="g")) + 1
    await bench.publish(mark(n, price) for n, price in enumerate(prices, 1))

    async def read_log(*asked: Any) -> AsyncIterator[list[LogMessage]]:
        async for batch in reader.read_log(*asked):
            yield [message for message in batch if message.log_sequence - first not in hidden]

    monkeypatch.setattr(jetstream, "read_log", read_log)
    last = await bench.publish(busted(4, "g"))
    await bench.run_until(bench.partition(), last)
    verdict = await bench.judge()
    assert verdict.outcomes == {"applied": 10}
    (position,) = (p for p in verdict.payloads("PositionUpdated") if p["log_sequence"] == last)
    assert position["cycle_mfe"] == "400"


@pytest.mark.parametrize("hidden", [set(), {0}, {0, 1}], ids=["none", "one", "all"])
async def test_terms_that_a_replica_hides_count_in_a_corrected_past(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, hidden: set[int]
) -> None:
    """Those of every asset are read back by one wildcard; the leader is asked for each."""
    await bench.publish(instrument(), deposit(1, "1000"), trade(2, "buy", "1", "100", fill_id="f"))
    first = await bench.publish(trade(3, "buy", "1", "100", fill_id="g")) + 1
    await bench.publish(collateral(1, "BTC"), collateral(1, "USDT", "0"), mark(1, "300"))

    async def read_log(*asked: Any) -> AsyncIterator[list[LogMessage]]:
        async for batch in reader.read_log(*asked):
            yield [message for message in batch if message.log_sequence - first not in hidden]

    found: list[dict[int, LogMessage]] = []
    market_history = jetstream.JetStreamLog.market_history

    async def noted(*asked: Any) -> dict[int, LogMessage]:
        found.append(await market_history(*asked))
        return found[-1]

    monkeypatch.setattr(jetstream, "read_log", read_log)
    monkeypatch.setattr(jetstream.JetStreamLog, "market_history", noted)
    last = await bench.publish(busted(4, "g"))
    await bench.run_until(bench.partition(), last)
    verdict = await bench.judge()
    assert verdict.outcomes == {"applied": 8}
    assert sorted(found[0]) == [1, first, first + 1, first + 2]
