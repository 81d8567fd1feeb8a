"""The ports of the partition loop on JetStream: log, commit and snapshots of one partition."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence

from nats.aio.client import Client

from psm.adapters.jetstream import (
    ApiConflictError,
    Outgoing,
    StoredMessage,
    get,
    last_for,
    last_per_subject,
    next_for,
    publish_atomic,
    publish_expected,
    read_range,
)
from psm.adapters.jetstream.batch import EXPECTED_LAST_SUBJECT_SEQUENCE
from psm.adapters.logs import get_logger
from psm.adapters.tasks import BackOff
from psm.contracts import subjects
from psm.contracts.errors import FencedError, LogDamagedError, PSMError, TransientError
from psm.contracts.subjects import PSM, SNAPSHOTS
from psm.domain.messages import LogMessage, Update
from psm.workers.log.cursor import BATCH_ID_HEADER, dump_cursor, load_cursor
from psm.workers.log.reader import (
    first_stored,
    follow_log,
    last_stored,
    log_message,
    read_log,
    read_stored,
    stored_at,
)
from psm.workers.partition.committer import BatchRefusedError, Committer
from psm.workers.partition.hidden import gaps_between
from psm.workers.partition.ports import Commit, CommittedCursor, Saved

CHUNK_BYTES = 512 * 1024
CHUNKS_HEADER = "Psm-Chunks"

_ONE_BY_ONE = 32
_AT_ONCE = 64
_RETRY_FIRST_S = 0.02
_RETRY_LAST_S = 2.0
# A leader that died never answers. The first waits are short, because asking again is safe (the
# cursor tells whose batch it is); they grow, because a slow broker must get its chance.
_ANSWERS_S = (1.0, 2.0, 5.0)

_log = get_logger()


class JetStreamLog:
    """`EventLog` on the streams TRADES and PSM."""

    def __init__(
        self,
        nc: Client,
        partition: int,
        on_reset: Callable[[str, str], None] | None = None,
        committer: Committer | None = None,
    ) -> None:
        """Nothing is read yet.

        Args:
            nc: connection.
            partition: whose log it is.
            on_reset: told when the reader starts over: what it read, and why.
            committer: of the worker; without one the partition commits by itself.
        """
        self._nc = nc
        self._partition = partition
        self._committer = committer or Committer(nc)
        self._filters = subjects.partition_filters(partition)
        self._cursor_subject = subjects.cursor(partition)
        self._reader = follow_log(nc, self._filters, on_reset)

    async def start_at(self, log_sequence: int) -> None:
        await self._reader.restart_at(log_sequence)

    async def fetch(
        self, max_messages: int, max_wait_s: float, linger_s: float
    ) -> list[LogMessage]:
        stored = await self._reader.fetch(max_messages, max_wait_s, linger_s=linger_s)
        return [log_message(message) for message in stored]

    async def message_at(self, log_sequence: int) -> LogMessage | None:
        stored = await stored_at(self._nc, log_sequence)
        return log_message(stored) if stored else None

    async def next_on(self, subject: str, log_sequence: int) -> LogMessage | None:
        stored = await first_stored(self._nc, subject, log_sequence)
        return log_message(stored) if stored else None

    async def history(self, stream_id: str, first: int, last: int) -> dict[int, LogMessage]:
        # From the leader: a consumer may be shown less by a damaged replica, and what is missing
        # from a release would never be noticed. Each answer names the next place to ask about;
        # where many are to come, a consumer tells the places, so that many are asked at once.
        subject = self._subject(stream_id)
        found: dict[int, LogMessage] = {}
        asked: dict[int, LogMessage | None] = {}
        while first <= last:
            if len(found) == _ONE_BY_ONE:
                asked = await self._ahead(subject, first, last)
            message = asked[first] if first in asked else await self.next_on(subject, first)
            if message is None or message.log_sequence > last:
                break
            found[message.log_sequence] = message
            first = message.log_sequence + 1
        return found

    async def market_history(
        self, market: Sequence[str], first: int, last: int
    ) -> dict[int, LogMessage]:
        # By a consumer, because marks are many; the leader is asked where it may have hidden some.
        batches = read_log(self._nc, market, first, last)
        found = {m.log_sequence: m async for batch in batches for m in batch}
        gaps = gaps_between(list(found.values()), market, first, last)
        for start in range(0, len(gaps), _AT_ONCE):
            group = gaps[start : start + _AT_ONCE]
            for hidden in await asyncio.gather(*(self._between(*gap) for gap in group)):
                found.update(hidden)
        return found

    async def _between(self, subject: str, first: int, last: int) -> dict[int, LogMessage]:
        """Return what the leader has on a subject in a range, one by one: mostly nothing."""
        found: dict[int, LogMessage] = {}
        while first <= last:
            message = await self.next_on(subject, first)
            if message is None or message.log_sequence > last:
                break
            found[message.log_sequence] = message
            first = message.log_sequence + 1
        return found

    async def _ahead(self, subject: str, first: int, last: int) -> dict[int, LogMessage | None]:
        """Return the leader's next message behind each place that a consumer shows."""
        places = [first]
        async for batch in read_stored(self._nc, [subject], first, last):
            places += [message.sequence + 1 for message in batch]
        answers: dict[int, LogMessage | None] = {}
        for start in range(0, len(places), _AT_ONCE):
            group = places[start : start + _AT_ONCE]
            messages = await asyncio.gather(*(self.next_on(subject, p) for p in group))
            answers.update(zip(group, messages, strict=True))
        return answers

    async def last_sequence(self) -> int:
        last = [await last_stored(self._nc, subject) for subject in self._filters]
        return max((message.sequence for message in last if message), default=0)

    async def watch(self, last_sequence: int) -> bool:
        return await self._reader.watch(last_sequence)

    async def cursor(self) -> CommittedCursor | None:
        await self._committer.answered(self._partition)
        stored = await last_for(self._nc, PSM, self._cursor_subject)
        if stored is None:
            return None
        return CommittedCursor(cursor=load_cursor(stored.data), sequence=stored.sequence)

    async def first_missing(self, committed: CommittedCursor) -> int | None:
        first = committed.sequence + 1
        last = committed.sequence + committed.cursor.updates
        if last < first:
            return None
        updates = f"psm.*.*.{self._partition}.*"
        shown = {
            m.sequence async for b in read_range(self._nc, PSM, [updates], first, last) for m in b
        }
        for sequence in range(first, last + 1):
            # A damaged replica may hide one: only the leader can say that it is not there.
            if sequence not in shown:
                stored = await next_for(self._nc, PSM, updates, sequence)
                if stored is None or stored.sequence != sequence:
                    return sequence
        return None

    async def ever_committed(self) -> bool:
        update = await last_for(self._nc, PSM, f"psm.*.*.{self._partition}.*")
        saved = await last_for(self._nc, SNAPSHOTS, subjects.checkpoint(self._partition))
        return update is not None or saved is not None

    async def commit(self, commit: Commit, expected: int) -> int:
        batch_id = uuid.uuid4().hex
        messages = self._messages(commit, batch_id, expected)
        try:
            return await self._committer.commit(self._partition, messages)
        except BatchRefusedError as error:
            stored = await self._settled(batch_id, expected, error)
        back_off = BackOff(_RETRY_FIRST_S, _RETRY_LAST_S)
        answers = _growing_waits()
        while stored is None:
            try:
                return await self._commit_alone(messages, next(answers))
            except (ApiConflictError, TransientError) as error:
                stored = await self._settled(batch_id, expected, error)
            if stored is None:
                await back_off.pause()
        return stored

    async def close(self) -> None:
        await self._reader.close()

    def _subject(self, stream_id: str) -> str:
        return subjects.either_of_stream(stream_id, self._partition)

    async def _commit_alone(self, messages: Sequence[Outgoing], timeout_s: float) -> int:
        ack = await publish_atomic(
            self._nc,
            PSM,
            messages,
            batch_id=uuid.uuid4().hex,
            timeout_s=timeout_s,
        )
        return ack.first

    def _messages(self, commit: Commit, batch_id: str, expected: int) -> list[Outgoing]:
        own = {BATCH_ID_HEADER: batch_id, EXPECTED_LAST_SUBJECT_SEQUENCE: str(expected)}
        cursor = Outgoing(subjects.entrance(self._cursor_subject), dump_cursor(commit.cursor), own)
        return [cursor, *(_outgoing(update, commit.traceparents) for update in commit.updates)]

    async def _settled(self, batch_id: str, expected: int, error: PSMError) -> int | None:
        """Return where a batch that failed was stored after all; None if it is to be sent again."""
        stored = await self._committed(batch_id, expected)
        if stored is None:
            _log.info("commit.retried", partition=self._partition, reason=str(error))
        return stored

    async def _committed(self, batch_id: str, expected: int) -> int | None:
        """Return where this batch was stored; None if nothing was stored behind `expected`.

        Raises:
            FencedError: the cursor moved, and it was not this batch.
        """
        stored = await _patiently(self._nc, PSM, self._cursor_subject)
        if stored is not None and stored.header(BATCH_ID_HEADER) == batch_id:
            return stored.sequence
        sequence = stored.sequence if stored else 0
        if sequence == expected:
            return None
        if sequence < expected:
            raise LogDamagedError(
                f"partition {self._partition}: the cursor at PSM sequence {expected} is gone, "
                f"the last one is {sequence}: PSM lost acknowledged updates"
            )
        raise FencedError(
            f"partition {self._partition}: another worker committed at PSM sequence {sequence}"
        )


class JetStreamSnapshots:
    """`SnapshotStore` on the stream SNAPSHOTS.

    A body of more than 512 KiB is written as an atomic batch of chunks, the manifest last; the
    manifest's predecessors in the stream are its chunks.
    """

    def __init__(self, nc: Client, partition: int) -> None:
        self._nc = nc
        self._checkpoint = subjects.checkpoint(partition)

    async def latest(self) -> list[Saved]:
        stored = await last_per_subject(
            self._nc, SNAPSHOTS, [self._checkpoint, f"{self._checkpoint}.*"]
        )
        return [await self._whole(message) for message in stored]

    async def newest(self, subject: str) -> Saved | None:
        stored = await _patiently(self._nc, SNAPSHOTS, subject)
        return await self._whole(stored) if stored else None

    async def older(self, subject: str, before: int) -> Saved | None:
        found: StoredMessage | None = None
        position = 1
        while True:
            stored = await next_for(self._nc, SNAPSHOTS, subject, position)
            if stored is None or stored.sequence >= before:
                return await self._whole(found) if found else None
            found, position = stored, stored.sequence + 1

    async def write(self, subject: str, data: bytes, expected: int) -> int:
        batch_id = uuid.uuid4().hex
        back_off = BackOff(_RETRY_FIRST_S, _RETRY_LAST_S)
        while True:
            try:
                return await self._write(subject, data, expected, batch_id)
            except (ApiConflictError, TransientError):
                stored = await _patiently(self._nc, SNAPSHOTS, subject)
                if stored is not None and stored.header(BATCH_ID_HEADER) == batch_id:
                    return stored.sequence
                if (stored.sequence if stored else 0) != expected:
                    raise FencedError(f"another worker wrote {subject}") from None
            await back_off.pause()

    async def _write(self, subject: str, data: bytes, expected: int, batch_id: str) -> int:
        headers = {BATCH_ID_HEADER: batch_id}
        if len(data) <= CHUNK_BYTES:
            ack = await publish_expected(
                self._nc, SNAPSHOTS, subject, data, expected=expected, headers=headers
            )
            return ack.sequence
        chunks = [data[i : i + CHUNK_BYTES] for i in range(0, len(data), CHUNK_BYTES)]
        kind = "part" if subject == self._checkpoint else "chunk"
        base = f"{subject}.checkpoint" if subject == self._checkpoint else subject
        headers[CHUNKS_HEADER] = str(len(chunks))
        # Only a batch's first message is sure to be checked before anything else is staged, and a
        # second check inside it is allowed on a subject that the batch has not written yet.
        headers[EXPECTED_LAST_SUBJECT_SEQUENCE] = str(expected)
        batch = [Outgoing(f"{base}.{kind}.{i}", chunk) for i, chunk in enumerate(chunks)]
        batch.append(Outgoing(subject, b"", headers))
        ack_batch = await publish_atomic(self._nc, SNAPSHOTS, batch, batch_id=uuid.uuid4().hex)
        return ack_batch.last

    async def _whole(self, stored: StoredMessage) -> Saved:
        chunks = int(stored.header(CHUNKS_HEADER) or 0)
        data = stored.data
        if chunks:
            parts = [
                await get(self._nc, SNAPSHOTS, stored.sequence - chunks + place)
                for place in range(chunks)
            ]
            # A chunk that was evicted makes the snapshot unreadable; the reader falls back.
            data = b"".join(part.data for part in parts if part)
        return Saved(subject=stored.subject, sequence=stored.sequence, data=data)


def _outgoing(update: Update, traceparents: Mapping[int, str]) -> Outgoing:
    headers = update.headers
    trace = traceparents.get(update.log_sequence)
    if trace is not None:
        headers["traceparent"] = trace
    return Outgoing(subjects.entrance(update.subject), update.data, headers)


async def _patiently(nc: Client, stream: str, subject: str) -> StoredMessage | None:
    """Return the last message on a subject, waiting for the broker as long as it takes."""
    back_off = BackOff(_RETRY_FIRST_S, _RETRY_LAST_S)
    answers = _growing_waits()
    while True:
        try:
            return await last_for(nc, stream, subject, timeout_s=next(answers))
        except TransientError:
            await back_off.pause()


def _growing_waits() -> Iterator[float]:
    """Yield how long each try waits for its answer, in seconds."""
    return itertools.chain(_ANSWERS_S, itertools.repeat(_ANSWERS_S[-1]))
