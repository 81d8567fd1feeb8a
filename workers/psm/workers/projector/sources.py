"""The readers of what projections follow, chosen by a projection's source.

A follower knows no stream: it takes batches from a reader, each of which ends where a transaction
may end. Another source needs a reader in `READERS` here, and nothing else of the projector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from nats.aio.client import Client

from psm.adapters.jetstream import StoredMessage, last_per_subject
from psm.analytics.market_books import DEFAULT_RULES, MarketRules
from psm.contracts.subjects import last_token
from psm.projections.checkpoints import ViewCheckpoint
from psm.projections.source import (
    COMMITTED_UPDATES,
    DEPTH,
    RISK_RECORDS,
    RULES,
    ProjectionSource,
)
from psm.projections.sql import Connection
from psm.workers.log.committed import BatchAssembler, CommittedReader, psm_filters
from psm.workers.log.cursor import load_cursor
from psm.workers.projector.batches import (
    BATCH_MESSAGES,
    FETCH_WAIT_S,
    LINGER_S,
    BatchReader,
    OnReset,
    ReadyBatch,
    SourceReader,
)
from psm.workers.projector.closed import with_closed
from psm.workers.projector.market import DepthFold
from psm.workers.projector.streams import Fold, RiskFold, RulebookFold, WholeStream


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

    async def restore(self, connection: Connection) -> None:
        """Have nothing: updates are complete by themselves."""

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
        return ReadyBatch(
            updates=with_closed(self._partition, inputs),
            checkpoint=checkpoint,
            log_hash=inputs.log_hash,
        )

    async def close(self) -> None:
        await self._reader.close()


WHOLE_STREAMS: dict[str, Callable[[MarketRules], Fold]] = {
    RISK_RECORDS.reader: lambda _: RiskFold(),
    RULES.reader: lambda _: RulebookFold(),
    DEPTH.reader: DepthFold,
}
"""What makes updates of streams that are read as one partition, by the name of their reader."""


def _whole_stream(source: ProjectionSource, market: MarketRules) -> SourceReader:
    return WholeStream(source, partial(WHOLE_STREAMS[source.reader], market))


READERS: dict[str, Callable[[ProjectionSource, MarketRules], SourceReader]] = {
    COMMITTED_UPDATES.reader: lambda source, _: CommittedUpdates(source),
    **dict.fromkeys(WHOLE_STREAMS, _whole_stream),
}
"""Readers by the name that a source gives."""


def reader_of(source: ProjectionSource, market: MarketRules = DEFAULT_RULES) -> SourceReader:
    """Return the reader of a source.

    Args:
        source: that a projection names.
        market: settings that decide what order books are.
    """
    return READERS[source.reader](source, market)
