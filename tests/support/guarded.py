"""Batches whose first message carries what it expects, as a commit cursor does."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import Outgoing, publish_atomic
from psm.adapters.jetstream.api import REQUEST_TIMEOUT_S
from psm.adapters.jetstream.batch import EXPECTED_LAST_SUBJECT_SEQUENCE, BatchAck


async def publish_guarded(
    nc: Client,
    stream: str,
    messages: Sequence[Outgoing],
    *,
    expected: int,
    batch_id: str,
    timeout_s: float = REQUEST_TIMEOUT_S,
) -> BatchAck:
    """Store a batch if the last message on its first one's stored subject is at `expected`."""
    first, *rest = messages
    headers = {**(first.headers or {}), EXPECTED_LAST_SUBJECT_SEQUENCE: str(expected)}
    guarded = msgspec.structs.replace(first, headers=headers)
    return await publish_atomic(
        nc, stream, [guarded, *rest], batch_id=batch_id, timeout_s=timeout_s
    )
