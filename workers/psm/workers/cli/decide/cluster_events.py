"""`psm risk clusters show|verify|publish`: the clusters that the rulebook has."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from psm.analytics.documents import exact_document
from psm.contracts.rulebook_events import ClustersDefined
from psm.workers.cli.shared.connections import broker
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.ops.keys import key_id, load_private
from psm.workers.ops.principal import principal
from psm.workers.process.config import load_settings
from psm.workers.risk.clusters_job import (
    ClusterDifference,
    publish_clusters,
    recorded_clusters,
    verify_clusters,
)
from psm.workers.risk.rulebook import Said, read_rulebook

_DIFFERS = 1
Version = Annotated[int | None, Parameter(help="Of the clusters; the newest if not given.")]


def show(version: Version = None, /, *, output: Output = DEFAULT_OUTPUT) -> None:
    """Show the clusters that decisions are made with, or those of a version."""

    async def run() -> ClustersDefined:
        async with broker(load_settings(), "psm-risk") as nc:
            return (await recorded_clusters(nc, version))[0]

    output.document(exact_document(asyncio.run(run())))


def verify(version: Version = None, /, *, output: Output = DEFAULT_OUTPUT) -> int:
    """Compute recorded clusters again from the marks of the log; exit code 1 if they differ."""

    async def run() -> tuple[ClustersDefined, list[ClusterDifference]]:
        async with broker(load_settings(), "psm-risk") as nc:
            event, before = await recorded_clusters(nc, version)
            return event, await verify_clusters(nc, event, before)

    event, differences = asyncio.run(run())
    document: dict[str, Any] = {
        "version": event.version,
        "as_of_day": event.as_of_day,
        "symbols": len(event.symbols),
        "equal": not differences,
        "differences": [exact_document(one) for one in differences],
    }
    output.document(document)
    return _DIFFERS if differences else 0


def publish(
    *,
    key: Annotated[Path, Parameter(help="Ed25519 private key with the right to publish.")],
    actor: Annotated[str | None, Parameter(help="Default: the holder of the key.")] = None,
    reason: Annotated[str, Parameter(help="Why; kept for ever.")] = "daily clusters",
    benchmark: Annotated[
        str | None, Parameter(help="Symbol of the betas; the first if not given.")
    ] = None,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Say the clusters of the last complete UTC day, from the log; nothing if that was done.

    For a daily job after midnight, UTC. It may run again, and in several places: a day is said
    once.
    """
    private = load_private(key)

    async def run() -> Said | None:
        async with broker(load_settings(), "psm-risk") as nc:
            who = actor
            if who is None:
                held = (await read_rulebook(nc)).rulebook.keys.held
                holder = held.get(key_id(private.public_key()))
                who = principal() if holder is None else holder.holder
            return await publish_clusters(nc, private, who, reason, benchmark)

    said = asyncio.run(run())
    if said is None:
        output.note("nothing new: the last complete day was said already, or there is none")
        return 0
    ruled = said.ruled
    output.document(
        {"outcome": ruled.outcome, "sequence": said.stored.sequence or None, "hash": ruled.hash}
    )
    if ruled.outcome == "refused":
        output.failure(f"refused: {ruled.reason}: {ruled.detail}; nothing written")
        return _DIFFERS
    return 0
