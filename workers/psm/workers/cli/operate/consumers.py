"""`psm consumers`: who reads the streams, and how far each reader is."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from cyclopts import Parameter

from psm.adapters.jetstream.consumers import ConsumerSight, consumers_of
from psm.adapters.jetstream.errors import StreamNotFoundError
from psm.contracts.subjects import PSM, RISK, TRADES
from psm.workers.cli.shared.connections import broker
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.process.config import Settings, load_settings

_COLUMNS = (
    "stream", "reader", "consumer", "durable", "pending", "unacknowledged", "delivered",
    "last_active", "filters",
)  # fmt: skip


def consumers(
    *streams: Annotated[str, Parameter(help="Streams; default those of PSM itself.")],
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Show the consumers of streams, those that are farthest behind first.

    `reader` is the part of PSM that made it, or what another client wrote as its description. Who
    only listens to republished updates (`psm.*.*`) has no consumer, and is not shown.
    """
    found = asyncio.run(_found(load_settings(), streams or (TRADES, PSM, RISK)))
    if output.format == "table" and not found:
        output.note("nobody reads")
        return
    output.rows([msgspec.to_builtins(one) for one in found], _COLUMNS)


async def _found(settings: Settings, streams: tuple[str, ...]) -> list[ConsumerSight]:
    found: list[ConsumerSight] = []
    async with broker(settings, "psm-cli") as nc:
        for stream in streams:
            try:
                found += await consumers_of(nc, stream)
            except StreamNotFoundError:
                if stream != RISK:  # an installation without risk has none
                    raise
    return found
