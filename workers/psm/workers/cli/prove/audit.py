"""`psm audit`: is the log whole, and does everything made from it agree?"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated

import msgspec
from cyclopts import Parameter

from psm.adapters import postgres
from psm.adapters.jetstream import connect
from psm.adapters.jetstream.streams_apply import check
from psm.contracts.errors import ConfigError, PSMError
from psm.projections import jobs
from psm.workers.access.vouched import keyring_of
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.cli.shared.process import chosen_partitions
from psm.workers.cli.shared.stages import Stages
from psm.workers.process.config import Settings, load_settings
from psm.workers.proof.audit.findings import AuditReport
from psm.workers.proof.audit.run import Audit, AuditRange

_COLUMNS = (
    "code", "stream", "sequence", "last", "partition", "server", "stream_id", "sequence_number",
    "expected", "found",
)  # fmt: skip
_STATEMENT_S = 3600.0


def audit(
    *,
    from_sequence: Annotated[int, Parameter(help="First log sequence to look at.")] = 1,
    to_sequence: Annotated[
        int | None, Parameter(help="Last log sequence; default the end of the log.")
    ] = None,
    partitions: Annotated[
        str | None, Parameter(help="Partitions to fold again, such as 0-7,9; default all.")
    ] = None,
    replica: Annotated[
        str | None,
        Parameter(
            help="Read the bytes of the replica on this server, or of `all` in turn: each leads "
            "while it is read. Nothing is folded."
        ),
    ] = None,
    server: Annotated[
        str | None,
        Parameter(help="The same of the server at this URL, asked straight."),
    ] = None,
    views: Annotated[
        bool,
        Parameter(negative="--no-views", help="Compare the rows of the views, where all is asked."),
    ] = True,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Read every sequence of the log, fold it again, compare with PSM and PostgreSQL.

    Exit codes: 0 all agrees, 1 there are findings, 2 it could not be done.
    """
    first, last = from_sequence, to_sequence
    if first < 1 or (last is not None and last < first):
        asked = f"--from-sequence {first} --to-sequence {last}"
        raise ConfigError(f"{asked}: a range is ascending and begins at 1")
    if replica is not None and server is not None:
        raise ConfigError("--replica and --server exclude each other")
    settings = load_settings()
    chosen = chosen_partitions(partitions, settings, tuple(range(settings.partitions)))
    with Stages(output) as shown:
        report = asyncio.run(
            _run(
                settings,
                AuditRange(first=first, last=last),
                chosen,
                shown,
                replica=replica,
                server=server,
                views=views,
            )
        )
    _print(report, output)
    return int(bool(report.counts))


async def _run(
    settings: Settings,
    asked: AuditRange,
    chosen: tuple[int, ...],
    progress: Stages,
    *,
    replica: str | None,
    server: str | None,
    views: bool,
) -> AuditReport:
    async with AsyncExitStack() as stack:
        options = settings.nats_options()
        if server is not None:
            options["servers"] = [server]
        nc = await connect(name="psm-audit", **options)
        stack.push_async_callback(nc.close)
        work = Audit(
            nc,
            partitions=settings.partitions,
            slots=settings.valuation_slots,
            asked=asked,
            chosen=chosen,
            progress=progress,
            principals=keyring_of(settings.http_principal_keys),
        )
        await check(nc, settings)
        if server is not None:
            return await work.this_server()
        if replica is not None:
            report = await work.replicas(replica)
            return await _noted(settings, "replica_audit", report, whole=replica == "all")
        pool = None
        if settings.postgres_dsn is not None:
            pool = await _pool(stack, settings.postgres_dsn)
        report = await work.everything(pool, views=views)
        whole = asked == AuditRange() and len(chosen) == settings.partitions
        return await _noted(settings, "audit", report, whole=whole)


async def _pool(stack: AsyncExitStack, dsn: str) -> postgres.Pool:
    pool = await postgres.open_pool(
        dsn, name="psm-audit", size_max=2, command_timeout_s=_STATEMENT_S
    )
    stack.callback(pool.terminate)
    return pool


async def _noted(
    settings: Settings, job: jobs.Job, report: AuditReport, *, whole: bool
) -> AuditReport:
    """Note when the audit was done, for the alarm that one is missing; a part of one is none."""
    if settings.postgres_dsn is None or not whole:
        return report
    try:
        async with AsyncExitStack() as stack:
            pool = await _pool(stack, settings.postgres_dsn)
            async with postgres.acquired(pool) as connection:
                await jobs.record(connection, job, sum(report.counts.values()))
    except PSMError as error:
        report.notes.append(f"that it was done is not noted in PostgreSQL: {error}")
    return report


def _print(report: AuditReport, output: Output) -> None:
    if output.format == "json":
        output.document(msgspec.to_builtins(report))
        return
    findings = [msgspec.structs.asdict(finding) for finding in report.findings]
    if output.format == "jsonl":
        output.rows(findings, ())
        return
    document = msgspec.to_builtins(report)
    for name in ("findings", "counts", "notes"):
        del document[name]
    output.document(document)
    for text in report.notes:
        output.note(text)
    if not findings:
        output.note("everything agrees")
        return
    output.rows(findings, _COLUMNS)
    for code, count in report.counts.items():
        advice = next((f.next for f in report.findings if f.code == code), "")
        output.note(f"{count} x {code}: {advice}")
