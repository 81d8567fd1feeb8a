"""Replay of recorded subjects in the order of their log times, on a simulated clock.

The log, the updates and the recorded streams are separate JetStream streams; their messages are
merged by (JetStream time, stream, sequence), which is the same on every run.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import StoredMessage, read_range, stream_info
from psm.adapters.jetstream.streams import RECORDED
from psm.contracts.errors import ConfigError
from psm.contracts.subjects import LOG_HEADS, OF_STREAMS, PSM, RULEBOOK, TRADES
from psm.domain.publication.log_times import log_time
from psm.workers.process.times import is_later

STREAM_OF = {
    **dict.fromkeys(LOG_HEADS, TRADES),
    "psm": PSM,
    **{name.lower(): name for name in (*RECORDED, RULEBOOK)},
}
"""First token of a subject -> the stream that keeps it."""

TARGET_HEAD = "replay."
_FLUSH_EVERY = 200
_LATE_S = 0.001


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a recorded stream."""

    js_stream: str
    message: StoredMessage


class Rate(msgspec.Struct, kw_only=True):
    """How fast a replay went.

    Attributes:
        messages: delivered.
        simulated_s: between the log times of the first and the last.
        real_s: spent on it.
    """

    messages: int = 0
    simulated_s: float = 0.0
    real_s: float = 0.0

    @property
    def speed(self) -> float:
        """Simulated seconds per real second."""
        return self.simulated_s / self.real_s if self.real_s else 0.0


class SimulatedClock:
    """Waits until a recorded time has come, `speed` times as fast as it once did."""

    def __init__(self, speed: float | None) -> None:
        """`speed` None does not wait at all."""
        self._speed = speed
        self._first_ns: int | None = None
        self._started = 0.0

    async def until(self, time_ns: int) -> None:
        """Wait for a log time; the first one is now."""
        if self._first_ns is None:
            self._first_ns, self._started = time_ns, time.monotonic()
        if self._speed is None:
            return
        due = self._started + (time_ns - self._first_ns) / 1e9 / self._speed
        left = due - time.monotonic()
        if left > _LATE_S:
            await asyncio.sleep(left)

    def rate(self, messages: int, last_ns: int) -> Rate:
        """Return how fast it went up to a message."""
        if self._first_ns is None:
            return Rate()
        return Rate(
            messages=messages,
            simulated_s=(last_ns - self._first_ns) / 1e9,
            real_s=time.monotonic() - self._started,
        )


def filters_of(patterns: Sequence[str]) -> dict[str, list[str]]:
    """Return stream -> subjects to read there.

    Raises:
        ConfigError: nothing records this.
    """
    found: dict[str, list[str]] = {}
    for pattern in patterns:
        head, _, rest = pattern.partition(".")
        if head not in STREAM_OF or not rest:
            known = ", ".join(f"{name}.>" for name in STREAM_OF)
            raise ConfigError(f"{pattern}: nothing records this; choose from {known}")
        if head in OF_STREAMS and rest != ">" and "." not in rest:
            pattern = f"{head}.*.{rest}"  # as the broker stores it, behind the partition
        if head == "psm" and rest.count(".") == 1 and not rest.endswith(">"):
            pattern = f"{pattern}.>"  # likewise: partition and account follow
        found.setdefault(STREAM_OF[head], []).extend(_of_slots(head, rest))
        found.setdefault(STREAM_OF[head], []).append(pattern)
    return found


def _of_slots(head: str, rest: str) -> list[str]:
    """Return where the risk engine keeps what has this name once it is heard: behind its slot."""
    if head != "risk" or rest.count(".") != 1 or rest.endswith(">"):
        return []
    kind, _, key = rest.partition(".")
    return [f"risk.{kind}.*.{key}"]


async def recorded_messages(
    nc: Client, patterns: Sequence[str], *, since: str | None = None, until: str | None = None
) -> AsyncIterator[Recorded]:
    """Yield what was recorded on some subjects, in the order of log times.

    Args:
        nc: connection; only read.
        patterns: subjects, wildcards allowed, of any recorded streams.
        since: not what is earlier than this log time.
        until: nor what is later than this one.
    """
    filters = filters_of(patterns)
    streams = [_messages(nc, name, wanted) for name, wanted in sorted(filters.items())]
    heap: list[tuple[int, str, int, int, Recorded]] = []

    async def push(index: int) -> None:
        one = await anext(streams[index], None)
        if one is not None:
            key = (one.message.time_ns, one.js_stream, one.message.sequence)
            heapq.heappush(heap, (*key, index, one))

    for index in range(len(streams)):
        await push(index)
    while heap:
        *_, index, one = heapq.heappop(heap)
        at = log_time(one.message.time_ns)
        if is_later(at, until):
            return
        if not is_later(since, at):
            yield one
        await push(index)


async def play(
    messages: AsyncIterator[Recorded],
    clock: SimulatedClock,
    deliver: Callable[[Recorded], Awaitable[None]],
) -> tuple[Rate, str]:
    """Deliver each message when its time has come.

    Returns:
        The rate, and the SHA-256 over subjects and bodies in order.
    """
    digest, count, last_ns = hashlib.sha256(), 0, 0
    async for one in messages:
        message = one.message
        await clock.until(message.time_ns)
        await deliver(one)
        digest.update(message.subject.encode() + b"\0" + message.data + b"\0")
        count, last_ns = count + 1, message.time_ns
    return clock.rate(count, last_ns), digest.hexdigest()


class Republisher:
    """Publishes played-back messages on `<prefix>.<their subject>`.

    Any number of shadow strategies may subscribe; nothing is stored. Headers name the stream,
    sequence and log time of the original.
    """

    def __init__(self, nc: Client, prefix: str, run_id: str) -> None:
        self._nc = nc
        self._prefix = prefix
        self._run_id = run_id
        self._count = 0

    async def deliver(self, one: Recorded) -> None:
        """Publish one message."""
        message = one.message
        headers = {
            "Psm-Replay-Run": self._run_id,
            "Psm-Replay-Stream": one.js_stream,
            "Psm-Replay-Sequence": str(message.sequence),
            "Psm-Replay-Time": log_time(message.time_ns),
        }
        await self._nc.publish(f"{self._prefix}.{message.subject}", message.data, headers=headers)
        self._count += 1
        if self._count % _FLUSH_EVERY == 0:
            await self._nc.flush()

    async def end(self, sha256: str) -> None:
        """Tell the subscribers on `<prefix>.end` that this was all."""
        end = {"run_id": self._run_id, "messages": self._count, "sha256": sha256}
        await self._nc.publish(f"{self._prefix}.end", msgspec.json.encode(end))
        await self._nc.flush()


def target_prefix(target: str, run_id: str) -> str:
    """Return the subject in front of everything that a replay publishes.

    `target` is such as `replay.<run_id>.>`; the placeholder is filled in.

    Raises:
        ConfigError: it is not below `replay.`, where nothing live listens.
    """
    prefix = target.replace("<run_id>", run_id).removesuffix(".>")
    tokens = prefix.split(".")
    if not prefix.startswith(TARGET_HEAD) or not all(tokens) or set(prefix) & set("*> \t\r\n"):
        raise ConfigError(f"--to-subject {target}: expected replay.<run_id>.> or another below it")
    return prefix


async def _messages(nc: Client, stream: str, filters: list[str]) -> AsyncIterator[Recorded]:
    last = (await stream_info(nc, stream)).last_sequence
    async for batch in read_range(nc, stream, filters, 1, last):
        for message in batch:
            yield Recorded(js_stream=stream, message=message)
