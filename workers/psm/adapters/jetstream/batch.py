"""Writes that expect something: one message, or an atomic batch of up to 1 000.

A batch is stored as a whole or not at all. Its first message carries what it expects (the
sequence of the last commit cursor), so only one of two writers can win. Nothing is retried
here: after `UnknownOutcomeError` only the caller knows what to read before writing again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import nats.errors
from nats.aio.client import Client

from psm.adapters.jetstream.api import REQUEST_TIMEOUT_S, ask, decoded
from psm.adapters.jetstream.errors import UnknownOutcomeError
from psm.adapters.jetstream.messages import Outgoing
from psm.adapters.jetstream.wire import BATCH_ID, BATCH_SEQUENCE, send_batch
from psm.contracts.errors import TransientError
from psm.contracts.replay import require_live

MAX_BATCH_MESSAGES = 1000
MAX_BATCH_ID = 64
BATCH_COMMIT = "Nats-Batch-Commit"
EXPECTED_LAST_SUBJECT_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
"""Names another exact subject, as stored, whose last sequence is expected."""
EXPECTED_STREAM = "Nats-Expected-Stream"
MESSAGE_ID = "Nats-Msg-Id"
"""What the broker stores once within the stream's duplicate window."""


class BatchAck(msgspec.Struct, frozen=True):
    """Where a batch was stored: `first` to `last`, without a hole."""

    first: int
    last: int


class PublishAck(msgspec.Struct, frozen=True):
    """Where a message was stored; `duplicate` if the broker knew its `Nats-Msg-Id`."""

    sequence: int
    duplicate: bool


async def publish_atomic(
    nc: Client,
    stream: str,
    messages: Sequence[Outgoing],
    *,
    batch_id: str,
    timeout_s: float = REQUEST_TIMEOUT_S,
) -> BatchAck:
    """Store all of `messages` or none.

    Args:
        nc: connection.
        stream: the JetStream stream to which every subject must belong.
        messages: 1 to 1 000, in order; what one expects is in its own headers.
        batch_id: unique per attempt, at most 64 characters; not needed for a single message,
            which is sent without the batch protocol.
        timeout_s: how long to wait for the acknowledgement.

    Raises:
        ApiConflictError: 10071, 10164 or 10201; nothing was stored.
        ApiTransientError: 10176 (leader change, abandoned) or 10210 (too many open);
            nothing was stored.
        StoreFullError: the broker has no room; nothing was stored.
        TransientError: nothing was sent because there is no connection.
        UnknownOutcomeError: no answer; it may be stored, now or later.
        ApiConfigError: the stream does not take it (wrong stream, atomic off).
        PermissionRefusedError: this user may not write there.
        UnsendableError: a subject or message is too long for the broker; nothing was sent.
        ReplayModeError: this is a replay; nothing was sent.
    """
    assert 1 <= len(messages) <= MAX_BATCH_MESSAGES, f"{len(messages)} messages in one batch"
    require_live(f"write to {stream}")
    first, *rest = messages
    guard = {EXPECTED_STREAM: stream}
    if not rest:
        ack = await _publish(nc, first, guard, timeout_s)
        return BatchAck(ack.sequence, ack.sequence)

    assert 0 < len(batch_id) <= MAX_BATCH_ID, f"batch id {batch_id!r}"
    if not nc.is_connected:
        # nats-py would keep the messages and send them late, long after the caller gave up.
        raise TransientError("not connected to NATS: the batch was not sent")
    *body, last = rest
    try:
        await send_batch(nc, (first, *body), batch_id, guard)
    except nats.errors.Error as error:
        # Without its commit message a batch is never stored; the broker drops it after 10 s.
        raise TransientError(f"batch {batch_id} was not sent: {error}") from error
    headers = _batch_headers(batch_id, len(messages), last.headers) | {BATCH_COMMIT: "1"}
    answer = await ask(nc, last.subject, last.data, timeout_s=timeout_s, headers=headers)
    ack_fields = decoded(answer.data, f"batch on {first.subject}")
    sequence, count = ack_fields.get("seq"), ack_fields.get("count")
    if not isinstance(sequence, int) or count != len(messages):
        raise UnknownOutcomeError(f"batch {batch_id}: the answer is no acknowledgement of it")
    return BatchAck(sequence - count + 1, sequence)


async def publish_expected(
    nc: Client,
    stream: str,
    subject: str,
    data: bytes,
    *,
    expected: int | None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = REQUEST_TIMEOUT_S,
) -> PublishAck:
    """Store one message if the last one on its stored subject is at sequence `expected`.

    Raises:
        ApiConflictError: 10071 or 10164; nothing was stored.
        ApiTransientError: 10158, the same id is being stored by an earlier attempt.
        UnknownOutcomeError: no answer; it may be stored, now or later.
        ReplayModeError: this is a replay; nothing was sent.
    """
    require_live(f"write to {stream}")
    guard = {EXPECTED_STREAM: stream}
    if expected is not None:
        guard[EXPECTED_LAST_SUBJECT_SEQUENCE] = str(expected)
    return await _publish(nc, Outgoing(subject, data, headers), guard, timeout_s)


async def _publish(
    nc: Client, message: Outgoing, guard: Mapping[str, str], timeout_s: float
) -> PublishAck:
    headers = {**(message.headers or {}), **guard}
    answer = await ask(nc, message.subject, message.data, timeout_s=timeout_s, headers=headers)
    ack = decoded(answer.data, f"publish to {message.subject}")
    if not isinstance(ack.get("seq"), int):
        raise UnknownOutcomeError(f"publish to {message.subject}: the answer is no acknowledgement")
    return PublishAck(ack["seq"], bool(ack.get("duplicate", False)))


def _batch_headers(batch_id: str, number: int, own: Mapping[str, str] | None) -> dict[str, str]:
    headers = dict(own) if own else {}
    headers[BATCH_ID] = batch_id
    headers[BATCH_SEQUENCE] = str(number)
    return headers
