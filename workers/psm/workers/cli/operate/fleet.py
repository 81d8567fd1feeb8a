"""`psm fleet`: who is there, who runs which partition, and which partition nobody runs."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from cyclopts import Parameter
from nats.aio.client import Client

from psm.contracts.errors import TransientError
from psm.workers.cli.shared.connections import broker
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.fleet.report import FleetReport, MemberRow, PartitionRow, fleet_report
from psm.workers.process.config import Settings, load_settings

_EXIT_UNOWNED = 1
_WATCH_S = 1.0
_MEMBER_COLUMNS = MemberRow.__struct_fields__
_PARTITION_COLUMNS = PartitionRow.__struct_fields__


def fleet(
    *,
    watch: Annotated[
        bool, Parameter(negative="", help="Show it again every second until Ctrl-C.")
    ] = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Show the workers, and who runs which partition, how far it is and how far behind.

    Positions and lag are what the workers said of themselves at most 3 seconds ago, counted in
    log sequences; `committed` is read from the commit cursor. Exit code 1 if a partition has no
    worker, or one that had to stop.
    """
    return asyncio.run(_run(load_settings(), output, watch=watch))


async def _run(settings: Settings, output: Output, *, watch: bool) -> int:
    async with broker(settings, "psm-fleet") as nc:
        report = await _show(nc, output)
        while watch:
            await asyncio.sleep(_WATCH_S)
            output.clear()
            try:
                report = await _show(nc, output)
            except TransientError as error:  # it may be a restart of the broker that one watches
                output.note(str(error))
    return _EXIT_UNOWNED if report.unowned else 0


async def _show(nc: Client, output: Output) -> FleetReport:
    report = await fleet_report(nc)
    if output.format != "table":
        output.document(msgspec.to_builtins(report))
        return report
    output.rows(map(msgspec.structs.asdict, report.members), _MEMBER_COLUMNS)
    output.rows(map(msgspec.structs.asdict, report.partitions), _PARTITION_COLUMNS)
    if report.unowned:
        numbers = ", ".join(map(str, report.unowned))
        output.note(f"nobody runs: {numbers}. Start `psm worker`, or read why one stopped")
    return report
