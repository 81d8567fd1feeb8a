"""`psm export`: a part of the log in a file, with the hashes it must give again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from psm.contracts.errors import ConfigError
from psm.workers.cli.shared.connections import check_account, checked_log
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.log.shape import log_shape
from psm.workers.process.config import Settings, load_settings
from psm.workers.replay.bundle import Manifest, export_bundle, manifest_of

log = App(name="log", help="Export the log; `psm export` is the same.")


def export(
    account: Annotated[
        str | None, Parameter(help="Whose events, with all that decides its state; else all.")
    ] = None,
    /,
    *,
    to: Annotated[Path, Parameter(help="File to write; .gz compresses. Must not exist.")],
    last: Annotated[int | None, Parameter(help="Log sequence to end with.")] = None,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Write a bundle that gives the same hashes anywhere, offline: `psm replay --file`.

    Its lines are read by `psm fold` too. The manifest beside it has the hash of every account.
    """
    if account is not None:
        check_account(account)
    if last is not None and last < 1:
        raise ConfigError("--last must be a log sequence, 1 or more")
    if to.exists():
        raise ConfigError(f"{to} exists; choose another name or remove it")
    manifest = asyncio.run(_export(load_settings(), account, to, last, output))
    document = msgspec.to_builtins(manifest)
    document["accounts"] = len(document.pop("heads"))
    output.document({"file": str(to), "manifest": str(manifest_of(to)), **document})


log.command(export)


async def _export(
    settings: Settings, account: str | None, path: Path, last: int | None, output: Output
) -> Manifest:
    async with checked_log(settings, "psm-export") as nc:
        with output.following(f"exporting to {path.name}") as reached:
            return await export_bundle(
                nc, log_shape(settings), path, account=account, last=last, progress=reached
            )
