"""`psm upgrade`: what going to this release means here, and what going back would."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib.metadata import version

import msgspec
from cyclopts import App

from psm.contracts.errors import TransientError
from psm.domain.snapshot import SNAPSHOT_FORM
from psm.projections.schema import migrate
from psm.projections.schema.migrate import MigrationStatus
from psm.workers.cli.shared.connections import broker
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.fleet.report import fleet_report
from psm.workers.process.config import Settings, load_settings

app = App(name="upgrade", help="Say what an upgrade, or going back, would mean here.")

_COLUMNS = ("check", "ok", "why")


class UpgradeVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is so, and whether it is as it must be.

    Attributes:
        check: `schema`, `rollback`, `snapshots` or `fleet`.
        ok: whether this release can run here.
        why: one line for a person.
    """

    check: str
    ok: bool
    why: str


@app.command
def check(*, output: Output = DEFAULT_OUTPUT) -> int:
    """Compare this release with the database and the fleet, and change nothing.

    Run it in the image to go to, or to go back to. Exit code 1 when it cannot run here as it is.
    """
    answers = asyncio.run(_asked(load_settings()))
    output.rows(map(msgspec.structs.asdict, answers), _COLUMNS)
    return int(not all(answer.ok for answer in answers))


async def _asked(settings: Settings) -> list[UpgradeVerdict]:
    statuses = await migrate.status(settings.require_postgres_dsn())
    try:
        async with broker(settings, "psm-upgrade") as nc:
            found = [member.version for member in (await fleet_report(nc)).members]
    except TransientError as error:
        return [*of_schema(statuses), UpgradeVerdict(check="fleet", ok=False, why=str(error))]
    return [*of_schema(statuses), of_fleet(found, version("portfolio-state-manager"))]


def of_schema(statuses: Sequence[MigrationStatus]) -> list[UpgradeVerdict]:
    """Return what the migrations mean for going on and for going back.

    Args:
        statuses: of every migration that this release or the database has.
    """
    names = {state: [s.name for s in statuses if s.state == state] for state in _STATES}
    changed, pending, unknown = (", ".join(names[state]) for state in _STATES)
    if changed:
        schema = f"{changed}: the file differs from what was applied"
    elif pending:
        schema = f"`psm migrate up` will apply {pending}; they only add, so what runs now goes on"
    else:
        schema = "nothing is to be applied"
    back = (
        f"a newer release applied {unknown}; they only added, so this release runs, without them"
        if unknown
        else "going back to the release before needs no change of the schema: it stays as it is"
    )
    form = (
        f"this release writes form {SNAPSHOT_FORM}; a release that does not know a snapshot's form "
        "or rules reads the log instead, which takes longer and gives the same"
    )
    return [
        UpgradeVerdict(check="schema", ok=not changed, why=schema),
        UpgradeVerdict(check="rollback", ok=True, why=back),
        UpgradeVerdict(check="snapshots", ok=True, why=form),
    ]


def of_fleet(found: Sequence[str], mine: str) -> UpgradeVerdict:
    """Return which releases run now.

    Args:
        found: release of each worker.
        mine: this one.
    """
    others = sorted(set(found) - {mine})
    if not found:
        return UpgradeVerdict(check="fleet", ok=True, why="no worker runs")
    why = f"{len(found)} workers run {', '.join(sorted(set(found)))}; this is {mine}"
    if len(others) > 1 or (others and mine in found):
        why += "; more than one release at once: let it end before the next upgrade"
    return UpgradeVerdict(check="fleet", ok=True, why=why)


_STATES = ("changed", "pending", "unknown")
