"""Deliberate bugs: each breaks one promise of PSM, and some seed must notice.

A simulator that finds none of these would find nothing else either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from tests.support.simulator import run
from tests.support.simulator.loop import PROCESS

from psm.adapters import postgres
from psm.adapters.jetstream import Outgoing, StoredMessage, batch, pull
from psm.adapters.jetstream.batch import EXPECTED_LAST_SUBJECT_SEQUENCE as EXPECTED
from psm.adapters.jetstream.pull import PullConsumer
from psm.contracts.errors import FencedError, TransientError
from psm.contracts.registry import UnknownEventError, codec_for
from psm.domain.account import Account
from psm.domain.folding.account import ApplyToAccount
from psm.domain.folding.stream import StreamFold
from psm.domain.messages import LogMessage, NeedHistory, Update
from psm.domain.publication import figures
from psm.domain.publication import updates as publish
from psm.domain.snapshot import AccountSnapshot, dump_account, load_account, load_checkpoint
from psm.domain.snapshot_records import AccountRecord
from psm.domain.valuation.state import MarginTexts
from psm.domain.valuation.valuation import Valuation
from psm.projections import checkpoints
from psm.workers.log import committed, cursor
from psm.workers.log.committed import BatchAssembler
from psm.workers.log.cursor import Cursor
from psm.workers.partition import committer, recovery
from psm.workers.partition import eviction as residents
from psm.workers.partition import jetstream as log_store
from psm.workers.partition.commit_queue import Commits
from psm.workers.partition.eviction import Residents
from psm.workers.partition.jetstream import JetStreamLog, JetStreamSnapshots
from psm.workers.partition.loop import Partition
from psm.workers.partition.ports import Commit, CommittedCursor
from psm.workers.partition.recovery import Recovery
from psm.workers.partition.snapshots import Checkpoints
from psm.workers.projector.batches import ReadyBatch
from psm.workers.projector.follower import Follower

Patch = tuple[Any, str, Any]


def _unguarded(messages: Sequence[Outgoing]) -> list[Outgoing]:
    """Return messages that expect nothing."""
    return [
        msgspec.structs.replace(
            message,
            headers={k: v for k, v in (message.headers or {}).items() if k != EXPECTED},
        )
        for message in messages
    ]


def commit_without_expected_sequence() -> list[Patch]:
    """The cursors of a batch expect nothing: two owners may both commit."""
    real = batch.publish_atomic

    async def publish_atomic(nc: Any, stream: str, messages: Any, **options: Any) -> Any:
        return await real(nc, stream, _unguarded(messages), **options)

    return [(where, "publish_atomic", publish_atomic) for where in (committer, log_store)]


def fencing_ignored() -> list[Patch]:
    """A worker whose cursor was moved by another goes on behind that."""
    real = JetStreamLog.commit

    async def commit(self: JetStreamLog, commit: Commit, expected: int) -> int:
        while True:
            try:
                return await real(self, commit, expected)
            except FencedError:
                found = await self.cursor()
                expected = found.sequence if found else 0

    return [(JetStreamLog, "commit", commit)]


def unknown_outcome_repeated() -> list[Patch]:
    """A commit without an answer is sent again behind whatever is there, not looked for."""
    real = batch.publish_atomic

    async def publish_atomic(nc: Any, stream: str, messages: Any, **options: Any) -> Any:
        try:
            return await real(nc, stream, messages, **options)
        except TransientError:
            return await real(nc, stream, _unguarded(messages), **options)

    return [(where, "publish_atomic", publish_atomic) for where in (committer, log_store)]


def unknown_outcome_believed() -> list[Patch]:
    """A commit without an answer is taken as stored."""
    real = JetStreamLog._committed

    async def _committed(self: JetStreamLog, batch_id: str, expected: int) -> int | None:
        return await real(self, batch_id, expected) or expected

    return [(JetStreamLog, "_committed", _committed)]


def shared_batch_sent_again() -> list[Patch]:
    """A batch of several that got no answer is sent again as it is, and then believed."""
    real = batch.publish_atomic

    async def publish_atomic(nc: Any, stream: str, messages: Any, **options: Any) -> Any:
        cursors = sum(message.subject.startswith("_psm.cursor.") for message in messages)
        try:
            return await real(nc, stream, messages, **options)
        except TransientError:
            if cursors == 1:
                raise
            return await real(nc, stream, _unguarded(messages), **options)

    return [(committer, "publish_atomic", publish_atomic)]


def snapshot_before_commit() -> list[Patch]:
    """Snapshots do not wait until their commit is acknowledged, which takes a moment."""
    real, real_commit = Checkpoints._save, JetStreamLog.commit

    async def commit(self: JetStreamLog, commit: Commit, expected: int) -> int:
        await asyncio.sleep(0.05)
        return await real_commit(self, commit, expected)

    async def _save(self: Checkpoints, acknowledged: Any, *rest: Any) -> None:
        await real(self, asyncio.create_task(asyncio.sleep(0)), *rest)

    return [(Checkpoints, "_save", _save), (JetStreamLog, "commit", commit)]


def snapshots_unchecked() -> list[Patch]:
    """Snapshots are written whoever wrote the last version."""
    real = batch.publish_expected

    async def publish_expected(*args: Any, **options: Any) -> Any:
        return await real(*args, **{**options, "expected": None})

    return [(log_store, "publish_expected", publish_expected)]


def snapshot_forgotten() -> list[Patch]:
    """Of the accounts that a checkpoint covers, the last one is not saved."""
    real = Checkpoints._save

    async def _save(self: Checkpoints, acknowledged: Any, frozen: Any, *rest: Any) -> None:
        await real(self, acknowledged, frozen[:-1], *rest)

    return [(Checkpoints, "_save", _save)]


def records_of_an_older_checkpoint() -> list[Patch]:
    """What the market changed is taken from the checkpoint before, the place from the newest."""
    real = Recovery._checkpoint

    async def _checkpoint(self: Recovery, latest: Any, *rest: Any) -> Any:
        found = await real(self, latest, *rest)
        if found is None:
            return None
        checkpoint, records = found
        version = await self._store.older(latest[0].subject, latest[0].sequence)
        if version is not None and version.data != b"garbage":
            older = load_checkpoint(version.data).records
            records = {stream: older[stream] for stream in records if stream in older}
        return checkpoint, records

    return [(Recovery, "_checkpoint", _checkpoint)]


def records_forgotten() -> list[Patch]:
    """A recovery takes snapshots as they are."""

    def lay_over(account: Account, record: AccountRecord) -> None:
        pass

    return [(recovery, "lay_over", lay_over)]


def checkpoint_before_rows() -> list[Patch]:
    """The projector's checkpoint is committed first, its rows in a transaction of their own."""
    real = checkpoints.advance

    async def _commit(self: Follower, ready: ReadyBatch) -> None:
        updates = [u for u in ready.updates if u.kind in self._projection.kinds]
        async with postgres.transaction(self._pool) as connection:
            name, before = self._projection.name, self._checkpoint
            await real(connection, name, ready.checkpoint, expected=before)
        self._checkpoint = ready.checkpoint
        async with postgres.transaction(self._pool) as connection:
            await self._writer.apply(connection, updates)

    return [(Follower, "_commit", _commit)]


def projection_outcome_believed() -> list[Patch]:
    """A transaction whose commit got no answer is taken as committed."""
    real = Follower._commit

    async def _commit(self: Follower, ready: ReadyBatch) -> None:
        try:
            await real(self, ready)
        except TransientError:
            self._checkpoint = ready.checkpoint

    return [(Follower, "_commit", _commit)]


def half_inputs_shown() -> list[Patch]:
    """The projector commits in the middle of an input that was committed in parts."""
    real = cursor.load_cursor

    def load_cursor(data: bytes) -> Cursor:
        return msgspec.structs.replace(real(data), part=0)

    return [(committed, "load_cursor", load_cursor)]


def cursor_not_read_again() -> list[Patch]:
    """A worker that takes a partition over again goes on from the cursor it knew."""
    real = Recovery._cursor
    known: dict[tuple[str, int], CommittedCursor] = {}

    async def _cursor(self: Recovery, **options: bool) -> CommittedCursor:
        key = PROCESS.get(), self._partition
        if key not in known:
            known[key] = await real(self, **options)
        return known[key]

    return [(Recovery, "_cursor", _cursor)]


def part_not_skipped() -> list[Patch]:
    """What an earlier owner committed of the next input is committed again; parts are usual."""

    def _committed_part(self: Commits, message: LogMessage, updates: list[Update]) -> int:
        self._recovered_part = (0, None)
        return 0

    return [(Commits, "_committed_part", _committed_part), (run, "_UPDATES_PER_COMMIT", (2,))]


def recovery_publishes() -> list[Patch]:
    """What is folded again up to the cursor is published again."""
    real = Partition._recover

    async def _recover(self: Partition) -> None:
        await real(self)
        self._replay_to = self._books.position
        self._check_live()

    return [(Partition, "_recover", _recover)]


def gap_not_noticed() -> list[Patch]:
    """The reader does not compare the consumer's own numbers."""
    real = PullConsumer.take

    def take(self: PullConsumer, limit: int) -> list[StoredMessage]:
        for _, reply, *_ in self._arrived:
            self._taken = int(reply.split(".")[6]) - 1
            return real(self, 1)
        return real(self, limit)

    return [(PullConsumer, "take", take), (pull, "MISSED_HEARTBEATS", 10**6)]


def garbage_saved_twice() -> list[Patch]:
    """A snapshot that cannot be read is taken as none: its account begins anew."""
    real = JetStreamSnapshots.latest

    async def latest(self: JetStreamSnapshots) -> Any:
        return [saved for saved in await real(self) if saved.data != b"garbage"]

    return [(JetStreamSnapshots, "latest", latest)]


def batches_cut_short() -> list[Patch]:
    """The projector does not count a batch's messages."""

    def _take(self: BatchAssembler, message: StoredMessage) -> Cursor:
        if message.subject == self._cursor_subject:
            self._cursor = cursor.load_cursor(message.data)
        else:
            self._updates.append(committed.read_update(message))
        assert self._cursor is not None
        return self._cursor

    return [(BatchAssembler, "_take", _take)]


def stale_snapshot_returns() -> list[Patch]:
    """An evicted account comes back from the snapshot that a worker read first."""
    real = Residents._read
    known: dict[tuple[str, str], bytes] = {}

    async def _read(self: Residents, stream_id: str) -> Account:
        account = await real(self, stream_id)
        key = PROCESS.get(), stream_id
        return load_account(
            known.setdefault(key, dump_account(account, account.delivery.as_of, b""))
        )[0]

    return [(Residents, "_read", _read)]


def history_begins_at_recovery() -> list[Patch]:
    """A bust or a release sees of its stream only what this owner has read itself."""
    real_recover, real_history = Partition._recover, Partition._read_history
    begins: dict[int, int] = {}

    async def _recover(self: Partition) -> None:
        await real_recover(self)
        begins[id(self)] = self._books.position

    async def _read_history(self: Partition, wanted: NeedHistory) -> dict[int, LogMessage]:
        found = await real_history(self, wanted)
        return {at: message for at, message in found.items() if at > begins[id(self)]}

    return [(Partition, "_recover", _recover), (Partition, "_read_history", _read_history)]


def operators_forgotten() -> list[Patch]:
    """Which operator events were taken is not saved: one that is repeated counts again."""

    def load(data: bytes) -> tuple[Account, AccountSnapshot]:
        account, snapshot = load_account(data)
        account.delivery.operators = None
        return account, snapshot

    return [(residents, "load_account", load), (recovery, "load_account", load)]


def dismissed_event_applied() -> list[Patch]:
    """An event that an operator dismissed counts after all, where newer rules know its type."""
    real = StreamFold._dismiss

    def _dismiss(self: StreamFold, account: Account, entry: Any, event: Any) -> Any:
        try:
            codec = codec_for(entry.envelope)
        except UnknownEventError:
            return real(self, account, entry, event)
        return self._take(account, entry, codec, entry.log_sequence)

    return [(StreamFold, "_dismiss", _dismiss)]


def released_counts_more() -> list[Patch]:
    """An event that waited raises the peak a little: the same wrong state, whoever folds it."""
    real = ApplyToAccount.apply

    def apply(self: ApplyToAccount, account: Account, *args: Any) -> Any:
        result = real(self, account, *args)
        own = account.valuation.performance
        if args[-1] is not None and own.peak is not None:
            raised = msgspec.structs.replace(own, peak=own.peak + 1)
            account.valuation.move_performance(raised)
        return result

    return [(ApplyToAccount, "apply", apply)]


def margin_compared_with_todays_limit() -> list[Patch]:
    """What was published is remembered without its limit, which the opening event may change."""
    real = figures.margin_figures

    def published_margin(account: Account) -> MarginTexts | None:
        state, limit = account.valuation, account.ledger.leverage_limit
        state.freeze_published_margin(account.ledger)
        if isinstance(state.published, Valuation):
            state.mark_published(tuple(real(state.published, limit).values()))
        assert state.published is None or isinstance(state.published, tuple)
        return state.published

    return [(publish, "published_margin", published_margin)]


BUGS: dict[str, Callable[[], list[Patch]]] = {
    bug.__name__: bug
    for bug in (
        commit_without_expected_sequence,
        shared_batch_sent_again,
        fencing_ignored,
        unknown_outcome_repeated,
        unknown_outcome_believed,
        snapshot_before_commit,
        snapshots_unchecked,
        snapshot_forgotten,
        records_of_an_older_checkpoint,
        records_forgotten,
        checkpoint_before_rows,
        projection_outcome_believed,
        half_inputs_shown,
        cursor_not_read_again,
        part_not_skipped,
        recovery_publishes,
        gap_not_noticed,
        garbage_saved_twice,
        batches_cut_short,
        stale_snapshot_returns,
        history_begins_at_recovery,
        operators_forgotten,
        dismissed_event_applied,
        released_counts_more,
        margin_compared_with_todays_limit,
    )
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Put a bug into the code."""
    with patched(BUGS[name]()):
        yield


@contextmanager
def patched(patches: Sequence[Patch]) -> Iterator[None]:
    """Put these in the place of what is there."""
    before = [(owner, attribute, getattr(owner, attribute)) for owner, attribute, _ in patches]
    for owner, attribute, value in patches:
        setattr(owner, attribute, value)
    try:
        yield
    finally:
        for owner, attribute, value in before:
            setattr(owner, attribute, value)
