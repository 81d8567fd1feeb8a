"""From publishing an event to `psm.position.updated`, beside publish-ack-republish of the broker.

Events come at a steady rate, whatever happens to those before (an open loop). The baseline is a
stream that republishes what it stores, on the same broker, with the same subscriber.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Literal

import msgspec
from nats.aio.msg import Msg

from benchmarks.figures import Figure, Size, beside, quantile
from benchmarks.processes import psm
from benchmarks.rig import Message, Rig, fill, rig

MEDIAN_RATIO_MAX = 3.0
P99_RATIO_MAX = 5.0
ACCOUNTS = 50
RATES: dict[Literal[1, 3], tuple[int, ...]] = {1: (100, 500, 1_500), 3: (100, 200, 500, 1_500)}
"""Servers -> events a second."""

PROMISED = (3, 200)
"""Servers and rate at which the ratios are promised; elsewhere the disk decides."""

_SECONDS = 3
_SETTLE_S = 30.0
_BARE = "BARE"


class _Update(msgspec.Struct):
    causation_id: str


_UPDATE = msgspec.json.Decoder(_Update)


class _Event(msgspec.Struct):
    event_id: str


_EVENT = msgspec.json.Decoder(_Event)


class _Samples(msgspec.Struct):
    """Latencies in ms of each round, in PSM and of the bare stream."""

    psm: list[list[float]] = []
    bare: list[list[float]] = []


async def measure(size: Size) -> list[Figure]:
    """Alternate between the bare stream and a worker process, with one server and with three."""
    figures: list[Figure] = []
    for servers, rates in RATES.items():
        async with rig(servers=servers) as broker:
            await broker.bare.jetstream().add_stream(
                name=_BARE,
                subjects=["bare.in.*"],
                num_replicas=servers,
                republish={"src": "bare.in.*", "dest": "bare.out"},
            )
            async with psm("worker", **broker.environment):
                await warm(broker)
                for per_s, samples in (await _measured(broker, rates, size)).items():
                    figures += _figures(servers, per_s, samples)
    return figures


async def _measured(broker: Rig, rates: Sequence[int], size: Size) -> dict[int, _Samples]:
    """Take turns at each rate, round after round."""
    found = {per_s: _Samples() for per_s in rates}
    first = 2  # number of each account's next event
    for _ in range(size.rounds):
        for per_s, samples in found.items():
            rounds = size.of(per_s * _SECONDS, least=ACCOUNTS) // ACCOUNTS
            feed = [
                fill(f"acc_{place % ACCOUNTS}", first + place // ACCOUNTS, "S")
                for place in range(rounds * ACCOUNTS)
            ]
            first += rounds
            copies = [Message(m.subject.replace("trades", "bare.in"), m.data) for m in feed]
            samples.bare.append(await latencies(broker, copies, "bare.out", per_s=per_s))
            samples.psm.append(await latencies(broker, feed, "psm.position.updated", per_s=per_s))
    return found


def _figures(servers: int, per_s: int, samples: _Samples) -> list[Figure]:
    name = f"publish to update at {per_s}/s, {servers} server{'s' if servers > 1 else ''}"
    promised = (servers, per_s) == PROMISED
    return [
        beside(
            f"{name}, {what}",
            "ms",
            [quantile(one, share) for one in samples.psm],
            [quantile(one, share) for one in samples.bare],
            target=target if promised else None,
            better="at most",
        )
        for what, share, target in (
            ("median", 0.5, MEDIAN_RATIO_MAX),
            ("p99", 0.99, P99_RATIO_MAX),
        )
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
    per_s: int = 500,
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
