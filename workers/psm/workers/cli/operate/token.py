"""`psm token`: who may ask over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
from cyclopts import App, Parameter

from psm.contracts.errors import ConfigError
from psm.projections.schema.migrate import connected
from psm.workers.access.durations import duration
from psm.workers.access.policy import PolicyError
from psm.workers.access.store import add_token
from psm.workers.access.tokens import new_token, write_token
from psm.workers.cli.shared.http import service
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.cli.shared.told_ops import tell_ops
from psm.workers.ops.principal import principal as acting
from psm.workers.process.config import load_settings

app = App(name="token", help="Make, list, renew and end tokens for the HTTP API.")

_PATH = "/access/tokens"
_COLUMNS = ("id", "principal", "roles", "patterns", "expires_at", "last_used_at", "revoked_at")

Patterns = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=False)]


@app.command
def create(
    *,
    principal: Annotated[str, Parameter(help="Whom it stands for, such as svc/risk-desk.")],
    role: Annotated[
        tuple[str, ...],
        Parameter(negative="", help="viewer, risk, auditor, ingest, operator, approver, admin."),
    ],
    account: Annotated[Patterns, Parameter(help="Accounts: a name, desk-*, or *.")] = (),
    symbol: Annotated[Patterns, Parameter(help="Symbols, whose marks it may append.")] = (),
    group: Annotated[Patterns, Parameter(help="Risk groups.")] = (),
    stream: Annotated[Patterns, Parameter(help="Streams of the broker, in the archive.")] = (),
    person: Annotated[
        bool, Parameter(negative="", help="It stands for a person, not for a service.")
    ] = False,
    expires: Annotated[str, Parameter(help="How long it holds, at most 90d.")] = "90d",
    as_owner: Annotated[
        bool,
        Parameter(negative="", help="Write it with POSTGRES_DSN: where no administrator is left."),
    ] = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Make a token; it is shown this once. Nobody gives more than they have."""
    kinds = {"account": account, "symbol": symbol, "group": group, "stream": stream}
    patterns = tuple(
        "*" if name == "*" else f"{kind}:{name}" for kind, names in kinds.items() for name in names
    )
    wanted: dict[str, Any] = {
        "principal": principal,
        "kind": "person" if person else "service",
        "roles": role,
        "patterns": patterns,
        "expires": expires,
    }
    made = _as_owner(wanted) if as_owner else service().ask("POST", _PATH, wanted)
    output.document(made)
    if as_owner:
        told = {name: made[name] for name in ("id", "principal", "roles", "patterns")}
        tell_ops({"kind": "token", **told}, output, reason="made with the owner's own address")
    output.note("keep it: only its hash is stored. Callers send Authorization: Bearer TOKEN")
    return 0


@app.command(name="list")
def list_tokens(
    *,
    every: Annotated[
        bool, Parameter(name="--all", negative="", help="Those that ended, too.")
    ] = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """List the tokens, without their secrets, which are nowhere."""
    found = service().ask("GET", _PATH + ("?all=true" if every else ""))
    output.rows(found["tokens"], _COLUMNS)
    return 0


@app.command
def rotate(
    token_id: Annotated[str, Parameter(name="ID")],
    *,
    overlap: Annotated[str, Parameter(help="How long the old one still holds.")] = "7d",
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Make a new token with the same rights; the old one ends after the overlap."""
    made = service().ask("POST", f"{_PATH}/{quote(token_id, safe='')}/rotate", {"overlap": overlap})
    output.document(made)
    return 0


@app.command
def revoke(
    token_id: Annotated[str, Parameter(name="ID")], *, output: Output = DEFAULT_OUTPUT
) -> int:
    """End a token; every replica refuses it within seconds."""
    output.document(service().ask("DELETE", f"{_PATH}/{quote(token_id, safe='')}"))
    return 0


@app.command
def bootstrap(
    file: Annotated[Path, Parameter(name="FILE")], *, output: Output = DEFAULT_OUTPUT
) -> int:
    """Write the very first token into a new file, for PSM_HTTP_BOOTSTRAP_TOKEN_FILE.

    `psm migrate up` takes its hash into the database. It makes tokens and does nothing else, for a
    day or until the first administrator's token is made.
    """
    token_id, token, _ = new_token()
    write_token(file, token)
    output.document({"id": token_id, "file": str(file)})
    return 0


def _as_owner(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Write a token with the owner's own address; `created_by` and OPS say who did it."""
    dsn = load_settings().require_postgres_dsn()
    return asyncio.run(_written(dsn, wanted, f"owner/{acting()}"))


async def _written(dsn: str, wanted: Mapping[str, Any], by: str) -> dict[str, Any]:
    kind: Literal["person", "service"] = wanted["kind"]
    async with connected(dsn) as connection, connection.transaction():
        try:
            record, token = await add_token(
                connection,
                principal=wanted["principal"],
                kind=kind,
                roles=wanted["roles"],
                patterns=wanted["patterns"],
                life=duration(wanted["expires"]),
                created_by=by,
            )
        except PolicyError as error:
            raise ConfigError(str(error)) from error
    shown = record.shown(datetime.now(UTC))
    document: dict[str, Any] = msgspec.to_builtins({**shown, "token": token})
    return document
