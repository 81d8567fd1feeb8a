"""The projector: follows the sources of projections and keeps the views of PostgreSQL current.

One follower per projection and partition. Rows and checkpoint are written in one transaction that
ends where the source says (see `sources`), so a view always shows whole inputs, each once,
whatever is killed. Two projectors on one partition are harmless: the checkpoint lets one of them
through.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from typing import Literal

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import StoredMessage, get, stream_info
from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.adapters.tasks import BackOff, end_all
from psm.adapters.tracing import child_span
from psm.analytics.market_books import DEFAULT_RULES, MarketRules
from psm.contracts.errors import (
    ConfigError,
    FencedError,
    InvariantError,
    LogDamagedError,
    PSMError,
    TransientError,
)
from psm.projections import checkpoints
from psm.projections.checkpoints import ViewCheckpoint
from psm.projections.projection import Projection
from psm.projections.quarantine import StaleKey
from psm.projections.rows import UnstorableError
from psm.projections.source import ProjectionSource
from psm.projections.witness import heads
from psm.workers.process.crash_points import crash_point
from psm.workers.projector.batches import ReadyBatch
from psm.workers.projector.pasts import LogPasts
from psm.workers.projector.sources import reader_of

RECHECK_S = 5.0
SETTLE_S = 0.2
_BACK_OFF_S = (0.1, 5.0)
_NS = 1_000_000_000

State = Literal["starting", "running", "retrying", "behind_retention", "stopped"]


class BehindRetentionError(PSMError):
    """A stream that no longer has what follows the checkpoint."""


class FollowerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of one follower, for health checks.

    Attributes:
        projection: that it feeds.
        partition: of the projection's source.
        state: `running` is the only healthy one in the long run.
        stream_sequence: checkpoint, 0 before the first.
        lag_events: messages of the stream after the checkpoint, as far as the broker reported.
        lag_s: age of the oldest of them.
        detail: what is wrong and what to do, else None.
        stale: keys whose last row could not be stored.
    """

    projection: str
    partition: int
    state: State
    stream_sequence: int
    lag_events: int
    lag_s: float
    detail: str | None
    stale: tuple[StaleKey, ...] = ()


class Follower:
    """Feeder of one projection from one partition of its source."""

    def __init__(
        self,
        nc: Client,
        pool: postgres.Pool,
        projection: Projection,
        partition: int,
        metrics: Metrics,
        market: MarketRules = DEFAULT_RULES,
    ) -> None:
        self._nc = nc
        self._pool = pool
        self._projection = projection
        self._source = reader_of(projection.source, market)
        self._partition = partition
        self._metrics = metrics
        self._log = get_logger(projection=projection.name, partition=partition)
        self._pasts = LogPasts(nc)
        self._writer = projection.writer(self._pasts)
        self._checkpoint: ViewCheckpoint | None = None
        self._state: State = "starting"
        self._detail: str | None = None
        self._lag_events = 0
        self._lag_s = 0.0
        self._stale: list[StaleKey] = []
        self._oldest_ns: int | None = None  # of what was read and is not written
        self._back_off = BackOff(*_BACK_OFF_S)

    def status(self) -> FollowerStatus:
        """Return its state."""
        return FollowerStatus(
            projection=self._projection.name,
            partition=self._partition,
            state=self._state,
            stream_sequence=self._checkpoint.stream_sequence if self._checkpoint else 0,
            lag_events=self._lag_events,
            lag_s=self._lag_s,
            detail=self._detail,
            stale=tuple(self._stale),
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
                await self._pause("retrying", error, self._back_off.next_s(), "fenced")
            except TransientError as error:
                self._log.warning("projection.interrupted", detail=str(error))
                await self._pause("retrying", error, self._back_off.next_s(), "away")
            except BehindRetentionError as error:
                self._log.error("projection.behind_retention", detail=str(error))
                await self._pause("behind_retention", error, RECHECK_S, "behind_retention")
            except (LogDamagedError, InvariantError, ConfigError) as error:
                # This partition alone stops. A rebuild, a restored log or a migration heals it
                # without a restart, so it looks again.
                self._log.error("projection.stopped", detail=str(error))
                await self._pause("stopped", error, RECHECK_S, "stopped")

    async def _follow(self) -> None:
        # What the last one remembers may not have been committed.
        self._writer = self._projection.writer(self._pasts)
        async with postgres.acquired(self._pool) as connection:
            self._checkpoint = await checkpoints.read(
                connection, self._projection.name, self._partition
            )
            self._take_stale(await self._stale_keys(connection))
        source = self._projection.source
        await check_against_log(self._nc, source, self._checkpoint, self._partition)
        position = self._checkpoint.stream_sequence if self._checkpoint else 0
        reader = self._source.open(
            self._nc, self._partition, position + 1, self._metrics.reader_reset
        )
        try:
            async with postgres.acquired(self._pool) as connection:
                await reader.restore(connection)
            self._log.info("projection.started", stream_sequence=position)
            self._state, self._detail = "running", None
            while True:
                messages = await reader.fetch()
                if messages and self._oldest_ns is None:
                    self._oldest_ns = messages[0].time_ns
                crash_point("projector.after_fetch")
                ready = reader.assemble(messages)
                if ready is not None:
                    await self._commit(ready)
                    self._back_off.reset()
                elif not messages:
                    await self._settle()
                self._measure(messages, reader.pending)
        finally:
            await reader.close()

    async def _commit(self, ready: ReadyBatch) -> None:
        """Write a batch; only one with a row that cannot be held is written piece by piece."""
        started = time.perf_counter()
        try:
            rows = await self._write(ready, apart=False)
        except UnstorableError:
            rows = await self._write(ready, apart=True)
        self._checkpoint = ready.checkpoint
        oldest_ns, self._oldest_ns = self._oldest_ns, None
        self._metrics.projected(
            self._projection.name,
            rows=rows,
            seconds=time.perf_counter() - started,
            latency_s=None if oldest_ns is None else time.time() - oldest_ns / _NS,
        )
        self._log.debug(
            "projection.advanced",
            stream_sequence=ready.checkpoint.stream_sequence,
            log_sequence=ready.checkpoint.log_sequence,
            updates=len(ready.updates),
            rows=rows,
        )

    async def _settle(self) -> None:
        """Write rows that are due without an update, while there is none."""
        checkpoint = self._checkpoint
        if self._writer.is_settled or checkpoint is None:
            return
        async with postgres.transaction(self._pool) as connection:
            await checkpoints.advance(
                connection, self._projection.name, checkpoint, expected=checkpoint
            )
            await self._writer.settle(connection, self._partition, SETTLE_S)
            crash_point("projector.before_commit")

    async def _write(self, ready: ReadyBatch, *, apart: bool) -> int:
        kinds = self._projection.kinds
        updates = [update for update in ready.updates if update.kind in kinds]
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
                apply = self._writer.apply_apart if apart else self._writer.apply
                rows = await apply(connection, updates)
                stale = await self._stale_keys(connection) if apart or self._stale else []
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
        self._take_stale(stale)
        return rows

    async def _stale_keys(self, connection: postgres.Connection) -> list[StaleKey]:
        entries = await self._projection.quarantine.entries(connection)
        return [entry for entry in entries if entry.partition == self._partition]

    def _take_stale(self, stale: list[StaleKey]) -> None:
        """Remember what is in quarantine; say what is new there."""
        for entry in stale:
            if entry not in self._stale:
                self._log.error(
                    "projection.row_quarantined",
                    view=entry.view,
                    stream_id=entry.stream_id,
                    sequence_number=entry.sequence_number,
                    column=entry.column_name,
                    sqlstate=entry.sqlstate,
                )
        self._stale = stale
        self._metrics.quarantined(self._projection.name, self._partition, len(stale))

    def _measure(self, messages: Sequence[StoredMessage], unread: int) -> None:
        self._lag_events = unread
        if not unread:
            self._lag_s = 0.0
        elif messages:
            # The first unread message is at least as new as the last one read.
            self._lag_s = max(0.0, time.time() - messages[-1].time_ns / _NS)
        self._metrics.projection_lag(
            self._projection.name, self._partition, events=unread, seconds=self._lag_s
        )

    async def _pause(self, state: State, error: PSMError, delay_s: float, reason: str) -> None:
        self._state, self._detail, self._oldest_ns = state, str(error), None
        self._metrics.projection_interrupted(self._projection.name, reason)
        await asyncio.sleep(delay_s)


class Projector:
    """All followers of one process.

    A source that has no messages in any of its partitions is followed by another process.
    """

    def __init__(
        self,
        nc: Client,
        pool: postgres.Pool,
        projections: Sequence[Projection],
        partitions: Sequence[int],
        metrics: Metrics,
        market: MarketRules = DEFAULT_RULES,
    ) -> None:
        self._followers = [
            Follower(nc, pool, projection, partition, metrics, market)
            for projection in projections
            for partition in reader_of(projection.source).partitions(partitions)
        ]

    async def run(self) -> None:
        """Follow everything until cancelled."""
        tasks = {asyncio.create_task(follower.run()) for follower in self._followers}
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()  # only a bug ends a follower
        finally:
            await end_all(tasks)

    def statuses(self) -> list[FollowerStatus]:
        """Return the state of each follower."""
        return [follower.status() for follower in self._followers]

    def is_ready(self) -> bool:
        """Return whether every partition is being followed."""
        return all(status.state == "running" for status in self.statuses())


async def check_against_log(
    nc: Client, source: ProjectionSource, checkpoint: ViewCheckpoint | None, partition: int
) -> None:
    """Make sure that the source continues what the view was made from.

    Raises:
        BehindRetentionError: messages after the checkpoint may have expired.
        LogDamagedError: the message at the checkpoint is absent or another one.
        TransientError: NATS is away.
    """
    js_stream = source.js_stream
    info = await stream_info(nc, js_stream)
    # A stream that was made again begins after the old one (`psm recover updates`).
    begin = int(info.config.get("first_seq") or 1)
    position = checkpoint.stream_sequence if checkpoint else begin - 1
    if _needs_nothing(source, position, info.first_sequence):
        return
    if position < info.first_sequence - (0 if checkpoint else 1):
        raise BehindRetentionError(
            f"partition {partition}: the view is at {position}, the stream {js_stream} begins at "
            f"{info.first_sequence}; run `psm views rebuild`"
        )
    if checkpoint is None:
        return
    message = await get(nc, js_stream, position)
    found = hashlib.sha256(message.data).hexdigest() if message else None
    if found != checkpoint.event_hash:
        what = "is absent" if message is None else "has other bytes"
        raise LogDamagedError(
            f"the view is ahead of the log: partition {partition} was read up to message "
            f"{position} of {js_stream}, log sequence {checkpoint.log_sequence}, and that message "
            f"{what}; restore the newer log, or make the view anew with `psm views rebuild`"
        )


def _needs_nothing(source: ProjectionSource, position: int, first: int) -> bool:
    """Return whether what the stream holds no more was read, or is not needed."""
    if source.heals:
        return position < first
    return source.rebuilt_from == "stream" and position == first - 1
