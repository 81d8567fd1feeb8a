"""The projector: follows the stream PSM and keeps the views of PostgreSQL up to date.

One follower per partition. Rows and checkpoint are written in one transaction that ends at a
boundary (see `committed`), so a view always shows whole inputs, each once, whatever is killed.
Two projectors on one partition are harmless: the checkpoint lets one of them through.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Sequence
from typing import Literal

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import StoredMessage, get, stream_info
from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.adapters.tracing import child_span
from psm.contracts.errors import (
    ConfigError,
    FencedError,
    InvariantError,
    LogDamagedError,
    PSMError,
    TransientError,
)
from psm.projections import checkpoints, heads
from psm.projections.checkpoints import Checkpoint
from psm.projections.projection import Projection
from psm.workers.committed import Assembler, CommittedReader, Ready
from psm.workers.faults import crash_point

STREAM = "PSM"
BATCH_MESSAGES = 2000
# Long enough that sixteen busy partitions share transactions, short enough to read one's writes.
LINGER_S = 0.02
FETCH_WAIT_S = 1.0
RECHECK_S = 5.0
_BACK_OFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_CANCEL_AGAIN_S = 0.2
_NS = 1_000_000_000

State = Literal["starting", "running", "retrying", "behind_retention", "stopped"]


class BehindRetentionError(PSMError):
    """The stream PSM no longer has what follows the checkpoint."""


class FollowerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one partition's follower is doing, for health checks.

    Attributes:
        partition: of the stream PSM.
        state: `running` is the only healthy one in the long run.
        stream_sequence: checkpoint, 0 before the first.
        lag_events: messages of PSM behind the checkpoint, as far as the broker told.
        lag_s: age of the oldest of them.
        detail: what is wrong and what to do, else None.
    """

    partition: int
    state: State
    stream_sequence: int
    lag_events: int
    lag_s: float
    detail: str | None


class Follower:
    """Feeds one partition of the stream PSM to one projection."""

    def __init__(
        self,
        nc: Client,
        pool: postgres.Pool,
        projection: Projection,
        partition: int,
        metrics: Metrics,
    ) -> None:
        self._nc = nc
        self._pool = pool
        self._projection = projection
        self._partition = partition
        self._metrics = metrics
        self._log = get_logger(projection=projection.name, partition=partition)
        self._checkpoint: Checkpoint | None = None
        self._state: State = "starting"
        self._detail: str | None = None
        self._lag_events = 0
        self._lag_s = 0.0
        self._failures = 0

    def status(self) -> FollowerStatus:
        """Return how it is doing."""
        return FollowerStatus(
            partition=self._partition,
            state=self._state,
            stream_sequence=self._checkpoint.stream_sequence if self._checkpoint else 0,
            lag_events=self._lag_events,
            lag_s=self._lag_s,
            detail=self._detail,
        )

    async def run(self) -> None:
        """Follow until cancelled; every outage ends with reading the checkpoint again.

        That is also what settles a commit whose outcome is unknown: either the checkpoint has
        moved and the rows with it, or neither.
        """
        while True:
            try:
                await self._follow()
            except FencedError as error:
                self._log.warning("projection.fenced", detail=str(error))
                await self._pause("retrying", error, self._back_off())
            except TransientError as error:
                self._log.warning("projection.interrupted", detail=str(error))
                await self._pause("retrying", error, self._back_off())
            except BehindRetentionError as error:
                self._log.error("projection.behind_retention", detail=str(error))
                await self._pause("behind_retention", error, RECHECK_S)
            except (LogDamagedError, InvariantError, ConfigError) as error:
                # This partition alone stops. A rebuild, a restored log or a migration heals it
                # without a restart, so it looks again.
                self._log.error("projection.stopped", detail=str(error))
                await self._pause("stopped", error, RECHECK_S)

    async def _follow(self) -> None:
        async with postgres.acquired(self._pool) as connection:
            self._checkpoint = await checkpoints.read(
                connection, self._projection.name, self._partition
            )
        await check_against_log(self._nc, self._checkpoint, self._partition)
        position = self._checkpoint.stream_sequence if self._checkpoint else 0
        reader = CommittedReader(
            self._nc, self._partition, position + 1, on_reset=self._metrics.reader_reset
        )
        assembler = Assembler(self._partition)
        self._log.info("projection.started", stream_sequence=position)
        self._state, self._detail = "running", None
        try:
            while True:
                messages = await reader.fetch(BATCH_MESSAGES, FETCH_WAIT_S, linger_s=LINGER_S)
                crash_point("projector.after_fetch")
                ready = assembler.feed(messages)
                if ready is not None:
                    await self._commit(ready)
                    self._failures = 0
                self._measure(messages, reader.pending + assembler.waiting)
        finally:
            await reader.close()

    async def _commit(self, ready: Ready) -> None:
        kinds = self._projection.kinds
        updates = [update for update in ready.updates if update.kind in kinds]
        started = time.perf_counter()
        attributes: dict[str, str | int] = {
            "psm.projection": self._projection.name,
            "psm.partition": self._partition,
        }
        with child_span("psm.project", None, attributes, (u.traceparent for u in updates)):
            async with postgres.transaction(self._pool) as connection:
                # The checkpoint first: its row is the lock that a rebuild's swap holds, and a
                # projector that is refused has touched no row yet.
                await checkpoints.advance(
                    connection, self._projection.name, ready.checkpoint, expected=self._checkpoint
                )
                rows = await self._projection.apply(connection, updates)
                if self._projection.keeps_heads and ready.log_hash is not None:
                    await heads.record(
                        connection,
                        self._partition,
                        log_sequence=ready.checkpoint.log_sequence,
                        event_hash=ready.log_hash,
                        stream_sequence=ready.checkpoint.stream_sequence,
                    )
                crash_point("projector.before_commit")
        crash_point("projector.after_commit")
        self._checkpoint = ready.checkpoint
        seconds = time.perf_counter() - started
        self._metrics.projected(self._projection.name, rows=rows, seconds=seconds)
        self._log.debug(
            "projection.advanced",
            stream_sequence=ready.checkpoint.stream_sequence,
            log_sequence=ready.checkpoint.log_sequence,
            updates=len(updates),
            rows=rows,
        )

    def _measure(self, messages: Sequence[StoredMessage], behind: int) -> None:
        self._lag_events = behind
        if not behind:
            self._lag_s = 0.0
        elif messages:
            # The first unread message is at least as new as the last one read.
            self._lag_s = max(0.0, time.time() - messages[-1].time_ns / _NS)
        self._metrics.projection_lag(
            self._projection.name, self._partition, events=behind, seconds=self._lag_s
        )

    def _back_off(self) -> float:
        delay = _BACK_OFF_S[min(self._failures, len(_BACK_OFF_S) - 1)]
        self._failures += 1
        return delay * random.uniform(0.5, 1.5)  # noqa: S311 - jitter, no secret

    async def _pause(self, state: State, error: PSMError, delay_s: float) -> None:
        self._state, self._detail = state, str(error)
        await asyncio.sleep(delay_s)


class Projector:
    """All followers of one process."""

    def __init__(
        self,
        nc: Client,
        pool: postgres.Pool,
        projections: Sequence[Projection],
        partitions: Sequence[int],
        metrics: Metrics,
    ) -> None:
        self._followers = [
            Follower(nc, pool, projection, partition, metrics)
            for projection in projections
            for partition in partitions
        ]

    async def run(self) -> None:
        """Follow all partitions until cancelled."""
        tasks = {asyncio.create_task(follower.run()) for follower in self._followers}
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()  # only a bug ends a follower
        finally:
            await _end(tasks)

    def statuses(self) -> list[FollowerStatus]:
        """Return how each follower is doing."""
        return [follower.status() for follower in self._followers]

    def is_ready(self) -> bool:
        """Return whether every partition is being followed."""
        return all(status.state == "running" for status in self.statuses())


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel until all have ended.

    Once is not enough: `asyncio.wait_for` of Python 3.11, which nats-py uses, swallows a
    cancellation that arrives together with the answer it waits for.
    """
    pending = tasks
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)


async def check_against_log(nc: Client, checkpoint: Checkpoint | None, partition: int) -> None:
    """Make sure that the stream PSM continues what the view was made from.

    Raises:
        BehindRetentionError: messages after the checkpoint may have expired.
        LogDamagedError: the message at the checkpoint is absent or another one.
        TransientError: NATS is away.
    """
    info = await stream_info(nc, STREAM)
    # A stream that was made anew begins behind the old one (`psm recover updates`).
    begin = int(info.config.get("first_seq") or 1)
    position = checkpoint.stream_sequence if checkpoint else begin - 1
    if position < info.first_sequence - (0 if checkpoint else 1):
        raise BehindRetentionError(
            f"partition {partition}: the view is at {position}, the stream PSM begins at "
            f"{info.first_sequence}; run `psm views rebuild`"
        )
    if checkpoint is None:
        return
    message = await get(nc, STREAM, position)
    found = hashlib.sha256(message.data).hexdigest() if message else None
    if found != checkpoint.event_hash:
        what = "is absent" if message is None else "has other bytes"
        raise LogDamagedError(
            f"the view is ahead of the log: partition {partition} was read up to message "
            f"{position} of PSM, log sequence {checkpoint.log_sequence}, and that message {what}; "
            "restore the newer log, or make the view anew with `psm views rebuild`"
        )
