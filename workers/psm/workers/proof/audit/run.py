"""One audit: read by sequence, fold again partition by partition, compare with everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from functools import partial

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import last_for, move_leader, replicas_of, stream_info
from psm.adapters.jetstream.every import read_every, server_name
from psm.contracts import subjects
from psm.contracts.errors import ConfigError, LogDamagedError, PSMError, TransientError
from psm.contracts.subjects import PSM, TRADES
from psm.domain.books import Books
from psm.domain.market.slots import ValuationSlots
from psm.projections.current_state import CURRENT_STATE
from psm.projections.witness import heads
from psm.projections.witness.heads import LogHead
from psm.workers.log.cursor import load_cursor
from psm.workers.log.reader import last_log_sequence, read_stored
from psm.workers.ops.keys import Keyring
from psm.workers.projector.making import boundary
from psm.workers.projector.rebuild import Rebuild
from psm.workers.proof.audit.causes import dangling_notes, incident_notes
from psm.workers.proof.audit.findings import AuditReport, Finding, Findings, ranges
from psm.workers.proof.audit.published import PublishedUpdates
from psm.workers.proof.audit.refold import Evidence, Refold
from psm.workers.proof.audit.rows import compare_views
from psm.workers.proof.audit.scan import DIGEST_EVERY, Progress, Scan, Tally, bounds

_HIDDEN_MAX = 1000
_CONSUMERS_MAX = 5
"""Of how many the fold of a partition is tried before what it says is taken."""


class AuditRange(msgspec.Struct, frozen=True, kw_only=True):
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
        slots: ValuationSlots,
        asked: AuditRange,
        chosen: tuple[int, ...],
        progress: Progress | None = None,
        principals: Keyring | None = None,
    ) -> None:
        """Nothing is read yet.

        Args:
            nc: connection.
            partitions: of the log.
            slots: of the log.
            asked: range of the log; a fold begins at the beginning all the same.
            chosen: partitions to fold again.
            progress: told how far it is.
            principals: keys of the services whose `Psm-Principal` counts.
        """
        self._nc = nc
        self._partitions = partitions
        self._slots = slots
        self._asked = asked
        self._chosen = chosen
        self._progress = progress
        self._principals = principals
        self._findings = Findings()
        self._report = AuditReport()

    # --- bytes only ----------------------------------------------------------------------------

    async def this_server(self) -> AuditReport:
        """Read the replica of the server that the connection ends at; it leads meanwhile.

        Direct gets would not do: while a follower is not ready for them, another one answers.
        """
        return await self.replicas(await server_name(self._nc))

    async def replicas(self, wanted: str) -> AuditReport:
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
            tallies: dict[str, Tally] = {}
            try:
                for name in chosen:
                    await move_leader(self._nc, stream, name)
                    tallies[name] = await self._scan(stream, server=name, from_leader=True)
            finally:
                await move_leader(self._nc, stream, names[0])
            self._compare_digests(stream, tallies)
        return self._done()

    def _compare_digests(self, stream: str, tallies: dict[str, Tally]) -> None:
        """Note each replica that differs from most; where none is most, from the first read."""
        begins = {tally.first for tally in tallies.values()}
        for last in sorted({last for tally in tallies.values() for last in tally.digests}):
            first = (last - 1) // DIGEST_EVERY * DIGEST_EVERY + 1
            if len(begins) > 1 and first < max(begins):
                continue  # the oldest went by age meanwhile
            digests = {n: t.digests[last] for n, t in tallies.items() if last in t.digests}
            ((usual, _),) = Counter(digests.values()).most_common(1)
            same = [name for name, digest in digests.items() if digest == usual]
            for name, digest in digests.items():
                if digest != usual:
                    self._findings.add(
                        Finding(
                            code="replicas_differ",
                            stream=stream,
                            sequence=max(first, *begins),
                            last=last,
                            server=name,
                            expected=f"the bytes of {', '.join(same)}",
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
            principals=self._principals,
        )
        tally = await scan.run(first, last)
        if stream == TRADES:
            self._report.messages, self._report.events = tally.messages, tally.events
            self._report.vouched, self._report.claimed = tally.vouched, tally.claimed
        return tally

    # --- everything ----------------------------------------------------------------------------

    async def everything(self, pool: postgres.Pool | None, *, views: bool = True) -> AuditReport:
        """Read by sequence, fold again, compare with PSM and, where `pool` is given, PostgreSQL."""
        tally = await self._scan(TRADES)
        await self._scan(PSM)
        if pool is None:
            self._report.notes.append("PostgreSQL was not compared: POSTGRES_DSN is not set")
        for partition in self._chosen:
            await self._partition(partition, tally, pool)
        if tally.messages and not await self._was_anything_committed():
            self._findings.add(
                Finding(
                    code="not_committed",
                    stream=PSM,
                    sequence=1,
                    expected=f"updates of {tally.messages} messages of the log",
                    found="nothing: not committed yet",
                )
            )
        whole = self._asked == AuditRange() and len(self._chosen) == self._partitions
        if pool is not None and views and whole:
            await self._views(pool)
        elif pool is not None:
            self._report.notes.append("the rows of the views were not compared")
        if pool is not None:
            self._report.notes += await dangling_notes(pool)
            self._report.notes += await incident_notes(pool)
        return self._done()

    async def _was_anything_committed(self) -> bool:
        if "updates_lost" in self._findings.counts():
            return True  # and PSM lost it
        for partition in range(self._partitions):
            if await last_for(self._nc, PSM, subjects.cursor(partition)) is not None:
                return True
        return False

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
        last = self._asked.last or await last_log_sequence(self._nc)
        if self._asked.last is None:
            written = max((head.log_sequence for head in logs), default=0)
            self._tail(partition, written, "PostgreSQL was written up to", last)
            self._tail(partition, committed, "updates are committed up to", last)
            await self._rolled_back(partition, logs, committed)
        evidence = Evidence(
            committed=committed,
            psm_begins=psm.first_sequence <= 1,
            first=self._asked.first,
            last=self._asked.last,
            chain_heads=chains,
            log_heads=logs,
        )
        hides, hidden = False, set[int]()
        for _ in range(_CONSUMERS_MAX):
            findings, report = Findings(), msgspec.structs.replace(self._report)
            refold = self._refold(partition, evidence, findings, report, psm.last_sequence)
            failed = await self._failed(refold, partition, last, findings)
            report.partitions += not failed
            # From the middle the counts cannot be compared: the fold begins at the beginning.
            if self._asked.first > 1 or (not failed and refold.seen == tally.of(partition)):
                break
            # A consumer reads the copy of one server, by chance. What that copy lacks makes all
            # wrong that is folded from it: name it, and fold again with another consumer.
            named = await self._hidden(partition)
            if failed and not named:
                break
            hides = True
            hidden.update(named)
        self._report = report
        self._findings.take(findings)
        if hides:
            self._consumer_hides(partition, sorted(hidden))

    async def _failed(self, refold: Refold, partition: int, last: int, findings: Findings) -> bool:
        """Fold a partition; if it does not fold, note that and return True."""
        try:
            number = f"{self._chosen.index(partition) + 1} of {len(self._chosen)}"
            what = f"partition {partition} ({number}): log sequence"
            await refold.run(last, partial(self._reached, what))
        except (TransientError, ConfigError):
            raise
        except PSMError as error:
            findings.add(
                Finding(
                    code="refold_failed",
                    stream=TRADES,
                    partition=partition,
                    expected="a log that folds",
                    found=f"{type(error).__name__}: {error}",
                )
            )
            return True
        return False

    def _refold(
        self,
        partition: int,
        evidence: Evidence,
        findings: Findings,
        report: AuditReport,
        psm_last: int,
    ) -> Refold:
        """Return one more fold of a partition, with a consumer of its own."""
        books = Books(
            partitions=self._partitions,
            partition=partition,
            slots=self._slots,
        )
        published = PublishedUpdates(
            self._nc, partition, psm_last, findings, whole=evidence.psm_begins
        )
        return Refold(self._nc, books, published, evidence, findings, report, self._report.last)

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

    async def _hidden(self, partition: int) -> list[int]:
        """Return what the log has and a consumer of a partition does not show."""
        last = self._report.last
        filters = subjects.partition_filters(partition)
        shown = _sequences(self._nc, filters, last)
        next_shown = await anext(shown, None)
        own = tuple(pattern.rstrip("*") for pattern in filters)
        hidden: list[int] = []
        async for batch in read_every(self._nc, TRADES, self._report.first, last):
            for read in batch:
                if read.message is None or not read.message.subject.startswith(own):
                    continue
                while next_shown is not None and next_shown < read.sequence:
                    next_shown = await anext(shown, None)
                if next_shown != read.sequence and len(hidden) < _HIDDEN_MAX:
                    hidden.append(read.sequence)
        return hidden

    def _consumer_hides(self, partition: int, hidden: list[int]) -> None:
        """Note what consumers hid; without places if only those hid it that folded."""
        finding = Finding(
            code="consumer_hides",
            stream=TRADES,
            partition=partition,
            expected="every message that the leader has",
            found="a consumer does not deliver it" if hidden else "fewer, from one consumer",
        )
        if not hidden:
            self._findings.add(finding)
        for first, end in ranges(hidden):
            self._findings.add(
                msgspec.structs.replace(finding, sequence=first, last=end if end > first else None),
                end - first + 1,
            )

    async def _views(self, pool: postgres.Pool) -> None:
        rebuild = Rebuild(
            self._nc,
            pool,
            CURRENT_STATE,
            partitions=self._partitions,
            slots=self._slots,
            progress=lambda p, at, to: self._reached(
                f"views of partition {p}: log sequence", at, to
            ),
        )
        await compare_views(rebuild, self._findings, self._report)

    def _reached(self, what: str, at: int, to: int) -> None:
        if self._progress is not None:
            self._progress(what, at, to)

    def _done(self) -> AuditReport:
        self._report.counts = self._findings.counts()
        self._report.findings = self._findings.ordered()
        return self._report


async def _sequences(nc: Client, filters: list[str], last: int) -> AsyncIterator[int]:
    async for batch in read_stored(nc, filters, 1, last):
        for message in batch:
            yield message.sequence
