"""Records in checkpoints on a real broker: what only marks changed; a bad one costs time alone."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support import feed
from tests.support.events import Sent, deposit, mark, trade
from tests.support.twins import CrashError
from tests.support.workbench import Bench, open_bench, until

from psm.adapters.jetstream import last_for, publish_expected, stream_info
from psm.contracts import subjects
from psm.domain.books import Books
from psm.domain.publication.figures import state_document
from psm.domain.snapshot import Checkpoint, load_checkpoint
from psm.workers.log.refold import refold_partition
from psm.workers.partition.eviction import Census
from psm.workers.partition.jetstream import JetStreamSnapshots
from psm.workers.partition.recovery import Recovery

HOLDERS = [feed.account(n) for n in range(1, 5)]
CHECKPOINT = subjects.checkpoint(0)
_CHUNK_BYTES = "psm.workers.partition.jetstream.CHUNK_BYTES"


class DyingSnapshots(JetStreamSnapshots):
    """Snapshots that are written, and a checkpoint that is not any more."""

    async def write(self, subject: str, data: bytes, expected: int) -> int:
        if subject == CHECKPOINT:
            raise CrashError
        return await super().write(subject, data, expected)


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url) as opened:
        yield opened


def holding() -> list[Sent]:
    """Return what gives each holder money and a position."""
    paid = [deposit(1, "100000", stream=account) for account in HOLDERS]
    return [*paid, *(trade(2, "buy", "2", "100", stream=account) for account in HOLDERS)]


async def marked(bench: Bench, *numbers: int) -> int:
    """Publish marks, each far from the one before, and run over them; return the last place."""
    last = await bench.publish(mark(n, str(100 + n * (-1) ** n)) for n in numbers)
    await bench.run_until(bench.partition(), last)
    return last


async def begun(bench: Bench) -> int:
    """Give holders their snapshots, then two checkpoints with records."""
    await bench.run_until(bench.partition(), await bench.publish(holding()))
    await marked(bench, 1, 2)
    return await marked(bench, 3, 4)


async def checkpoint(bench: Bench) -> Checkpoint:
    """Return the newest checkpoint."""
    store = bench.snapshots()
    saved = await store.newest(CHECKPOINT)
    assert saved is not None
    return load_checkpoint(saved.data)


async def versions(bench: Bench) -> dict[str, int]:
    """Return how many messages are kept on each subject of SNAPSHOTS."""
    return (await stream_info(bench.nc, "SNAPSHOTS", subjects_filter=">")).subjects


def empty(bench: Bench) -> Books:
    slots = bench.settings.valuation_slots
    return Books(partitions=bench.settings.partitions, partition=0, slots=slots)


async def recovered(bench: Bench) -> Books:
    """Return the books as cursor, checkpoint, records and snapshots give them."""
    books = empty(bench)
    await Recovery(bench.log(), bench.snapshots(), 0, Census()).run(books)
    return books


async def as_the_log_says(bench: Bench, books: Books) -> None:
    """Compare books with those of the whole log up to the same place."""
    again = empty(bench)
    async for _ in refold_partition(bench.nc, again, 0, books.position):
        pass
    assert documents(books) == documents(again)


def documents(books: Books) -> dict[str, object]:
    return {s: state_document(books, a) for s, a in sorted(books.accounts.items())}


async def goes_on(bench: Bench, number: int, *, started_at: int) -> None:
    """A start behind `started_at` gives the right books, and publishes on as one long run does."""
    log = bench.log()
    partition = bench.partition(log=log)
    async with bench.running(partition):
        await until(lambda: partition.stats.live, "the partition recovered")
        await as_the_log_says(bench, partition._books)
    assert log.started_at == [started_at + 1]
    last = await bench.publish(mark(number, "99"), trade(3, "sell", "1", "98", stream=HOLDERS[0]))
    await bench.run_until(bench.partition(), last)
    await bench.judge()


async def test_marks_write_records_and_no_snapshot(bench: Bench) -> None:
    """However many checkpoints: one snapshot an account, until an event of its own touches it."""
    last = await begun(bench)
    saved = await checkpoint(bench)
    assert (saved.log_sequence, sorted(saved.records)) == (last, HOLDERS)
    kept = await versions(bench)
    assert [kept[subjects.snapshot(0, account)] for account in HOLDERS] == [1, 1, 1, 1]
    last = await bench.publish(deposit(3, stream=HOLDERS[1]), mark(5, "97"))
    await bench.run_until(bench.partition(), last)
    assert sorted((await checkpoint(bench)).records) == [HOLDERS[0], *HOLDERS[2:]]
    kept = await versions(bench)
    assert [kept[subjects.snapshot(0, account)] for account in HOLDERS] == [1, 2, 1, 1]
    await goes_on(bench, 6, started_at=last)


async def test_account_without_a_mark_keeps_its_record(bench: Bench) -> None:
    """What marks changed long ago is in each later checkpoint, until the account is saved whole."""
    await begun(bench)
    before = await checkpoint(bench)
    last = await bench.publish(mark(1, "7", "IDLE"), deposit(1, stream="other"))
    await bench.run_until(bench.partition(), last)
    after = await checkpoint(bench)
    assert after.log_sequence > before.log_sequence
    assert sorted(after.records) == HOLDERS
    await goes_on(bench, 5, started_at=last)


async def test_later_snapshot_wins_over_a_record(bench: Bench) -> None:
    """Died between snapshots and checkpoint: two are of now, two of before with their records."""
    place = await begun(bench)
    last = await bench.publish(
        mark(5, "90"), *(deposit(3, stream=account) for account in HOLDERS[:2]), mark(6, "111")
    )
    store = DyingSnapshots(bench.nc, 0)
    task = asyncio.create_task(
        bench.partition(store=store, snapshot_interval_s=0.001, batch_messages=300).run()
    )
    await asyncio.wait([task])
    assert isinstance(task.exception(), CrashError)
    assert (await bench.cursor()).log_sequence == last
    kept = await versions(bench)
    assert [kept[subjects.snapshot(0, account)] for account in HOLDERS] == [2, 2, 1, 1]
    await goes_on(bench, 7, started_at=place)


async def tampered(bench: Bench, change: dict[str, Any]) -> None:
    """Write the newest checkpoint again with something else in one of its records."""
    newest = await last_for(bench.nc, "SNAPSHOTS", CHECKPOINT)
    assert newest is not None
    fields = json.loads(zlib.decompress(newest.data))
    fields["records"][HOLDERS[2]] |= change
    body = zlib.compress(json.dumps(fields).encode())
    await publish_expected(bench.nc, "SNAPSHOTS", CHECKPOINT, body, expected=newest.sequence)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"last_log_sequence": 1}, f"the record of {HOLDERS[2]} is of another snapshot"),
        ({"performance": {"peak": "high"}}, "it cannot be read"),
        ({"unpublished": None}, "it cannot be read"),
    ],
)
async def test_bad_record_falls_back_to_the_checkpoint_before(
    bench: Bench, capsys: pytest.CaptureFixture[str], change: dict[str, Any], reason: str
) -> None:
    """It is said why; nothing of that checkpoint is used, not even its good records."""
    await bench.run_until(bench.partition(), await bench.publish(holding()))
    place = await marked(bench, 1, 2)
    saved = await last_for(bench.nc, "SNAPSHOTS", CHECKPOINT)
    assert saved is not None
    await tampered(bench, change)  # the same one, once more, and bad
    await goes_on(bench, 3, started_at=place)
    assert reason in capsys.readouterr().out


async def test_without_a_good_checkpoint_all_is_folded_again(bench: Bench) -> None:
    """Five bad ones are all that is kept: the start is the beginning of the log."""
    await begun(bench)
    for _ in range(5):
        await tampered(bench, {"last_log_sequence": 1})
    await goes_on(bench, 5, started_at=0)


async def test_checkpoint_without_one_of_its_chunks_does_not_count(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A chunk is gone: the checkpoint before is whole, and is taken."""
    monkeypatch.setattr(_CHUNK_BYTES, 64)
    await bench.run_until(bench.partition(), await bench.publish(holding()))
    place = await marked(bench, 1, 2)
    saved = await bench.snapshots().newest(CHECKPOINT)
    assert saved is not None
    await marked(bench, 3, 4)
    newest = await last_for(bench.nc, "SNAPSHOTS", CHECKPOINT)
    assert newest is not None
    chunks = int(newest.header("Psm-Chunks") or 0)
    assert chunks > 5
    await bench.nc.jetstream().delete_msg("SNAPSHOTS", newest.sequence - 1)
    await goes_on(bench, 5, started_at=place)
    assert "snapshot.refused" in capsys.readouterr().out


async def test_batch_of_chunks_cut_short_is_no_checkpoint(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it sent the chunks: the broker drops what it has of them."""
    monkeypatch.setattr(_CHUNK_BYTES, 64)
    place = await begun(bench)
    before = (await stream_info(bench.nc, "SNAPSHOTS")).last_sequence
    for number in range(1, 4):
        headers = {"Nats-Batch-Id": "cut", "Nats-Batch-Sequence": str(number)}
        await bench.nc.publish(f"{CHECKPOINT}.checkpoint.part.{number - 1}", b"x", headers=headers)
    await bench.nc.flush()
    await goes_on(bench, 5, started_at=place)
    assert (await checkpoint(bench)).log_sequence > place
    assert (await stream_info(bench.nc, "SNAPSHOTS")).last_sequence > before


async def test_chunks_of_old_checkpoints_go(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five versions of each part are kept, as of each snapshot."""
    monkeypatch.setattr(_CHUNK_BYTES, 64)
    await bench.run_until(bench.partition(), await bench.publish(holding()))
    for number in range(1, 9):
        await marked(bench, number)
    kept = await versions(bench)
    assert max(kept.values()) == 5
    assert sum(".part." in subject for subject in kept) > 5
    await goes_on(bench, 9, started_at=(await bench.cursor()).log_sequence)
