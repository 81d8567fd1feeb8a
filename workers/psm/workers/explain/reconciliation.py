"""A report examined: against which state of its account, with what result, and why not another.

The account's own events are folded twice: once to find the reports and what each message did, once
more to the place that the report is about, where it is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

import msgspec
from nats.aio.client import Client

from psm.contracts import registry
from psm.contracts.codec import decode_envelope, decode_untyped
from psm.contracts.errors import ContractError, PSMError
from psm.contracts.position_keys import position_key
from psm.contracts.reconciliation import Difference
from psm.contracts.reports import AccountReported
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.delivery.delivery import is_named
from psm.domain.messages import Outcome
from psm.domain.money import ZERO, subtract_wide
from psm.domain.publication.log_times import log_time
from psm.domain.reconciliation import (
    THROUGH_NOT_LAST,
    Comparison,
    compare,
    holdings_of,
)
from psm.workers.explain.causes import Cause, Happening, find_causes
from psm.workers.explain.repair_lines import repair_lines, repairs_all
from psm.workers.history.as_of import When, place_at, read_until
from psm.workers.log.reader import last_log_sequence
from psm.workers.log.refold import Progress, Replayed, refold_stream
from psm.workers.log.shape import LogShape

_CAUSES_MAX = 20


class NoReportKnownError(PSMError):
    """Nobody reported about the account, and no report is given."""


class KnownReport(msgspec.Struct, frozen=True, kw_only=True):
    """A report: one that the log has, or one that somebody has in a file.

    Attributes:
        event_id: of the report.
        report: what it says.
        timestamp: of the event; None where it has none.
        log_sequence: where it is in the log; None for a file.
        matched: how it was answered.
    """

    event_id: str
    report: AccountReported
    timestamp: str | None
    log_sequence: int | None = None
    matched: bool | None = None


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What a report says of an account's books, and what may have caused the differences.

    Attributes:
        account_id: whose.
        event_id, report_log_sequence, as_of, through, source: of the report.
        sequence_number, log_sequence: of the state that it was compared with; null for none.
        matches, reason, differences, differences_total, not_compared: as in an answer.
        last_match: log sequence of the last report before it that matched.
        causes: possible ones, what explains most first.
        repair: events that would make the books say what the report says; none is booked.
        repaired: whether they would, tried on the books in memory; null where none is needed.
    """

    account_id: str
    event_id: str
    report_log_sequence: int | None
    as_of: str
    through: str | None
    source: str
    sequence_number: int | None
    log_sequence: int | None
    matches: bool | None
    reason: str | None
    differences: tuple[Difference, ...]
    differences_total: int
    not_compared: tuple[str, ...]
    last_match: int | None
    causes: tuple[Cause, ...]
    repair: tuple[dict[str, Any], ...]
    repaired: bool | None


class _Read(msgspec.Struct, frozen=True, kw_only=True):
    """The history of an account: what each message did, the facts it ended with, and reports."""

    happenings: list[Happening]
    reports: list[KnownReport]
    released: dict[int, int]
    facts: list[tuple[int, bytes]]
    last: int


async def examine(
    nc: Client,
    shape: LogShape,
    account_id: str,
    given: KnownReport | None,
    when: When | None = None,
    *,
    actor: str,
    progress: Progress | None = None,
) -> Examination:
    """Compare a report with the account's books and look for what may have caused a difference.

    Args:
        nc: connection; only read.
        shape: of the log.
        account_id: whose.
        given: the report; None for the last that the log has.
        when: state to compare with; None for that after the report's `through`, else for the
            state that the report met, of a file's for the present.
        actor: in whose name the repairing events would be.
        progress: told how far the log is read.

    Raises:
        NoReportKnownError: there is no report.
        UnknownStreamError, NoSuchPlaceError: the account had no such state.
    """
    read = await _read(nc, shape, account_id, progress)
    known = given or (read.reports[-1] if read.reports else None)
    if known is None:
        raise NoReportKnownError(
            f"nobody reported about {account_id}: give a FILE with an AccountReported, or publish "
            "one"
        )
    place = await _place(nc, shape, account_id, known, when, read)
    if place is None:
        return _examined(account_id, known, None, None)
    books, older, time = await _fold_to(nc, shape, account_id, known.report, place, read, progress)
    if known.timestamp is None:
        known = msgspec.structs.replace(known, timestamp=log_time(time))
    return _judge(books, account_id, known, read, place, older, actor)


async def _fold_to(
    nc: Client,
    shape: LogShape,
    account_id: str,
    report: AccountReported,
    place: int,
    read: _Read,
    progress: Progress | None,
) -> tuple[Books, Happening | None, int]:
    """Return the books at a place, what led to the last state equal to the report, and the time."""
    books, time = shape.books(), 0
    older: Happening | None = None
    by_place = {happening.log_sequence: happening for happening in read.happenings}
    async for replayed in refold_stream(
        nc, books, account_id, place, marks=(), emit="nothing", progress=progress
    ):
        at, time = replayed.message.log_sequence, replayed.message.time
        account = books.accounts.get(account_id)
        if account is None or not replayed.result.placements or at not in by_place:
            continue
        if compare(report, holdings_of(account), books.market.instruments).matches:
            older = by_place[at]
    return books, older, time


def _judge(
    books: Books,
    account_id: str,
    known: KnownReport,
    read: _Read,
    place: int,
    older: Happening | None,
    actor: str,
) -> Examination:
    """Return what the books at a place say to the report."""
    account = books.accounts.get(account_id) or Account(account_id, books.market)
    holdings = holdings_of(account)
    comparison = compare(known.report, holdings, books.market.instruments)
    number = account.delivery.version
    if comparison.matches:
        return _examined(account_id, known, comparison, (number, place))
    before = known.log_sequence or place + 1
    matched = [r.log_sequence for r in read.reports if r.matched and r.log_sequence]
    last_match = max((at for at in matched if at < before), default=None)
    causes = find_causes(
        comparison.differences,
        [h for h in read.happenings if _is_open(h, read.released, place)],
        place=place,
        matched_at=last_match or 0,
        currency=account.ledger.currency,
        older=older,
    )
    lines = repair_lines(
        account_id,
        known.report,
        comparison,
        holdings,
        report_id=known.event_id,
        timestamp=known.timestamp or log_time(0),
        actor=actor,
    )
    repaired = account.delivery.status == "open" and repairs_all(
        books, account_id, lines, known.report
    )
    return msgspec.structs.replace(
        _examined(account_id, known, comparison, (number, place)),
        last_match=last_match,
        causes=tuple(causes[:_CAUSES_MAX]),
        repair=tuple(lines),
        repaired=repaired,
    )


def _examined(
    account_id: str,
    known: KnownReport,
    comparison: Comparison | None,
    at: tuple[int, int] | None,
) -> Examination:
    report = known.report
    return Examination(
        account_id=account_id,
        event_id=known.event_id,
        report_log_sequence=known.log_sequence,
        as_of=report.as_of,
        through=report.through,
        source=report.source,
        sequence_number=at[0] if at else None,
        log_sequence=at[1] if at else None,
        matches=comparison.matches if comparison else None,
        reason=None if comparison else THROUGH_NOT_LAST,
        differences=comparison.differences if comparison else (),
        differences_total=len(comparison.differences) if comparison else 0,
        not_compared=comparison.not_compared if comparison else (),
        last_match=None,
        causes=(),
        repair=(),
        repaired=None,
    )


async def _place(
    nc: Client,
    shape: LogShape,
    account_id: str,
    known: KnownReport,
    when: When | None,
    read: _Read,
) -> int | None:
    """Return the log sequence of the state that a report is about; None where it is not booked."""
    if when is not None:
        return place_at(await read_until(nc, shape, account_id, when), when).folded_at
    if known.report.through is None:
        return known.log_sequence or read.last
    name = known.report.through
    found = [at for at, fact in read.facts if is_named(fact, name)]
    if not found:
        return None
    # The last one before other facts: what came behind it and moved nothing counts, too.
    later = [at for at, fact in read.facts if at > found[-1]]
    return later[0] - 1 if later else read.last


async def _read(nc: Client, shape: LogShape, account_id: str, progress: Progress | None) -> _Read:
    books, last = shape.books(), await last_log_sequence(nc)
    read = _Read(happenings=[], reports=[], released={}, facts=[], last=last)
    held: Mapping[str, Decimal] = {}
    async for replayed in refold_stream(
        nc, books, account_id, last, marks=(), emit="payloads", progress=progress
    ):
        if replayed.message.stream_id is None:
            continue
        account = books.accounts.get(account_id)
        after = _figures(account) if account else {}
        read.happenings.append(_happening(replayed, _changes(held, after)))
        held = after
        at = replayed.message.log_sequence
        read.released.update((p.log_sequence, at) for p in replayed.result.placements)
        if account and (not read.facts or read.facts[-1][1] != account.delivery.last_fact):
            read.facts.append((at, account.delivery.last_fact))
        if replayed.result.outcome is Outcome.COMPARED:
            read.reports.append(_known(replayed))
    return read


def _known(replayed: Replayed) -> KnownReport:
    envelope = decode_envelope(replayed.message.data)
    answers = [
        published.payload["matches"]
        for published in replayed.result.payloads
        if published.kind == "reconciliation.reported"
    ]
    codec = registry.report_codec_for(envelope)
    return KnownReport(
        event_id=envelope.event_id,
        report=cast("AccountReported", codec.decode(envelope.payload)),
        timestamp=envelope.timestamp,
        log_sequence=replayed.message.log_sequence,
        matched=answers[-1],
    )


def _figures(account: Account) -> dict[str, Decimal]:
    """Return quantities and sizes by what a difference calls them."""
    holdings = holdings_of(account)
    assets = {f"assets.{asset}": held for asset, held in holdings.assets.items()}
    sizes = {
        f"positions.{position_key(*key)}.size": held.size
        for key, held in holdings.positions.items()
    }
    return {**assets, **sizes}


def _changes(before: Mapping[str, Decimal], after: Mapping[str, Decimal]) -> dict[str, Decimal]:
    names = sorted({**before, **after})
    moves = {n: subtract_wide(after.get(n, ZERO), before.get(n, ZERO)) for n in names}
    return {name: move for name, move in moves.items() if move}


def _happening(replayed: Replayed, changes: Mapping[str, Decimal]) -> Happening:
    message, result = replayed.message, replayed.result
    envelope, payload = None, None
    try:
        envelope = decode_envelope(message.data)
        payload = decode_untyped(envelope.payload)
    except ContractError:
        pass
    placed = [placement.number for placement in result.placements]
    return Happening(
        log_sequence=message.log_sequence,
        sequence_number=placed[-1] if placed else result.sequence_number,
        event_id=envelope.event_id if envelope else None,
        event_type=envelope.event_type if envelope else None,
        outcome=result.outcome.value,
        reason=result.reason,
        changes=changes,
        payload=payload or {},
    )


def _is_open(happening: Happening, released: Mapping[int, int], place: int) -> bool:
    """Return whether a message that waited at first had not been released by then."""
    if happening.outcome not in ("parked", "held", "blocked"):
        return True
    return released.get(happening.log_sequence, place + 1) > place
