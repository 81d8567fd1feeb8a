"""`psm ops`: the record of replays and rotations, and a second person's approval."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from psm.contracts.errors import ConfigError
from psm.workers.access.digest import AccessDigest, read_digests
from psm.workers.access.issuers import people_of
from psm.workers.cli.shared.connections import broker
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.ops import approval
from psm.workers.ops.journal import StoredRecord, read_records, record_done
from psm.workers.ops.keys import key_id, load_private
from psm.workers.ops.principal import principal
from psm.workers.process.config import load_settings

app = App(name="ops", help="Show the record of replays and recoveries, and approve them.")

_COLUMNS = (
    "sequence", "at", "kind", "run_id", "actor", "approved_by", "reason", "what", "outcome",
    "result_hash",
)  # fmt: skip


@app.command(name="list")
def list_records(*, output: Output = DEFAULT_OUTPUT) -> None:
    """Show who replayed what and why; the chain is verified on the way."""
    rows = [
        {"sequence": s.sequence, "chain_hash": s.chain_hash, **msgspec.to_builtins(s.record)}
        for s in asyncio.run(_records())
    ]
    output.rows(rows, _COLUMNS)
    if not rows:
        output.note("nothing is recorded")


@app.command
def verify(*, output: Output = DEFAULT_OUTPUT) -> None:
    """Verify that no record was altered, taken out or put in; exit 1 naming the first."""
    records, digests = asyncio.run(_records()), asyncio.run(_digests())
    head = records[-1].chain_hash if records else None
    output.document({"records": len(records), "digests": len(digests), "chain_hash": head})


@app.command
def access(*, output: Output = DEFAULT_OUTPUT) -> None:
    """Show who was refused, wrote, exported or read the past over HTTP, by the minute."""
    rows = [
        {
            "since": digest.since,
            "until": digest.until,
            "replica": digest.replica,
            "principal": principal_id,
            "counts": done,
        }
        for digest in asyncio.run(_digests())
        for principal_id, done in digest.counts.items()
    ]
    output.rows(rows, ("since", "until", "replica", "principal", "counts"))


@app.command
def approve(
    *,
    actor: Annotated[str, Parameter(help="Who may do it, by pseudonym.")],
    reason: Annotated[str, Parameter(help="The reason, word by word as it will be given.")],
    key: Annotated[Path, Parameter(help="Your Ed25519 private key (PEM).")],
    action: Annotated[
        approval.Action, Parameter(help="What may be done; a validation is a replay, too.")
    ] = "replay",
    approver: Annotated[
        str | None,
        Parameter(help="You, by pseudonym; default whose key it is."),
    ] = None,
    minutes: Annotated[int, Parameter(help="How long the approval holds.")] = 60,
) -> None:
    """Print an approval token for one action of one person, one reason and a limited time."""
    if not 1 <= minutes <= 1440:
        raise ConfigError("--minutes must be 1 to 1440")
    expires = datetime.now(UTC) + timedelta(minutes=minutes)
    known = people_of(load_settings().access_file).of_key(key_id(load_private(key).public_key()))
    token = approval.approve(
        key,
        approver=approver or known or principal(),
        actor=actor,
        reason=reason,
        action=action,
        expires_at=expires.isoformat(timespec="seconds").replace("+00:00", "Z"),
    )
    print(token)


@app.command
def note(
    reason: Annotated[str, Parameter(name="TEXT", help="What was done, and why.")],
    *,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Record what was done by other means, such as a password that was replaced."""
    actor = principal()
    asyncio.run(_note(actor, reason))
    output.document({"actor": actor, "reason": reason})


@app.command
def whoami(*, output: Output = DEFAULT_OUTPUT) -> None:
    """Show the pseudonym by which records name you; it is made when it is first asked for."""
    output.document({"actor": principal()})


async def _note(actor: str, reason: str) -> None:
    async with broker(load_settings(), "psm-ops") as nc:
        await record_done(nc, {"kind": "note"}, actor=actor, reason=reason)


async def _digests() -> list[AccessDigest]:
    async with broker(load_settings(), "psm-ops") as nc:
        return await read_digests(nc)


async def _records() -> list[StoredRecord]:
    async with broker(load_settings(), "psm-ops") as nc:
        return await read_records(nc)
