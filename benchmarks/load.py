"""`make load`: three brokers on this machine, and more and more events until the backlog grows.

An open loop: what is due is published, whatever became of what went before. Each step lasts a while
at one rate; then the next one is twice as fast, until a step ends with more behind than it had in
its middle, or until the load itself cannot keep its plan. Each step prints the objectives of
`psm slo`, from what the processes recorded meanwhile, and from publish to `psm.position.updated`
as a client sees it. The last line sums up.

Brokers, PostgreSQL, processes and the load share this machine: where it cannot keep up, machines of
their own may. No figure here has a network in it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from tests.support.nats_cluster import NODES, NatsCluster, make_streams

from benchmarks.figures import environment, quantile
from benchmarks.processes import psm
from benchmarks.soak_load import House, Load
from psm.adapters.embedded import EmbeddedPostgres
from psm.adapters.jetstream import connect
from psm.adapters.jetstream.streams_apply import apply
from psm.adapters.logs import configure
from psm.contracts.errors import TransientError
from psm.projections.schema.migrate import migrate
from psm.workers.doctor.objectives import SloRow, report
from psm.workers.doctor.recorded import Scrape
from psm.workers.local.parts import free_port, is_ready
from psm.workers.process.settings import Settings

_READY_S = 120.0
_READS_PER_S = 5
_SAMPLED = 7
"""One event of so many is followed to its update, as a client sees it."""
_BEHIND_S = 1.0
"""So late the load may be against its own plan, and so much work may be added to the backlog."""
_LAGS = ("psm_consumer_lag_events", "psm_projection_lag_events")


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """How much of what.

    Attributes:
        first: events a second of the first step; each further one has twice as many.
        most: steps at most.
        step_s: how long each lasts.
        accounts, symbols: each account trades all symbols.
        marks_per_s: beside the trades, at every rate.
        partitions: of the log.
    """

    first: int = 200
    most: int = 8
    step_s: float = 60.0
    accounts: int = 200
    symbols: int = 20
    marks_per_s: float = 10.0
    partitions: int = 16


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one rate.

    Attributes:
        per_s: events a second that were due.
        sent, failed: events acknowledged, and those that were not.
        behind_s: longest delay of the load against its plan.
        backlog: events not acknowledged, messages not folded and updates not shown, in the middle
            and at the end.
        seen_ms: from publish to update as a client saw it: p50, p99, p999; empty if nothing came.
        objectives: what the processes recorded.
    """

    per_s: int
    sent: int
    failed: int
    behind_s: float
    backlog: tuple[int, int]
    seen_ms: tuple[float, ...]
    objectives: list[SloRow]

    @property
    def is_kept(self) -> bool:
        """Whether the rate can go on for ever."""
        grows = self.backlog[1] - self.backlog[0] > self.per_s * _BEHIND_S
        return not (grows or self.failed or self.behind_s > _BEHIND_S)


class Stage(msgspec.Struct, frozen=True):
    """Everything that runs.

    Attributes:
        url: brokers.
        metrics: address of each process's metrics.
        http: address of the API.
    """

    url: str
    metrics: tuple[str, ...]
    http: str


class Seen:
    """Follows some events from their publishing to the update that core NATS brings."""

    def __init__(self) -> None:
        self._sent: dict[str, float] = {}
        self.taken_ms: list[float] = []

    def published(self, data: bytes) -> None:
        """Note an event that is being published."""
        if random.randrange(_SAMPLED) == 0:
            self._sent[_EVENT.decode(data).event_id] = time.perf_counter()

    async def heard(self, message: Msg) -> None:
        """Take an update."""
        began = self._sent.pop(_UPDATE.decode(message.data).causation_id, None)
        if began is not None:
            self.taken_ms.append((time.perf_counter() - began) * 1000)


class _Event(msgspec.Struct):
    event_id: str


class _Update(msgspec.Struct):
    causation_id: str = ""


_EVENT, _UPDATE = msgspec.json.Decoder(_Event), msgspec.json.Decoder(_Update)


def main() -> int:
    """Run the steps and print what came of each; the last line of stdout sums up."""
    options = _options()
    steps = msgspec.convert(
        {name: getattr(options, name) for name in Steps.__struct_fields__}, Steps, strict=False
    )
    configure("error")
    for name, text in environment().items():
        _tell(f"{name}: {text}")
    found = asyncio.run(load(steps))
    sys.stdout.write(summary(found) + "\n")
    return 0


async def load(steps: Steps) -> list[Step]:
    """Go up step by step until one is not kept; return what came of each."""
    found: list[Step] = []
    house = House(steps.accounts, steps.symbols)
    async with _everything(steps) as stage:
        producer = await connect(stage.url, name="load")
        listener = await nats.connect(stage.url.split(","))
        try:
            for message in house.deposits():
                await producer.jetstream().publish(message.subject, message.data, timeout=30)
            for number in range(steps.most):
                step = await _step(steps, stage, house, (producer, listener), number)
                found.append(step)
                _tell("\n".join(told(step)))
                if not step.is_kept:
                    break
        finally:
            await listener.close()
            await producer.close()
    return found


async def _step(
    steps: Steps, stage: Stage, house: House, clients: tuple[Client, Client], number: int
) -> Step:
    """Publish at one rate for a while, and look at it in the middle and at the end."""
    per_s, seen = steps.first * 2**number, Seen()
    subscription = await clients[1].subscribe("psm.position.updated", cb=seen.heard)
    before = await _scraped(stage)
    own = Load(clients[0], house, per_s - steps.marks_per_s, steps.marks_per_s, seen.published)
    running = asyncio.create_task(own.run(funded=True))
    reading = asyncio.create_task(_read(stage, house))
    try:
        await asyncio.sleep(steps.step_s / 2)
        middle = own.unanswered + _backlog(await _scraped(stage))
        await asyncio.sleep(steps.step_s / 2)
        end, after = own.unanswered, await _scraped(stage)
    finally:
        reading.cancel()
        own.stop()
        await running
        await asyncio.wait([reading])
    await subscription.unsubscribe()
    return Step(
        per_s=per_s,
        sent=own.sent,
        failed=own.failed,
        behind_s=round(own.behind_s, 3),
        backlog=(middle, end + _backlog(after)),
        seen_ms=tuple(round(quantile(seen.taken_ms, share), 2) for share in (0.5, 0.99, 0.999))
        if seen.taken_ms
        else (),
        objectives=await report(after.since(before)),
    )


async def _scraped(stage: Stage) -> Scrape:
    """Ask the processes; a busy one is asked again."""
    for _ in range(3):
        found = await Scrape.of(stage.metrics)
        if not found.missing:
            return found
    raise TransientError(f"no metrics: {found.missing}")


def _backlog(found: Scrape) -> int:
    return int(sum(found.total(name) for name in _LAGS))


async def _read(stage: Stage, house: House) -> None:
    """Read states over HTTP, as dashboards do."""
    while True:
        account = random.choice(house.accounts)
        await asyncio.gather(
            asyncio.sleep(1 / _READS_PER_S),
            asyncio.to_thread(_get, f"{stage.http}/psm/state/{account}"),
        )


def _get(url: str) -> None:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            answer.read()
    except OSError:
        pass  # the service counts what it does not answer


@asynccontextmanager
async def _everything(steps: Steps) -> AsyncIterator[Stage]:
    """Run three brokers, PostgreSQL and the processes; all are ready when the block begins."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="psm-load-")))
        cluster = NatsCluster(folder)
        await cluster.start()
        stack.push_async_callback(cluster.stop)
        database = await stack.enter_async_context(EmbeddedPostgres(folder / "postgres"))
        settings = Settings(nats_url=cluster.url, partitions=steps.partitions, replicas=3)
        nc = await connect(cluster.url, name="load-setup")
        await make_streams(nc, lambda: apply(nc, settings))
        await nc.close()
        await migrate(database.dsn)
        own = {
            "NATS_URL": cluster.url,
            "POSTGRES_DSN": database.dsn,
            "PSM_PARTITIONS": steps.partitions,
            "PSM_REPLICAS": NODES,
            "PSM_HTTP_AUTH": "off",
        }
        web = free_port()
        ports = {"worker": free_port(), "projector": free_port()}
        for name, port in ports.items():
            await stack.enter_async_context(psm(name, **own, PSM_METRICS_PORT=port))
        await stack.enter_async_context(psm("serve", **own, PSM_HTTP_PORT=web))
        async with asyncio.timeout(_READY_S):
            for port in (*ports.values(), web):
                while not await is_ready(port):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.1)
        addresses = tuple(f"http://127.0.0.1:{port}/metrics" for port in (*ports.values(), web))
        yield Stage(cluster.url, addresses, f"http://127.0.0.1:{web}")


def told(step: Step) -> list[str]:
    """Return the lines of a step."""
    seen = ", ".join(
        f"{name} {value:g} ms"
        for name, value in zip(("p50", "p99", "p999"), step.seen_ms, strict=False)
    )
    verdict = "kept" if step.is_kept else "NOT kept"
    sent = f"{step.sent} sent, {step.failed} failed, {step.behind_s:g} s behind the plan"
    lines = [
        f"{step.per_s}/s: {verdict}; {sent}; backlog {step.backlog[0]} -> {step.backlog[1]}",
        f"    a client sees an update after {seen or 'never'}",
    ]
    words = {True: "met", False: "MISSED", None: "not measured"}
    for row in step.objectives:
        times = " ".join("-" if t is None else f"{t:g}" for t in (row.p50, row.p99, row.p999))
        reached = "" if row.reached is None else f", {row.reached:.2%} within"
        goal = f"{row.goal}{reached}: {words[row.met]}"
        lines.append(f"    {row.objective:<11}{times:>24} ms  {goal}")
    return lines


def summary(found: list[Step]) -> str:
    """Return what to remember, on one line."""
    kept = [step for step in found if step.is_kept]
    rates = f"{kept[-1].per_s}/s kept" if kept else "no rate kept"
    if not found[-1].is_kept:
        rates = f"{rates}, {found[-1].per_s}/s not"
    seen = [
        f"update at {step.per_s}/s p50 {step.seen_ms[0]:g} p99 {step.seen_ms[1]:g} ms"
        for step in kept[:1] + kept[1:][-1:]
        if step.seen_ms
    ]
    met = [row.objective for row in found[0].objectives if row.met]
    sent, failed = sum(step.sent for step in found), sum(step.failed for step in found)
    return "; ".join(
        [
            f"{NODES} servers, {os.cpu_count()} processors, load {os.getloadavg()[1]:.1f}",
            rates,
            *seen,
            f"met at {found[0].per_s}/s: {', '.join(met) or 'nothing'}",
            f"{sent} events, {failed} failed",
        ]
    )


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _options() -> Any:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    for name, default in msgspec.structs.asdict(Steps()).items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), default=default, help=f"default {default:g}")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
