"""`psm recover` after real losses: refused until signed off, then whole again."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integration.test_log_loss import PARTITIONS, World, clean
from tests.support import archiving, tamper
from tests.support.events import deposit
from tests.support.running import psm, psm_here
from tests.support.views import assert_views_equal_fold
from tests.support.workbench import Bench, until

from psm.adapters import telemetry
from psm.adapters.jetstream import connect, read_range, stream_info
from psm.adapters.jetstream.api import call
from psm.adapters.jetstream.errors import StreamNotFoundError
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.codec import encode
from psm.contracts.subjects import PSM, SNAPSHOTS, TRADES
from psm.projections.source import COMMITTED_UPDATES
from psm.workers.fleet.members import Holding, Member
from psm.workers.ops import keys
from psm.workers.ops.approval import Action, Consent
from psm.workers.ops.journal import read_records
from psm.workers.partition.heads_check import Guard
from psm.workers.partition.heads_store import PostgresHeads
from psm.workers.partition.loop import Partition
from psm.workers.projector.follower import check_against_log

REASON = ("--reason", "disk of n1 lost", "--actor", "alice")


class Scene(World):
    """A world whose operator has `psm recover`; `settings` are more of its environment."""

    def __init__(self, folder: Path, dsn: str) -> None:
        super().__init__(folder, dsn)
        self.settings: dict[str, str] = {}

    def recover(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `psm recover -o json`; its exit code must be `code`."""
        done = psm("recover", *arguments, "-o", "json", environment=self.environment, check=False)
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        return done

    @property
    def environment(self) -> dict[str, str]:
        return {
            "NATS_URL": self.server.url,
            "PSM_PARTITIONS": str(PARTITIONS),
            "POSTGRES_DSN": self.dsn,
            **self.settings,
        }

    async def whole(self, bench: Bench) -> None:
        """Refill PSM, make the views anew; then every oracle must agree."""
        ready, failed, _ = await self.start_worker(bench, self.dsn)
        assert (ready, failed) == (True, {})
        async with bench.worker():
            await bench.judge()
            rebuild = ("views", "rebuild", "--accept-differences")
            await asyncio.to_thread(psm, *rebuild, environment=self.environment)
            async with self.projecting(bench, self.dsn):
                await assert_views_equal_fold(bench.nc, self.dsn, PARTITIONS)
        code, report = self.audit()
        assert (code, report["counts"]) == (0, {})

    async def refused(self, bench: Bench) -> dict[int, str]:
        """Start a worker, which every partition must refuse."""
        _, failed, _ = await self.start_worker(bench, self.dsn)
        assert len(failed) == PARTITIONS
        return failed


@pytest.fixture
async def scene(tmp_path: Path, postgres_dsn: str) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path, postgres_dsn)
    yield scene
    await scene.server.stop()


@asynccontextmanager
async def held(bench: Bench) -> AsyncIterator[str]:
    """Let a worker of the fleet say that it runs partition 1; gives what a refusal says."""
    holdings = (Holding(partition=0, state="stopped"), Holding(partition=1, state="live"))
    member = Member(id="w1", host="h", pid=1, version="1", started_at="now", holdings=holdings)
    key = f"$KV.psm-fleet.{member.id}"
    await bench.nc.jetstream().publish(key, encode(member))
    yield "partition 1 is held by w1 (live)"
    await bench.nc.jetstream().publish(key, b"", headers={"KV-Operation": "DEL"})


async def updates(bench: Bench) -> dict[str, bytes]:
    """Return what PSM has: event id -> bytes."""
    last = (await stream_info(bench.nc, PSM)).last_sequence
    found: dict[str, bytes] = {}
    async for batch in read_range(bench.nc, PSM, ["psm.*.*.*.*"], 1, last):
        found.update((json.loads(message.data)["event_id"], message.data) for message in batch)
    return found


async def test_psm_rolled_back(scene: Scene) -> None:
    """Updates that PSM lost are published again with the same ids and bytes, once signed off."""
    back = (PSM, SNAPSHOTS)
    await scene.live(clean(11))
    tamper.keep(scene.folder, scene.copy, *back)
    now = max(scene.log)
    await scene.live(clean(11, events=160)[now:])
    await scene.server.start()
    async with scene.bench() as bench:
        before = await updates(bench)
    await scene.server.stop()
    tamper.put_back(scene.folder, scene.copy, *back)
    await scene.server.start()
    async with scene.bench() as bench:
        lost = len(before) - len(await updates(bench))
        assert lost > 50
        await scene.refused(bench)
        plans = json.loads(scene.recover("partition", "all", "--dry-run").stdout)
        assert [plan["loss"] for plan in plans] == ["rolled_back"] * PARTITIONS
        assert await read_records(bench.nc) == []
        await scene.refused(bench)  # a dry run signs nothing
        assert "--reason" in scene.recover("partition", "all", code=2).stderr
        scene.recover("partition", "all", *REASON)
        records = [stored.record for stored in await read_records(bench.nc)]
        assert [(r.kind, r.actor, r.what["partition"]) for r in records] == [
            (kind, "alice", p) for p in range(PARTITIONS) for kind in ("begun", "ended")
        ]
        await scene.whole(bench)
        assert await updates(bench) == before
        plans = json.loads(scene.recover("partition", "all", "--dry-run").stdout)
        assert {plan["loss"] for plan in plans} == {"none"}
        # The decision was for that loss only: behind what was read since, the next is refused.
        async with scene.projecting(bench, scene.dsn), bench.worker():
            last = await bench.publish(deposit(1, "5", stream=f"new_{n}") for n in range(40))
            query = "SELECT count(*) FROM (SELECT max(log_sequence) AS at FROM log_heads GROUP BY"
            query += f" partition) h WHERE at > {last - 20}"
            await archiving.at_least(scene.dsn, query, PARTITIONS)
    await scene.server.stop()
    tamper.put_back(scene.folder, scene.copy, *back)
    await scene.server.start()
    async with scene.bench() as bench:
        await scene.refused(bench)


async def test_psm_gone(scene: Scene) -> None:
    """A stream PSM that was lost altogether is filled anew, and the archive goes on with it.

    The snapshots are left: they are ahead of what is committed, and must not be used.
    """
    await scene.live(clean(12))
    await scene.server.start()
    async with scene.bench() as bench:
        before = await updates(bench)
        async with archiving.archiving(bench.nc, scene.dsn):
            taken = await archiving.assert_chain_equals_updates(bench.nc, scene.dsn)
        known = (await stream_info(bench.nc, PSM)).last_sequence
    await scene.server.stop()
    shutil.rmtree(tamper.store(scene.folder, PSM))
    await scene.server.start()
    plan = json.loads(scene.recover("updates", "--dry-run").stdout)
    assert plan["first_sequence"] == plan["known"] + 1 > known - PARTITIONS
    scene.recover("updates", *REASON)
    assert "PSM exists" in scene.recover("updates", *REASON, code=2).stderr
    async with scene.bench() as bench:
        # A partition that never committed is no loss.
        await check_against_log(bench.nc, COMMITTED_UPDATES, None, 0)
        failed = await scene.refused(bench)
        assert all("cursor is gone" in text for text in failed.values())
        async with held(bench) as text:
            assert text in scene.recover("partition", "all", *REASON, code=2).stderr
        plans = json.loads(scene.recover("partition", "all", *REASON).stdout)
        assert [plan["loss"] for plan in plans] == ["cursor_lost"] * PARTITIONS
        await scene.whole(bench)
        assert await updates(bench) == before
        async with archiving.archiving(bench.nc, scene.dsn):
            count = "SELECT count(*) FROM event_chain"
            await archiving.at_least(scene.dsn, count, 2 * taken)
            differ = "SELECT count(DISTINCT (log_sequence, chain_hash)) FROM event_chain"
            assert await archiving.value(scene.dsn, differ) == taken


class FourEyes(Scene):
    """A scene in production: whoever recovers needs a token that Bob signed."""

    def __init__(self, folder: Path, dsn: str) -> None:
        super().__init__(folder, dsn)
        self.key = folder / "bob.pem"
        keys.generate(self.key)
        listed = folder / "access.toml"
        listed.write_text(
            '[[person]]\nid = "alice"\n[[person]]\nid = "bob"\nkeys = ["bob.pem.pub"]\n'
        )
        self.settings = {"PSM_ENV": "production", "PSM_ACCESS_FILE": str(listed)}

    def approved(self, action: Action, actor: str = "alice") -> tuple[str, ...]:
        """Return `--approval` with what Bob's key signs: also what `psm ops approve` would not."""
        consent = Consent(
            approver="bob",
            actor=actor,
            reason_sha256=hashlib.sha256(REASON[1].encode()).hexdigest(),
            expires_at=(datetime.now(UTC) + timedelta(minutes=5)).isoformat(),
            action=action,
        )
        parts = (encode(consent), keys.load_private(self.key).sign(encode(consent)))
        token = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
        return "--approval", token


async def test_second_person_must_approve_in_production(
    tmp_path: Path, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """No token, one's own, another's, one for another action: refused. Then it is recorded."""
    scene = FourEyes(tmp_path, postgres_dsn)
    try:
        await scene.live(clean(19))
        shutil.rmtree(tamper.store(scene.folder, PSM))
        await scene.server.start()
        for name, value in scene.environment.items():
            monkeypatch.setenv(name, value)
        for asked, said in [
            ((), "recover-updates in production needs a second person's --approval"),
            (scene.approved("replay"), "for replay, not for recover-updates"),
            (scene.approved("recover-log"), "for recover-log, not for recover-updates"),
            (scene.approved("recover-updates", "carol"), "for carol, not for alice"),
            (("--actor", "bob", *scene.approved("recover-updates", "bob")), "a second person must"),
        ]:
            why = REASON[: 2 if "--actor" in asked else None]
            assert await psm_here("recover", "updates", *why, *asked) == 2
            assert said in capsys.readouterr().err
        nc = await connect(scene.server.url, name="test")
        try:
            with pytest.raises(StreamNotFoundError):
                await stream_info(nc, PSM)
            assert await read_records(nc) == []
            assert await psm_here("recover", "updates", "--dry-run") == 0  # anybody may look
            signed = ("--approver", "bob", "--key", str(scene.key), "--action", "recover-updates")
            capsys.readouterr()
            assert await psm_here("ops", "approve", *REASON, *signed) == 0
            token = ("--approval", capsys.readouterr().out.strip())
            for command in (("partition", "all"), ("log", "--from-archive")):
                assert await psm_here("recover", *command, *REASON, *token) == 2
                said = f"for recover-updates, not for recover-{command[0]}"
                assert said in capsys.readouterr().err
            assert await psm_here("recover", "updates", *REASON, *token) == 0
            assert (await stream_info(nc, PSM)).messages == 0
            records = [stored.record for stored in await read_records(nc)]
            assert [(r.kind, r.actor, r.approved_by) for r in records] == [
                ("begun", "alice", "bob"),
                ("ended", "alice", "bob"),
            ]
        finally:
            await nc.close()
    finally:
        await scene.server.stop()


async def test_killed_while_it_fills(scene: Scene) -> None:
    """A worker that dies between two commits of the refill goes on with it at its next start."""
    await scene.live(clean(13))
    await scene.server.start()
    nc = await connect(scene.server.url, name="test")
    await call(nc, f"STREAM.DELETE.{PSM}")
    await nc.close()
    scene.recover("updates", *REASON)
    scene.recover("partition", "all", *REASON)
    async with scene.bench() as bench:
        store = PostgresHeads(scene.dsn)
        metrics = telemetry.quiet().metrics
        log = bench.log()
        log.crash_after = 2
        partition = Partition(
            0,
            log,
            bench.snapshots(),
            bench.tuning(batch_messages=5),
            metrics,
            Guard(bench.nc, 0, metrics, store),
        )
        async with bench.crashing(partition):
            await until(lambda: len(log.commits) >= 2, "it commits")
        store.close()
        committed = (await bench.cursor()).log_sequence
        assert 0 < committed < max(scene.log) - 10
        await scene.whole(bench)


async def test_archive_ahead_of_psm(scene: Scene) -> None:
    """Where the archive read what PSM lost, PSM must be made anew: no place is given twice."""
    await scene.live(clean(14))
    tamper.keep(scene.folder, scene.copy, PSM)
    await scene.live(clean(14, events=160)[max(scene.log) :])
    await scene.server.start()
    async with scene.bench() as bench, archiving.archiving(bench.nc, scene.dsn):
        await archiving.assert_chain_equals_updates(bench.nc, scene.dsn)
    await scene.server.stop()
    tamper.put_back(scene.folder, scene.copy, PSM)
    await scene.server.start()
    assert "psm recover updates" in scene.recover("partition", "all", *REASON, code=2).stderr


async def archive_all(scene: Scene) -> None:
    await scene.server.start()
    async with scene.bench() as bench, archiving.archiving(bench.nc, scene.dsn):
        await archiving.assert_archive_equals_streams(bench.nc, scene.dsn)
        await archiving.assert_chain_equals_updates(bench.nc, scene.dsn)
    await scene.server.stop()


async def bodies(bench: Bench) -> dict[int, tuple[str, str]]:
    """Return the log: sequence -> subject and hash."""
    last = (await stream_info(bench.nc, TRADES)).last_sequence
    found: dict[int, tuple[str, str]] = {}
    async for batch in read_range(bench.nc, TRADES, [">"], 1, last):
        found.update((m.sequence, (m.subject, hashlib.sha256(m.data).hexdigest())) for m in batch)
    return found


async def test_plan_of_a_whole_log_tells_what_there_is(scene: Scene) -> None:
    """Every figure of a dry run is counted here again; with nothing lost there is nothing to do."""
    await scene.live(clean(16))
    await archive_all(scene)
    await scene.server.start()
    end = max(scene.log)
    done = scene.recover("log", "--from-archive", "--dry-run")
    assert "nothing is to be done" in done.stderr
    plan = json.loads(done.stdout)
    assert plan == {
        "log_ends": end,
        "archive_ends": end,
        "messages": 0,
        "compared": min(1000, len(scene.log)),
        "committed": end,
        "lost": 0,
    }


async def test_plan_tells_an_archive_that_is_behind(scene: Scene) -> None:
    """What the archive lacks of a whole log is seen, and is no loss."""
    story = clean(16)
    half = story[: len(story) // 2]
    await scene.live(half)
    await archive_all(scene)
    archived = max(scene.log)
    await scene.live(story[archived:])
    await scene.server.start()
    plan = json.loads(scene.recover("log", "--from-archive", "--dry-run").stdout)
    assert (plan["archive_ends"], plan["compared"]) == (archived, min(1000, archived))
    assert (plan["log_ends"], plan["messages"], plan["lost"]) == (max(scene.log), 0, 0)


async def test_log_lost_its_tail(scene: Scene) -> None:
    """What the log lost at its end comes back from the archive, at the same places."""
    await scene.live(clean(16))
    await archive_all(scene)
    assert tamper.cut_tail(scene.folder, TRADES, 0.6) > 1000
    tamper.forget_index(scene.folder, TRADES)
    await scene.server.start()
    async with scene.bench() as bench:
        cut = (await stream_info(bench.nc, TRADES)).last_sequence
        assert 0 < cut < max(scene.log)
        await scene.refused(bench)
        async with held(bench) as text:
            assert text in scene.recover("log", "--from-archive", *REASON, code=2).stderr
        plan = json.loads(scene.recover("log", "--from-archive", "--dry-run").stdout)
        assert (plan["log_ends"], plan["messages"]) == (cut, max(scene.log) - cut)
        assert (await stream_info(bench.nc, TRADES)).last_sequence == cut
        scene.recover("log", "--from-archive", *REASON)
        assert await bodies(bench) == {
            at: (m.subject, hashlib.sha256(m.data).hexdigest()) for at, m in scene.log.items()
        }
        assert (await scene.start_worker(bench, scene.dsn))[:2] == (True, {})
        code, report = scene.audit("--no-views")
        # Updates carry the time at which the broker stored their event, which is new, and marks
        # publish by it. Events, chains and heads are as they were.
        own = {"update_altered", "update_missing", "update_unexplained"}
        assert (code, set(report["counts"]) - own) == (1, set())
        assert report["counts"]["update_altered"] > 10
        assert all(finding["sequence"] > cut for finding in report["findings"])
        # Where updates must be what the log folds to, PSM is made anew.
        await call(bench.nc, f"STREAM.DELETE.{PSM}")
        await apply(bench.nc, bench.settings)  # as `psm up` would: an empty one
        assert json.loads(scene.recover("updates", *REASON).stdout)["replaces_empty"]
        scene.recover("partition", "all", *REASON)
        await scene.whole(bench)


async def test_log_gone(scene: Scene) -> None:
    """A log that was lost altogether is made anew from the archive."""
    await scene.live(clean(17))
    await archive_all(scene)
    shutil.rmtree(tamper.store(scene.folder, TRADES))
    await scene.server.start()
    async with scene.bench() as bench:
        assert (await stream_info(bench.nc, TRADES)).last_sequence == 0
        scene.recover("log", "--from-archive", *REASON)
        assert len(await bodies(bench)) == len(scene.log)
        assert (await scene.start_worker(bench, scene.dsn))[:2] == (True, {})


@pytest.mark.parametrize("index", ["kept", "published"])
async def test_log_cannot_be_appended_to(scene: Scene, index: str) -> None:
    """A log that counts what it lost, or went on without it, is refused and left as it is."""
    await scene.live(clean(18))
    await archive_all(scene)
    assert tamper.cut_tail(scene.folder, TRADES, 0.6) > 1000
    if index == "published":
        tamper.forget_index(scene.folder, TRADES)
    await scene.server.start()
    async with scene.bench() as bench:
        if index == "published":
            await bench.publish(deposit(1, "5", stream="alien"))
        before: dict[str, Any] = (await stream_info(bench.nc, TRADES)).config
        last = (await stream_info(bench.nc, TRADES)).last_sequence
        text = scene.recover("log", "--from-archive", *REASON, code=1).stderr
        assert ("hole at log sequence" if index == "kept" else "has other bytes for") in text
        after = await stream_info(bench.nc, TRADES)
        assert (after.config, after.last_sequence) == (before, last)
