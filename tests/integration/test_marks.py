"""`psm marks` on a real broker: sampled, in order, once, whatever ends it."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from tests.support import workbench
from tests.support.events import deposit, event, instrument, mark, opened, trade
from tests.support.feed import publish
from tests.support.log import LogSize, empty_log
from tests.support.owner import owning
from tests.support.running import started
from tests.support.workbench import open_bench, until_answer

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import StoredMessage, connect, last_for, read_range
from psm.adapters.jetstream.streams_apply import apply
from psm.adapters.tasks import end_all
from psm.adapters.telemetry import quiet
from psm.contracts import registry
from psm.contracts.codec import decode_envelope
from psm.contracts.factory import EventFactory
from psm.contracts.publisher import Publisher
from psm.contracts.table_events import MarkPriceUpdated
from psm.domain.market.slots import ValuationSlots
from psm.workers.bridges.marks_sampler import Marks
from psm.workers.bridges.silence import Silence
from psm.workers.local.parts import free_port, parts_of

WAIT_S = 60.0
INTERVAL_S = 0.3


@pytest.fixture
async def nc(nats_url: str) -> AsyncIterator[Client]:
    async with empty_log(nats_url) as connection, owning(connection):
        yield connection


async def tick(nc: Client, price: object, symbol: str = "BTCUSDT") -> None:
    body = json.dumps({"symbol": symbol, "price": price}).encode()
    await nc.request(f"marketdata.ticker.{symbol}", body, timeout=10)


async def marks(nc: Client, symbol: str = "BTCUSDT") -> list[dict[str, Any]]:
    found = []
    async for batch in read_range(nc, "TRADES", [f"marks.{symbol}"], 1, 2**62):
        for message in batch:
            envelope = decode_envelope(message.data)
            payload = registry.codec_for(envelope).decode(envelope.payload)
            assert isinstance(payload, MarkPriceUpdated)
            found.append(json.loads(message.data))
    return found


async def until(
    nc: Client, wanted: Callable[[list[str]], bool], symbol: str = "BTCUSDT"
) -> list[str]:
    """Wait for marks; return their prices. Their numbers are always 1, 2, 3 ..."""
    async with asyncio.timeout(WAIT_S):
        while True:
            found = await marks(nc, symbol)
            assert [mark["sequence_number"] for mark in found] == list(range(1, len(found) + 1))
            prices = [mark["payload"]["price"] for mark in found]
            if wanted(prices):
                return prices
            await asyncio.sleep(0.05)


def ends_with(price: str) -> Callable[[list[str]], bool]:
    return lambda prices: prices[-1:] == [price]


def environment(url: str, port: int = 0, **more: str) -> dict[str, str]:
    settings = {"NATS_URL": url, "PSM_PARTITIONS": "4", "PSM_METRICS_PORT": str(port)}
    return settings | {"PSM_MARKS_MOVE_BPS": "0", "PSM_MARKS_INTERVAL_MS": "300"} | more


def page(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


async def ready(port: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await asyncio.to_thread(page, port, "/health/ready")
            except OSError:  # not listening yet, or 503
                await asyncio.sleep(0.1)
            else:
                return


async def test_ticks_are_sampled(nc: Client, nats_url: str, tmp_path: Path) -> None:
    """Many ticks, few marks; the last price is always marked; junk is counted and skipped."""
    port = free_port()
    with started(tmp_path, "marks", environment=environment(nats_url, port)) as running:
        await ready(port)
        began, ticks = time.monotonic(), 0
        while ticks < 60 or len(await marks(nc)) < 3:
            assert time.monotonic() < began + WAIT_S, "too few marks"
            await tick(nc, f"{100 + ticks}.5")
            ticks += 1
            await asyncio.sleep(0.02)
        await nc.request("marketdata.ticker.BTCUSDT", b"junk", timeout=WAIT_S)
        await tick(nc, 7, "ETHUSDT")
        prices = await until(nc, ends_with(f"{99 + ticks}.5"))
        intervals = (time.monotonic() - began) / INTERVAL_S
        assert prices[0] == "100.5"
        assert 3 <= len(prices) <= 1 + intervals
        assert await until(nc, ends_with("7"), "ETHUSDT") == ["7"]
        lines = (
            f'psm_ticks_read_total{{outcome="taken"}} {ticks + 1}.0',
            'psm_ticks_read_total{outcome="refused"} 1.0',
            'psm_marks_appended_total{reason="first"} 2.0',
            "psm_marks_lag_events 0.0",
        )
        # What it counts is told a moment after the mark can be read.
        await until_answer(
            partial(asyncio.to_thread, page, port, "/metrics"),
            lambda text: all(line in text for line in lines),
            "it has counted them",
        )
        assert json.loads(page(port, "/health/ready"))["symbols"] == 2
        assert running.stop() == 0


async def test_a_move_does_not_wait(nc: Client) -> None:
    """With an hour's interval only moves beyond the threshold are marked."""
    sampling = Marks(nc, quiet().metrics, interval_s=3600, move_bps=100)
    running = asyncio.create_task(sampling.run())
    # Of ticks that are read at once only the newest counts, so each is seen before the next.
    for price, seen in (
        ("100", lambda: sampling.readiness()[1]["symbols"] == 1),
        ("100.5", lambda: sampling.readiness()[1]["waiting"] == 1),
        ("101", lambda: sampling.readiness()[1]["waiting"] == 0),
        ("101.5", lambda: sampling.readiness()[1]["waiting"] == 1),
        ("99.99", lambda: sampling.readiness()[1]["waiting"] == 0),
    ):
        await tick(nc, price)
        await workbench.until(seen, f"{price} is seen")
    assert await until(nc, ends_with("99.99")) == ["100", "101", "99.99"]
    sampling.stop()
    await running


async def test_killed_and_started_again(nc: Client, nats_url: str, tmp_path: Path) -> None:
    """After kill -9 nothing is marked twice, nothing is numbered twice, and the newest counts."""
    kills = 0
    for round_ in (1, 2):
        port = free_port()
        with started(tmp_path, "marks", environment=environment(nats_url, port)) as running:
            await ready(port)
            await tick(nc, f"{round_}1")
            await until(nc, ends_with(f"{round_}1"))
            running.process.kill()
            running.process.wait(10)
            kills += 1
        await tick(nc, f"{round_}2")
        await tick(nc, f"{round_}3")
    port = free_port()
    with started(tmp_path, "marks", environment=environment(nats_url, port)):
        prices = await until(nc, ends_with("23"))
    assert kills == 2
    assert len(prices) == len(set(prices))
    assert "12" not in prices
    events = await marks(nc)
    assert len({event["event_id"] for event in events}) == len(events)


async def test_two_instances_mark_each_tick_once(nc: Client, nats_url: str) -> None:
    """Two that run at once find each other's marks: no tick is marked twice."""
    both = [Marks(nc, quiet().metrics, interval_s=0.05, move_bps=0) for _ in range(2)]
    running = [asyncio.create_task(one.run()) for one in both]
    try:
        for price in range(1, 21):
            await tick(nc, price)
            await until(nc, ends_with(str(price)))
    finally:
        for one in both:
            one.stop()
        await asyncio.gather(*running)
    ids = [event["event_id"] for event in await marks(nc)]
    assert len(ids) == len(set(ids)) == 20


async def test_broker_away(nats_server: EmbeddedNats) -> None:
    """A broker that dies under it is waited for; then the newest price is marked."""
    nc = await connect(nats_server.url, name="test")
    try:
        await apply(nc, LogSize())
        async with owning(nc):
            await through_an_outage(nc, nats_server)
    finally:
        await nc.close()


async def through_an_outage(nc: Client, nats_server: EmbeddedNats) -> None:
    sampling = Marks(nc, quiet().metrics, interval_s=0.1, move_bps=0)
    running = asyncio.create_task(sampling.run())
    await tick(nc, "1")
    await until(nc, ends_with("1"))
    await nats_server.kill()
    await workbench.until(lambda: not sampling.readiness()[0], "it is not ready any more")
    await nats_server.start()
    async with asyncio.timeout(WAIT_S):
        while not nc.is_connected:  # noqa: ASYNC110 - the client has no event for it
            await asyncio.sleep(0.05)
    await tick(nc, "2")
    await until(nc, ends_with("2"))
    sampling.stop()
    await running


async def test_restart_does_not_touch_what_is_marked(nc: Client) -> None:
    """A start finds its own mark of the newest tick, and a younger one of somebody else."""
    await tick(nc, "1", "OWN")
    await tick(nc, "1", "OTHER")

    async def once(symbol: str, price: str) -> None:
        sampling = Marks(nc, quiet().metrics, interval_s=0.05, move_bps=0)
        running = asyncio.create_task(sampling.run())
        await until(nc, ends_with(price), symbol)
        await workbench.until(lambda: sampling.readiness()[0], "it follows")
        await asyncio.sleep(0.3)
        sampling.stop()
        await running

    await once("OWN", "1")
    foreign = EventFactory("desk", "1", publisher=Publisher(nc)).create_event(
        "MarkPriceUpdated", "OTHER", {"symbol": "OTHER", "price": "9"}
    )
    await Publisher(nc).append(foreign.body)
    await once("OWN", "1")
    assert len(await marks(nc, "OWN")) == 1
    assert [mark["payload"]["price"] for mark in await marks(nc, "OTHER")] == ["1", "9"]


def test_up_runs_it_where_it_is_wanted() -> None:
    """`psm up` has the part by setting or flag, and not otherwise."""
    assert "marks" not in [part.name for part in parts_of(1, 1)]
    (part,) = (part for part in parts_of(1, 1, marks=True) if part.name == "marks")
    assert part.command == ("marks",)


SLOTS = ValuationSlots(fast_ms=20, mid_ms=40, slow_ms=80)


@asynccontextmanager
async def silences(nc: Client, count: int) -> AsyncIterator[list[Silence]]:
    """Several that watch the newest mark."""
    watching = [Silence(nc, quiet().metrics, SLOTS) for _ in range(count)]
    tasks = [asyncio.create_task(one.run()) for one in watching]
    try:
        yield watching
    finally:
        await end_all(tasks)


@pytest.mark.parametrize("watchers", [1, 2])
async def test_silence_repeats_the_newest_mark_for_a_while(nc: Client, watchers: int) -> None:
    """Same bytes, no id, a slow and a middle period long; then it is silent, until a mark comes."""
    async with silences(nc, watchers) as watching:
        for number in (1, 2):
            await publish(nc, [mark(number, "5")])
            await until_answer(
                partial(on_marks, nc), partial(_repeated, 4 * number), "it is repeated"
            )
            await workbench.until(lambda: all(one.filled for one in watching), "all are silent")
            stored = await on_marks(nc)
            assert len(stored) == 4 * number
            assert len({one.data for one in stored[-4:]}) == 1
            assert all(not one.header("Nats-Msg-Id") for one in stored[-3:])


async def test_silence_publishes_what_waits_and_keeps_a_split(nats_url: str) -> None:
    """Everything the newest marks changed is told; the one of old units stays corrected."""
    async with open_bench(nats_url, slots=SLOTS) as bench, bench.worker(), silences(bench.nc, 1):
        split = {"symbol": "ACME", "numerator": "2", "denominator": "1"}
        await bench.publish(
            instrument(1, "ACME", kind="equity", base="ACME"),
            *(opened(1), deposit(2, "1000"), trade(3, "buy", "10", "50", "ACME")),
            *(mark(1, "7", "OTHER"), mark(1, "60", "ACME"), event("SplitApplied", split, 4)),
        )
        for number, price, told in ((1, "60", "30"), (2, "31", "31")):
            if number > 1:
                await bench.publish(mark(number, price, "ACME"))
            await until_answer(
                partial(on_marks, bench.nc), partial(_repeated, 1 + 4 * number), "it is repeated"
            )
            row = await until_answer(
                partial(last_for, bench.nc, "PSM", "psm.position.updated.*.acc_001"),
                partial(_says, told),
                f"the position is told at {told}",
            )
            assert row is not None
        assert (await bench.judge()).updates[0]


def _says(price: str, found: StoredMessage | None) -> bool:
    return found is not None and json.loads(found.data)["payload"]["mark_price"] == price


def _repeated(count: int, found: list[StoredMessage]) -> bool:
    return len(found) >= count


async def on_marks(nc: Client) -> list[StoredMessage]:
    return [m async for batch in read_range(nc, "TRADES", ["marks.*"], 1, 2**62) for m in batch]
