"""`psm views`: how far the views are, and making them anew from the log."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
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
from psm.projections.schema.shadow import RowDifference
from psm.workers.cli.operate.view_certificates import show_certificates
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.cli.shared.stages import Stages
from psm.workers.ops.keys import load_private
from psm.workers.ops.principal import principal
from psm.workers.process.config import Settings, load_settings
from psm.workers.projector.certificate import certified
from psm.workers.projector.lag import PartitionLag, view_lag
from psm.workers.projector.rebuild import Rebuild, RebuildReport
from psm.workers.projector.retry import Retry, RetryReport
from psm.workers.projector.verify import VerifyReport, ViewVerification

app = App(name="views", help="Show the lag of the views and stale keys, and make views anew.")
app.command(show_certificates, name="certificates")

_COLUMNS = (
    "projection", "partition", "checkpoint", "last_sequence", "log_sequence", "lag_events", "lag_s",
    "stale",
)  # fmt: skip
SAMPLE_DEFAULT = 20
_RETRY_COLUMNS = ("stream_id", "log_sequence", "updates", "stale")
# Comparing every row of a large view is one statement.
_STATEMENT_S = 3600.0


class _Author(msgspec.Struct, frozen=True, kw_only=True):
    """Who rebuilds, why, and with which signature."""

    actor: str
    reason: str
    key: Ed25519PrivateKey | None


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
    key: Annotated[
        Path | None, Parameter(help="Private key (PEM, mode 0600) that signs the certificate.")
    ] = None,
    actor: Annotated[
        str | None, Parameter(help="You, by pseudonym; default PSM_ACTOR or your own.")
    ] = None,
    reason: Annotated[str, Parameter(help="Why, for the record.")] = "rebuild",
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Make a view again beside the live one, compare, and swap; exit 1 if rows differ.

    `current_state` and `analytics` from the log, `risk` and `rulebook` from their streams and the
    archive. The live view serves until the swap. A difference stops the swap unless it is accepted.
    Unless it is a dry run, OPS keeps a certificate of it: `psm views certificates`.
    """
    _require(name)
    by = (
        None
        if dry_run
        else _Author(
            actor=actor or principal(),
            reason=reason,
            key=None if key is None else load_private(key),
        )
    )
    report = asyncio.run(
        _rebuild(load_settings(), name, output, accept=accept_differences, author=by)
    )
    _print(report, output, dry_run=dry_run)
    if by is not None and by.key is None:
        output.note("the certificate in OPS is not signed: give --key")
    wrong = report.rows_differ or report.diverged
    return int(bool(wrong) and not report.swapped)


@app.command
def verify(
    name: Annotated[str, Parameter(help="Projection to verify.")] = CURRENT_STATE.name,
    /,
    *,
    sample: Annotated[
        int | None, Parameter(help=f"How many accounts to fold; {SAMPLE_DEFAULT} if not given.")
    ] = None,
    every: Annotated[
        bool, Parameter(name="--all", negative="", help="Make all rows of the view again.")
    ] = False,
    seed: Annotated[int | None, Parameter(help="Choose the accounts of an earlier run.")] = None,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Compute rows of a view again and compare them bit by bit; exit 1 if one differs.

    The live view is not changed. Of `current_state` and `analytics` accounts of the log are folded
    again, some or `--all`; what follows from a stream of its own is read again as a whole.
    """
    _require(name)
    if sample is not None and (every or sample < 1):
        raise ConfigError("--sample takes a number from 1, and stands without --all")
    whole = every or PROJECTIONS[name].source.rebuilt_from != "log"
    if whole and (sample is not None or seed is not None):
        raise ConfigError(f"{name} is verified as a whole: leave out --sample and --seed")
    chosen = None if whole else (sample or SAMPLE_DEFAULT)
    seed = secrets.randbelow(2**32) if seed is None else seed
    report = asyncio.run(_verify(load_settings(), name, output, chosen, seed))
    _print_verified(report, output)
    return int(not report.agrees)


def _require(name: str) -> None:
    if name not in PROJECTIONS:
        raise ConfigError(f"there is no projection {name!r}; there is {', '.join(PROJECTIONS)}")


def _of_accounts(settings: Settings) -> Iterable[Projection]:
    """Return the projections of which one account can be folded alone."""
    there = kept(analytics=settings.analytics, year_days=settings.year_days).values()
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
        for name in ("differences", "diverged", "boundaries", "before", "after"):
            del document[name]
        document["stale"] = len(report.stale)
    output.document(document)
    _print_differences(report.differences, report.diverged, output)
    for entry in report.stale if output.format == "table" else ():
        output.note(_told(entry))
    if not report.compared:
        output.note("the live view could not be compared with the log")
    if not report.swapped and not dry_run:
        output.note("nothing was swapped; if the log is right, add --accept-differences")


def _print_verified(report: VerifyReport, output: Output) -> None:
    document = msgspec.to_builtins(report) | {"agrees": report.agrees}
    if output.format == "table":
        del document["differences"], document["diverged"]
        if report.accounts is not None:
            document["accounts"] = len(report.accounts)
    output.document(document)
    _print_differences(report.differences, report.diverged, output)
    if not report.compared:
        output.note("the live view could not be compared with the log")


def _print_differences(
    differences: Iterable[RowDifference], diverged: Iterable[str], output: Output
) -> None:
    for place in differences if output.format == "table" else ():
        key = "/".join(place.key.values())
        output.note(
            f"{place.table} {key} {place.column or 'row'}: "
            f"live {place.live}, rebuilt {place.rebuilt}"
        )
    for text in diverged:
        output.note(text)


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
            if projection is not CURRENT_STATE:  # which nobody may follow
                chosen = [one for one in chosen if await retrying.has_begun(one)]
            reports += [await retrying.run(stream_id) for stream_id in chosen]
        return reports


async def _rebuild(
    settings: Settings, name: str, output: Output, *, accept: bool, author: _Author | None
) -> RebuildReport:
    async with _servers(settings) as (nc, pool):
        await check(nc, settings)
        with Stages(output) as shown:

            def progress(partition: int, position: int, last: int) -> None:
                shown(f"partition {partition}: sequence", position, last)

            projection = kept(year_days=settings.year_days)[name]
            rebuilding = Rebuild(
                nc,
                pool,
                projection,
                partitions=settings.partitions,
                slots=settings.valuation_slots,
                market=settings.market_rules,
                progress=progress,
            )
            if author is None:
                return await rebuilding.run(accept_differences=accept, dry_run=True)
            report, _ = await certified(
                nc,
                rebuilding,
                projection,
                author.key,
                actor=author.actor,
                reason=author.reason,
                accept_differences=accept,
            )
            return report


async def _verify(
    settings: Settings, name: str, output: Output, count: int | None, seed: int
) -> VerifyReport:
    async with _servers(settings) as (nc, pool):
        await check(nc, settings)
        verification = ViewVerification(
            nc,
            pool,
            kept(year_days=settings.year_days)[name],
            partitions=settings.partitions,
            slots=settings.valuation_slots,
            market=settings.market_rules,
        )
        with Stages(output) as shown:
            if count is None:
                return await verification.everything(
                    lambda partition, at, end: shown(f"partition {partition}: sequence", at, end)
                )
            return await verification.sample(
                count, seed, lambda _, at, end: shown("accounts", at, end)
            )


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
