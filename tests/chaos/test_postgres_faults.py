"""PostgreSQL dies, cuts connections in the middle of a commit, and fails in every way it can.

The log and `psm.*` go on meanwhile; the views are the fold of the log afterwards.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from tests.support.chaos_load import Load
from tests.support.chaos_report import LONG, Row
from tests.support.chaos_stage import Process, Stage, staged
from tests.support.tcp_proxy import Direction, TcpProxy, proxied, through
from tests.support.views import rows_written

from psm.adapters.embedded import EmbeddedPostgres
from psm.projections.schema.migrate import migrate

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

TURNS = 5 if LONG else 1
WAIT_S = 60.0


@asynccontextmanager
async def projecting(
    nats_url: str, folder: Path, dsn: str, seed: int, *, seen_dsn: str | None = None
) -> AsyncIterator[tuple[Stage, Load, Process, Process]]:
    """A worker and a projector under load; the projector may see PostgreSQL through a proxy."""
    async with staged(nats_url, folder, dsn) as stage:
        worker = stage.start("worker", POSTGRES_DSN="")
        projector = stage.start("projector", POSTGRES_DSN=seen_dsn or dsn)
        load = Load(stage.nc, seed)
        try:
            await asyncio.gather(worker.until_ready(), projector.until_ready())
            await projects(dsn)
            yield stage, load, worker, projector
        except BaseException:
            print(worker.log, projector.log, sep="\n")
            raise
        finally:
            await load.cancel()


async def projects(dsn: str) -> float:
    """Wait until rows are written from now on; return how long that took in seconds."""
    began, before = time.monotonic(), await rows_written(dsn)
    while await rows_written(dsn) <= before:
        assert time.monotonic() - began < WAIT_S, "nothing is projected"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


@pytest.mark.parametrize("how", [pytest.param("stopped", marks=pytest.mark.chaos_long), "killed"])
async def test_restarted(
    nats_url: str, postgres_server: EmbeddedPostgres, tmp_path: Path, row: Row, how: str
) -> None:
    """The server ends and comes back; the worker does not care, the projector says not ready."""
    dsn = postgres_server.dsn
    await migrate(dsn)
    async with projecting(nats_url, tmp_path, dsn, row.seeded(41)) as (
        stage,
        load,
        worker,
        projector,
    ):
        for _ in range(TURNS):
            await (postgres_server.stop() if how == "stopped" else postgres_server.kill())
            row.fire(f"postgres {how}")
            row.measure("told not ready", await projector.until_ready(ready=False))
            await load.more()
            await worker.until_ready()  # the log goes on without PostgreSQL
            await postgres_server.start()
            row.measure("resumed after restart", await projects(dsn))
            await projector.until_ready()
        await stage.judge(load)


class CommitCutter:
    """Cuts the connection around a commit: before it arrives, or behind it, without its answer.

    Attributes:
        lost: commits that never arrived.
        unanswered: commits that arrived and whose answer did not.
    """

    def __init__(self, proxy: TcpProxy, seed: int) -> None:
        self.lost = 0
        self.unanswered = 0
        self._proxy = proxy
        self._dice = random.Random(seed)
        self._swallows = False

    def __call__(self, direction: Direction, data: bytes) -> list[bytes]:
        if direction == "down":
            if self._swallows:
                self._swallows = False
                self.unanswered += 1
                self._proxy.cut()
                return []
            return [data]
        if b"COMMIT" not in data or self._swallows or self._dice.random() > 0.2:
            return [data]
        if self._dice.random() < 0.5:
            self.lost += 1
            self._proxy.cut()
            return []
        self._swallows = True
        return [data]


async def test_cut_in_the_middle_of_a_commit(
    nats_url: str, postgres_dsn: str, tmp_path: Path, row: Row
) -> None:
    """Whether a commit was done is unknown to the projector; it reads back and is right."""
    async with proxied(postgres_dsn) as proxy:
        seen = through(postgres_dsn, proxy)
        async with projecting(nats_url, tmp_path, postgres_dsn, row.seeded(42), seen_dsn=seen) as (
            stage,
            load,
            _,
            projector,
        ):
            cutter = proxy.change = CommitCutter(proxy, 42)
            deadline = time.monotonic() + WAIT_S
            while min(cutter.lost, cutter.unanswered) < 2 * TURNS:
                assert time.monotonic() < deadline, "the projector commits too rarely"
                await asyncio.sleep(0.1)
            proxy.change = None
            row.fire("commit lost", cutter.lost)
            row.fire("commit done, answer lost", cutter.unanswered)
            row.measure("resumed", await projects(postgres_dsn))
            await projector.until_ready()
            await stage.judge(load)


@pytest.mark.chaos_long
async def test_backends_terminated(
    nats_url: str, postgres_dsn: str, tmp_path: Path, row: Row
) -> None:
    """`pg_terminate_backend` hits the projector inside of its transactions."""
    async with projecting(nats_url, tmp_path, postgres_dsn, row.seeded(43)) as (
        stage,
        load,
        _,
        projector,
    ):
        administrator = await asyncpg.connect(postgres_dsn)
        try:
            hits = 0
            deadline = time.monotonic() + WAIT_S
            while hits < 5 * TURNS:
                assert time.monotonic() < deadline, "the projector is never inside a transaction"
                hits += await administrator.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE application_name = 'psm-projector'"
                    " AND datname = current_database() AND xact_start IS NOT NULL"
                )
                await asyncio.sleep(0.002)
        finally:
            await administrator.close()
        row.fire("backend terminated in a transaction", hits)
        row.measure("resumed", await projects(postgres_dsn))
        await projector.until_ready()
        await stage.judge(load)


ERRORS = {
    "40001": "serialization failure",
    "40P01": "deadlock",
    "53100": "disk full",
    "53200": "out of memory",
    "55P03": "lock not available",
    "57014": "query cancelled",
    "25006": "read-only after a failover",
}
# A sequence is not rolled back, so it counts what was raised.
_SABOTAGE = """
CREATE SEQUENCE IF NOT EXISTS sabotaged_{code};
CREATE OR REPLACE FUNCTION sabotage_{code}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF random() < 0.5 THEN
        PERFORM nextval('sabotaged_{code}');
        RAISE EXCEPTION 'sabotage' USING ERRCODE = '{code}';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER sabotage_{code} AFTER INSERT OR UPDATE ON projection_checkpoints
    {deferred} FOR EACH ROW EXECUTE FUNCTION sabotage_{code}();
"""


@pytest.mark.parametrize(
    "deferred",
    [
        pytest.param("", marks=pytest.mark.chaos_long, id="statement"),
        pytest.param("DEFERRABLE INITIALLY DEFERRED", id="commit"),
    ],
)
async def test_statements_and_commits_fail(
    nats_url: str, postgres_dsn: str, tmp_path: Path, row: Row, deferred: str
) -> None:
    """Statements, then commits, fail with what a disturbed server answers; nothing is half done."""
    async with projecting(nats_url, tmp_path, postgres_dsn, row.seeded(44)) as (
        stage,
        load,
        _,
        projector,
    ):
        administrator = await asyncpg.connect(postgres_dsn)
        try:
            for code, meaning in ERRORS.items():
                await administrator.execute(_SABOTAGE.format(code=code, deferred=deferred))
                raised, deadline = 0, time.monotonic() + WAIT_S
                while raised < TURNS:
                    assert time.monotonic() < deadline, f"{meaning} was raised {raised} times"
                    await asyncio.sleep(0.02)
                    query = f"SELECT last_value - (NOT is_called)::int FROM sabotaged_{code}"
                    raised = await administrator.fetchval(query)
                await administrator.execute(
                    f"DROP TRIGGER sabotage_{code} ON projection_checkpoints"
                )
                row.fire(meaning, raised)
        finally:
            await administrator.close()
        await projects(postgres_dsn)
        await projector.until_ready()
        await stage.judge(load)


@pytest.mark.chaos_long
async def test_half_open_connections(
    nats_url: str, postgres_dsn: str, tmp_path: Path, row: Row
) -> None:
    """PostgreSQL falls silent without closing: not ready within seconds, and it heals."""
    async with proxied(postgres_dsn) as proxy:
        seen = through(postgres_dsn, proxy)
        async with projecting(nats_url, tmp_path, postgres_dsn, row.seeded(45), seen_dsn=seen) as (
            stage,
            load,
            worker,
            projector,
        ):
            for _ in range(TURNS):
                row.fire("connections silenced", proxy.silence())
                proxy.refuse(refuses=True)
                row.measure("told not ready", await projector.until_ready(ready=False))
                await worker.until_ready()
                proxy.refuse(refuses=False)
                row.measure("resumed", await projects(postgres_dsn))
                await projector.until_ready()
            await stage.judge(load)
