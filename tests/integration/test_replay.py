"""Folding the log again, without writing: the same bytes as live."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.support import feed
from tests.support.events import deposit, dismissed, mark, retried, trade, unknown, voided
from tests.support.workbench import Bench, open_bench

from psm.adapters.jetstream import stream_info
from psm.contracts.subjects import partition_of
from psm.domain.books import Books
from psm.domain.messages import NeedHistory
from psm.workers.log.reader import last_log_sequence, read_history
from psm.workers.log.refold import refold_partition, refold_stream
from psm.workers.replay.account import Selection, replay_account

PARTITIONS = 4


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url, partitions=PARTITIONS) as opened:
        yield opened


def books(bench: Bench, partition: int | None = None) -> Books:
    """Return empty books for this log."""
    return Books(
        partitions=PARTITIONS,
        partition=partition,
        slots=bench.settings.valuation_slots,
    )


async def test_one_account_replayed_gives_what_was_published(bench: Bench) -> None:
    """Its own events, the marks and the instruments are enough to know every update of it."""
    await bench.publish(feed.traffic(40, accounts=6, events=200))
    async with bench.worker():
        verdict = await bench.judge()
    last = await last_log_sequence(bench.nc)
    for number in range(6):
        stream_id = feed.account(number)
        partition = partition_of(stream_id, PARTITIONS)
        own = books(bench, partition)
        replayed = [
            (update.subject, update.data)
            async for one in refold_stream(bench.nc, own, stream_id, last)
            for update in one.result.updates
            if update.stream_id == stream_id
        ]
        wanted = [u for u in verdict.updates[partition] if u[0].endswith(f".{stream_id}")]
        assert replayed == wanted
        assert list(own.accounts) == [stream_id], "no other account was read"


async def test_replay_ends_where_it_is_told(bench: Bench) -> None:
    """A state as of a log sequence does not know what came behind it."""
    await bench.publish(deposit(n) for n in range(1, 11))
    own = books(bench)
    seen = [one.message.log_sequence async for one in refold_stream(bench.nc, own, "acc_001", 4)]
    assert seen == [1, 2, 3, 4]
    assert own.accounts["acc_001"].delivery.version == 4


async def test_replay_goes_on_from_the_books(bench: Bench) -> None:
    """Books that were folded up to a point are not given a message twice."""
    last = await bench.publish(deposit(n) for n in range(1, 11))
    own = books(bench)
    count = 0
    for end in (3, last, last):
        async for _ in refold_stream(bench.nc, own, "acc_001", end):
            count += 1
    assert count == last


async def test_replay_reads_back_what_was_parked(bench: Bench) -> None:
    """A gap is closed in a replay as it was live."""
    last = await bench.publish(deposit(1), deposit(3), mark(1, "10"), deposit(4), deposit(2))
    own = books(bench)
    outcomes = [
        one.result.outcome.value async for one in refold_stream(bench.nc, own, "acc_001", last)
    ]
    assert outcomes == ["applied", "parked", "applied", "parked", "applied"]
    assert own.accounts["acc_001"].delivery.version == 4
    wanted = NeedHistory(stream_id="acc_001", from_log_sequence=2, to_log_sequence=4)
    assert sorted(await read_history(bench.nc, PARTITIONS, wanted)) == [2, 4]


async def test_replay_tells_how_far_it_is(bench: Bench) -> None:
    """Progress names the position reached and the one to reach."""
    last = await bench.publish(deposit(n) for n in range(1, 31))
    told: list[tuple[int, int]] = []
    partition = partition_of("acc_001", PARTITIONS)
    async for _ in refold_partition(
        bench.nc,
        books(bench, partition),
        partition,
        last,
        progress=lambda at, end: told.append((at, end)),
    ):
        pass
    assert told[-1] == (last, last)
    assert told == sorted(told)


async def test_empty_log_is_replayed_to_nothing(bench: Bench) -> None:
    """No message, no wait, no update."""
    assert await last_log_sequence(bench.nc) == 0
    assert [b async for b in refold_partition(bench.nc, books(bench, 0), 0, 0)] == []
    assert [b async for b in refold_stream(bench.nc, books(bench), "acc_001", 10)] == []


async def test_replay_writes_nothing(bench: Bench) -> None:
    """Neither updates nor cursors nor snapshots come from folding again."""
    last = await bench.publish(trade(1, "buy", "1", "100"), mark(1, "120"))
    for partition in range(PARTITIONS):
        async for _ in refold_partition(bench.nc, books(bench, partition), partition, last):
            pass
    for stream in ("PSM", "SNAPSHOTS"):
        assert (await stream_info(bench.nc, stream)).last_sequence == 0
    assert (await stream_info(bench.nc, "TRADES")).last_sequence == last


async def test_repairs_are_steps_of_their_own(bench: Bench) -> None:
    """What an operator did stands beside what it released, also a retry in vain."""
    sent = [deposit(1), unknown(2), deposit(3), retried(), dismissed(2), deposit(6), voided(4, 5)]
    await bench.publish(*sent)
    steps = [
        step
        async for step in replay_account(
            bench.nc,
            "acc_001",
            partitions=PARTITIONS,
            slots=bench.settings.valuation_slots,
            selection=Selection(),
        )
    ]
    told = [(s.event_type, s.outcome, s.state and s.state["sequence_number"]) for s in steps]
    assert told == [
        ("CashDeposited", "applied", 1),
        ("MoonPhaseChanged", "blocked", None),
        ("CashDeposited", "held", None),
        ("StreamRetried", "blocked", 1),
        ("EventDismissed", "applied", None),
        ("MoonPhaseChanged", "refused", 2),
        ("CashDeposited", "applied", 3),
        ("CashDeposited", "parked", None),
        ("SequenceVoided", "applied", 5),
        ("CashDeposited", "applied", 6),
    ]
