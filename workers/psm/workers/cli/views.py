"""`psm views`: how far the views are, and making them anew from the log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import connect
from psm.adapters.jetstream.streams_apply import check
from psm.contracts.errors import ConfigError
from psm.projections.current_state import CURRENT_STATE, PROJECTIONS
from psm.workers.cli.output import DEFAULT_OUTPUT, Output
from psm.workers.config import Settings, load_settings
from psm.workers.rebuild import Rebuild, Report
from psm.workers.view_lag import PartitionLag, view_lag

app = App(name="views", help="Show the lag of the views, and rebuild them.")

_COLUMNS = (
    "projection", "partition", "checkpoint", "last_sequence", "log_sequence", "lag_events", "lag_s",
)  # fmt: skip
# Comparing every row of a large view is one statement.
_STATEMENT_S = 3600.0


@app.command
def status(*, output: Output = DEFAULT_OUTPUT) -> int:
    """Show each projection's checkpoint, the stream's end and the lag, per partition."""
    settings = load_settings()
    lags = asyncio.run(_status(settings))
    output.rows(
        (msgspec.structs.asdict(lag) | {"lag_s": round(lag.lag_s, 3)} for lag in lags), _COLUMNS
    )
    if not lags:
        output.note("nothing was committed yet")
    return 0


@app.command
def rebuild(
    name: Annotated[str, Parameter(help="Projection to make anew.")] = CURRENT_STATE.name,
    /,
    *,
    accept_differences: Annotated[
        bool, Parameter(negative="", help="Swap although rows differ: the log is right.")
    ] = False,
    dry_run: Annotated[
        bool, Parameter(name="--dry-run", negative="", help="Fold and compare, never swap.")
    ] = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Fold the log again beside the live view, compare, and swap; exit 1 if rows differ.

    The live view serves until the swap. A difference stops the swap unless it is accepted.
    """
    if name not in PROJECTIONS:
        raise ConfigError(f"there is no projection {name!r}; there is {', '.join(PROJECTIONS)}")
    report = asyncio.run(
        _rebuild(load_settings(), name, output, accept=accept_differences, dry_run=dry_run)
    )
    _print(report, output, dry_run=dry_run)
    wrong = report.rows_differ or report.diverged
    return int(bool(wrong) and not report.swapped)


def _print(report: Report, output: Output, *, dry_run: bool) -> None:
    document = msgspec.to_builtins(report)
    if output.format == "table":
        del document["differences"], document["diverged"]
    output.document(document)
    for place in report.differences if output.format == "table" else ():
        key = "/".join(place.key.values())
        output.note(
            f"{place.table} {key} {place.column or 'row'}: "
            f"live {place.live}, rebuilt {place.rebuilt}"
        )
    for text in report.diverged:
        output.note(text)
    if not report.compared:
        output.note("the live view could not be compared with the log")
    if not report.swapped and not dry_run:
        output.note("nothing was swapped; if the log is right, add --accept-differences")


async def _status(settings: Settings) -> list[PartitionLag]:
    async with _servers(settings) as (nc, pool):
        return [
            lag
            for projection in PROJECTIONS.values()
            for lag in await view_lag(nc, pool, projection)
        ]


async def _rebuild(
    settings: Settings, name: str, output: Output, *, accept: bool, dry_run: bool
) -> Report:
    async with _servers(settings) as (nc, pool):
        await check(nc, settings)
        with output.progress(f"rebuilding {name}") as bar:
            reached: dict[int, int] = {}

            def progress(partition: int, position: int, last: int) -> None:
                # Partitions are folded one after the other, each over the whole log.
                bar.total(last * settings.partitions)
                bar.advance(position - reached.get(partition, 0))
                reached[partition] = position

            rebuilding = Rebuild(
                nc,
                pool,
                PROJECTIONS[name],
                partitions=settings.partitions,
                valuation_interval_ns=settings.valuation_interval_ms * 1_000_000,
                progress=progress,
            )
            return await rebuilding.run(accept_differences=accept, dry_run=dry_run)


@contextlib.asynccontextmanager
async def _servers(settings: Settings) -> AsyncIterator[tuple[Client, postgres.Pool]]:
    async with contextlib.AsyncExitStack() as stack:
        nc = await connect(name="psm-views", **settings.nats_options())
        stack.push_async_callback(nc.close)
        pool = await postgres.open_pool(
            settings.require_postgres_dsn(),
            name="psm-views",
            size_max=2,
            command_timeout_s=_STATEMENT_S,
        )
        stack.callback(pool.terminate)
        yield nc, pool
