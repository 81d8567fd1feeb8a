"""How far the views are behind the stream PSM, read from outside: for health and operators."""

from __future__ import annotations

import time

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import OrderedReader, last_per_subject
from psm.projections import checkpoints
from psm.projections.projection import Projection
from psm.workers.committed import psm_filters
from psm.workers.cursor import load_cursor

STREAM = "PSM"
_NS = 1_000_000_000
_FIRST_WAIT_S = 2.0


class PartitionLag(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of one projection.

    Attributes:
        projection: its name.
        partition: of the stream PSM.
        checkpoint: position of the last message read; 0 for none.
        log_sequence: inputs up to it are in the view.
        last_sequence: position of the partition's last committed message.
        lag_events: messages of PSM that the view lacks, cursors included.
        lag_s: age of the oldest of them.
    """

    projection: str
    partition: int
    checkpoint: int
    log_sequence: int
    last_sequence: int
    lag_events: int
    lag_s: float


async def view_lag(nc: Client, pool: postgres.Pool, projection: Projection) -> list[PartitionLag]:
    """Return the lag of every partition that has committed anything, ascending.

    Raises:
        TransientError: NATS or PostgreSQL is away.
    """
    # Checkpoints first: read the other way round, a view might seem to be ahead of the log.
    async with postgres.acquired(pool) as connection:
        known = {c.partition: c for c in await checkpoints.read_all(connection, projection.name)}
    result = []
    for message in await last_per_subject(nc, STREAM, ["psm.cursor.*"]):
        partition = int(message.subject.rpartition(".")[2])
        cursor = load_cursor(message.data)
        checkpoint = known.get(partition)
        position = checkpoint.stream_sequence if checkpoint else 0
        # A batch has no hole, so its end is known from its cursor.
        end = message.sequence + cursor.updates
        events, age_s = await _unread(nc, partition, position) if end > position else (0, 0.0)
        result.append(
            PartitionLag(
                projection=projection.name,
                partition=partition,
                checkpoint=position,
                log_sequence=checkpoint.log_sequence if checkpoint else 0,
                last_sequence=end,
                lag_events=events,
                lag_s=age_s,
            )
        )
    return sorted(result, key=lambda lag: lag.partition)


async def _unread(nc: Client, partition: int, position: int) -> tuple[int, float]:
    """How many messages follow `position`, and the age of the first."""
    reader = OrderedReader(nc, STREAM, psm_filters(partition), position + 1, batch=1)
    try:
        messages = await reader.fetch(1, _FIRST_WAIT_S)
        if not messages:
            return 0, 0.0
        age_s = max(0.0, time.time() - messages[0].time_ns / _NS)
        return 1 + (reader.pending or 0), age_s
    finally:
        await reader.close()
