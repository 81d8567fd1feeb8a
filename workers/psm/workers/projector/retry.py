"""One account of a projection made anew, after what kept its rows out was mended."""

from __future__ import annotations

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.contracts.subjects import partition_of
from psm.domain.market.slots import ValuationSlots
from psm.projections import checkpoints
from psm.projections.projection import Projection
from psm.projections.quarantine import StaleKey
from psm.projections.schema import shadow
from psm.workers.projector.one_account import AccountFold


class RetryReport(msgspec.Struct, frozen=True, kw_only=True):
    """Result for one account.

    Attributes:
        stream_id: of the account.
        log_sequence: up to which it was folded.
        updates: how many updates that gave.
        stale: keys that still cannot be stored.
    """

    stream_id: str
    log_sequence: int
    updates: int
    stale: list[StaleKey]


class Retry:
    """Makes accounts of one projection anew; one at a time, and never beside a rebuild."""

    def __init__(
        self,
        nc: Client,
        pool: postgres.Pool,
        projection: Projection,
        *,
        partitions: int,
        slots: ValuationSlots,
    ) -> None:
        self._pool = pool
        self._partitions = partitions
        self._projection = projection
        self._fold = AccountFold(nc, pool, projection, partitions=partitions, slots=slots)

    async def stale(self) -> list[StaleKey]:
        """Return the open entries."""
        async with postgres.acquired(self._pool) as connection:
            return await self._projection.quarantine.entries(connection)

    async def has_begun(self, stream_id: str) -> bool:
        """Return whether anything of an account's partition was read."""
        partition = partition_of(stream_id, self._partitions)
        async with postgres.acquired(self._pool) as connection:
            found = await checkpoints.read(connection, self._projection.name, partition)
        return found is not None

    async def run(self, stream_id: str) -> RetryReport:
        """Fold one account anew to the live checkpoint and replace its rows.

        Raises:
            ConfigError: a rebuild is running, the schema is missing, or nothing was read yet.
            LogDamagedError: the views were made from another log.
            TransientError: a server went away; nothing was changed.
        """
        async with self._fold.folded(stream_id) as made:
            await shadow.replace_stream(made.connection, self._projection, made.live, stream_id)
            stale = await self._projection.quarantine.entries(made.connection)
        return RetryReport(
            stream_id=stream_id,
            log_sequence=made.log_sequence,
            updates=made.updates,
            stale=[entry for entry in stale if entry.stream_id == stream_id],
        )
