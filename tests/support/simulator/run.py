"""One run of the simulator, from its seed to a verdict."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from typing import Any

import msgspec
import structlog
from tests.support.simulator import oracles
from tests.support.simulator.clocks import Clocks, simulated
from tests.support.simulator.faults import Fault, Swarm
from tests.support.simulator.loop import PROCESS, SimulatedLoop
from tests.support.simulator.traffic import small_limits
from tests.support.simulator.twin import check_twins
from tests.support.simulator.world import World

from psm.adapters.logs import configure
from psm.contracts import subjects
from psm.workers.partition import commit_queue as commits
from psm.workers.partition import jetstream as log_store

STEPS_MAX = 3_000_000
_UPDATES_PER_COMMIT = (2, 5, 999)
_CHUNK_BYTES = (500, 512 * 1024)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one seed did.

    Attributes:
        trace: checksum of every step; the same seed has the same.
        virtual_s: how long it took by the simulated clock.
        outcomes: of the messages of the log, alone and by event type; accounts evicted, returned.
    """

    seed: int
    trace: int
    steps: int
    virtual_s: float
    events: int
    updates: int
    commits: int
    parts: int
    fired: Counter[Fault]
    outcomes: Counter[str]


class BugFoundError(AssertionError):
    """A seed after which something is not as it must be."""


def run_seed(seed: int) -> Report:
    """Run one seed and check everything.

    Raises:
        BugFoundError: with the seed and what is wrong.
    """
    swarm = Swarm(seed)
    # The rest of a loop is for sockets, signals and threads: there are none.
    loop = SimulatedLoop(random.Random(f"turns/{seed}"), STEPS_MAX)  # type: ignore[abstract]
    clocks = Clocks(loop)
    _log_nothing()
    before = commits.UPDATES_PER_COMMIT, log_store.CHUNK_BYTES
    with simulated(clocks, seed):
        world = World(loop, swarm, clocks)
        commits.UPDATES_PER_COMMIT = swarm.dice.choice(_UPDATES_PER_COMMIT)
        log_store.CHUNK_BYTES = swarm.dice.choice(_CHUNK_BYTES)
        try:
            with small_limits(swarm.dice.choice):
                loop.run_until_complete(world.run())
                return _checked(seed, world)
        except Exception as error:
            found = "; ".join([*world.defects, *loop.complaints][:3])
            what = f"{type(error).__name__}: {error}"
            raise BugFoundError(f"seed {seed}: {what}{'; ' if found else ''}{found}") from error
        finally:
            commits.UPDATES_PER_COMMIT, log_store.CHUNK_BYTES = before
            trace, steps, now = loop.trace, loop.steps, loop.time()
            loop.dispose()
            loop.trace, loop.steps, loop._now = trace, steps, now


def _log_nothing() -> None:
    """Keep what the processes log to themselves; `PSM_SIMULATE_LOG=1` shows it.

    Each line then says when, by the simulated clock, and which process.
    """
    configure("info")
    if "PSM_SIMULATE_LOG" not in os.environ:
        structlog.configure(processors=[_drop])
    else:
        structlog.configure(processors=[_stamp, *structlog.get_config()["processors"]])


def _drop(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    raise structlog.DropEvent


def _stamp(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {**event, "at_s": round(asyncio.get_running_loop().time(), 3), "process": PROCESS.get()}


def _checked(seed: int, world: World) -> Report:
    def own(stream: str) -> int:
        return subjects.partition_of(stream, world.size.partitions)

    log = world.log()
    stored = list(world.broker.streams["PSM"].stored.values())
    history = world.broker.history
    saved = oracles.snapshots_of(history)
    folds = {
        p: oracles.refold(log, world.size, p, {s: at for s, at in saved.items() if own(s) == p})
        for p in range(world.size.partitions)
    }
    oracles.check_log(log, world.acked)
    oracles.check_updates(log, stored, folds)
    oracles.check_snapshots(history, folds)
    oracles.check_shown(stored, world.database.shown)
    oracles.check_views(world.database.tables, folds)
    for done in folds.values():
        check_twins(log, done.books, done.updates, world.size.valuation_slots)
    assert not world.defects, f"a process failed: {world.defects}"
    assert not world.loop.complaints, f"nobody took an exception: {world.loop.complaints}"
    cursors = [m.data for m in stored if m.subject.startswith("psm.cursor.")]
    return Report(
        seed=seed,
        trace=world.loop.trace,
        steps=world.loop.steps,
        virtual_s=round(world.loop.time(), 1),
        events=len(log),
        updates=len(stored) - len(cursors),
        commits=len(cursors),
        parts=sum(b'"part":0' not in data for data in cursors),
        fired=world.swarm.fired,
        outcomes=sum((done.outcomes for done in folds.values()), world.moved),
    )
