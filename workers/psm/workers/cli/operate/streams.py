"""`psm streams`: create, check and show the JetStream streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from cyclopts import App
from nats.aio.client import Client

from psm.adapters.jetstream import StreamNotFoundError, connect, stream_info
from psm.adapters.jetstream.streams import desired, metadata
from psm.adapters.jetstream.streams_apply import Change, compare, replicas_not_current
from psm.adapters.jetstream.streams_apply import apply as apply_streams
from psm.adapters.jetstream.streams_apply import check as check_streams
from psm.contracts.errors import ConfigError
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.process.config import load_settings
from psm.workers.process.settings import Settings

app = App(name="streams", help="Create and check the JetStream streams.")

_CHANGE_COLUMNS = ("stream", "field", "action", "actual", "desired", "detail")
_STATUS_COLUMNS = ("stream", "verdict", "messages", "first", "last", "bytes", "replicas", "leader")


@app.command
def apply(*, dry_run: bool = False, output: Output = DEFAULT_OUTPUT) -> int:
    """Create what is missing and strengthen what is weaker; never shrinks, never weakens.

    Args:
        dry_run: only show what would be done; exit 1 if something would be refused.
        output: how to print.
    """
    changes = asyncio.run(_apply(load_settings(), dry_run=dry_run))
    output.rows(map(_row, changes), _CHANGE_COLUMNS)
    if not changes:
        output.note("The streams are as PSM needs them; nothing to do.")
    elif dry_run:
        output.note(f"{len(changes)} changes; nothing was done (--dry-run).")
    return int(any(change.action == "refuse" for change in changes))


@app.command
def check(*, output: Output = DEFAULT_OUTPUT) -> None:
    """Check the streams as a worker does at its start, and that their replicas are current.

    Shows the constants of the log, which never change.

    Exit 2 naming every weakness, and every replica that is not current for 30 seconds.
    """
    settings = load_settings()
    names = asyncio.run(_check(settings))
    output.document({"ok": True, "streams": len(names), **metadata(settings)})


@app.command
def status(*, output: Output = DEFAULT_OUTPUT) -> int:
    """Show every stream: what it holds, and whether it is as strong as PSM needs it."""
    rows = asyncio.run(_status(load_settings()))
    output.rows(rows, _STATUS_COLUMNS)
    return int(any(row["verdict"] != "ok" for row in rows))


async def _apply(settings: Settings, *, dry_run: bool) -> list[Change]:
    async with _connected(settings) as nc:
        return await apply_streams(nc, settings, dry_run=dry_run)


async def _check(settings: Settings) -> list[str]:
    names = [config["name"] for config in desired(settings)]
    async with _connected(settings) as nc:
        await check_streams(nc, settings, names)
        behind = await replicas_not_current(nc, names)
        if behind:
            raise ConfigError("\n  - ".join(["replicas are not current:", *behind]))
    return names


async def _status(settings: Settings) -> list[dict[str, Any]]:
    async with _connected(settings) as nc:
        found = await compare(nc, settings)
        return [await _stream(nc, name, changes) for name, changes in found.items()]


async def _stream(nc: Client, name: str, changes: Sequence[Change]) -> dict[str, Any]:
    try:
        info = await stream_info(nc, name)
    except StreamNotFoundError:
        return {"stream": name, "verdict": "missing"}
    weaker = [change.field for change in changes if change.weaker]
    return {
        "stream": name,
        "verdict": f"weaker: {', '.join(weaker)}" if weaker else "ok",
        "messages": info.messages,
        "first": info.first_sequence,
        "last": info.last_sequence,
        "bytes": info.bytes_stored,
        "deleted": info.deleted,
        "replicas": info.config.get("num_replicas"),
        "leader": info.leader,
    }


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[Client]:
    nc = await connect(**settings.nats_options(), name="psm-streams")
    try:
        yield nc
    finally:
        await nc.close()


def _row(change: Change) -> Mapping[str, Any]:
    creates = change.action == "create"
    return {
        "stream": change.stream,
        "field": change.field,
        "action": change.action,
        "actual": change.actual,
        "desired": None if creates else change.desired,
        "detail": "the stream does not exist" if creates else change.detail,
    }
