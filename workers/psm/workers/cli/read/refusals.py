"""`psm refusals`: messages that changed nothing, and why."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from psm.contracts.errors import ConfigError
from psm.contracts.reasons import REASONS
from psm.workers.archive.reads import LIMIT_DEFAULT, LIMIT_MAX
from psm.workers.archive.refusals import (
    ListedRefusal,
    RefusalFilter,
    RefusalPage,
)
from psm.workers.cli.read.events import reading
from psm.workers.cli.shared.http import remote
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.process.config import load_settings
from psm.workers.process.times import utc_time

_COLUMNS = ("at", "account", "reason", "number", "type", "log", "source_service", "event_id")


def refusals(
    account: Annotated[
        str | None, Parameter(help="Only of this account, or of this symbol of marks.")
    ] = None,
    /,
    *,
    since: Annotated[
        str | None,
        Parameter(
            help="Only since then: 15m, 24h, 7d, a date or a time.", allow_leading_hyphen=True
        ),
    ] = None,
    reason: Annotated[str | None, Parameter(help="Only with this code.")] = None,
    before: Annotated[int | None, Parameter(help="Where the page before ended.")] = None,
    limit: Annotated[int, Parameter(help=f"How many at most, 1 to {LIMIT_MAX}.")] = LIMIT_DEFAULT,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """List messages that changed nothing, the newest first: conflicts, refusals, rejections.

    A refused event keeps its number and changes nothing else; the others have no number at all:
    what they meant to say is not in the books.
    """
    if not 1 <= limit <= LIMIT_MAX:
        raise ConfigError(f"--limit {limit}: choose 1 to {LIMIT_MAX}")
    if reason is not None and reason not in REASONS:
        raise ConfigError(f"--reason {reason}: there is no such code; see docs/reasons.md")
    wanted = RefusalFilter(
        account_id=account,
        reason=reason,
        since=None if since is None else msgspec.convert(utc_time(since), datetime, strict=False),
        before=before,
        limit=limit,
    )

    page = asyncio.run(_page(wanted))
    if output.format != "table":
        output.rows((msgspec.to_builtins(one) for one in page.refusals), ())
    elif page.refusals:
        output.rows(map(_row, page.refusals), _COLUMNS)
        for code in dict.fromkeys(one.reason for one in page.refusals):
            output.note(f"{code}: {REASONS[code].meaning}")
        output.note("`psm events --from-sequence N` and -o json tell the rest")
    else:
        output.note("no such refusals")
    if page.next_before is not None:
        output.note(f"there are more: --before {page.next_before}")


async def _page(wanted: RefusalFilter) -> RefusalPage:
    there = remote()
    if there is None:
        async with reading(load_settings()) as archive:
            return await archive.refusals(wanted)
    since = wanted.since
    body = there.read(
        "/psm/refusals",
        account=wanted.account_id,
        since=None if since is None else since.isoformat().replace("+00:00", "Z"),
        reason=wanted.reason,
        before=wanted.before,
        limit=wanted.limit,
    )
    return msgspec.json.decode(body, type=RefusalPage)


def _row(one: ListedRefusal) -> dict[str, Any]:
    """Return what a table shows."""
    return {
        "at": one.refused_at.strftime("%m-%d %H:%M:%S"),
        "account": one.account_id,
        "number": one.sequence_number,
        "type": one.event_type,
        "reason": one.reason,
        "log": one.log_sequence,
        "source_service": one.source_service,
        "event_id": one.event_id,
    }
