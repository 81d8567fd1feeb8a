"""How far the archive is behind its streams, read from outside: also while no archiver runs."""

from __future__ import annotations

import time

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import StreamInfo, next_for, stream_info
from psm.projections.archive import writer as archive
from psm.workers.archive.source import SOURCES

RETENTION_ALERT = 0.25
"""From this share of a stream's retention on, being behind is an error."""

_NS = 1_000_000_000


class ArchiveLag(msgspec.Struct, frozen=True, kw_only=True):
    """One stream.

    Attributes:
        js_stream: its name.
        checkpoint: position of the last message archived; 0 for none.
        last_sequence: position of its last message.
        lag_events: messages that the archive lacks (PSM: those about no event included).
        lag_s: age of the oldest of them, seconds.
        retention_used: that age as a share of what the stream keeps; 0 where it keeps everything.
        lost: messages that expired before they were archived and are not reported yet.
    """

    js_stream: str
    checkpoint: int
    last_sequence: int
    lag_events: int
    lag_s: float
    retention_used: float
    lost: int


async def archive_lag(nc: Client, pool: postgres.Pool) -> list[ArchiveLag]:
    """Return the lag of every stream that is archived.

    Raises:
        StreamNotFoundError: a stream does not exist; run `psm streams apply`.
        TransientError: NATS or PostgreSQL is away.
    """
    # Checkpoints first: read the other way round, the archive might seem to be ahead.
    async with postgres.acquired(pool) as connection:
        known = await archive.read_checkpoints(connection)
    return [
        await _lag(nc, await stream_info(nc, name), known[name].js_sequence if name in known else 0)
        for name in SOURCES
    ]


async def _lag(nc: Client, info: StreamInfo, position: int) -> ArchiveLag:
    behind = max(0, info.last_sequence - position)
    age_s = 0.0
    if behind:
        first = await next_for(nc, info.name, ">", position + 1)
        age_s = max(0.0, time.time() - first.time_ns / _NS) if first else 0.0
    keeps_s = info.config.get("max_age", 0) / _NS
    return ArchiveLag(
        js_stream=info.name,
        checkpoint=position,
        last_sequence=info.last_sequence,
        lag_events=behind,
        lag_s=round(age_s, 3),
        retention_used=round(age_s / keeps_s, 3) if keeps_s else 0.0,
        lost=max(0, info.first_sequence - position - 1) if position else 0,
    )
