"""Snapshots: with the tail they equal the full replay; a bad one costs time, nothing else."""

from __future__ import annotations

import time
import zlib
from collections.abc import AsyncIterator

import pytest
from tests.support import feed
from tests.support.events import deposit, mark, trade
from tests.support.twins import FaultySnapshots
from tests.support.workbench import Bench, open_bench, until

from psm.adapters.jetstream import last_for, last_per_subject, publish_expected, stream_info
from psm.contracts import subjects
from psm.contracts.codec import decode_untyped
from psm.domain.books import Books
from psm.domain.publication.figures import state_document
from psm.workers.log.refold import refold_partition
from psm.workers.partition.eviction import Census
from psm.workers.partition.recovery import Recovery


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url) as opened:
        yield opened


async def refolded(bench: Bench, last: int) -> Books:
    """Return the books of partition 0 as the whole log gives them."""
    books = Books(
        partitions=bench.settings.partitions,
        partition=0,
        slots=bench.settings.valuation_slots,
    )
    async for _ in refold_partition(bench.nc, books, 0, last):
        pass
    return books


async def recovered(bench: Bench) -> Books:
    """Return the books of partition 0 as cursor, checkpoint and snapshots give them."""
    books = Books(
        partitions=bench.settings.partitions,
        partition=0,
        slots=bench.settings.valuation_slots,
    )
    await Recovery(bench.log(), bench.snapshots(), 0, Census()).run(books)
    return books


def documents(books: Books) -> dict[str, object]:
    """Return everything that is said of every account."""
    return {s: state_document(books, a) for s, a in sorted(books.accounts.items())}


async def overwrite(bench: Bench, subject: str, data: bytes) -> None:
    """Write the newest version of a snapshot by hand."""
    last = await last_for(bench.nc, "SNAPSHOTS", subject)
    expected = last.sequence if last else 0
    await publish_expected(bench.nc, "SNAPSHOTS", subject, data, expected=expected)


def shifted(data: bytes, first: int, second: int) -> bytes:
    """Return what was saved at one log sequence as if it were of another."""
    text = zlib.decompress(data)
    moved = text.replace(b'"log_sequence":%d,' % first, b'"log_sequence":%d,' % second)
    assert moved != text
    return zlib.compress(moved)


async def saved_in_steps(bench: Bench, seed: int) -> list[int]:
    """Run over traffic with a checkpoint after each third; return their log sequences."""
    messages = feed.traffic(seed, accounts=4, events=120)
    third, ends = len(messages) // 3, []
    for turn in range(3):
        ends.append(await bench.publish(messages[turn * third : (turn + 1) * third]))
        await bench.run_until(bench.partition(), ends[-1])
    return ends


async def test_snapshot_bootstrap(bench: Bench) -> None:
    """Snapshot + tail equals the full replay: same books, same bytes published from there on."""
    messages = feed.traffic(9, accounts=6, events=200)
    half = len(messages) // 2
    last = await bench.publish(messages[:half])
    await bench.run_until(bench.partition(), last)
    assert documents(await recovered(bench)) == documents(await refolded(bench, last))
    last = await bench.publish(messages[half:])
    log = bench.log()
    partition = bench.partition(log=log)
    await bench.run_until(partition, last)
    assert log.delivered[0] > half, "the tail only"
    verdict = await bench.judge()
    assert documents(partition._books) == documents(verdict.books[0])


async def test_snapshots_at_every_moment_change_nothing(bench: Bench) -> None:
    """However often it saves and restarts, the bytes published are those of one long run."""
    messages = feed.traffic(10, accounts=4, events=90)
    for start in range(0, len(messages), 12):
        last = await bench.publish(messages[start : start + 12])
        await bench.run_until(bench.partition(snapshot_interval_s=0.001, batch_messages=1), last)
    await bench.judge()


async def test_busy_account_is_saved_before_the_interval_ends(bench: Bench) -> None:
    """An account with many events is saved early, though not more often than a twelfth of it."""
    interval_s = 12.0
    began = time.monotonic()
    partition = bench.partition(snapshot_interval_s=interval_s, snapshot_events=20)
    async with bench.running(partition):
        await bench.publish(deposit(n) for n in range(1, 41))
        await until(lambda: partition.stats.checkpoints == 1, "it is saved")
        assert interval_s / 12 <= time.monotonic() - began < interval_s


async def test_bad_snapshot_falls_back_to_the_one_before(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """Garbage as the newest version is reported; older snapshot and checkpoint give the same."""
    first, second, last = await saved_in_steps(bench, 11)
    subject = subjects.snapshot(0, feed.account(2))
    await overwrite(bench, subject, b"garbage")
    log = bench.log()
    partition = bench.partition(log=log)
    async with bench.running(partition):
        await until(lambda: partition.stats.live, "the partition recovered")
        position = partition._books.position
    assert position == last
    # The newest good snapshot of that account is of the last third, its checkpoint too.
    assert "snapshot.refused" in capsys.readouterr().out
    assert first < second <= log.started_at[0] - 1 <= last
    assert documents(partition._books) == documents(await refolded(bench, last))


async def test_bad_snapshots_of_all_versions_read_from_the_beginning(bench: Bench) -> None:
    """An account of which nothing readable is left is folded from the first message."""
    *_, last = await saved_in_steps(bench, 12)
    subject = subjects.snapshot(0, feed.account(1))
    for _ in range(5):
        await overwrite(bench, subject, b"garbage")
    log = bench.log()
    partition = bench.partition(log=log)
    await bench.run_until(partition, last)
    assert log.started_at == [1]
    assert documents(partition._books) == documents(await refolded(bench, last))
    await bench.publish(deposit(1, stream="more"))
    await bench.run_until(bench.partition(), last + 1)
    await bench.judge()


@pytest.mark.parametrize("bad", [1, 2, 3])
async def test_bad_snapshot_lowers_the_start_to_its_checkpoint(bench: Bench, bad: int) -> None:
    """The start is the newest checkpoint that is not above the account's next older snapshot."""
    ends = [0]
    for turn in range(1, 5):
        ends.append(
            await bench.publish(
                trade(turn, "buy", "1", str(100 + turn), stream="one"),
                mark(turn, str(100 + turn)),
                deposit(turn, stream="two"),
            )
        )
        store = FaultySnapshots(bench.nc, 0)
        if turn > 4 - bad:
            store.garbled.add(subjects.snapshot(0, "one"))
        await bench.run_until(bench.partition(store=store), ends[-1])
    log = bench.log()
    partition = bench.partition(log=log)
    await bench.run_until(partition, ends[-1])
    assert log.started_at == [ends[4 - bad] + 1]
    assert documents(partition._books) == documents(await refolded(bench, ends[-1]))
    last = await bench.publish(trade(5, "buy", "1", "90", stream="one"), deposit(5, stream="two"))
    await bench.run_until(bench.partition(), last)
    await bench.judge()


async def test_bad_checkpoint_falls_back_to_the_one_before(bench: Bench) -> None:
    """A checkpoint that cannot be read costs a longer replay."""
    first, second, last = await saved_in_steps(bench, 13)
    await overwrite(bench, subjects.checkpoint(0), b"garbage")
    log = bench.log()
    partition = bench.partition(log=log)
    await bench.run_until(partition, last)
    assert first < second < log.started_at[0] <= last + 1
    assert documents(partition._books) == documents(await refolded(bench, last))


async def test_snapshot_ahead_of_the_cursor_is_not_used(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """A state that was never committed (PSM was restored, say) must not be gone on from."""
    first = await bench.publish(deposit(1))
    await bench.run_until(bench.partition(), first)
    second = await bench.publish(deposit(2))
    subject = subjects.snapshot(0, "acc_001")
    newest = await last_for(bench.nc, "SNAPSHOTS", subject)
    assert newest is not None
    moved = shifted(newest.data, first, second)
    await overwrite(bench, subject, moved)
    log = bench.log()
    await bench.run_until(bench.partition(log=log), second)
    assert "ahead of the commit cursor" in capsys.readouterr().out
    assert log.started_at == [first + 1]
    await bench.judge()


async def test_checkpoint_ahead_of_the_cursor_is_not_used(bench: Bench) -> None:
    """The same for the checkpoint: its tables are of a time that was not committed."""
    first = await bench.publish(deposit(1), mark(1, "100"))
    await bench.run_until(bench.partition(), first)
    second = await bench.publish(deposit(2), mark(2, "101"))
    newest = await last_for(bench.nc, "SNAPSHOTS", subjects.checkpoint(0))
    assert newest is not None
    moved = shifted(newest.data, first, second)
    await overwrite(bench, subjects.checkpoint(0), moved)
    log = bench.log()
    await bench.run_until(bench.partition(log=log), second)
    assert log.started_at == [first + 1]
    await bench.judge()


async def test_large_account_is_saved_in_chunks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than one message takes goes as one batch of chunks and comes back as it was."""
    chunk_bytes = 4096  # a compressed account that needs the real 512 KiB takes a minute to make
    monkeypatch.setattr("psm.workers.partition.jetstream.CHUNK_BYTES", chunk_bytes)
    long = "-" + "x" * 50
    last = await bench.publish(
        trade(n, "buy", "1", "100", f"S{n:04d}{long}") for n in range(1, 1501)
    )
    await bench.run_until(bench.partition(), last)
    subject = subjects.snapshot(0, "acc_001")
    manifest = await last_for(bench.nc, "SNAPSHOTS", subject)
    assert manifest is not None
    assert manifest.data == b""
    chunks = await last_per_subject(bench.nc, "SNAPSHOTS", [f"{subject}.chunk.*"])
    assert len(chunks) > 2
    assert all(0 < len(chunk.data) <= chunk_bytes for chunk in chunks)
    log = bench.log()
    partition = bench.partition(log=log)
    async with bench.running(partition):
        await until(lambda: partition.stats.live, "the partition recovered")
        assert len(partition._books.accounts["acc_001"].ledger.positions) == 1500
        last = await bench.publish(trade(1501, "sell", "1", "90", f"S0001{long}"))
        await until(lambda: partition.stats.position == last, "it goes on")
    assert log.delivered == [last]


async def test_chunked_versions_are_read_back_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions of several chunks, more and fewer of them, never mix; older ones are found."""
    monkeypatch.setattr("psm.workers.partition.jetstream.CHUNK_BYTES", 10)
    store, subject, at = bench.snapshots(), subjects.snapshot(0, "acc"), 0
    bodies = [b"a" * 35, b"b" * 12, b"c" * 9, b"d" * 31]
    for body in bodies:
        at = await store.write(subject, body, at)
    (newest,) = await store.latest()
    found = [newest.data]
    older = await store.older(subject, newest.sequence)
    while older is not None:
        found.append(older.data)
        older = await store.older(subject, older.sequence)
    assert found == bodies[::-1]


async def test_large_checkpoint_does_not_meet_an_account_named_checkpoint(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of the tables and of an account with an unlucky name have different subjects."""
    monkeypatch.setattr("psm.workers.partition.jetstream.CHUNK_BYTES", 64)
    last = await bench.publish(
        deposit(1, stream="checkpoint"), *(mark(1, "100", f"S{n}") for n in range(20))
    )
    await bench.run_until(bench.partition(), last)
    books = await recovered(bench)
    assert set(books.accounts) == {"checkpoint"}
    assert len(books.market.marks) == 20


async def test_old_versions_do_not_pile_up(bench: Bench) -> None:
    """Five versions of each snapshot are kept; more would only cost disk."""
    for number in range(1, 9):
        last = await bench.publish(deposit(number))
        await bench.run_until(bench.partition(), last)
    info = await stream_info(bench.nc, "SNAPSHOTS", subjects_filter=">")
    assert info.subjects == {"snapshots.0": 5, "snapshots.0.acc_001": 5}


async def test_snapshot_says_what_it_is_of(bench: Bench) -> None:
    """Form, rules, log sequence and hashes are in it for whoever reads it in ten years."""
    last = await bench.publish(deposit(1))
    await bench.run_until(bench.partition(), last)
    stored = await last_for(bench.nc, "SNAPSHOTS", subjects.snapshot(0, "acc_001"))
    assert stored is not None
    fields = decode_untyped(zlib.decompress(stored.data))
    assert fields["log_sequence"] == last
    assert {"form", "rules_version", "message_hash", "ledger_hash", "chain_hash"} <= set(fields)
