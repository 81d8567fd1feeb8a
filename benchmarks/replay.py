"""Replay from the log, beside the same ordered pull by nats-py alone, without a fold."""

from __future__ import annotations

import asyncio
import time

import msgspec
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from benchmarks.figures import Figure, Size, beside
from benchmarks.rig import Rig, fills, rig
from psm.contracts import subjects
from psm.domain.books import Books
from psm.workers.log.refold import refold_partition

TARGET = 0.35
_WINDOW = 2000  # messages of one pull, as our own reader has it, and like it two at once
_EXPIRES_NS = 30_000_000_000


async def measure(size: Size) -> list[Figure]:
    """Read a log of trades and fold it; read it again only."""
    events = size.of(8_000)
    measured: list[float] = []
    bare: list[float] = []
    async with rig() as broker:
        last = await broker.fill(fills(events, accounts=100))
        for _ in range(size.rounds):
            bare.append(events / await _pull(broker, events))
            measured.append(events / await _fold(broker, last))
    return [beside("replay from the log", "events/s", measured, bare, target=TARGET)]


async def _fold(broker: Rig, last: int) -> float:
    books = Books(partitions=1, partition=0)
    started = time.perf_counter()
    async for _ in refold_partition(broker.nc, books, 0, last, emit="nothing"):
        pass
    return time.perf_counter() - started


async def _pull(broker: Rig, events: int) -> float:
    """Return the seconds in which a plain subscription gets everything; it only counts."""
    nc = broker.bare
    inbox, done, count = nc.new_inbox(), asyncio.Event(), 0
    pull = msgspec.json.encode({"batch": _WINDOW, "expires": _EXPIRES_NS})

    async def on_message(message: Msg) -> None:
        nonlocal count
        if message.subject == inbox:
            return  # what is said about a pull
        count += 1
        if count == events:
            done.set()
        elif count % _WINDOW == 0:
            await nc.publish(following, pull, reply=inbox)

    started = time.perf_counter()
    consumer = await nc.jetstream().add_consumer(
        "TRADES",
        ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            mem_storage=True,
            filter_subjects=subjects.partition_filters(0),
        ),
    )
    following = f"$JS.API.CONSUMER.MSG.NEXT.TRADES.{consumer.name}"
    subscription = await nc.subscribe(inbox, cb=on_message)
    for _ in range(2):
        await nc.publish(following, pull, reply=inbox)
    await asyncio.wait_for(done.wait(), 60)
    taken = time.perf_counter() - started
    await subscription.unsubscribe()
    await nc.jetstream().delete_consumer("TRADES", consumer.name)
    return taken
