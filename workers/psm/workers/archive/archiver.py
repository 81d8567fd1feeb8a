"""The archiver: every message of the recorded streams into the table `events`, each once.

All streams are read at once and written by one transaction after another, which moves the head and
the checkpoints with the rows. So what is archived twice, or not at all, after a kill is nothing.
What PSM says of the log's events (chain hash, refusals) is archived behind the events themselves.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import StoredMessage
from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.adapters.tasks import BackOff, end_all
from psm.contracts.errors import (
    ConfigError,
    FencedError,
    InvariantError,
    LogDamagedError,
    TransientError,
)
from psm.contracts.subjects import MARKETDATA, PSM, TRADES
from psm.projections.archive import writer as archive
from psm.projections.archive.rows import RecordedRow, row
from psm.projections.archive.writer import ArchiveCheckpoint, Batch, Chained, Refusal
from psm.workers.archive.lag import RETENTION_ALERT
from psm.workers.archive.source import SOURCES, Source, SourceStatus
from psm.workers.archive.verdicts import Verdict, verdict
from psm.workers.process.crash_points import crash_point

T = TypeVar("T", Chained, Refusal)

_RECHECK_S = 5.0
_ALERT_EVERY_S = 60.0
_BACK_OFF_S = (0.1, 5.0)


class Archiver:
    """Archives all recorded streams until cancelled."""

    def __init__(
        self, nc: Client, pool: postgres.Pool, metrics: Metrics, *, sample_interval_ms: int = 0
    ) -> None:
        """Nothing is read before `run`.

        Args:
            nc: connection.
            pool: of PostgreSQL.
            metrics: of this process.
            sample_interval_ms: of a subject of MARKETDATA one message per interval is archived;
                0 archives all.
        """
        self._nc = nc
        self._pool = pool
        self._metrics = metrics
        self._sample_ns = sample_interval_ms * 1_000_000
        self._sampled: dict[str, int] = {}
        self._log = get_logger()
        self._sources: dict[str, Source] = {}
        self._stopped: dict[str, str] = {}
        self._trouble: str | None = "starting"
        self._head = 0
        self._back_off = BackOff(*_BACK_OFF_S)
        self._alerted: dict[str, float] = {}

    def statuses(self) -> list[SourceStatus]:
        """Return how far each stream is archived."""
        return [
            source.status(self._stopped.get(name) or self._trouble)
            for name, source in self._sources.items()
        ]

    def is_ready(self) -> bool:
        """Return whether every stream is being archived."""
        return self._trouble is None and not self._stopped

    async def run(self) -> None:
        """Archive until cancelled; every outage ends with reading the checkpoints again."""
        while True:
            try:
                await self._archive()
            except (FencedError, TransientError) as error:
                self._log.warning("archive.interrupted", detail=str(error))
                await self._pause(error, self._back_off.next_s())
            except (InvariantError, ConfigError) as error:
                self._log.error("archive.stopped", detail=str(error))
                await self._pause(error, _RECHECK_S)

    async def _pause(self, error: Exception, delay_s: float) -> None:
        self._trouble = str(error)
        self._report()
        await asyncio.sleep(delay_s)

    async def _archive(self) -> None:
        async with postgres.acquired(self._pool) as connection:
            self._head = await archive.read_head(connection)
            known = await archive.read_checkpoints(connection)
        self._sources = {name: self._source(name, known.get(name)) for name in SOURCES}
        # What was chosen for a transaction that failed must be chosen again.
        self._sampled = {}
        self._stopped, self._trouble = {}, None
        self._log.info("archive.started", archive_sequence=self._head)
        fetching: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                for name, source in self._sources.items():
                    if name not in fetching and not source.unread:
                        fetching[name] = asyncio.create_task(self._fetch(name))
                if fetching:
                    await asyncio.wait(fetching.values(), return_when=asyncio.FIRST_COMPLETED)
                else:  # nothing fetched could be archived
                    await asyncio.sleep(_RECHECK_S)
                for name in [name for name, task in fetching.items() if task.done()]:
                    fetching.pop(name).result()
                crash_point("archiver.after_fetch")
                await self._commit()
                self._report()
        finally:
            await end_all(fetching.values())
            for source in self._sources.values():
                await source.close()

    def _source(self, name: str, checkpoint: ArchiveCheckpoint | None) -> Source:
        return Source(self._nc, name, checkpoint, self._metrics.reader_reset)

    async def _fetch(self, name: str) -> None:
        """Fetch; what is wrong with one stream does not keep the others."""
        try:
            await self._sources[name].fetch()
            self._stopped.pop(name, None)
        except (LogDamagedError, ConfigError) as error:
            self._stop(name, error)
            await asyncio.sleep(_RECHECK_S)
            stopped = self._sources[name]
            self._sources[name] = self._source(name, stopped.checkpoint)
            await stopped.close()

    def _stop(self, name: str, error: Exception) -> None:
        if self._stopped.get(name) != str(error):
            self._log.error("archive.stream_stopped", js_stream=name, detail=str(error))
        self._stopped[name] = str(error)

    async def _commit(self) -> None:
        """Archive what is fetched; what is wrong with one stream does not keep the others."""
        ready = {name: source for name, source in self._sources.items() if source.unread}
        try:
            while await self._archived_some(ready):
                pass
        except InvariantError:
            for name, source in ready.items():
                try:
                    while await self._archived_some({name: source}):
                        pass
                except InvariantError as error:
                    self._stop(name, error)
                    self._sampled = {}

    async def _archived_some(self, ready: Mapping[str, Source]) -> bool:
        """Archive the next messages of these streams; return whether there were any."""
        counts = {name: source.next_count() for name, source in ready.items()}
        verdicts = self._verdicts(ready, counts)
        if PSM in ready:
            counts[PSM] = len(verdicts)
        moved = {name: ready[name].archived(count) for name, count in counts.items() if count}
        if not moved:
            return False
        batch = Batch(
            rows=[row(message) for message in self._merged(ready, counts)],
            chained=_only(Chained, verdicts),
            refusals=_only(Refusal, verdicts),
            incidents=[i for name in moved for i in ready[name].incidents],
            moves=[(new, ready[name].checkpoint) for name, new in moved.items()],
        )
        await self._write(batch)
        for name, new in moved.items():
            ready[name].forget(counts[name], new)
        for name in moved.keys() - {PSM}:  # whose verdicts may go on and stop again
            self._stopped.pop(name, None)
        return True

    async def _write(self, batch: Batch) -> None:
        started = time.perf_counter()
        async with postgres.transaction(self._pool) as connection:
            incidents = await archive.write(connection, batch, self._head)
            crash_point("archiver.before_commit")
        crash_point("archiver.after_commit")
        self._head += len(batch.rows)
        self._back_off.reset()
        rows = len(batch.rows) + len(batch.chained) + len(batch.refusals)
        self._metrics.projected("archive", rows=rows, seconds=time.perf_counter() - started)
        if incidents:
            self._metrics.archive_incidents(incidents)
            self._log.warning(
                "archive.incidents_found", count=incidents, archive_sequence=self._head
            )

    def _verdicts(self, ready: Mapping[str, Source], counts: Mapping[str, int]) -> list[Verdict]:
        """What PSM says of events that are archived when this batch is."""
        if PSM not in ready:
            return []
        if counts.get(TRADES):
            reached = ready[TRADES].unread[counts[TRADES] - 1].sequence
        else:
            checkpoint = self._sources[TRADES].checkpoint
            reached = checkpoint.js_sequence if checkpoint else 0
        found: list[Verdict] = []
        try:
            for message in ready[PSM].unread[: counts[PSM]]:
                item = verdict(message)
                if item is not None and item.log_sequence > reached:
                    break
                found.append(item)
        except InvariantError as error:
            # What is wrong with PSM's own updates keeps no event out of the archive.
            self._stop(PSM, error)
        return found

    def _merged(self, ready: Mapping[str, Source], counts: Mapping[str, int]) -> list[RecordedRow]:
        """The messages of all streams by the time they were stored, each stream in its order."""
        streams = (
            [
                _recorded(name, message)
                for message in self._kept(name, source.unread[: counts[name]])
            ]
            for name, source in ready.items()
            if name != PSM
        )
        return list(heapq.merge(*streams, key=lambda message: message.time_ns))

    def _kept(self, name: str, messages: list[StoredMessage]) -> list[StoredMessage]:
        if name != MARKETDATA or not self._sample_ns:
            return messages
        return [message for message in messages if self._is_due(message)]

    def _is_due(self, message: StoredMessage) -> bool:
        """Whether the last archived message of the subject is an interval away."""
        last = self._sampled.get(message.subject)
        if last is not None and message.time_ns - last < self._sample_ns:
            return False
        self._sampled[message.subject] = message.time_ns
        return True

    def _report(self) -> None:
        for status in self.statuses():
            self._metrics.archive_lag(
                status.js_stream,
                events=status.lag_events,
                seconds=status.lag_s,
                retention_used=status.retention_used,
            )
            if status.retention_used >= RETENTION_ALERT:
                self._alert(status)

    def _alert(self, status: SourceStatus) -> None:
        now = time.monotonic()
        if now - self._alerted.get(status.js_stream, -_ALERT_EVERY_S) < _ALERT_EVERY_S:
            return
        self._alerted[status.js_stream] = now
        self._log.error(
            "archive.retention_near",
            js_stream=status.js_stream,
            lag_events=status.lag_events,
            lag_s=round(status.lag_s),
            retention_used=round(status.retention_used, 3),
        )


def readiness(archiver: Archiver) -> tuple[bool, dict[str, Any]]:
    """Return whether every stream is archived in time, and those that are not."""
    statuses = archiver.statuses()
    late = [s for s in statuses if s.retention_used >= RETENTION_ALERT]
    return archiver.is_ready() and not late, {
        "lag_events": sum(status.lag_events for status in statuses),
        "lag_s": round(max((status.lag_s for status in statuses), default=0.0), 3),
        "waiting": {s.js_stream: s.detail for s in statuses if s.detail},
        "late": {s.js_stream: round(s.retention_used, 3) for s in late},
    }


def _only(kind: type[T], verdicts: Sequence[Verdict]) -> list[T]:
    return [item for item in verdicts if isinstance(item, kind)]


def _recorded(js_stream: str, message: StoredMessage) -> RecordedRow:
    return RecordedRow(
        js_stream=js_stream,
        sequence=message.sequence,
        subject=message.subject,
        time_ns=message.time_ns,
        data=message.data,
        headers=message.headers,
    )
