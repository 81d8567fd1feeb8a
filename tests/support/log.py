"""Streams and events for tests against a real broker."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import connect
from psm.adapters.jetstream.streams_apply import apply
from psm.domain.market.slots import ValuationSlots


class LogSize(msgspec.Struct, frozen=True):
    """Settings of a small log."""

    partitions: int = 4
    replicas: int = 1
    valuation_slots: ValuationSlots = ValuationSlots()


@asynccontextmanager
async def empty_log(url: str, size: LogSize | None = None) -> AsyncIterator[Client]:
    """A connection to a clean broker (`nats_url`), with all of PSM's streams."""
    nc = await connect(url, name="test")
    try:
        await apply(nc, size or LogSize())
        yield nc
    finally:
        await nc.close()


def deposit(stream_id: str, number: int | None = None, **fields: Any) -> dict[str, Any]:
    """An event that every account takes."""
    event = {
        "event_id": str(uuid.uuid4()),
        "event_type": "CashDeposited",
        "stream_id": stream_id,
        "timestamp": "2026-01-02T03:04:05Z",
        "schema_version": "1.0.0",
        "payload": {"amount": "10"},
        **fields,
    }
    return event if number is None else {**event, "sequence_number": number}
