"""`psm views`: how far the views are, and making them anew from the log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import connect
from psm.adapters.jetstream.streams_apply import check
from psm.contracts.errors import ConfigError
from psm.contracts.subjects import STREAM_ID_RULE, is_stream_id
from psm.projections.current_state import CURRENT_STATE
from psm.projections.projection import Projection
from psm.projections.quarantine import StaleKey
from psm.projections.registry import PROJECTIONS, kept
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.cli.shared.stages import Stages
from psm.workers.process.config import Settings, load_settings
from psm.workers.projector.lag import PartitionLag, view_lag
from psm.workers.projector.rebuild import Rebuild, RebuildReport
from psm.workers.projector.retry import Retry, RetryReport

app = App(name="views", help="Show the lag of the views and stale keys, and make views anew.")

_COLUMNS = (
    "projection", "partition", "checkpoint", "last_sequence", "log_sequence", "lag_events", "lag_s",
    "stale",
)  # fmt: skip
_RETRY_COLUMNS = ("stream_id", "log_sequence", "updates", "stale")
# Comparing every row of a large view is one statement.
_STATEMENT_S = 3600.0


@app.command
def status(*, output: Output = DEFAULT_OUTPUT) -> int:
    """Show checkpoint, end of the stream and lag per partition; exit 1 if a key is stale.

    A key is stale when PostgreSQL cannot hold its last row; each is named with account, number and
    column.
    """
    settings = load_settings()
    lags = asyncio.run(_status(settings))
    table = output.format == "table"
    output.rows((_row(lag, counted=table) for lag in lags), _COLUMNS)
    if not lags:
        output.note("nothing was committed yet")
    stale = [entry for lag in lags for entry in lag.stale]
    for entry in stale:
        output.note(_told(entry))
    if stale:
        output.note("mend what refuses them, then `psm views retry`; of risk `psm views rebuild`")
    return int(bool(stale))


@app.command
def retry(
    account: Annotated[
        str | None, Parameter(help="Account to fold anew; default all that have a stale key.")
    ] = None,
    /,
    *,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Fold accounts with stale keys anew, to where the views are; exit 1 if a key is still stale.

    Only that account's events and the marks are read, and only its rows are replaced.
    """
    if account is not None and not is_stream_id(account):
        raise ConfigError(f"an account id is {STREAM_ID_RULE}")
    reports = asyncio.run(_retry(load_settings(), account))
    output.rows((msgspec.to_builtins(r) | {"stale": len(r.stale)} for r in reports), _RETRY_COLUMNS)
    if not reports:
        output.note("no key is stale")
    for entry in (entry for report in reports for entry in report.stale):
        output.note(_told(entry))
    return int(any(report.stale for report in reports))


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
    """Make a view again beside the live one, compare, and swap; exit 1 if rows differ.

    `current_state` and `analytics` from the log, `risk` and `rulebook` from their streams and the
    archive. The live view serves until the swap. A difference stops the swap unless it is accepted.
    """
    if name not in PROJECTIONS:
        raise ConfigError(f"there is no projection {name!r}; there is {', '.join(PROJECTIONS)}")
    report = asyncio.run(
        _rebuild(load_settings(), name, output, accept=accept_differences, dry_run=dry_run)
    )
    _print(report, output, dry_run=dry_run)
    wrong = report.rows_differ or report.diverged
    return int(bool(wrong) and not report.swapped)


def _of_accounts(settings: Settings) -> Iterable[Projection]:
    """Return the projections of which one account can be folded alone."""
    there = kept(analytics=settings.analytics).values()
    return (one for one in there if one.source.rebuilt_from == "log")


def _row(lag: PartitionLag, *, counted: bool) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(lag)
    row["lag_s"] = round(lag.lag_s, 3)
    if counted:
        row["stale"] = len(lag.stale)
    return row


def _told(entry: StaleKey) -> str:
    return (
        f"{entry.view} {'/'.join(entry.key)}: stale from number {entry.first_sequence_number} of "
        f"{entry.stream_id} on; column {entry.column_name} cannot hold number "
        f"{entry.sequence_number} (SQLSTATE {entry.sqlstate})"
    )


def _print(report: RebuildReport, output: Output, *, dry_run: bool) -> None:
    document = msgspec.to_builtins(report)
    if output.format == "table":
        del document["differences"], document["diverged"]
        document["stale"] = len(report.stale)
    output.document(document)
    for place in report.differences if output.format == "table" else ():
        key = "/".join(place.key.values())
        output.note(
            f"{place.table} {key} {place.column or 'row'}: "
            f"live {place.live}, rebuilt {place.rebuilt}"
        )
    for text in report.diverged:
        output.note(text)
    for entry in report.stale if output.format == "table" else ():
        output.note(_told(entry))
    if not report.compared:
        output.note("the live view could not be compared with the log")
    if not report.swapped and not dry_run:
        output.note("nothing was swapped; if the log is right, add --accept-differences")


async def _status(settings: Settings) -> list[PartitionLag]:
    async with _servers(settings) as (nc, pool):
        return [
            lag
            for projection in kept(analytics=settings.analytics).values()
            for lag in await view_lag(nc, pool, projection)
        ]


async def _retry(settings: Settings, account: str | None) -> list[RetryReport]:
    async with _servers(settings) as (nc, pool):
        await check(nc, settings)
        reports: list[RetryReport] = []
        for projection in _of_accounts(settings):
            retrying = Retry(
                nc,
                pool,
                projection,
                partitions=settings.partitions,
                slots=settings.valuation_slots,
            )
            stale = dict.fromkeys(entry.stream_id for entry in await retrying.stale())
            chosen = list(stale) if account is None else [account]
            reports += [await retrying.run(stream_id) for stream_id in chosen]
        return reports


async def _rebuild(
    settings: Settings, name: str, output: Output, *, accept: bool, dry_run: bool
) -> RebuildReport:
    async with _servers(settings) as (nc, pool):
        await check(nc, settings)
        with Stages(output) as shown:

            def progress(partition: int, position: int, last: int) -> None:
                shown(f"partition {partition}: sequence", position, last)

            rebuilding = Rebuild(
                nc,
                pool,
                PROJECTIONS[name],
                partitions=settings.partitions,
                slots=settings.valuation_slots,
                market=settings.market_rules,
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
