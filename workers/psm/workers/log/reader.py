"""The log as it is read: the one place that knows in which stream of JetStream it lies."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from nats.aio.client import Client

from psm.adapters.jetstream import (
    CatchUpReader,
    StoredMessage,
    StreamInfo,
    get,
    last_for,
    next_for,
    read_range,
    stream_info,
)
from psm.contracts import subjects
from psm.contracts.subjects import TRADES
from psm.domain.messages import LogMessage, NeedHistory

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def log_message(stored: StoredMessage) -> LogMessage:
    """Return a message of the log as the domain takes it."""
    return LogMessage(
        log_sequence=stored.sequence,
        subject=stored.subject,
        time=stored.time_ns,
        data=stored.data,
        traceparent=_traceparent(stored),
    )


def _traceparent(stored: StoredMessage) -> str | None:
    """Return the trace context; anything else that a producer wrote there is left out.

    It is carried on into the headers of updates, which must stay small enough to be sent.
    """
    text = stored.header("traceparent")
    return text if text is not None and _TRACEPARENT.fullmatch(text) else None


async def log_info(nc: Client) -> StreamInfo:
    """Return what the leader says about the log."""
    return await stream_info(nc, TRADES)


async def last_log_sequence(nc: Client) -> int:
    """Return the log sequence of the log's last message; 0 for an empty log."""
    return (await log_info(nc)).last_sequence


async def stored_at(nc: Client, log_sequence: int) -> StoredMessage | None:
    """Return the message at a log sequence from the leader; None if there is none."""
    return await get(nc, TRADES, log_sequence)


async def first_stored(nc: Client, subject: str, log_sequence: int) -> StoredMessage | None:
    """Return the first message of a subject at or after a log sequence, from the leader."""
    return await next_for(nc, TRADES, subject, log_sequence)


async def last_stored(nc: Client, subject: str) -> StoredMessage | None:
    """Return the last message of a subject or of a pattern of subjects, from the leader."""
    return await last_for(nc, TRADES, subject)


def read_stored(
    nc: Client, filters: Sequence[str], first: int, last: int
) -> AsyncGenerator[list[StoredMessage], None]:
    """Yield the messages in a range of log sequences, both included, as they are stored."""
    return read_range(nc, TRADES, filters, first, last)


async def read_log(
    nc: Client, filters: Sequence[str], first: int, last: int
) -> AsyncGenerator[list[LogMessage], None]:
    """Yield the messages in a range of log sequences, both included, as the domain takes them."""
    async with aclosing(read_stored(nc, filters, first, last)) as batches:
        async for batch in batches:
            yield [log_message(stored) for stored in batch]


async def read_history(nc: Client, partitions: int, wanted: NeedHistory) -> dict[int, LogMessage]:
    """Return the messages that a fold asked for, by log sequence."""
    stream = subjects.stream_subjects(wanted.stream_id, partitions)
    filters = [*stream, *wanted.market_subjects()]
    first, last = wanted.from_log_sequence, wanted.to_log_sequence
    return {m.log_sequence: m async for batch in read_log(nc, filters, first, last) for m in batch}


def follow_log(
    nc: Client, filters: Sequence[str], on_reset: Callable[[str, str], None] | None = None
) -> CatchUpReader:
    """Return a reader that follows the log; `on_reset` is called for each lost consumer."""
    return CatchUpReader(nc, TRADES, filters, on_reset=on_reset)
