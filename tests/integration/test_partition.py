"""The partition loop on a real broker: what it publishes is what the log says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.aio.msg import Msg
from tests.support import feed
from tests.support.events import deposit, mark, trade
from tests.support.workbench import Bench, open_bench, until

from psm.adapters.jetstream import read_range
from psm.contracts.codec import decode_untyped


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url, partitions=4) as opened:
        yield opened


async def test_everything_in_the_log_becomes_exactly_its_updates(bench: Bench) -> None:
    """Live traffic with gaps, repeats, junk and marks gives the bytes of an offline refold."""
    messages = feed.traffic(1, accounts=12, events=300)
    async with bench.worker():
        for start in range(0, len(messages), 40):
            await bench.publish(messages[start : start + 40])
            await asyncio.sleep(0.01)
        verdict = await bench.judge()
    for outcome in ("applied", "refused", "duplicate", "parked", "rejected"):
        assert verdict.outcomes[outcome] > 0, f"the traffic has nothing that is {outcome}"
    assert any(payload["cause"] == "mark" for payload in verdict.payloads("StateUpdated"))
    assert any(payload["change"] == "closed" for payload in verdict.payloads("PositionUpdated"))


async def test_what_was_published_before_the_start_is_folded(bench: Bench) -> None:
    """A worker that starts on a full log publishes all of it, in batches of many inputs."""
    await bench.publish(feed.traffic(2, accounts=8, events=200))
    async with bench.worker():
        verdict = await bench.judge()
    cursors = sum(map(len, verdict.cursors.values()))
    assert 0 < cursors < 40, "updates of many inputs go into one batch"


async def test_subscribers_get_updates_with_their_place_in_the_stream(bench: Bench) -> None:
    """Republished updates name subject, sequence and predecessor, so a listener finds a loss."""
    heard: list[Msg] = []

    async def listen(message: Msg) -> None:
        heard.append(message)

    await bench.nc.subscribe("psm.position.updated", cb=listen)
    async with bench.worker():
        await bench.publish(trade(n, "buy", "1", "100") for n in range(1, 6))
        await until(lambda: len(heard) == 5, "five position updates were republished")
    last = 0
    for number, message in enumerate(heard, start=1):
        assert message.headers is not None
        assert message.headers["Nats-Stream"] == "PSM"
        assert message.headers["Nats-Subject"].startswith("psm.position.updated.")
        assert message.headers["Nats-Subject"].endswith(".acc_001")
        assert int(message.headers["Nats-Last-Sequence"]) == last
        last = int(message.headers["Nats-Sequence"])
        assert decode_untyped(message.data)["sequence_number"] == number


async def test_trace_context_of_an_input_is_on_its_updates_only(bench: Bench) -> None:
    """Updates carry `traceparent` of the message that caused them; others carry none."""
    traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    js = bench.nc.jetstream()
    first, second = deposit(1), deposit(2)
    await js.publish(first.subject, first.data, headers={"traceparent": traced})
    await js.publish(second.subject, second.data)
    async with bench.worker():
        await bench.judge()
    stored = [m async for b in read_range(bench.nc, "PSM", ["psm.*.*.*.*"], 1, 2**62) for m in b]
    found = {decode_untyped(m.data)["sequence_number"]: m.header("traceparent") for m in stored}
    assert found == {1: traced, 2: None}


async def test_marks_without_a_holder_move_the_cursor_when_many_came(bench: Bench) -> None:
    """Messages without updates are committed too, so that recovery need not read them again."""
    last = await bench.publish(mark(n, "100") for n in range(1, 51))
    log = bench.log(0)
    partition = bench.partition(0, log, quiet_messages=20, batch_messages=10)
    async with bench.running(partition):
        await until(lambda: partition.stats.position >= last, "all marks are folded")
        await until(lambda: len(log.commits) >= 2, "cursors are committed")
        assert partition.stats.updates == 0
    assert (await bench.cursor(0)).log_sequence == last
