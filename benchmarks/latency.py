"""From publishing an event to `psm.position.updated`, beside publish-ack-republish of the broker.

Events come at a steady rate, whatever happens to those before (an open loop). The baseline is a
stream that republishes what it stores, on the same broker, with the same subscriber.
"""

from __future__ import annotations

import asyncio
import statistics
import time

import msgspec
from nats.aio.msg import Msg

from benchmarks.figures import Figure, Size, beside, quantile
from benchmarks.processes import psm
from benchmarks.rig import Message, Rig, fill, rig

EVENTS_PER_S = 500
MEDIAN_RATIO_MAX = 3.0
P99_RATIO_MAX = 5.0
P99_MAX_MS = 10.0
ACCOUNTS = 50
_SECONDS = 4
_SETTLE_S = 10.0


class _Update(msgspec.Struct):
    causation_id: str


_UPDATE = msgspec.json.Decoder(_Update)


class _Event(msgspec.Struct):
    event_id: str


_EVENT = msgspec.json.Decoder(_Event)


async def measure(size: Size) -> list[Figure]:
    """Alternate between the bare stream and a worker process."""
    events = size.of(EVENTS_PER_S * _SECONDS, least=ACCOUNTS)
    rounds = (events + ACCOUNTS - 1) // ACCOUNTS
    bare: list[list[float]] = []
    measured: list[list[float]] = []
    async with rig() as broker:
        js = broker.bare.jetstream()
        await js.add_stream(
            name="BARE",
            subjects=["bare.in.*"],
            republish={"src": "bare.in.*", "dest": "bare.out"},
        )
        async with psm("worker", **broker.environment):
            await warm(broker)
            for turn in range(size.rounds):
                feed = [
                    fill(f"acc_{place % ACCOUNTS}", 2 + turn * rounds + place // ACCOUNTS, "S")
                    for place in range(rounds * ACCOUNTS)
                ]
                copies = [Message(m.subject.replace("trades", "bare.in"), m.data) for m in feed]
                bare.append(await latencies(broker, copies, "bare.out"))
                measured.append(await latencies(broker, feed, "psm.position.updated"))
    p99 = [[quantile(one, 0.99) for one in side] for side in (measured, bare)]
    name = f"publish to update at {EVENTS_PER_S}/s"
    return [
        beside(
            f"{name}, median",
            "ms",
            [statistics.median(one) for one in measured],
            [statistics.median(one) for one in bare],
            target=MEDIAN_RATIO_MAX,
            better="at most",
        ),
        beside(f"{name}, p99", "ms", *p99, target=P99_RATIO_MAX, better="at most"),
        Figure(
            name=f"{name}, p99 alone",
            unit="ms",
            value=statistics.median(p99[0]),
            target=P99_MAX_MS,
            better="at most",
        ),
    ]


async def warm(broker: Rig) -> None:
    """Send each account's first event; return when the worker has folded all."""
    feed = [fill(f"acc_{number}", 1, "S") for number in range(ACCOUNTS)]
    await latencies(broker, feed, "psm.position.updated", settle_s=60.0)


async def latencies(
    broker: Rig,
    feed: list[Message],
    subject: str,
    *,
    per_s: int = EVENTS_PER_S,
    settle_s: float = _SETTLE_S,
) -> list[float]:
    """Publish at a steady rate; return from each publish to what came of it, in milliseconds."""
    sent: dict[str, float] = {}
    taken: list[float] = []
    done = asyncio.Event()

    async def on_message(message: Msg) -> None:
        now = time.perf_counter()
        if subject.startswith("bare"):
            cause = _EVENT.decode(message.data).event_id
        else:
            cause = _UPDATE.decode(message.data).causation_id
        taken.append((now - sent.pop(cause)) * 1000)
        if not sent and len(taken) == len(feed):
            done.set()

    subscription = await broker.bare.subscribe(subject, cb=on_message)
    await broker.bare.flush()
    js = broker.bare.jetstream()
    acks = []
    started = time.perf_counter()
    for place, message in enumerate(feed):
        wait_s = started + place / per_s - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        sent[_EVENT.decode(message.data).event_id] = time.perf_counter()
        acks.append(asyncio.ensure_future(js.publish(message.subject, message.data, timeout=10)))
    await asyncio.gather(*acks)
    await asyncio.wait_for(done.wait(), settle_s)
    await subscription.unsubscribe()
    return taken
