"""Messages of the log that changed nothing: conflicts, refusals, rejections, stale repeats.

A producer that does not ask for the outcome of its events finds here what became of them. The
rows are PSM's own `EventRefused` updates, archived for ever, with what the event said of itself.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from psm.adapters import postgres
from psm.projections.names import ALL_NAMES, Names
from psm.projections.sql import load

_QUERY = load("psm.projections.archive", "reads")["refusals"]


class RefusalFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Choice of refusals to list; None does not restrict.

    Attributes:
        account_id: the subject's token: an account, or the symbol of a mark or instrument.
        reason: stable code, such as `sequence_conflict`.
        since: log time of the oldest.
        before: `psm_sequence` of the last one of the page before.
        accounts: those that the reader may see.
        limit: how many at most.
    """

    account_id: str | None = None
    reason: str | None = None
    since: datetime | None = None
    before: int | None = None
    accounts: Names = ALL_NAMES
    limit: int


class ListedRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """One message that changed nothing.

    Attributes:
        refused_at: log time of the message whose folding decided it.
        account_id: the subject's token: an account, or the symbol of a mark or instrument.
        outcome: rejected, conflict, stale or refused; a refused event keeps its place.
        reason: stable code.
        detail: in words.
        field: path of the offending field; None where it is about the whole event.
        subject: on which it came.
        event_id, event_type, sequence_number, source_service: as the message says; None where it
            does not, or is not archived yet.
        log_sequence: of the message.
        folded_log_sequence: of the message whose folding decided it.
        psm_sequence: of the update `EventRefused` in the stream PSM.
        archive_sequence: of the message.
    """

    refused_at: datetime
    account_id: str
    outcome: str
    reason: str
    detail: str
    field: str | None
    subject: str | None
    event_id: str | None
    event_type: str | None
    sequence_number: int | None
    source_service: str | None
    log_sequence: int
    folded_log_sequence: int
    psm_sequence: int
    archive_sequence: int | None


class RefusalPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some refusals.

    Attributes:
        refusals: the newest first.
        next_before: `before` of the next page; None at the end.
    """

    refusals: list[ListedRefusal]
    next_before: int | None


async def read_refusals(pool: postgres.Pool, wanted: RefusalFilter) -> RefusalPage:
    """Return a page of refusals.

    Raises:
        TransientError: PostgreSQL is away.
    """
    async with postgres.acquired(pool) as connection:
        found = await connection.fetch(
            _QUERY,
            wanted.account_id,
            wanted.reason,
            wanted.since,
            wanted.before,
            wanted.limit + 1,
            wanted.accounts.likes(),
        )
    listed = []
    for row in found[: wanted.limit]:
        columns = dict(row)
        columns["account_id"] = columns.pop("stream_id")
        columns["refused_at"] = columns["refused_at"].astimezone(UTC)
        listed.append(ListedRefusal(**columns))
    more = len(found) > wanted.limit
    return RefusalPage(refusals=listed, next_before=listed[-1].psm_sequence if more else None)
