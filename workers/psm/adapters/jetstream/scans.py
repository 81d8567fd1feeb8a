"""Bounded reads: the newest message of every subject, and a range of sequences."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncGenerator, Sequence

from nats.aio.client import Client

from psm.adapters.jetstream.errors import UnknownOutcomeError
from psm.adapters.jetstream.messages import StoredMessage
from psm.adapters.jetstream.pull import ConsumerLostError, PullConsumer, by_last_per_subject
from psm.adapters.jetstream.reader import BATCH, OrderedReader
from psm.adapters.jetstream.reads import next_for, stream_info
from psm.contracts.errors import TransientError

_ATTEMPTS = 5
_SILENCE_S = 10.0
_ASK_AFTER_S = 2.0
_CONSUMERS_MAX = 9


async def last_per_subject(
    nc: Client, stream: str, filter_subjects: Sequence[str]
) -> list[StoredMessage]:
    """Return the newest message of every subject that matches, by ascending sequence.

    A message that is stored while this reads may be missing, or be there in place of its
    predecessor. At most one message per subject is returned.

    Raises:
        StreamNotFoundError: there is no such stream.
        TransientError: the broker could not be read, five times in a row.
    """
    for _ in range(_ATTEMPTS):
        try:
            return await _last_per_subject(nc, stream, filter_subjects)
        except ConsumerLostError as lost:
            reason = lost.reason
    raise UnknownOutcomeError(f"{stream}: cannot read the last messages ({reason})")


async def read_range(
    nc: Client,
    stream: str,
    filter_subjects: Sequence[str],
    start_sequence: int,
    end_sequence: int,
    *,
    batch: int = BATCH,
    silence_s: float = _SILENCE_S,
) -> AsyncGenerator[list[StoredMessage], None]:
    """Yield the matching messages from `start_sequence` to `end_sequence`, both included.

    Lists in order, of up to `batch` where there is one filter. It ends when a message beyond the
    range shows up or when nothing matching is left, so it never waits for what is not yet
    published.

    Each filter has a consumer of its own, as long as there are few: for one with several filters
    the broker goes through all subjects of a block to find the next message.

    Raises:
        TransientError: the broker showed neither a message nor the end for `silence_s`.
    """
    if not 1 < len(filter_subjects) <= _CONSUMERS_MAX:
        parts = [tuple(filter_subjects)]
    else:
        # What is stored while this reads must not be seen by one consumer and missed by another.
        end_sequence = min(end_sequence, (await stream_info(nc, stream)).last_sequence)
        parts = [(subject,) for subject in filter_subjects]
    readers = [
        _read_range(nc, stream, part, start_sequence, end_sequence, batch, silence_s)
        for part in parts
    ]
    merged = readers[0] if len(readers) == 1 else _merged(readers)
    try:
        async for messages in merged:
            yield messages
    finally:
        for generator in (merged, *readers):
            await generator.aclose()


async def _merged(
    readers: Sequence[AsyncGenerator[list[StoredMessage], None]],
) -> AsyncGenerator[list[StoredMessage], None]:
    """Merge readers by sequence: what is handed out is below all that may still come."""
    waiting: dict[int, list[StoredMessage]] = {}
    reading = dict(enumerate(readers))
    while reading or waiting:
        for number, reader in list(reading.items()):
            if number not in waiting:
                messages = await anext(reader, None)
                if messages is None:
                    del reading[number]
                else:
                    waiting[number] = messages
        if not waiting:
            return
        bound = min(messages[-1].sequence for messages in waiting.values())
        ready: list[StoredMessage] = []
        for number, messages in list(waiting.items()):
            end = bisect_right(messages, bound, key=_sequence)
            ready += messages[:end]
            if end == len(messages):
                del waiting[number]
            else:
                waiting[number] = messages[end:]
        ready.sort(key=_sequence)
        yield ready


def _sequence(message: StoredMessage) -> int:
    return message.sequence


async def _read_range(
    nc: Client,
    stream: str,
    filter_subjects: Sequence[str],
    start_sequence: int,
    end_sequence: int,
    batch: int,
    silence_s: float,
) -> AsyncGenerator[list[StoredMessage], None]:
    """Read a range by one consumer.

    A consumer on a damaged replica skips what it cannot read, and still counts it as pending. So
    when it falls silent the leader is asked whether there is more, and another consumer tried.
    """
    reader = OrderedReader(nc, stream, filter_subjects, start_sequence, batch=batch)
    silent_s = 0.0
    try:
        while reader.position < end_sequence:
            messages = await reader.fetch(batch, 0.0)
            if not messages and not reader.caught_up():
                wait_s = min(_ASK_AFTER_S, silence_s)
                messages = await reader.fetch(batch, wait_s)
                silent_s = 0.0 if messages else silent_s + wait_s
            if not messages and not reader.caught_up():
                behind = reader.position + 1
                if not await _is_more(nc, stream, filter_subjects, behind, end_sequence):
                    return
                if silent_s >= silence_s:
                    raise UnknownOutcomeError(f"{stream}: nothing to read behind {behind - 1}")
                await reader.reset("silence")
                continue
            within = [message for message in messages if message.sequence <= end_sequence]
            if within:
                yield within
            if len(within) < len(messages) or not messages:
                return
    finally:
        await reader.close()


async def _is_more(
    nc: Client, stream: str, filter_subjects: Sequence[str], first: int, last: int
) -> bool:
    """Return whether the leader has a matching message in a range; True if it does not say."""
    for subject in filter_subjects:
        try:
            found = await next_for(nc, stream, subject, first)
        except TransientError:
            return True
        if found is not None and found.sequence <= last:
            return True
    return False


async def _last_per_subject(
    nc: Client, stream: str, filter_subjects: Sequence[str]
) -> list[StoredMessage]:
    settings = by_last_per_subject(filter_subjects)
    consumer = await PullConsumer.open(nc, stream, settings, batch=BATCH)
    newest: dict[str, StoredMessage] = {}
    try:
        while consumer.pending:
            await consumer.wait(_SILENCE_S)
            messages = consumer.take(BATCH)
            if not messages:
                raise ConsumerLostError("silence")
            newest.update((message.subject, message) for message in messages)
    finally:
        await consumer.close()
    return sorted(newest.values(), key=lambda message: message.sequence)
