"""Recovery: restart continues, what is read back is checked, damage is named."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.support import feed
from tests.support.events import deposit, mark, rules, trade, unknown
from tests.support.guarded import publish_guarded
from tests.support.slots import even_slots
from tests.support.twins import FaultyLog
from tests.support.workbench import Bench, open_bench, until

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import Outgoing, get, last_for, stream_info
from psm.adapters.jetstream.api import call
from psm.contracts import subjects
from psm.contracts.errors import InvariantError, LogDamagedError
from psm.domain.books import Books
from psm.domain.messages import UnknownRulesError, Update
from psm.workers.log.cursor import Cursor, dump_cursor, load_cursor
from psm.workers.partition.eviction import Census
from psm.workers.partition.ports import Commit, CommittedCursor
from psm.workers.partition.recovery import Recovery


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url) as opened:
        yield opened


async def run(bench: Bench, log_sequence: int) -> FaultyLog:
    """Run partition 0 until it folded a message; return what was asked of its log."""
    log = bench.log()
    await bench.run_until(bench.partition(log=log), log_sequence)
    return log


async def crashed(bench: Bench, log_sequence: int) -> FaultyLog:
    """Run partition 0 until all is committed, then end it without any farewell."""
    log = bench.log()
    partition = bench.partition(log=log)
    async with bench.crashing(partition):
        await until(lambda: partition.stats.position >= log_sequence, "all is folded")
        await bench.judge()
    return log


async def test_engine_restart_simulation(bench: Bench) -> None:
    """Whether it stops cleanly or crashes, the next start goes on as if nothing had happened."""
    messages = feed.traffic(3, accounts=6, events=240)
    step = len(messages) // 6
    folded = 0
    for turn in range(6):
        last = await bench.publish(messages[turn * step : (turn + 1) * step])
        log = await (run if turn % 2 else crashed)(bench, last)
        folded += len(log.delivered)
    last = await bench.publish(messages[6 * step :])
    await run(bench, last)
    await bench.judge()
    assert folded < 2 * len(messages), "a restart must not fold the whole log again"


async def test_clean_stop_leaves_nothing_to_fold_again(bench: Bench) -> None:
    """After a clean stop the checkpoint is at the cursor; the next start reads nothing."""
    last = await bench.publish(feed.traffic(4, accounts=6, events=120))
    await run(bench, last)
    again = bench.log()
    partition = bench.partition(log=again)
    async with bench.running(partition):
        await until(lambda: partition.stats.live, "the partition recovered")
    assert again.started_at == [last + 1]
    assert again.delivered == []
    assert again.commits == [], "nothing has changed, so nothing is written"


async def test_crash_is_recovered_from_the_last_checkpoint(bench: Bench) -> None:
    """Only what came behind the checkpoint is folded again, and none of it published again."""
    saved = await bench.publish(feed.traffic(5, accounts=6, events=200))
    await run(bench, saved)
    last = await bench.publish(deposit(n, stream="late") for n in range(1, 21))
    await crashed(bench, last)
    again = await run(bench, last)
    assert again.started_at == [saved + 1]
    assert again.delivered == list(range(saved + 1, last + 1))
    assert sum(len(commit.updates) for commit in again.commits) == 0
    await bench.judge()


async def test_partition_without_accounts_does_not_read_all_marks_again(bench: Bench) -> None:
    """Marks alone move the checkpoint too: a partition is not punished for having no account."""
    last = await bench.publish(mark(n, "100") for n in range(1, 101))
    await run(bench, last)
    again = bench.log()
    partition = bench.partition(log=again)
    async with bench.running(partition):
        await until(lambda: partition.stats.live, "the partition recovered")
    assert again.started_at == [last + 1]


async def test_many_marks_are_checkpointed_while_running(bench: Bench) -> None:
    """... and not only by a clean stop."""
    last = await bench.publish(mark(n, "100") for n in range(1, 101))
    partition = bench.partition(quiet_messages=50, batch_messages=20, snapshot_interval_s=0.05)
    async with bench.running(partition):
        await until(lambda: partition.stats.checkpoints > 0, "a checkpoint is written")
        await until(lambda: partition.stats.position == last, "all is folded")


async def test_missing_cursor_stops_and_says_so(bench: Bench) -> None:
    """A log that was committed to and has no cursor any more is not started from zero."""
    last = await bench.publish(trade(1, "buy", "1", "100"))
    await run(bench, last)
    config = (await stream_info(bench.nc, "PSM")).config
    await call(bench.nc, "STREAM.DELETE.PSM")
    await call(bench.nc, "STREAM.CREATE.PSM", config)
    with pytest.raises(LogDamagedError, match="partition 0: the commit cursor is gone"):
        await bench.partition().run()


async def test_new_partition_of_an_old_log_starts_at_the_beginning(bench: Bench) -> None:
    """Without cursor, updates and checkpoint there was never a commit: all is folded."""
    last = await bench.publish(feed.traffic(6, accounts=3, events=50))
    log = await run(bench, last)
    assert log.started_at == [1]
    await bench.judge()


async def test_log_without_its_tail_is_named(tmp_path: Path) -> None:
    """A log restored from an older copy lacks what was committed: the first hole is named."""
    folder, copy = tmp_path / "nats", tmp_path / "copy"
    server = EmbeddedNats(folder)
    await server.start()
    async with open_bench(server.url) as bench:
        early = await bench.publish(deposit(n) for n in range(1, 11))
        await run(bench, early)
    await server.stop()
    shutil.copytree(folder / "jetstream", copy)
    await server.start()
    async with open_bench(server.url) as bench:
        last = await bench.publish(deposit(n) for n in range(11, 21))
        await crashed(bench, last)
    await server.stop()
    trades = "$G/streams/TRADES"
    shutil.rmtree(folder / "jetstream" / trades)
    shutil.copytree(copy / trades, folder / "jetstream" / trades)
    await server.start()
    try:
        async with open_bench(server.url) as bench:
            assert (await stream_info(bench.nc, "TRADES")).last_sequence == early
            with pytest.raises(LogDamagedError, match=f"log sequence {last}.*is missing"):
                await bench.partition().run()
            # Others filled the hole with other events: that is found just as well.
            await bench.publish(deposit(n, stream="other") for n in range(1, 21))
            with pytest.raises(LogDamagedError, match=f"message at log sequence {last} is not"):
                await bench.partition().run()
    finally:
        await server.stop()


async def test_changed_message_at_the_cursor_is_named(bench: Bench) -> None:
    """A cursor whose message has other bytes than when it was committed stops the partition."""
    last = await bench.publish(deposit(n) for n in range(1, 6))
    forged = Cursor(log_sequence=last, event_hash="ab" * 32)
    subject = subjects.entrance(subjects.cursor(0))
    message = Outgoing(subject, dump_cursor(forged))
    await publish_guarded(bench.nc, "PSM", [message], expected=0, batch_id="forged")
    with pytest.raises(LogDamagedError, match=f"log sequence {last} is not the one the commit"):
        await bench.partition().run()


@pytest.mark.parametrize("kept", [0, 1])
async def test_commit_of_which_a_part_is_lost_is_named(bench: Bench, kept: int) -> None:
    """What the last cursor announces is whole in PSM, or the partition does not go on behind it."""
    last = await bench.publish(deposit(1))
    await run(bench, last)
    before = await last_for(bench.nc, "PSM", "psm.cursor.0")
    assert before is not None
    cursor = msgspec.structs.replace(load_cursor(before.data), updates=2)
    whole = [
        Outgoing("_psm.cursor.0", dump_cursor(cursor)),
        *(Outgoing("_psm.state.updated.0.acc_001", b"{}") for _ in range(2)),
    ]
    part = [*whole[: 1 + kept], Outgoing("_psm.cursor.7", dump_cursor(cursor))]
    ack = await publish_guarded(bench.nc, "PSM", part, expected=before.sequence, batch_id="torn")
    where = f"announces 2 updates, and number {kept + 1} of them, at PSM sequence {ack.last}"
    with pytest.raises(LogDamagedError, match=where):
        await bench.partition().run()
    ack = await publish_guarded(bench.nc, "PSM", whole, expected=ack.first, batch_id="whole")
    await run(bench, last)


async def test_foreign_message_on_the_cursor_stops(bench: Bench) -> None:
    """Somebody else's bytes in the private entrance are no cursor."""
    message = Outgoing(subjects.entrance(subjects.cursor(0)), b"hello")
    await publish_guarded(bench.nc, "PSM", [message], expected=0, batch_id="forged")
    with pytest.raises(InvariantError, match="is no cursor"):
        await bench.partition().run()


async def test_unknown_rules_stop_the_partition_before_them(bench: Bench) -> None:
    """What stands before the new rules is committed; behind them nothing is guessed."""
    before = await bench.publish(deposit(1), deposit(2))
    await bench.publish(rules(99), deposit(3))
    for _ in range(2):
        with pytest.raises(UnknownRulesError, match="enables rules 99"):
            await bench.partition().run()
        assert (await bench.cursor()).log_sequence == before
    log = bench.log()
    with pytest.raises(UnknownRulesError):
        await bench.partition(log=log).run()
    assert log.started_at == [before + 1], "what came before was saved too"


async def test_event_hidden_while_recovering_is_found(bench: Bench) -> None:
    """A message that a replica hides is missed during the replay too, not only live.

    Otherwise the account would be in a gap that never was, and say so.
    """
    saved = await bench.publish(deposit(1), deposit(2))
    await run(bench, saved)
    last = await bench.publish(deposit(3), deposit(4), deposit(5), deposit(1, stream="other"))
    await crashed(bench, last)
    log = bench.log()
    log.hidden[saved + 1] = 1
    partition = bench.partition(log=log)
    with pytest.raises(Exception, match=f"log sequence {saved + 1} was not delivered"):
        async with bench.running(partition) as task:
            await until(task.done, "the partition noticed")
    assert log.hits == 1
    last = await bench.publish(deposit(6))
    await run(bench, last)
    await bench.judge()


async def test_cursor_message_hidden_while_recovering_is_found(bench: Bench) -> None:
    """The message at the cursor must come before anything behind it is folded."""
    saved = await bench.publish(deposit(1))
    await run(bench, saved)
    await crashed(bench, await bench.publish(deposit(2)))
    log = bench.log()
    log.hidden[saved + 1] = 1
    await bench.publish(deposit(1, stream="other"))
    with pytest.raises(Exception, match=f"log sequence {saved + 1} was not delivered"):
        async with bench.running(bench.partition(log=log)) as task:
            await until(task.done, "the partition noticed")
    assert log.hits == 1


async def test_blocked_stream_survives_a_restart(bench: Bench) -> None:
    """A stream blocked by an unknown type is blocked after recovery; its neighbours run."""
    last = await bench.publish(deposit(1), unknown(2), deposit(3), deposit(1, stream="other"))
    await run(bench, last)
    last = await bench.publish(deposit(4), deposit(2, stream="other"))
    await run(bench, last)
    verdict = await bench.judge()
    assert verdict.outcomes["held"] == 2
    assert verdict.books[0].accounts["other"].delivery.version == 2
    (blocked,) = verdict.payloads("StreamBlocked")
    assert blocked["reason"] == "unknown_event_type"


async def test_cursor_is_read_behind_the_snapshots(bench: Bench) -> None:
    """What was read before the cursor cannot be ahead of it, unless updates were lost."""
    order: list[str] = []
    log, store = bench.log(), bench.snapshots()
    cursor, latest = log.cursor, store.latest

    async def noted_cursor() -> object:
        order.append("cursor")
        return await cursor()

    async def noted_latest() -> object:
        order.append("latest")
        return await latest()

    log.cursor, store.latest = noted_cursor, noted_latest  # type: ignore[method-assign,assignment]
    partition = bench.partition(log=log, store=store)
    async with bench.running(partition):
        await until(lambda: partition.stats.live, "the partition recovered")
    assert order == ["latest", "cursor"]


async def test_stored_cursor_says_how_many_updates_follow(bench: Bench) -> None:
    """A reader of PSM can tell a whole batch from a torn one: margin and state follow here."""
    last = await bench.publish(deposit(1))
    await run(bench, last)
    stored = await get(bench.nc, "PSM", 1)
    assert stored is not None
    fields = msgspec.json.decode(stored.data)
    assert (fields["log_sequence"], fields["part"], fields["updates"]) == (last, 0, 2)


async def test_valuation_clock_survives_a_restart(nats_url: str) -> None:
    """What is published on a mark depends on the log's clock, not on when a worker started."""
    async with open_bench(nats_url, slots=even_slots(3_600_000)) as bench:
        last = await bench.publish(trade(1, "buy", "1", "100"), mark(1, "110"))
        for number, restart in enumerate([run, crashed, run], start=2):
            await restart(bench, last)
            last = await bench.publish(mark(number, str(110 + number)))
        await run(bench, last)
        verdict = await bench.judge()
    causes = [payload["cause"] for payload in verdict.payloads("StateUpdated")]
    assert causes.count("mark") < 4, "a restart reached a slot"


async def test_what_a_mark_left_unpublished_survives_a_restart(nats_url: str) -> None:
    """A valuation that waits for its slot waits in the snapshot too."""
    async with open_bench(nats_url, slots=even_slots(200)) as bench:
        last = await bench.publish(
            trade(1, "buy", "1", "100"), *(mark(n, str(110 + n)) for n in range(1, 6))
        )
        await run(bench, last)
        await asyncio.sleep(0.3)
        last = await bench.publish(mark(1, "1", "ETH-PERP"))
        await run(bench, last)
        verdict = await bench.judge()
    by_mark = [p for p in verdict.payloads("StateUpdated") if p["cause"] == "mark"]
    assert by_mark[-1]["log_sequence"] == last, "the mark of another symbol reached the slot"


class LateLog(FaultyLog):
    """Another owner commits for the first time right after this one looked for the cursor."""

    async def cursor(self) -> CommittedCursor | None:
        found = await super().cursor()
        if found is None and not self.commits:
            update = Update(
                kind="state.updated", stream_id="acc_001", partition=0, event_id="", data=b"{}",
                log_sequence=1,
            )  # fmt: skip
            cursor = Cursor(log_sequence=0, updates=1)
            await self.commit(Commit(cursor=cursor, updates=(update,), traceparents={}), 0)
        return found


async def test_first_commit_of_another_owner_is_no_loss(bench: Bench) -> None:
    """A cursor that comes between two questions was not lost: recovery goes on behind it."""
    log = LateLog(bench.nc, 0)
    await bench.publish(deposit(1))
    recovery = Recovery(log, bench.snapshots(), 0, Census())
    recovered = await recovery.run(Books(partitions=1, partition=0))
    assert (len(log.commits), recovered.cursor_sequence) == (1, 1)
