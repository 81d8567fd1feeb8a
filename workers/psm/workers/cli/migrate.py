"""`psm migrate`: bring the database schema up to date."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from psm.projections import migrate
from psm.workers.cli.output import DEFAULT_OUTPUT, Output
from psm.workers.config import load_settings

app = App(name="migrate", help="Bring the database schema up to date.")


@app.command
def up(
    *,
    dry_run: Annotated[
        bool, Parameter(name="--dry-run", negative="", help="Only say what would be applied.")
    ] = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Apply the migrations that are missing; safe to run any number of times, also at once."""
    dsn = load_settings().require_postgres_dsn()
    names = asyncio.run(migrate.migrate(dsn, dry_run=dry_run))
    state = "pending" if dry_run else "applied"
    output.rows(({"migration": name, "state": state} for name in names), ("migration", "state"))
    if not names:
        output.note("the schema is up to date")
    return 0


@app.command
def status(*, output: Output = DEFAULT_OUTPUT) -> int:
    """Show every migration; exit 1 if one is missing or a file was changed."""
    dsn = load_settings().require_postgres_dsn()
    found = asyncio.run(migrate.status(dsn))
    output.rows((msgspec.structs.asdict(row) for row in found), ("name", "state", "applied_at"))
    return int(any(row.state in {"pending", "changed"} for row in found))


@app.command
def roles() -> None:
    """Print the SQL that makes roles which may add to the event archive, or read it."""
    sys.stdout.write(migrate.roles_sql())
