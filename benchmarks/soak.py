"""`make soak MINUTES=30`: everything at work for a while, under a load that waits for nobody.

A broker and a PostgreSQL that write to disk, worker, projector and archive as processes of their
own. Each minute it prints what the streams hold, and memory and lag of each process. At the end
everything must be committed, shown and archived; `psm audit`, `psm validate` of some accounts and a
comparison of the views with the log must find nothing; and no process may have grown by more than
10 % after its first ten minutes. Exit 1 where one of these is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from nats.aio.client import Client

from benchmarks.figures import environment
from benchmarks.processes import psm
from benchmarks.soak_load import House, Load
from benchmarks.soak_watch import GROWTH_MAX, STREAMS, Minute, Watch, Watched, growth
from psm.adapters.embedded import EmbeddedServers
from psm.adapters.jetstream import connect
from psm.adapters.jetstream.streams_apply import apply
from psm.adapters.logs import configure
from psm.projections.schema.migrate import migrate
from psm.workers.local.parts import free_port, is_ready
from psm.workers.process.settings import Settings

PARTS = ("worker", "projector", "archive")
_READY_S = 120.0
_SETTLE_S = 300.0
_SAMPLE_S = 2.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much of what.

    Attributes:
        minutes: how long the load lasts.
        interval_s: from one line to the next.
        settle_minutes: memory may grow until then.
        accounts, symbols: each account trades all symbols.
        trades_per_s, marks_per_s: rates of the load.
        partitions: of the log.
        validated: how many accounts are replayed at the end.
    """

    minutes: float = 30.0
    interval_s: float = 60.0
    settle_minutes: float = 10.0
    accounts: int = 500
    symbols: int = 20
    trades_per_s: float = 300.0
    marks_per_s: float = 20.0
    partitions: int = 16
    validated: int = 10


class Check(msgspec.Struct, frozen=True):
    """One command at the end; `said` is the end of its output where it found something."""

    command: str
    exit_code: int
    seconds: float
    said: str = ""


class Report(msgspec.Struct, kw_only=True):
    """What a soak found.

    Attributes:
        plan, environment: what was asked for, and where.
        minutes: the lines.
        sent, failed: events acknowledged, and those that were not.
        settled_s: from the end of the load until nothing was behind; None if that never came.
        checks: the commands at the end.
        growth: share by which each process grew after it had settled; empty for a short soak.
    """

    plan: Plan
    environment: dict[str, str]
    minutes: list[Minute]
    sent: int
    failed: int
    settled_s: float | None
    checks: list[Check]
    growth: dict[str, float]

    @property
    def problems(self) -> list[str]:
        """What is not as it must be, as sentences."""
        found = [f"{self.failed} events were not acknowledged"] if self.failed else []
        if self.settled_s is None:
            found.append(f"something was still behind {_SETTLE_S:g} s after the load")
        found += [
            f"{name} grew by {share:.1%} after minute {self.plan.settle_minutes:g}; "
            f"at most {GROWTH_MAX:.0%} are allowed"
            for name, share in self.growth.items()
            if share > GROWTH_MAX
        ]
        return found + [
            f"`{check.command}` ended with {check.exit_code}: {check.said}"
            for check in self.checks
            if check.exit_code
        ]


class Scene(msgspec.Struct, frozen=True):
    """The processes, and how a command reaches them."""

    nc: Client
    watch: Watch
    environment: dict[str, str]


def main() -> int:
    """Run a soak, print what it found; return 1 where something is wrong."""
    options = _options()
    plan = msgspec.convert(
        {name: getattr(options, name) for name in Plan.__struct_fields__}, Plan, strict=False
    )
    configure("error")
    report = asyncio.run(soak(plan))
    if options.json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    _tell("\n".join(_summary(report)))
    return int(bool(report.problems))


async def soak(plan: Plan) -> Report:
    """Run the load beside everything, then look at what has become of it."""
    found, house = environment(), House(plan.accounts, plan.symbols)
    async with _everything(plan) as scene:
        producer = await connect(scene.environment["NATS_URL"], name="soak")
        load = Load(producer, house, plan.trades_per_s, plan.marks_per_s)
        minutes = await _under_load(plan, scene, load)
        began = time.monotonic()
        settled = await _settled(scene.watch)
        settled_s = round(time.monotonic() - began, 1) if settled else None
        await producer.close()
        checks = [check async for check in _checks(plan, scene, house.accounts)]
    return Report(
        plan=plan,
        environment=found,
        minutes=minutes,
        sent=load.sent,
        failed=load.failed,
        settled_s=settled_s,
        checks=checks,
        growth=growth(minutes, plan.settle_minutes),
    )


@asynccontextmanager
async def _everything(plan: Plan) -> AsyncIterator[Scene]:
    """Run servers and processes until the block ends; all are ready when it begins."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="psm-soak-")))
        servers = await stack.enter_async_context(EmbeddedServers(folder, permissions=False))
        nc = await connect(servers.nats_url, name="soak-watch")
        stack.push_async_callback(nc.close)
        await apply(nc, Settings(nats_url=servers.nats_url, partitions=plan.partitions))
        await migrate(servers.postgres_dsn)
        own = {
            "NATS_URL": servers.nats_url,
            "POSTGRES_DSN": servers.postgres_dsn,
            "PSM_PARTITIONS": str(plan.partitions),
            "PSM_NATS_MONITORING_URL": servers.nats.monitoring_url,
        }
        watched = {"broker": Watched(servers.nats.pid)}
        for part in PARTS:
            port = free_port()
            running = await stack.enter_async_context(psm(part, **own, PSM_METRICS_PORT=port))
            watched[part] = Watched(running.pid, port)
        await _ready(watched)
        yield Scene(nc, Watch(nc, folder / "nats", watched), own)


async def _ready(watched: dict[str, Watched]) -> None:
    """Wait until each process says that it is ready."""
    async with asyncio.timeout(_READY_S):
        for one in watched.values():
            while one.metrics and not await is_ready(one.metrics):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)


async def _under_load(plan: Plan, scene: Scene, load: Load) -> list[Minute]:
    """Run the load, tell each minute; return the lines."""
    minutes: list[Minute] = []
    _tell(_head())
    running = asyncio.create_task(load.run())
    began = time.monotonic()
    try:
        while time.monotonic() < began + plan.minutes * 60:
            until = began + (len(minutes) + 1) * plan.interval_s
            while (left_s := until - time.monotonic()) > 0:
                scene.watch.sample()
                await asyncio.sleep(min(_SAMPLE_S, left_s))
            minutes.append(await scene.watch.minute(load.behind_s))
            _tell(_line(minutes[-1]))
    finally:
        load.stop()
        await running
    return minutes


async def _settled(watch: Watch) -> bool:
    """Return whether nothing is behind any more, twice in a row, in bounded time."""
    calm, deadline = 0, time.monotonic() + _SETTLE_S
    while calm < 2:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(1.0)
        lag = (await watch.lag()).values()
        calm = calm + 1 if all(one == 0 for one in lag) else 0
    return True


async def _checks(plan: Plan, scene: Scene, accounts: Sequence[str]) -> AsyncIterator[Check]:
    """Ask PSM's own commands whether everything agrees."""
    step = max(1, len(accounts) // max(1, plan.validated))
    commands = [
        ("audit",),
        *(("validate", account) for account in accounts[::step][: plan.validated]),
        ("views", "rebuild", "--dry-run"),
    ]
    for command in commands:
        check = await _run(command, scene.environment)
        _tell(f"psm {' '.join(command)}: exit {check.exit_code}, {check.seconds} s")
        yield check


async def _run(command: Sequence[str], settings: dict[str, str]) -> Check:
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "psm.workers.cli", *command, "--quiet"),
        env={**os.environ, **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    code = process.returncode or 0
    said = output.decode(errors="replace")[-2000:] if code else ""
    return Check(f"psm {' '.join(command)}", code, round(time.monotonic() - began, 1), said)


def _head() -> str:
    streams = "".join(f"{name:>10} {'MB':>7} {'/s':>6}" for name in STREAMS)
    parts = "".join(f"{name:>10} {'lag':>6}" for name in PARTS)
    return f"{'minute':>6}{streams} {'disk MB':>8} {'broker':>8}{parts} {'behind s':>8}"


def _line(one: Minute) -> str:
    streams = "".join(
        f"{one.messages[name]:>10,} {one.megabytes[name]:>7,.0f} {one.per_s[name]:>6,}"
        for name in STREAMS
    )
    parts = "".join(f"{one.memory_mb[name]:>10.0f} {_count(one.lag[name]):>6}" for name in PARTS)
    memory = f"{one.memory_mb['broker']:>8.0f}"
    return f"{one.minutes:>6.1f}{streams} {one.disk_mb:>8,.0f} {memory}{parts} {one.behind_s:>8.2f}"


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _summary(report: Report) -> list[str]:
    grown = ", ".join(f"{name} {share:+.1%}" for name, share in report.growth.items())
    lines = [
        f"{report.sent:,} events, settled after {report.settled_s} s",
        f"memory after minute {report.plan.settle_minutes:g}: {grown or 'not judged, too short'}",
    ]
    return [*lines, *(report.problems or ["nothing is wrong"])]


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")


def _options() -> Any:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--json", action="store_true", help="the report on stdout, as JSON")
    for name, default in msgspec.structs.asdict(Plan()).items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), default=default, help=f"default {default:g}")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
