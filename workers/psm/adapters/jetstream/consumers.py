"""Who reads a stream: its consumers, and how far each is."""

from __future__ import annotations

from typing import Any

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream.api import call


class ConsumerSight(msgspec.Struct, frozen=True, kw_only=True):
    """A consumer, as the stream's leader sees it.

    Attributes:
        stream: that it reads.
        consumer: its name.
        reader: what whoever made it says of itself; empty where it says nothing.
        durable: whether it stays when its reader is gone.
        filters: subjects that it reads; empty for all.
        delivered: sequence of the stream up to which it was given messages.
        pending: messages that it was not given yet.
        unacknowledged: given, and not acknowledged; 0 where nobody has to.
        last_active: when it last was given one, RFC 3339; None where never.
    """

    stream: str
    consumer: str
    reader: str
    durable: bool
    filters: list[str]
    delivered: int
    pending: int
    unacknowledged: int
    last_active: str | None


async def consumers_of(nc: Client, stream: str) -> list[ConsumerSight]:
    """Return all consumers of a stream, those that are farthest behind first.

    Raises:
        StreamNotFoundError: there is no such stream.
        TransientError: the broker does not answer.
    """
    found: list[ConsumerSight] = []
    total = 1
    while len(found) < total:
        page = await call(nc, f"CONSUMER.LIST.{stream}", {"offset": len(found)})
        total = int(page.get("total", 0))
        here = page.get("consumers") or []
        if not here:
            break
        found += [_sight(stream, one) for one in here]
    return sorted(found, key=lambda one: (-one.pending, one.consumer))


def _sight(stream: str, told: dict[str, Any]) -> ConsumerSight:
    config, delivered = told["config"], told["delivered"]
    single = config.get("filter_subject")
    return ConsumerSight(
        stream=stream,
        consumer=told["name"],
        reader=config.get("description") or "",
        durable="durable_name" in config,
        filters=config.get("filter_subjects") or ([single] if single else []),
        delivered=delivered["stream_seq"],
        pending=told.get("num_pending", 0),
        unacknowledged=told.get("num_ack_pending", 0),
        last_active=delivered.get("last_active"),
    )
