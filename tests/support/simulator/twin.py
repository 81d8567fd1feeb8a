"""An untroubled twin of each stream: its events alone, each once, in order, at once.

What the sequence rules did to a stream, parked, held, refused as repeats, voided, dismissed, is
read from its updates; the twin gets the result as its log, and must come to the same hashes. So
the whole machinery of gaps and repairs is checked by a fold that never uses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.support.domain import Log
from tests.support.events import Sent, changed, deposit, rules
from tests.support.simulator.traffic import type_of

from psm.contracts.codec import decode_untyped
from psm.contracts.sequencing import OPERATOR_EVENTS
from psm.contracts.table_events import TABLE_SUBJECTS
from psm.domain.books import Books
from psm.domain.market.slots import ValuationSlots
from psm.domain.messages import LogMessage, Update
from psm.domain.publication.figures import state_document

_TABLES = tuple(f"{head}." for head in TABLE_SUBJECTS.values())


def check_twins(
    log: Sequence[LogMessage], books: Books, updates: Sequence[Update], slots: ValuationSlots
) -> int:
    """Compare every stream of a partition that is open; return how many there were.

    Args:
        log: all of it.
        books: of the partition, folded from all of it.
        updates: that this fold published.
        slots: when valuations are published.
    """
    assert books.partition is not None
    twin = Log(
        books=Books(
            partitions=books.partitions,
            partition=books.partition,
            slots=slots,
        )
    )
    for sent in _untroubled({message.log_sequence: message for message in log}, updates):
        twin.when(sent)
    compared = 0
    for stream, account in books.accounts.items():
        if account.delivery.status != "open" or not account.delivery.version:
            continue
        own, other = (state_document(each, each.accounts[stream]) for each in (books, twin.books))
        for name in ("ledger_hash", "state_hash"):
            assert own[name] == other[name], f"{stream} and its twin differ: {own}, {other}"
        compared += 1
    return compared


def _untroubled(log: Mapping[int, LogMessage], updates: Sequence[Update]) -> list[Sent]:
    """Return the log as it would be if nothing had come late, twice, unknown, or not at all."""
    taken: dict[int, list[Sent]] = {}
    versions: dict[str, int] = {}
    for update in updates:
        if update.kind != "state.updated":
            continue
        payload = decode_untyped(update.data)["payload"]
        stream, at = update.stream_id, payload["log_sequence"]
        if payload["cause"] != "event":
            continue
        number = payload["sequence_number"]
        if number <= versions.get(stream, 0):
            continue  # an operator's event that took no place
        own = taken.setdefault(at, [])
        own += [_refused(n, stream) for n in range(versions.get(stream, 0) + 1, number)]
        place = payload.get("event_log_sequence", at)
        data = log[place].data
        if type_of(data) in OPERATOR_EVENTS or place == _dismissed_by(log[at]):
            own.append(_refused(number, stream))
        else:
            own.append(Sent(subject=f"trades.{stream}", data=data))
        versions[stream] = number
    sent = [rules(2)]
    for at, message in log.items():
        if message.subject.startswith(_TABLES):
            own = [Sent(subject=message.subject, data=message.data)]
        else:
            own = taken.get(at, [])
        sent += [one.later(message.time) for one in own]
    return sent


def _dismissed_by(message: LogMessage) -> int | None:
    """Return the log sequence that an operator dismisses; None of any other message.

    The log says so; what the fold made of it is what is to be checked.
    """
    if type_of(message.data) != "EventDismissed":
        return None
    place: int = decode_untyped(message.data)["payload"]["log_sequence"]
    return place


def _refused(number: int, stream: str) -> Sent:
    """Return an event that takes its place and does nothing else."""
    return changed(deposit(number, stream=stream, salt="refused"), payload={})
