"""Lag of the views, read from outside: for health checks and operators."""

from __future__ import annotations

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import unread
from psm.projections import checkpoints
from psm.projections.projection import Projection
from psm.projections.quarantine import StaleKey
from psm.workers.projector.sources import reader_of


class PartitionLag(msgspec.Struct, frozen=True, kw_only=True):
    """Lag of one partition of one projection.

    Attributes:
        projection: its name.
        partition: of the projection's source.
        checkpoint: position of the last message read; 0 for none.
        log_sequence: inputs up to it are in the view.
        last_sequence: position of the partition's last message.
        lag_events: messages of the stream that the view lacks, those without rows included.
        lag_s: age of the oldest of them.
        stale: keys whose last row could not be stored.
    """

    projection: str
    partition: int
    checkpoint: int
    log_sequence: int
    last_sequence: int
    lag_events: int
    lag_s: float
    stale: list[StaleKey]


async def view_lag(nc: Client, pool: postgres.Pool, projection: Projection) -> list[PartitionLag]:
    """Return the lag of every partition whose source has any message, ascending.

    Raises:
        TransientError: NATS or PostgreSQL is away.
    """
    # Checkpoints first: read the other way round, a view might seem to be ahead of the log.
    async with postgres.acquired(pool) as connection:
        known = {c.partition: c for c in await checkpoints.read_all(connection, projection.name)}
        stale = await projection.quarantine.entries(connection)
    source = reader_of(projection.source)
    result = []
    for partition, end in sorted((await source.ends(nc)).items()):
        checkpoint = known.get(partition)
        position = checkpoint.stream_sequence if checkpoint else 0
        events, age_s = 0, 0.0
        if end > position:
            js_stream, filters = projection.source.js_stream, source.filters(partition)
            events, age_s = await unread(nc, js_stream, filters, position)
        result.append(
            PartitionLag(
                projection=projection.name,
                partition=partition,
                checkpoint=position,
                log_sequence=checkpoint.log_sequence if checkpoint else 0,
                last_sequence=end,
                lag_events=events,
                lag_s=age_s,
                stale=[entry for entry in stale if entry.partition == partition],
            )
        )
    return result
