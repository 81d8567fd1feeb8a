"""`psm recover`: guided ways on after a loss, with a plan first and a record of who did it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream.streams import FLEET
from psm.adapters.jetstream.streams_apply import check
from psm.contracts.errors import ConfigError
from psm.contracts.subjects import PSM, TRADES
from psm.workers.cli.shared.connections import broker
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.cli.shared.process import chosen_partitions
from psm.workers.cli.shared.replayer import Actor, Approval, Replayer
from psm.workers.ops.approval import Action
from psm.workers.process.config import Settings, load_settings
from psm.workers.repair import log as log_recovery
from psm.workers.repair import partition as partition_recovery
from psm.workers.repair import updates as updates_recovery
from psm.workers.repair.log import LogPlan
from psm.workers.repair.partition import PartitionPlan
from psm.workers.repair.updates import UpdatesPlan

app = App(
    name="recover",
    help="Ways on after a loss. Each prints its plan first, and refuses when in doubt. "
    "Try it with --dry-run; see 'A damaged log' in docs/runbook.md for which one to run.",
)

_INCOMPLETE = 1
_STATEMENT_S = 3600.0
_COLUMNS = ("partition", "loss", "committed", "known", "then")

Reason = Annotated[str | None, Parameter(help="Why; it is kept in the stream OPS for ever.")]
DryRun = Annotated[bool, Parameter(negative="", help="Show what would happen; write nothing.")]


@app.command
def partition(
    partitions: Annotated[str, Parameter(help="Partitions, such as 3 or 0-7,9; or all.")],
    /,
    *,
    reason: Reason = None,
    actor: Actor = None,
    approval: Approval = None,
    dry_run: DryRun = False,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Sign off that PSM lost updates of these partitions, while the log is whole.

    The log is read, folded and compared with all heads in PostgreSQL first. The worker that starts
    next on such a partition publishes the same updates again, with the same ids and bytes.
    """
    settings = load_settings()
    every = tuple(range(settings.partitions))
    chosen = every if partitions == "all" else chosen_partitions(partitions, settings, every)
    who = _who(settings, "recover-partition", actor, reason, approval, dry_run=dry_run)
    asyncio.run(_partition(settings, chosen, who, output))


@app.command
def updates(
    *,
    reason: Reason = None,
    actor: Actor = None,
    approval: Approval = None,
    dry_run: DryRun = False,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Create a lost stream PSM, behind every message of the old one that PostgreSQL knows.

    Then run `psm recover partition all`. A PSM that holds messages is never removed; this refuses.
    """
    settings = load_settings()
    who = _who(settings, "recover-updates", actor, reason, approval, dry_run=dry_run)
    asyncio.run(_updates(settings, who, output))


@app.command
def log(
    *,
    from_archive: Annotated[
        bool, Parameter(negative="", help="From the table `events`; the only source there is.")
    ] = False,
    reason: Reason = None,
    actor: Actor = None,
    approval: Approval = None,
    dry_run: DryRun = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Append what the log lost at its end from the archive: same places, same bytes.

    Stop every publisher and worker first. Exit code 1 if more is lost than the archive has.
    """
    if not from_archive:
        raise ConfigError("say where from: psm recover log --from-archive")
    settings = load_settings()
    who = _who(settings, "recover-log", actor, reason, approval, dry_run=dry_run)
    return asyncio.run(_log(settings, who, output))


def _who(
    settings: Settings,
    action: Action,
    actor: str | None,
    reason: str | None,
    approval: str | None,
    *,
    dry_run: bool,
) -> Replayer | None:
    """Return who recovers; None for a dry run, which anybody may do."""
    if dry_run:
        return None
    if not (reason or "").strip():
        raise ConfigError("a recovery needs --reason; it is recorded in OPS. Or try --dry-run")
    return Replayer(settings, actor, reason, approval, action)


async def _partition(
    settings: Settings, chosen: tuple[int, ...], who: Replayer | None, output: Output
) -> None:
    async with _servers(settings) as (nc, pool):
        await check(nc, settings)
        with output.progress("audit") as bar:
            plans = await partition_recovery.plan(
                nc, pool, settings, chosen, lambda _, at, to: bar.total(to)
            )
        output.rows(map(_row, plans), _COLUMNS)
        signs = [plan.sign_off for plan in plans if plan.sign_off is not None]
        if not signs:
            output.note("PSM lost nothing that PostgreSQL knows of; nothing is to be done")
            return
        if who is None:
            output.note(f"{len(signs)} partitions; nothing was signed off (--dry-run)")
            return
        for sign in signs:
            async with who.recorded(nc, msgspec.to_builtins(sign)):
                await partition_recovery.require_unchanged(nc, pool, sign)
        output.note(
            f"{len(signs)} partitions are signed off. Now start the workers (one that shows "
            "`stopped` must be restarted). When they are ready: `psm views rebuild "
            "--accept-differences`, then `psm audit`"
        )


async def _updates(settings: Settings, who: Replayer | None, output: Output) -> None:
    async with _servers(settings) as (nc, pool):
        await check(nc, settings, [TRADES, FLEET])
        plan: UpdatesPlan = await updates_recovery.plan(nc, pool)
        output.document(msgspec.structs.asdict(plan))
        if who is None:
            output.note("nothing was created (--dry-run)")
            return
        what = {"kind": "recover updates", **msgspec.to_builtins(plan)}
        async with who.recorded(nc, what):
            await updates_recovery.create(nc, settings, plan)
        output.note(f"{PSM} begins at {plan.first_sequence}; now run `psm recover partition all`")


async def _log(settings: Settings, who: Replayer | None, output: Output) -> int:
    async with _servers(settings) as (nc, pool):
        await check(nc, settings, [TRADES, FLEET])
        plan: LogPlan = await log_recovery.plan(nc, pool, settings)
        output.document(msgspec.structs.asdict(plan))
        if plan.lost:
            output.note(
                f"{plan.lost} messages are in neither log nor archive, the first at log sequence "
                f"{max(plan.log_ends, plan.archive_ends) + 1}: workers will refuse to start. See "
                "'A damaged log' in docs/runbook.md before anything is published"
            )
        if not plan.messages:
            output.note("the archive has nothing behind the log's end; nothing is to be done")
        elif who is None:
            output.note(f"{plan.messages} messages; nothing was appended (--dry-run)")
        else:
            await _append(nc, pool, plan, who, output)
        return _INCOMPLETE if plan.lost else 0


async def _append(
    nc: Client, pool: postgres.Pool, plan: LogPlan, who: Replayer, output: Output
) -> None:
    what = {"kind": "recover log", "source": "archive", **msgspec.to_builtins(plan)}
    async with who.recorded(nc, what) as run:
        with output.progress("append", plan.messages) as bar:
            run.result_hash = await log_recovery.append(nc, pool, plan, bar.advance)
    output.note(
        f"{plan.messages} messages have their places again, up to log sequence "
        f"{plan.archive_ends}. Their time of storing is new. Now start the workers, then run "
        "`psm audit`"
    )


def _row(plan: PartitionPlan) -> dict[str, object]:
    return {name: getattr(plan, name) for name in _COLUMNS}


@asynccontextmanager
async def _servers(settings: Settings) -> AsyncIterator[tuple[Client, postgres.Pool]]:
    async with broker(settings, "psm-recover") as nc:
        pool = await postgres.open_pool(
            settings.require_postgres_dsn(),
            name="psm-recover",
            size_max=2,
            command_timeout_s=_STATEMENT_S,
        )
        try:
            yield nc, pool
        finally:
            pool.terminate()
