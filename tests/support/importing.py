"""Imports in memory: what files say, planned for an account, folded, compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from tests.support.domain import Log
from tests.support.events import Sent

from psm.contracts.drafts import draft_of
from psm.workers.imports.comparison import ImportComparison, compare_files
from psm.workers.imports.facts import Found, VenueInstrument
from psm.workers.imports.known import Known
from psm.workers.imports.mapping import Mapping as MappingFile
from psm.workers.imports.plan import ImportPlan, Owner, opening_event, ordered, plan
from psm.workers.imports.reading import Format, read_files
from psm.workers.imports.run import definition

RECORDS = Path(__file__).parent.parent / "unit" / "imports" / "records"
PSEUDONYM = UUID("7c1f6a90-0000-4000-8000-000000000001")
ACCOUNT = "acc"


def record(name: str) -> Path:
    """Return the path of a file of public records."""
    return RECORDS / name


def written(folder: Path, name: str, document: Any) -> Path:
    """Write a file; text as it is, anything else as JSON."""
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def owner_of(venue: str, currency: str) -> Owner:
    """Return an owner with a pseudonym that is the same in every test."""
    return Owner(account=ACCOUNT, venue=venue, pseudonym=PSEUDONYM, currency=currency)


def read(form: Format, *paths: Path, mapping: MappingFile | None = None) -> Found:
    """Return what files say; nothing may be wrong with them."""
    found = read_files(form, paths, mapping)
    assert found.errors == []
    return found


def planned(
    found: Found,
    owner: Owner,
    known: Known | None = None,
    instruments: Mapping[str, VenueInstrument] | None = None,
) -> ImportPlan:
    """Return the plan of what files say; a pseudonym is the identity in brackets."""
    given = known or Known(owner.currency)
    return plan(found.facts, owner, given, instruments or found.instruments, lambda n: f"<{n}>")


def folded(found: Found, owner: Owner, *first: Mapping[str, Any]) -> tuple[Log, ImportComparison]:
    """Fold what files say behind other events; return the log and the comparison."""
    log = Log()
    steps = planned(found, owner)
    opening = opening_event(owner, 0, steps.new[0].fact.place).event
    symbols = {one.fact.payload.get("symbol", "") for one in steps.new} & found.instruments.keys()
    for symbol in sorted(symbols):
        _append(log, definition(found.instruments[symbol].payload()), 1)
    events: list[Mapping[str, Any]] = [opening, *first, *(one.event for one in steps.new)]
    for number, event in enumerate(events, 1):
        _append(log, event, number)
    facts = ordered(found.facts, owner)
    return log, compare_files(found, facts, log.account(ACCOUNT), owner.venue)


def _append(log: Log, event: Mapping[str, Any], number: int) -> None:
    draft = draft_of(msgspec.json.encode(event))
    seen = log.when(Sent(subject=draft.subject, data=draft.with_number(number)))
    assert seen.outcome == "applied", (event, seen.reason)


def amounts(plan_: ImportPlan) -> Sequence[tuple[str, str]]:
    """Return type and first number of each planned event."""
    names = ("amount", "funding_payment", "quantity")
    return [
        (
            one.event["event_type"],
            next(one.event["payload"][n] for n in names if n in one.event["payload"]),
        )
        for one in plan_.new
    ]
