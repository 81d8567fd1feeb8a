"""`psm migrate`: bring the database schema up to date."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from psm.contracts.errors import ConfigError
from psm.projections.schema import migrate
from psm.projections.schema.roles import LOGINS, Login, apply_roles, login_of, roles_sql
from psm.workers.access.first import take_bootstrap
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.cli.shared.told_ops import tell_ops
from psm.workers.process.config import load_settings

_BOOTSTRAP = "PSM_HTTP_BOOTSTRAP_TOKEN_FILE"

app = App(name="migrate", help="Bring the database schema up to date.")


@app.command
def up(
    *,
    dry_run: Annotated[
        bool, Parameter(name="--dry-run", negative="", help="Only say what would be applied.")
    ] = False,
    roles: Annotated[
        bool, Parameter(name="--roles", negative="", help="Make the roles and logins, too.")
    ] = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Apply the migrations that are missing; safe to run any number of times, also at once.

    With --roles every part of PSM gets a role that may do what it must (see `psm migrate roles`).
    A login is made, or given its password, for each of POSTGRES_WORKER_DSN, POSTGRES_PROJECTOR_DSN,
    POSTGRES_ARCHIVER_DSN, POSTGRES_API_DSN, POSTGRES_IMPORTER_DSN and POSTGRES_OPERATOR_DSN that is
    set, as a variable or as a file named by the variable with _FILE: the very address that the part
    will use. Whose password was replaced is recorded in OPS, by NATS_URL's user `operator` or
    `admin`. PSM_HTTP_BOOTSTRAP_TOKEN_FILE names the file of the very first token, see `psm token`.
    """
    dsn = load_settings().require_postgres_dsn()
    logins = _logins() if roles else {}
    names = asyncio.run(migrate.migrate(dsn, dry_run=dry_run))
    state = "pending" if dry_run else "applied"
    output.rows(({"migration": name, "state": state} for name in names), ("migration", "state"))
    if not names:
        output.note("the schema is up to date")
    if not dry_run:
        _take_bootstrap(dsn, output)
    if roles:
        replaced = [] if dry_run else asyncio.run(apply_roles(dsn, logins))
        made = ", ".join(f"{login.user} ({part})" for part, login in logins.items())
        output.note(f"roles {'to be made' if dry_run else 'made'}; logins: {made or 'none given'}")
        if replaced:
            tell_ops({"kind": "passwords", "logins": replaced}, output)
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
    """Print the SQL that makes the roles: who may write or read the views and the archive."""
    sys.stdout.write(roles_sql())


def _take_bootstrap(dsn: str, output: Output) -> None:
    """Take in the very first token, where the environment names one."""
    file = os.environ.get(_BOOTSTRAP)
    if file:
        taken = asyncio.run(take_bootstrap(dsn, Path(file)))
        output.note(f"bootstrap token {taken} taken" if taken else "bootstrap token not needed")


def _logins() -> dict[str, Login]:
    """Return the logins that the environment asks for, by part."""
    found: dict[str, Login] = {}
    for part in LOGINS:
        variable = f"POSTGRES_{part.upper()}_DSN"
        dsn = os.environ.get(variable, "")
        if file := os.environ.get(f"{variable}_FILE"):
            try:
                dsn = Path(file).read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"{variable}_FILE: {file} cannot be read") from error
        if dsn:
            found[part] = login_of(part, dsn)
    return found
