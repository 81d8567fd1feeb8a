"""SIGKILL at every named crash point, under load, with views: the whole matrix on three nodes.

The short form of the same matrix, on one node, is in tests/integration/test_kill_*.py.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from tests.support.chaos_load import Load
from tests.support.chaos_report import Row
from tests.support.chaos_stage import Process, Stage, staged
from tests.support.nats_cluster import NatsCluster

from psm.workers.process.crash_points import CRASH_POINTS

pytestmark = [pytest.mark.chaos, pytest.mark.chaos_long, pytest.mark.timeout(300)]

PASSES = (1, 5)
READY_S = 120.0
COMMANDS = {"worker": "worker", "projector": "projector", "archiver": "archive"}
"""What runs the points whose name begins so."""

POINTS = [
    point for point in CRASH_POINTS if not point.startswith(("importer.", "rebuild.", "risk."))
]
"""Of what runs for ever; an import ends, tests/integration/test_imports.py kills it.

Those of the risk worker have a matrix of their own, test_risk_kill_points.py.
"""


def test_every_point_belongs_to_a_command(row: Row) -> None:
    """The matrix below is complete: a new kind of point must be given a process to kill."""
    row.fire("crash points listed", len(POINTS))
    assert {point.partition(".")[0] for point in POINTS} == COMMANDS.keys()


@pytest.mark.parametrize("point", POINTS)
async def test_killed(
    cluster: NatsCluster, postgres_dsn: str, tmp_path: Path, row: Row, point: str
) -> None:
    """Killed at the point's first and a later pass; each time another process goes on."""
    victim = COMMANDS[point.partition(".")[0]]
    async with staged(cluster.url, tmp_path, postgres_dsn, replicas=3) as stage:
        load = Load(stage.nc, row.seeded(61))
        others = [stage.start(c) for c in ("worker", "projector") if c != victim]
        try:
            for nth in PASSES:
                doomed = stage.start(victim, PSM_CRASH_POINT=f"{point}:{nth}")
                code = await asyncio.to_thread(doomed.running.process.wait, READY_S)
                assert code == -signal.SIGKILL, doomed.log
                assert doomed.logged("crash_point.reached") == 1
                row.fire(point)
            heir = stage.start(victim)
            await _goes_on(stage, load, [heir, *others])
            await stage.judge(load)
        finally:
            await load.cancel()


async def _goes_on(stage: Stage, load: Load, processes: list[Process]) -> None:
    await asyncio.gather(*(process.until_ready() for process in processes))
    await load.more()
    await stage.commits()
