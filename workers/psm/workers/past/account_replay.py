"""Replay of one account: the state after each of its events, as the live system published it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from nats.aio.client import Client

from psm.contracts.codec import decode_envelope, decode_untyped
from psm.contracts.errors import ContractError
from psm.domain.outcomes import Folded, Outcome
from psm.domain.publish import log_time
from psm.workers.past.from_snapshot import books_from_snapshot
from psm.workers.past.places import LogShape, UnknownStreamError, read_ledger
from psm.workers.replay import Progress, Replayed, last_log_sequence, refold_stream
from psm.workers.times import is_later

HASHES = ("event_hash", "chain_hash", "ledger_hash", "state_hash")


class Seen(msgspec.Struct, frozen=True):
    """What a replay remembers of an event until it is applied."""

    event_id: str
    event_type: str
    timestamp: str
    log_time: str


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

    def time_of(self, event: Seen | None) -> str | None:
        """Return the time of an event that counts here."""
        if event is None:
            return None
        return event.log_time if self.log_time else event.timestamp

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
    valuation_interval_ns: int,
    selection: Selection,
    from_snapshot: bool = False,
    progress: Progress | None = None,
) -> AsyncIterator[Step]:
    """Yield the selected steps of one account, in sequence order.

    Reads that account's events twice, the instruments and rules, and the marks of the symbols that
    ever concerned it: the time this takes depends on the account, not on the others. Writes
    nothing. `from_snapshot` begins at the account's newest snapshot in front of `selection.first`.
    """
    shape = LogShape(partitions=partitions, valuation_interval_ns=valuation_interval_ns)
    books, marks = None, None
    if from_snapshot:
        books = await books_from_snapshot(nc, shape, stream_id, selection.first)
    if books is None:
        try:
            marks = (await read_ledger(nc, shape, stream_id)).symbols
        except UnknownStreamError:  # nothing took a place, but something may have been rejected
            marks = ()
        books = shape.books()
    seen: dict[str, Seen] = {}
    started = selection.since is None
    last = await last_log_sequence(nc)
    async for replayed in refold_stream(nc, books, stream_id, last, marks=marks, progress=progress):
        if replayed.message.subject.startswith(("marks.", "instruments.")):
            continue
        for step, at in _steps(replayed, seen):
            time = selection.time_of(at)
            if is_later(time, selection.until) or _is_beyond(step, selection.last):
                return
            if not started:
                started = time is not None and not is_later(selection.since, time)
            if started and selection.covers(step.sequence_number):
                yield step


def _steps(replayed: Replayed, seen: dict[str, Seen]) -> list[tuple[Step, Seen | None]]:
    """Return what one message did: its own step and one per event that it released.

    A step has a state if its event took a place, or moved the chain alone.
    """
    message, result = replayed.message, replayed.result
    own = _read(replayed)
    if own is not None:
        seen.setdefault(own.event_id, own)
    updates = {kind: _payloads(result, kind) for kind in ("state.updated", "event.refused")}
    refused = {u["payload"].get("event_id"): u["payload"] for u in updates["event.refused"]}
    steps = [_advanced(update, seen, refused) for update in updates["state.updated"]]
    if own is not None and any(at is not None and at.event_id == own.event_id for _, at in steps):
        if result.outcome is Outcome.BLOCKED:  # a retry in vain: the chain alone moved
            (step, at), *_ = steps
            told = {"outcome": result.outcome.value, "reason": result.reason}
            return [(msgspec.structs.replace(step, **told), at)]
        return steps
    if not message.subject.startswith("trades."):
        return steps  # new rules that released the stream
    step = Step(
        log_sequence=message.log_sequence,
        sequence_number=result.sequence_number,
        event_type=own.event_type if own else None,
        timestamp=own.timestamp if own else None,
        outcome=result.outcome.value,
        reason=result.reason,
        state=None,
    )
    return [(step, own), *steps]


def _read(replayed: Replayed) -> Seen | None:
    message = replayed.message
    try:
        envelope = decode_envelope(message.data)
    except ContractError:
        return None
    return Seen(envelope.event_id, envelope.event_type, envelope.timestamp, log_time(message.time))


def _payloads(result: Folded, kind: str) -> list[dict[str, Any]]:
    return [decode_untyped(update.data) for update in result.updates if update.kind == kind]


def _advanced(
    update: dict[str, Any], seen: dict[str, Seen], refused: dict[str | None, dict[str, Any]]
) -> tuple[Step, Seen | None]:
    cause = update["causation_id"]
    at, state, refusal = seen.get(cause), update["payload"], refused.get(cause)
    step = Step(
        log_sequence=state.get("event_log_sequence", state["log_sequence"]),
        sequence_number=state["sequence_number"],
        event_type=at.event_type if at else None,
        timestamp=at.timestamp if at else None,
        outcome="refused" if refusal else "applied",
        reason=refusal["reason"] if refusal else None,
        state=state,
    )
    return step, at


def _is_beyond(step: Step, last: int | None) -> bool:
    return last is not None and step.state is not None and step.state["sequence_number"] > last
