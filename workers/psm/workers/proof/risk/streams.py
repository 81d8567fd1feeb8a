"""RISK and ORDERS as they ever were: what the streams hold, and before that the archive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial

from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import StoredMessage, get, read_range, stream_info
from psm.contracts.errors import ConfigError
from psm.contracts.subjects import RISK, expression_of
from psm.projections.sql import load
from psm.workers.risk.store import Owned, RiskStore

_ARCHIVED = load("psm.projections.archive", "reads")
_BATCH = 500


class RecordedStreams:
    """Reads streams that age, and behind what they hold the archive.

    Args:
        nc: connection; may read them.
        pool: of a role that may read the archive; None: what the streams hold no more is gone.
    """

    def __init__(self, nc: Client, pool: postgres.Pool | None = None) -> None:
        self._nc, self._pool = nc, pool

    async def get(self, stream: str, sequence: int) -> StoredMessage | None:
        """Return a message; None where neither the stream's leader nor the archive has it.

        Raises:
            TransientError: it cannot be asked now.
        """
        found = await get(self._nc, stream, sequence)
        if found is None:
            async for messages in self._archived(stream, [">"], sequence, sequence):
                return messages[0]
        return found

    async def checkpoint(self, owned: Owned) -> bytes:
        """Return the checkpoint that an owner record carries or names.

        Raises:
            LogDamagedError: it is not there, or has other bytes.
        """
        store = RiskStore(self._nc, owned.record.slot)
        _, data = await store.checkpoint(owned, partial(self.get, RISK))
        return data

    async def read(
        self, stream: str, patterns: Sequence[str], first: int, last: int
    ) -> AsyncIterator[list[StoredMessage]]:
        """Yield the messages of a range on these subjects, ascending; of no subjects none.

        Raises:
            ConfigError: the archive does not reach up to what the stream holds.
            TransientError: it cannot be read now.
        """
        if not patterns:
            return
        held = (await stream_info(self._nc, stream)).first_sequence
        if first < held:
            await self._require_joined(stream, held)
            async for messages in self._archived(stream, patterns, first, min(last, held - 1)):
                yield messages
        if last >= held:
            async for messages in read_range(self._nc, stream, patterns, max(first, held), last):
                yield messages

    async def _require_joined(self, stream: str, held: int) -> None:
        """Refuse a hole between archive and stream; an archive that is younger has none."""
        if self._pool is None:
            return
        async with postgres.acquired(self._pool) as connection:
            last = await connection.fetchval(_ARCHIVED["last_of_stream"], stream, held)
        if last is not None and last < held - 1:
            raise ConfigError(
                f"{stream} holds its messages from {held} on, and the archive those up to {last}: "
                "let psm archive catch up, or restore them"
            )

    async def _archived(
        self, stream: str, patterns: Sequence[str], first: int, last: int
    ) -> AsyncIterator[list[StoredMessage]]:
        if self._pool is None:
            return
        wanted, position = [expression_of(one) for one in patterns], first - 1
        while position < last:
            async with postgres.acquired(self._pool) as connection:
                rows = await connection.fetch(
                    _ARCHIVED["messages_on"], stream, position, last, wanted, _BATCH
                )
            if not rows:
                return
            yield [
                StoredMessage(
                    sequence=row["js_sequence"],
                    subject=row["subject"],
                    data=row["raw"],
                    time_ns=row["stored_ns"],
                )
                for row in rows
            ]
            position = rows[-1]["js_sequence"]
