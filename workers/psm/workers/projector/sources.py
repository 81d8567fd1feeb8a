"""The readers of what projections follow, chosen by a projection's source.

A follower knows no stream: it takes batches from a reader, each of which ends where a transaction
may end. Another source needs a reader in `READERS` here, and nothing else of the projector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import StoredMessage, last_per_subject
from psm.contracts.subjects import last_token
from psm.contracts.updates_read import ReadUpdate
from psm.projections.checkpoints import ViewCheckpoint
from psm.projections.source import COMMITTED_UPDATES, ProjectionSource
from psm.workers.log.committed import BatchAssembler, CommittedReader, psm_filters
from psm.workers.log.cursor import load_cursor

BATCH_MESSAGES = 2000
# Long enough that sixteen busy partitions share transactions, short enough to read one's writes.
LINGER_S = 0.02
FETCH_WAIT_S = 1.0

OnReset = Callable[[str, str], None]


class ReadyBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Messages that belong into one transaction, and where the source stands after them.

    Attributes:
        updates: in the order of the stream; may be none.
        checkpoint: position after them.
        log_hash: SHA-256 of the log's message at the checkpoint, hex; None without one.
    """

    updates: list[ReadUpdate]
    checkpoint: ViewCheckpoint
    log_hash: str | None = None


class BatchReader(Protocol):
    """Reader of one partition of a source. Not for concurrent use."""

    @property
    def pending(self) -> int:
        """Messages known of that no batch had yet."""

    async def fetch(self) -> Sequence[StoredMessage]:
        """Return the next messages; an empty list after `FETCH_WAIT_S` without any.

        Raises:
            TransientError: the connection was closed for good.
        """

    def assemble(self, messages: Iterable[StoredMessage]) -> ReadyBatch | None:
        """Take what was fetched; return what is complete, None while nothing is.

        Raises:
            LogDamagedError: a message is missing, or does not belong there.
        """

    async def close(self) -> None:
        """Let go of the broker's consumers."""


class SourceReader(Protocol):
    """Way to read one kind of source, to follow it and to measure how far a view is.

    Attributes:
        probe: subject by whose last message the stream's leader shows that it answers.
    """

    probe: str

    def partitions(self, own: Sequence[int]) -> Sequence[int]:
        """Return those of a process's own partitions that have messages in the source."""

    def filters(self, partition: int) -> list[str]:
        """Return the subjects of one partition; they do not overlap."""

    def open(
        self, nc: Client, partition: int, start_sequence: int, on_reset: OnReset
    ) -> BatchReader:
        """Return a reader of one partition from a position on."""

    async def ends(self, nc: Client) -> dict[int, int]:
        """Return the position of the last message of each partition that has any."""


class CommittedUpdates:
    """Updates of PSM: one partition per partition of the log, batches of whole inputs."""

    probe = "psm.cursor.*"

    def __init__(self, source: ProjectionSource) -> None:
        self._js_stream = source.js_stream

    def partitions(self, own: Sequence[int]) -> Sequence[int]:
        """Return all of them."""
        return own

    def filters(self, partition: int) -> list[str]:
        """Return the subjects of a partition's updates and of its cursor."""
        return psm_filters(partition)

    def open(
        self, nc: Client, partition: int, start_sequence: int, on_reset: OnReset
    ) -> BatchReader:
        """Return a reader of one partition from a position on."""
        return _CommittedBatches(nc, partition, start_sequence, on_reset)

    async def ends(self, nc: Client) -> dict[int, int]:
        """Return where each partition's last commit ends."""
        found: dict[int, int] = {}
        for message in await last_per_subject(nc, self._js_stream, [self.probe]):
            partition = int(last_token(message.subject))
            # A batch has no hole, so its end is known from its cursor.
            found[partition] = message.sequence + load_cursor(message.data).updates
        return found


class _CommittedBatches:
    """Batches of one partition of the stream PSM; each ends at a boundary (see `committed`)."""

    def __init__(self, nc: Client, partition: int, start_sequence: int, on_reset: OnReset) -> None:
        self._partition = partition
        self._reader = CommittedReader(nc, partition, start_sequence, on_reset=on_reset)
        self._assembler = BatchAssembler(partition)

    @property
    def pending(self) -> int:
        return self._reader.pending + self._assembler.waiting

    async def fetch(self) -> Sequence[StoredMessage]:
        return await self._reader.fetch(BATCH_MESSAGES, FETCH_WAIT_S, linger_s=LINGER_S)

    def assemble(self, messages: Iterable[StoredMessage]) -> ReadyBatch | None:
        inputs = self._assembler.feed(messages)
        if inputs is None:
            return None
        checkpoint = ViewCheckpoint(
            partition=self._partition,
            stream_sequence=inputs.stream_sequence,
            event_hash=inputs.event_hash,
            log_sequence=inputs.log_sequence,
        )
        return ReadyBatch(updates=inputs.updates, checkpoint=checkpoint, log_hash=inputs.log_hash)

    async def close(self) -> None:
        await self._reader.close()


READERS: dict[str, Callable[[ProjectionSource], SourceReader]] = {
    COMMITTED_UPDATES.reader: CommittedUpdates,
}
"""Readers by the name that a source gives."""


def reader_of(source: ProjectionSource) -> SourceReader:
    """Return the reader of a source."""
    return READERS[source.reader](source)
