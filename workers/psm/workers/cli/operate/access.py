"""`psm access`: who may see an account over HTTP, and what another `access.toml` would change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import App, Parameter

from psm.workers.access.issuers import AccessFile, access_of, read_access_file
from psm.workers.access.policy import Resource, actions_of, checked, patterns_cover
from psm.workers.cli.shared.http import service
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.process.config import load_settings

app = App(name="access", help="Say who may see what, now and by another access.toml.")

_SEES = ("how", "key", "principal", "roles", "patterns", "actions", "expires_at")
_CHANGES = ("change", "issuer", "value", "roles", "patterns", "actions")

Granted = dict[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...]]]
"""Issuer and value of its claim, `certificate` and its URI -> roles and patterns."""


@app.command
def report(
    account: Annotated[str, Parameter(name="ACCOUNT")], /, *, output: Output = DEFAULT_OUTPUT
) -> int:
    """Show who may see an account: by tokens that hold, and by what issuers may say of somebody."""
    found = service().ask("GET", f"/access/report/{quote(account, safe='')}")
    output.rows(found["sees"], _SEES)
    output.note("users of NATS and logins of PostgreSQL see every account: docs/security.md")
    return 0


@app.command
def plan(
    file: Annotated[Path, Parameter(name="FILE", help="The access.toml that might be.")],
    /,
    *,
    account: Annotated[
        tuple[str, ...], Parameter(negative="", help="Only what covers this account; repeat it.")
    ] = (),
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Check another access.toml, and show what it would give and take; nothing is changed.

    It is compared with that of PSM_ACCESS_FILE. Exit code 2 where it cannot be.
    """
    now, then = _granted(access_of(load_settings().access_file)), _granted(read_access_file(file))
    rows = [
        row
        for key in sorted({*now, *then})
        for row in _changes(key, now.get(key), then.get(key))
        if not account
        or any(patterns_cover(row["patterns"], Resource("account", name)) for name in account)
    ]
    output.rows(rows, _CHANGES)
    if not rows:
        output.note("nothing would change" + (" for these accounts" if account else ""))
    output.note("a service reads its file when it starts")
    return 0


def _granted(access: AccessFile) -> Granted:
    granted = {
        (issuer.iss, value): grant
        for issuer in access.issuer
        for value, grant in issuer.grants.items()
    }
    granted |= {("certificate", grant.uri): grant for grant in access.certificate}
    return {
        named: checked("x", grant.roles, grant.patterns)[1:] for named, grant in granted.items()
    }


def _changes(
    key: tuple[str, str],
    now: tuple[tuple[str, ...], tuple[str, ...]] | None,
    then: tuple[tuple[str, ...], tuple[str, ...]] | None,
) -> list[dict[str, Any]]:
    """Return what is taken and what is given instead."""
    if now == then:
        return []
    return [
        {
            "change": change,
            "issuer": key[0],
            "value": key[1],
            "roles": list(rights[0]),
            "patterns": list(rights[1]),
            "actions": list(actions_of(rights[0])),  # type: ignore[arg-type]
        }
        for change, rights in (("taken", now), ("given", then))
        if rights is not None
    ]
