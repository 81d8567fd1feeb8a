"""`psm import`: bring files of a venue into an account."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from psm.workers.cli.shared.connections import check_account, checked_log, database
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.cli.shared.stages import Stages
from psm.workers.imports.facts import Found
from psm.workers.imports.mapping import read_mapping
from psm.workers.imports.plan import Planned
from psm.workers.imports.reading import Format, read_files, venue_of
from psm.workers.imports.run import Asked, Imported, Importer
from psm.workers.log.shape import log_shape
from psm.workers.process.config import load_settings

_EVENT_COLUMNS = ("timestamp", "event_type", "what", "place", "event_id")
_DIFFERENCE_COLUMNS = ("what", "expected", "reported", "difference", "cause")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class _How:
    """How to import.

    Attributes:
        mapping: how rows of CSV become events; see docs/importers.md.
        dry_run: only print what would be appended, and the comparison.
        late: append records that are older than the account's last event, too.
        currency: currency to open the account in, if there is none.
        define: publish the InstrumentDefined that are missing.
        venue_account: number or address of the account, where the files do not say it.
    """

    mapping: Annotated[
        Path | None, Parameter(help="How rows of CSV become events: docs/importers.md.")
    ] = None
    dry_run: Annotated[
        bool, Parameter(negative="", help="Only print what would be appended, and compare.")
    ] = False
    late: Annotated[
        bool, Parameter(negative="", help="Append what is older than the last event, too.")
    ] = False
    currency: Annotated[
        str | None, Parameter(name="--open", help="Currency to open a new account in.")
    ] = None
    define: Annotated[
        bool,
        Parameter(
            name="--define-instruments", negative="", help="Publish definitions that are missing."
        ),
    ] = False
    venue_account: Annotated[
        str | None,
        Parameter(
            help="Its number or address, where the files do not say it; a pseudonym is kept."
        ),
    ] = None


_DEFAULT = _How()


def import_files(
    format_name: Annotated[Format, Parameter(name="FORMAT", help="Of the files.")],
    files: Annotated[list[Path], Parameter(name="FILE", help="JSON, XML or CSV.")],
    /,
    *,
    account: Annotated[str, Parameter(help="Whose events they become.")],
    how: _How = _DEFAULT,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Import files of a venue into an account: each record once, however often it is imported.

    All files are read first; one bad row, and nothing is appended. Then what the account has
    already is left out, the rest appended by the venue's time, and the account compared with the
    balances and positions that the same files report. Doing it again is safe. Exit 1 if a row is
    bad or the comparison finds a difference.
    """
    check_account(account)
    mapped = None if how.mapping is None else read_mapping(how.mapping)
    found = read_files(format_name, files, mapped, how.venue_account)
    if found.errors:
        return _refused(output, found)
    asked = Asked(
        account=account,
        venue=venue_of(format_name, mapped),
        late=how.late,
        currency=how.currency,
        define=how.define,
        dry_run=how.dry_run,
    )
    with Stages(output) as stages:
        imported = asyncio.run(_import(asked, found, stages))
    _print(output, asked, found, imported)
    return int(imported.comparison.matches is False)


def _refused(output: Output, found: Found) -> int:
    for error in found.errors:
        place = error.place
        output.failure(str(error), file=place.file, line=place.line, column=place.column)
    output.note("nothing was appended")
    return 1


async def _import(asked: Asked, found: Found, stages: Stages) -> Imported:
    settings = load_settings()
    async with checked_log(settings, "psm-import") as nc, database(settings) as pool:
        return await Importer(nc, pool, log_shape(settings), asked, stages).run(found)


def _print(output: Output, asked: Asked, found: Found, imported: Imported) -> None:
    comparison = imported.comparison
    document: dict[str, Any] = {
        "account": asked.account,
        "venue": asked.venue,
        "dry_run": asked.dry_run,
        "records": len(found.facts),
        "new": len(imported.plan.new),
        "appended": imported.appended,
        "known": dict(imported.plan.known),
        "repeated": imported.plan.repeated,
        "skipped": dict(found.skipped),
        "instruments": [payload["symbol"] for payload in imported.instruments],
        "matches": comparison.matches,
        "compared": len(comparison.compared),
        "not_compared": comparison.not_compared,
        "reported": comparison.report is not None and not asked.dry_run,
        "as_of": comparison.as_of,
    }
    differences = [msgspec.to_builtins(one) for one in comparison.differences]
    if output.format != "table":
        planned = [one.event for one in imported.plan.new] if asked.dry_run else []
        output.document({**document, "differences": differences, "events": planned})
        return
    if asked.dry_run:
        output.rows(list(map(_shown, imported.plan.new)), _EVENT_COLUMNS)
        output.lines("")
    output.document(document)
    if differences:
        output.lines("")
        output.rows(differences, _DIFFERENCE_COLUMNS)


def _shown(one: Planned) -> dict[str, Any]:
    values = (value for name, value in one.event["payload"].items() if name != "rates")
    return {
        "timestamp": one.event["timestamp"],
        "event_type": one.event["event_type"],
        "what": " ".join(map(str, values)),
        "place": str(one.fact.place),
        "event_id": one.event["event_id"],
    }
