"""Writes what the timelines of accounts tell, and their states, in the caller's transaction.

Rows of a minute are due once the log says that the minute is complete. An account that an update
touches tells them with it, the others follow in pieces, so that the turn of a minute is no burst;
`closed_through` of a partition moves when all have told. So what a settled view says follows from
updates and log alone, however they were batched.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import groupby

import msgspec

from psm.analytics.feed import KINDS, Told, ToldState
from psm.analytics.feed import told as told_by
from psm.analytics.revision import Pasts
from psm.analytics.rows import JournalRow
from psm.analytics.timeline import AccountTimeline
from psm.analytics.year_days import YearDays
from psm.contracts.errors import InvariantError
from psm.contracts.updates_read import ReadUpdate
from psm.projections.analytics.held import HeldTimelines
from psm.projections.analytics.history import day_of, state, unstated
from psm.projections.analytics.standing import (
    HeldTimeline,
    moment,
    nanoseconds,
)
from psm.projections.analytics.tables import ACCOUNTS, TOLD, FoldedTable
from psm.projections.closes import MINUTES_CLOSED, closed_through_of
from psm.projections.pasts import PastReader, kept_awake
from psm.projections.projection import Projection
from psm.projections.rows import Row, UnstorableError, write
from psm.projections.sql import Connection, load

SWEPT = 16
"""Accounts that tell without an update in one piece."""

SWEEP_S = 0.02
"""How long a batch goes on to let others tell: what it reads waits so long, and for one piece."""

_QUERIES = load(__package__, "writing")
_BACKSLASH, _NUL = b"\\", b"\\u0000"
_NO_TEXT = "22P05"  # untranslatable_character, as PostgreSQL says of a NUL in JSON
_NO_NUMBER = "22003"  # numeric_value_out_of_range

Steps = Sequence[tuple[Told, ReadUpdate]]
Work = Mapping[str, Steps]
"""What updates tell and themselves, by account, in log order."""

ToldRows = list[tuple[FoldedTable, list[Row]]]


class _Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a partition is; nanoseconds of log time, None before the first minute.

    Attributes:
        reached: end of the last complete minute.
        closed_through: of those, the last one of which every account has told.
        stated_through: start of the first day of which an account may lack figures.
        stopped: accounts in quarantine, of all partitions.
    """

    partition: int
    reached: int | None = None
    closed_through: int | None = None
    stated_through: int | None = None
    stopped: tuple[str, ...] = ()

    @property
    def is_settled(self) -> bool:
        """Whether nothing is due."""
        return self.closed_through == self.reached and self.stated_through == self.days

    @property
    def days(self) -> int | None:
        """Start of the day that is not complete."""
        return None if self.reached is None else day_of(self.reached)


class TimelineWriter:
    """Writer of the projection `analytics`.

    Attributes:
        is_settled: whether every account has told of all minutes that are complete.
    """

    def __init__(
        self, projection: Projection, pasts: PastReader | None, year_days: YearDays
    ) -> None:
        """Nothing is known yet."""
        self._quarantine, self._pasts, self._year_days = projection.quarantine, pasts, year_days
        self._held = HeldTimelines()
        self.is_settled = False

    async def apply(self, connection: Connection, updates: Sequence[ReadUpdate]) -> int:
        """Write what `updates`, in log order, change; the caller commits. Return the rows.

        Raises:
            UnstorableError: a row cannot be held; the transaction is lost.
        """
        return await self._apply(connection, updates, apart=False)

    async def apply_apart(self, connection: Connection, updates: Sequence[ReadUpdate]) -> int:
        """Do the same under savepoints; an account whose rows cannot be held stops.

        Raises:
            InvariantError: too many have.
        """
        try:
            async with connection.transaction():
                return await self._apply(connection, updates, apart=False)
        except UnstorableError:
            return await self._apply(connection, updates, apart=True)

    async def settle(
        self, connection: Connection, partition: int, seconds: float | None = None
    ) -> int:
        """Let accounts tell of minutes that are complete; the caller commits. Return the rows."""
        return await self._sweep(connection, await self._progress(connection, partition), seconds)

    async def _apply(
        self, connection: Connection, updates: Sequence[ReadUpdate], *, apart: bool
    ) -> int:
        partition, work, closed = _sorted(updates)
        if not work and closed is None:
            return 0
        progress = await self._progress(connection, partition)
        if closed is not None and closed != progress.reached:
            progress = msgspec.structs.replace(progress, reached=closed)
            await self._put_progress(connection, progress)
        going = {name: steps for name, steps in work.items() if name not in progress.stopped}
        written = 0
        if apart:
            for account, steps in going.items():
                written += await self._take_apart(connection, progress, account, steps)
            progress = await self._progress(connection, partition)
        else:
            written += await self._take(connection, progress, going)
        return written + await self._sweep(connection, progress, SWEEP_S)

    async def _sweep(
        self,
        connection: Connection,
        progress: _Progress,
        seconds: float | None,
    ) -> int:
        """Write what is due without an update, for some time or until all is written."""
        end = None if seconds is None else time.monotonic() + seconds
        written = 0
        if progress.closed_through != progress.reached:
            written += await self._tell_all(connection, progress, end)
            progress = await self._progress(connection, progress.partition)
        if progress.closed_through == progress.reached and not progress.is_settled:
            written += await self._state_days(connection, progress, end)
            progress = await self._progress(connection, progress.partition)
        self.is_settled = progress.is_settled
        return written

    async def _tell_all(
        self,
        connection: Connection,
        progress: _Progress,
        end: float | None,
    ) -> int:
        """Let accounts tell that no update touches; those that have stopped up to there."""
        written, failed = 0, list[str]()
        while True:
            records = await connection.fetch(
                _QUERIES["untold"], progress.partition, moment(progress.reached), failed, SWEPT
            )
            due: Work = {record["account_id"]: () for record in records}
            try:
                async with connection.transaction():
                    written += await self._take(connection, progress, due)
            except UnstorableError:
                for account in due:
                    try:
                        async with connection.transaction():
                            written += await self._take(connection, progress, {account: ()})
                    except UnstorableError as error:
                        failed.append(account)
                        if account not in progress.stopped:
                            await self._stop(connection, progress, account, (), error)
            if len(due) < SWEPT:
                told = msgspec.structs.replace(progress, closed_through=progress.reached)
                await self._put_progress(connection, told)
                return written
            if end is not None and time.monotonic() >= end:
                return written

    async def _state_days(
        self, connection: Connection, progress: _Progress, end: float | None
    ) -> int:
        """Write the figures of days that are over."""
        written, days = 0, progress.days
        assert days is not None
        while True:
            due = await unstated(
                connection, progress.partition, progress.stated_through, days, SWEPT
            )
            for account, day in due:
                year_days = self._year_days.of_account(account)
                written += await state(connection, account, day, year_days)
                if end is not None and time.monotonic() >= end:
                    return written
            if len(due) < SWEPT:
                stated = msgspec.structs.replace(progress, stated_through=days)
                await self._put_progress(connection, stated)
                return written

    async def _take(self, connection: Connection, progress: _Progress, work: Work) -> int:
        """Take updates of accounts, let them tell, write rows and states.

        Raises:
            UnstorableError: a row cannot be held.
        """
        if not work:
            return 0
        try:
            held = await self._held.of(connection, work)
            told = await self._told(connection, held, progress, work)
            for table, rows in told:
                await write(connection, table.statements["upsert"], rows)
            await self._held.put(connection, progress.partition, held)
        except BaseException:
            self._held.clear()  # they are ahead of their rows
            raise
        return sum(len(rows) for _, rows in told) + len(held)

    async def _told(
        self,
        connection: Connection,
        timelines: Sequence[HeldTimeline],
        progress: _Progress,
        work: Work,
    ) -> ToldRows:
        """Return the rows of timelines that have taken their updates.

        Raises:
            UnstorableError: an update has a text or a number that no column can hold.
        """
        told: dict[str, list[msgspec.Struct]] = {table.table: [] for table in TOLD}
        for held in timelines:
            try:
                await self._take_steps(connection, held, work[held.timeline.account_id], told)
                if progress.reached is not None:
                    held.pass_to(progress.reached)
            except ArithmeticError as error:
                raise UnstorableError("a figure does not compute exactly", _NO_NUMBER) from error
            _tell(held.timeline, told)
        return [(table, table.rows(told[table.table])) for table in TOLD]

    async def _take_steps(
        self,
        connection: Connection,
        held: HeldTimeline,
        steps: Steps,
        told: Mapping[str, list[msgspec.Struct]],
    ) -> None:
        """Let a timeline take its updates; each version of a row that is corrected is told."""
        for update, read in steps:
            if _BACKSLASH in read.data and _NUL in read.data:
                raise UnstorableError("an update cannot be stored: NUL in a text", _NO_TEXT)
            if AccountTimeline.needs_journal(update):
                _tell(held.timeline, told)
                await self._recall(connection, held.timeline, told, update)
                held.timeline.take(update)
                _tell(held.timeline, told)
            else:
                held.timeline.take(update)
            held.reach(update)

    async def _recall(
        self,
        connection: Connection,
        timeline: AccountTimeline,
        told: Mapping[str, Sequence[msgspec.Struct]],
        update: ToldState,
    ) -> None:
        """Hand a timeline its journal: what is written of it, and what will be; or both pasts."""
        journal = await self._held.journal(connection, timeline.account_id)
        unwritten = (row for row in told["analytics_journal"] if isinstance(row, JournalRow))
        journal.extend(row for row in unwritten if row.account_id == timeline.account_id)
        timeline.recall(journal)
        if timeline.needs_pasts(update):
            timeline.recall_pasts(await self._read_pasts(connection, update))

    async def _read_pasts(self, connection: Connection, update: ToldState) -> Pasts:
        """Read what the log says of both pasts of an account."""
        said = update.payload
        if self._pasts is None:
            raise InvariantError(f"{said.account_id}: a correction needs the log, and none is read")
        reading = self._pasts.read(said.account_id, said.log_sequence, said.sequence_number)
        return await kept_awake(connection, reading)

    async def _take_apart(
        self, connection: Connection, progress: _Progress, account: str, steps: Steps
    ) -> int:
        """Take an account's updates; where a row cannot be held it stops before that input."""
        try:
            async with connection.transaction():
                return await self._take(connection, progress, {account: steps})
        except UnstorableError:
            pass
        before, written = msgspec.structs.replace(progress, reached=None), 0
        for _, of_one in groupby(steps, lambda step: step[0].payload.log_sequence):
            given = list(of_one)
            try:
                async with connection.transaction():
                    written += await self._take(connection, before, {account: given})
            except UnstorableError as error:
                await self._stop(connection, before, account, given, error)
                return written
        try:
            async with connection.transaction():
                return written + await self._take(connection, progress, {account: ()})
        except UnstorableError as error:
            await self._stop(connection, progress, account, (), error)
            return written

    async def _stop(
        self,
        connection: Connection,
        progress: _Progress,
        account: str,
        steps: Steps,
        error: UnstorableError,
    ) -> None:
        """Put an account into quarantine, with the row that cannot be held."""
        (held,) = await self._held.of(connection, [account])
        table: FoldedTable = ACCOUNTS
        row: Row = {"account_id": account, "state": "\0"}
        try:
            told = await self._told(connection, [held], progress, {account: steps})
        except UnstorableError:
            told = []
        for candidate, rows in told:
            for one in rows:
                try:
                    async with connection.transaction():
                        await write(connection, candidate.statements["upsert"], [one])
                except UnstorableError:
                    table, row = candidate, one
        self._held.clear()
        for update, _ in steps:
            held.reach(update)
        row |= {"sequence_number": held.sequence_number, "log_sequence": held.log_sequence}
        await self._quarantine.put(
            connection, table.table, table.key, row, error, partition=progress.partition
        )

    async def _progress(self, connection: Connection, partition: int) -> _Progress:
        record = await connection.fetchrow(_QUERIES["progress"], partition)
        assert record is not None, "one row, also of a partition that is not known"
        return _Progress(
            partition=partition,
            reached=nanoseconds(record["reached"]),
            closed_through=nanoseconds(record["closed_through"]),
            stated_through=nanoseconds(record["stated_through"]),
            stopped=tuple(record["stopped"]),
        )

    async def _put_progress(self, connection: Connection, progress: _Progress) -> None:
        await connection.execute(
            _QUERIES["put_progress"],
            progress.partition,
            moment(progress.reached),
            moment(progress.closed_through),
            moment(progress.stated_through),
        )


def _sorted(updates: Sequence[ReadUpdate]) -> tuple[int, Work, int | None]:
    """Return partition, updates by account, and the end of the last complete minute if told."""
    work: dict[str, list[tuple[Told, ReadUpdate]]] = {}
    partition, closed = 0, None
    for update in updates:
        if update.kind in KINDS:
            one = told_by(update)
            partition = update.partition
            work.setdefault(one.payload.account_id, []).append((one, update))
        elif update.kind == MINUTES_CLOSED:
            partition, closed = update.partition, closed_through_of(update)
    return partition, work, closed


def _tell(timeline: AccountTimeline, told: Mapping[str, list[msgspec.Struct]]) -> None:
    """Add what a timeline has new to the rows by their table."""
    changes = timeline.changes()
    told["pnl_timeseries"].extend(changes.pnl)
    told["trades"].extend(changes.trades)
    told["lots"].extend(changes.lots)
    told["analytics_journal"].extend(changes.journal)
