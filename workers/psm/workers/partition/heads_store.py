"""Log and chain heads that PostgreSQL keeps, read when a partition starts."""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from psm.adapters import postgres
from psm.projections.witness import heads
from psm.projections.witness.heads import ChainHead, LogHead


class Heads(msgspec.Struct, frozen=True, kw_only=True):
    """What PostgreSQL remembers of one partition.

    Attributes:
        newest: last message committed against; None before the first.
        chains: by stream.
    """

    newest: LogHead | None
    chains: dict[str, ChainHead]


class HeadStore(Protocol):
    """Where the heads are read from."""

    async def read(self, partition: int) -> Heads:
        """Return the partition's heads; raises `TransientError` or `ConfigError` if it cannot."""

    async def history(self, partition: int) -> list[LogHead]:
        """Return the partition's log heads, ascending."""


class NoHeads:
    """`HeadStore` where there is no PostgreSQL: the broker's own count is compared all the same."""

    async def read(self, partition: int) -> Heads:
        """Return nothing to compare with."""
        return Heads(newest=None, chains={})

    async def history(self, partition: int) -> list[LogHead]:
        """Return nothing."""
        return []


class PostgresHeads:
    """`HeadStore` of one process; connects when it is first asked."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool: postgres.Pool | None = None
        self._opening = asyncio.Lock()

    async def read(self, partition: int) -> Heads:
        """Return the partition's heads."""
        async with postgres.acquired(await self._opened()) as connection:
            newest = await heads.newest_log_head(connection, partition)
            chains = await heads.chain_heads(connection, partition)
        return Heads(newest=newest, chains={head.stream_id: head for head in chains})

    async def history(self, partition: int) -> list[LogHead]:
        """Return the partition's log heads, ascending."""
        async with postgres.acquired(await self._opened()) as connection:
            return await heads.log_heads(connection, partition)

    def close(self) -> None:
        """Drop the connections."""
        if self._pool is not None:
            self._pool.terminate()

    async def _opened(self) -> postgres.Pool:
        async with self._opening:
            if self._pool is None:
                self._pool = await postgres.open_pool(self._dsn, name="psm-heads", size_max=2)
            return self._pool
