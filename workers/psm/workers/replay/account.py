"""Replay of one account: the state after each of its events, as the live system published it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import msgspec
from nats.aio.client import Client

from psm.contracts.codec import decode_envelope
from psm.contracts.errors import ContractError
from psm.contracts.subjects import OF_MARKET
from psm.domain.market.slots import ValuationSlots
from psm.domain.messages import Placement
from psm.domain.publication.log_times import log_time
from psm.workers.history.from_snapshot import books_from_snapshot
from psm.workers.history.timeline import UnknownStreamError, read_ledger
from psm.workers.log.reader import last_log_sequence
from psm.workers.log.refold import Progress, Replayed, refold_stream
from psm.workers.log.shape import LogShape
from psm.workers.process.times import is_later

HASHES = ("event_hash", "chain_hash", "ledger_hash", "state_hash")


class Times(msgspec.Struct, frozen=True):
    """When an event happened by its own account, and when the log had it; None where unknown."""

    timestamp: str | None
    log_time: str | None


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a stream to show.

    Attributes:
        first, last: sequence numbers, both included.
        since, until: RFC 3339 times. A time selects by sequence: the stream up to before the first
            event later than `until`, from the first event not earlier than `since` on.
        log_time: compare JetStream's times (what was known then), not the events' timestamps.
    """

    first: int = 1
    last: int | None = None
    since: str | None = None
    until: str | None = None
    log_time: bool = False

    def time_of(self, times: Times) -> str | None:
        """Return the time of an event that counts here."""
        return times.log_time if self.log_time else times.timestamp

    def covers(self, number: int | None) -> bool:
        """Return whether a sequence number lies in the range; junk without one only from 1 on."""
        if number is None:
            return self.first == 1 and self.last is None
        return self.first <= number and (self.last is None or number <= self.last)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the stream and the account after it.

    `state` is the payload of the `StateUpdated` that the event caused; None where the event did
    not advance the stream (duplicate, conflict, parked, ...).
    """

    log_sequence: int
    sequence_number: int | None
    event_type: str | None
    timestamp: str | None
    outcome: str
    reason: str | None
    state: dict[str, Any] | None


async def replay_account(
    nc: Client,
    stream_id: str,
    *,
    partitions: int,
    slots: ValuationSlots,
    selection: Selection,
    from_snapshot: bool = False,
    progress: Progress | None = None,
) -> AsyncGenerator[Step]:
    """Yield the selected steps of one account, in sequence order.

    Reads that account's events twice, the instruments and rules, and the marks of the symbols that
    ever concerned it: the time this takes depends on the account, not on the others. Writes
    nothing. `from_snapshot` begins at the account's newest snapshot in front of `selection.first`.

    Raises:
        UnknownStreamError: the log has no message to this stream, not even a rejected one.
    """
    shape = LogShape(partitions=partitions, slots=slots)
    books, marks = None, None
    if from_snapshot:
        books = await books_from_snapshot(nc, shape, stream_id, selection.first)
    if books is None:
        try:
            marks = tuple((await read_ledger(nc, shape, stream_id)).symbols)
        except UnknownStreamError:  # nothing took a place, but something may have been rejected
            marks = ()
        books = shape.books()
    log_times: dict[int, str] = {}
    started, known = selection.since is None, marks is None
    last = await last_log_sequence(nc)
    async for replayed in refold_stream(
        nc, books, stream_id, last, marks=marks, emit="payloads", progress=progress
    ):
        if replayed.message.kind in OF_MARKET:
            continue
        for step, times in _steps(replayed, log_times):
            known = True
            time = selection.time_of(times)
            if is_later(time, selection.until) or _is_beyond(step, selection.last):
                return
            if not started:
                started = time is not None and not is_later(selection.since, time)
            if started and selection.covers(step.sequence_number):
                yield step
    if not known:
        raise UnknownStreamError(f"no event of account {stream_id} is in the log")


def _steps(replayed: Replayed, log_times: dict[int, str]) -> list[tuple[Step, Times]]:
    """Return what one message did: its own step and one per event that it released.

    A step has a state if its event took a place, or moved the chain alone.

    Args:
        replayed: the message and what the fold made of it.
        log_times: of the stream's messages so far; extended.
    """
    message, result = replayed.message, replayed.result
    log_times[message.log_sequence] = log_time(message.time)
    announced = [placement for placement in result.placements if placement.announced]
    states = [p.payload for p in result.payloads if p.kind == "state.updated"]
    steps = [
        (_step(placement, state), _times(placement, log_times))
        for placement, state in zip(announced, states, strict=True)
    ]
    placed = any(placement.log_sequence == message.log_sequence for placement in announced)
    if placed or message.stream_id is None:  # new rules that released the stream have no step
        return steps
    return [_unplaced(replayed), *steps]


def _step(placement: Placement, state: dict[str, Any]) -> Step:
    return Step(
        log_sequence=placement.log_sequence,
        sequence_number=placement.number,
        event_type=placement.event_type,
        timestamp=placement.timestamp,
        outcome=placement.outcome.value,
        reason=placement.reason,
        state=state,
    )


def _times(placement: Placement, log_times: dict[int, str]) -> Times:
    return Times(placement.timestamp, log_times.get(placement.log_sequence))


def _unplaced(replayed: Replayed) -> tuple[Step, Times]:
    """Return the step of a message whose event took no place, or tells of it with another's."""
    message, result = replayed.message, replayed.result
    event_type = timestamp = None
    with suppress(ContractError):
        envelope = decode_envelope(message.data)
        event_type, timestamp = envelope.event_type, envelope.timestamp
    step = Step(
        log_sequence=message.log_sequence,
        sequence_number=result.sequence_number,
        event_type=event_type,
        timestamp=timestamp,
        outcome=result.outcome.value,
        reason=result.reason,
        state=None,
    )
    return step, Times(timestamp, log_time(message.time) if event_type else None)


def _is_beyond(step: Step, last: int | None) -> bool:
    return last is not None and step.state is not None and step.state["sequence_number"] > last
