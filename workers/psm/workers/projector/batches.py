"""What a projection's follower takes: batches, each of which ends where a transaction may end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import StoredMessage
from psm.contracts.updates_read import ReadUpdate
from psm.projections.checkpoints import ViewCheckpoint
from psm.projections.sql import Connection

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

    async def restore(self, connection: Connection) -> None:
        """Have what messages are folded onto, as of where the views of a connection are.

        Called once, before the first `fetch`.

        Raises:
            TransientError: a server is away.
        """

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
