"""One audit: read by sequence, fold again partition by partition, compare with everything."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import last_for, move_leader, read_range, replicas_of, stream_info
from psm.adapters.jetstream.every import read_every, server_name
from psm.contracts import subjects
from psm.contracts.errors import ConfigError, LogDamagedError, PSMError, TransientError
from psm.domain.books import Books
from psm.projections import heads
from psm.projections.current_state import CURRENT_STATE
from psm.projections.heads import LogHead
from psm.workers.audit.causes import dangling_notes
from psm.workers.audit.findings import Finding, Findings, Report, ranges
from psm.workers.audit.published import PublishedUpdates
from psm.workers.audit.refold import Evidence, Refold
from psm.workers.audit.scan import DIGEST_EVERY, Progress, Scan, Tally, bounds
from psm.workers.cursor import load_cursor
from psm.workers.log_store import PSM, TRADES
from psm.workers.rebuild import Rebuild, boundary

_HIDDEN_MAX = 1000


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Log sequences to look at, both included; `last` None is the end of the log."""

    first: int = 1
    last: int | None = None


class Audit:
    """Reads only, except that comparing the views makes shadow tables, which it drops again."""

    def __init__(
        self,
        nc: Client,
        *,
        partitions: int,
        valuation_interval_ns: int,
        asked: Range,
        chosen: tuple[int, ...],
        progress: Progress | None = None,
    ) -> None:
        """Nothing is read yet.

        Args:
            nc: connection.
            partitions: of the log.
            valuation_interval_ns: of the log.
            asked: range of the log; a fold begins at the beginning all the same.
            chosen: partitions to fold again.
            progress: told how far it is.
        """
        self._nc = nc
        self._partitions = partitions
        self._valuation_interval_ns = valuation_interval_ns
        self._asked = asked
        self._chosen = chosen
        self._progress = progress
        self._findings = Findings()
        self._report = Report()

    # --- bytes only ----------------------------------------------------------------------------

    async def this_server(self) -> Report:
        """Read the replica of the server that the connection ends at; it leads meanwhile.

        Direct gets would not do: while a follower is not ready for them, another one answers.
        """
        return await self.replicas(await server_name(self._nc))

    async def replicas(self, wanted: str) -> Report:
        """Let each replica, or the one named, lead in turn and read the log from it.

        Raises:
            ConfigError: the log has no such replica.
        """
        for stream in (TRADES, PSM):
            names = await replicas_of(self._nc, stream)
            chosen = names if wanted == "all" else [name for name in names if name == wanted]
            if not chosen:
                there = ", ".join(names) or "none: it is a single server"
                raise ConfigError(f"{stream} has no replica {wanted!r}; there is {there}")
            before: dict[int, bytes] = {}
            try:
                for name in chosen:
                    await move_leader(self._nc, stream, name)
                    tally = await self._scan(stream, server=name, from_leader=True)
                    self._compare_digests(stream, name, before, tally)
            finally:
                await move_leader(self._nc, stream, names[0])
        return self._done()

    def _compare_digests(
        self, stream: str, server: str, before: dict[int, bytes], tally: Tally
    ) -> None:
        for last, digest in tally.digests.items():
            if before.setdefault(last, digest) != digest:
                self._findings.add(
                    Finding(
                        code="replicas_differ",
                        stream=stream,
                        sequence=(last - 1) // DIGEST_EVERY * DIGEST_EVERY + 1,
                        last=last,
                        server=server,
                        expected="the bytes of the replica read first",
                        found="others",
                    )
                )

    async def _scan(
        self, stream: str, *, server: str | None = None, from_leader: bool = False
    ) -> Tally:
        first, last = await bounds(self._nc, stream, self._findings, server)
        if stream == TRADES:
            first = max(first, self._asked.first)
            last = min(last, self._asked.last or last)
            self._report.first, self._report.last = first, last
        scan = Scan(
            self._nc,
            stream,
            self._findings,
            partitions=self._partitions,
            server=server,
            from_leader=from_leader,
            progress=self._progress,
        )
        tally = await scan.run(first, last)
        if stream == TRADES:
            self._report.messages, self._report.events = tally.messages, tally.events
        return tally

    # --- everything ----------------------------------------------------------------------------

    async def everything(self, pool: postgres.Pool | None, *, views: bool = True) -> Report:
        """Read by sequence, fold again, compare with PSM and, where `pool` is given, PostgreSQL."""
        tally = await self._scan(TRADES)
        await self._scan(PSM)
        if pool is None:
            self._report.notes.append("PostgreSQL was not compared: POSTGRES_DSN is not set")
        for partition in self._chosen:
            await self._partition(partition, tally, pool)
        whole = self._asked == Range() and len(self._chosen) == self._partitions
        if pool is not None and views and whole:
            await self._views(pool)
        elif pool is not None:
            self._report.notes.append("the rows of the views were not compared")
        if pool is not None:
            self._report.notes += await dangling_notes(pool)
        return self._done()

    async def _partition(self, partition: int, tally: Tally, pool: postgres.Pool | None) -> None:
        # In this order: what was made from the log is read before the log's end is asked for, so
        # that a log which is written to meanwhile is never taken for one that ends too early.
        chains, logs = [], []
        if pool is not None:
            async with postgres.acquired(pool) as connection:
                chains = await heads.chain_heads(connection, partition)
                logs = await heads.log_heads(connection, partition)
        committed = await self._committed(partition)
        psm = await stream_info(self._nc, PSM)
        last = self._asked.last or (await stream_info(self._nc, TRADES)).last_sequence
        if self._asked.last is None:
            written = max((head.log_sequence for head in logs), default=0)
            self._tail(partition, written, "PostgreSQL was written up to", last)
            self._tail(partition, committed, "updates are committed up to", last)
            await self._rolled_back(partition, logs, committed)
        books = Books(
            partitions=self._partitions,
            partition=partition,
            valuation_interval_ns=self._valuation_interval_ns,
        )
        refold = Refold(
            self._nc,
            books,
            PublishedUpdates(
                self._nc,
                partition,
                psm.last_sequence,
                self._findings,
                whole=psm.first_sequence <= 1,
            ),
            Evidence(
                committed=committed,
                psm_begins=psm.first_sequence <= 1,
                first=self._asked.first,
                last=self._asked.last,
                chain_heads=chains,
                log_heads=logs,
            ),
            self._findings,
            self._report,
            self._report.last,
        )
        try:
            await refold.run(last, lambda at, to: self._reached(f"partition {partition}", at, to))
        except (TransientError, ConfigError):
            raise
        except PSMError as error:
            self._failed(partition, error)
            return
        self._report.partitions += 1
        # From the middle the counts cannot be compared: the fold begins at the beginning.
        if self._asked.first == 1 and refold.seen != tally.of(partition):
            await self._name_hidden(partition)

    async def _committed(self, partition: int) -> int:
        """Return the log sequence up to which every update is committed."""
        try:
            target = await boundary(self._nc, partition)
        except LogDamagedError:
            # Compare as far as PSM goes: what the log cannot explain is then named one by one.
            newest = await last_for(self._nc, PSM, subjects.cursor(partition))
            assert newest is not None
            return load_cursor(newest.data).log_sequence
        return target.log_sequence if target else 0

    async def _rolled_back(self, partition: int, logs: list[LogHead], committed: int) -> None:
        """Note a PSM that ends before what the projector has read of it."""
        if not logs or logs[-1].log_sequence <= committed:
            return
        end = (await stream_info(self._nc, PSM)).last_sequence
        self._findings.add(
            Finding(
                code="updates_lost",
                stream=PSM,
                sequence=end + 1,
                partition=partition,
                expected=f"updates up to log sequence {logs[-1].log_sequence}, which the "
                f"projector read at PSM sequence {logs[-1].stream_sequence}",
                found=f"updates up to log sequence {committed}; PSM ends at {end}",
            )
        )

    def _tail(self, partition: int, expected: int, what: str, last: int) -> None:
        if expected <= last:
            return
        self._findings.add(
            Finding(
                code="tail_missing",
                stream=TRADES,
                sequence=last + 1,
                partition=partition,
                expected=f"{what} log sequence {expected}",
                found=f"the log ends at {last}",
            )
        )

    def _failed(self, partition: int, error: PSMError) -> None:
        self._findings.add(
            Finding(
                code="refold_failed",
                stream=TRADES,
                partition=partition,
                expected="a log that folds",
                found=f"{type(error).__name__}: {error}",
            )
        )

    async def _name_hidden(self, partition: int) -> None:
        """Name what the log has and the consumer of a partition did not show."""
        last = self._report.last
        filters = subjects.partition_filters(partition)
        shown = _sequences(self._nc, filters, last)
        next_shown = await anext(shown, None)
        own = (f"trades.{partition}.", "marks.", "instruments.", "control.")
        hidden: list[int] = []
        async for batch in read_every(self._nc, TRADES, self._report.first, last):
            for read in batch:
                if read.message is None or not read.message.subject.startswith(own):
                    continue
                while next_shown is not None and next_shown < read.sequence:
                    next_shown = await anext(shown, None)
                if next_shown != read.sequence and len(hidden) < _HIDDEN_MAX:
                    hidden.append(read.sequence)
        for first, end in ranges(hidden):
            self._findings.add(
                Finding(
                    code="consumer_hides",
                    stream=TRADES,
                    sequence=first,
                    last=end if end > first else None,
                    partition=partition,
                    expected="a message that the leader has",
                    found="the consumer does not deliver it",
                ),
                end - first + 1,
            )

    async def _views(self, pool: postgres.Pool) -> None:
        """Fold into shadow tables and compare row by row, as `psm views rebuild --dry-run`."""
        rebuild = Rebuild(
            self._nc,
            pool,
            CURRENT_STATE,
            partitions=self._partitions,
            valuation_interval_ns=self._valuation_interval_ns,
            progress=lambda p, at, to: self._reached(f"views of partition {p}", at, to),
        )
        try:
            report = await rebuild.run(dry_run=True)
        except LogDamagedError as error:
            self._findings.add(
                Finding(code="view_not_compared", stream=CURRENT_STATE.name, found=str(error))
            )
            return
        self._report.rows_differ = report.rows_differ if report.compared else None
        for difference in report.differences:
            self._findings.add(
                Finding(
                    code="view_differs",
                    stream=difference.table,
                    stream_id="/".join(difference.key.values()),
                    expected=f"{difference.column or 'row'} {difference.rebuilt}",
                    found=f"{difference.column or 'row'} {difference.live}",
                )
            )
        for text in report.diverged:
            self._findings.add(Finding(code="view_diverged", stream=CURRENT_STATE.name, found=text))
        if not report.compared and not report.diverged:
            self._report.notes.append("the views are behind the retention of PSM: rebuild them")

    def _reached(self, what: str, at: int, to: int) -> None:
        if self._progress is not None:
            self._progress(what, at, to)

    def _done(self) -> Report:
        self._report.counts = self._findings.counts()
        self._report.findings = self._findings.ordered()
        return self._report


async def _sequences(nc: Client, filters: list[str], last: int) -> AsyncIterator[int]:
    async for batch in read_range(nc, TRADES, filters, 1, last):
        for message in batch:
            yield message.sequence
