"""`psm slo`: the objectives, and whether what was recorded meets them."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import Annotated

import msgspec
from cyclopts import Parameter

from psm.contracts.errors import ConfigError
from psm.workers.access.durations import duration
from psm.workers.access.policy import PolicyError
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.doctor.objectives import SloRow, report
from psm.workers.doctor.prometheus import Prometheus
from psm.workers.doctor.recorded import Kept, Scrape
from psm.workers.process.running import find_running

_COLUMNS = ("objective", "met", "p50", "p99", "p999", "goal", "reached", "count", "about")


def slo(
    *,
    since: Annotated[
        str | None, Parameter(help="How far back, such as 1h or 30d; asks a Prometheus.")
    ] = None,
    over: Annotated[str | None, Parameter(help="Measure so long from now on, such as 60s.")] = None,
    prometheus: Annotated[str | None, Parameter(help="Address of a Prometheus that scrapes.")] = (
        None
    ),
    metrics: Annotated[
        tuple[str, ...],
        Parameter(negative="", help="Address of a process's metrics; the ones of `psm up` else."),
    ] = (),
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Show each objective: p50, p99 and p999 in ms, or availability; met or not; exit 1 if missed.

    From the histograms of the processes, since each of them began, or --over the next seconds; with
    --prometheus --since of the time before. A quantile lies between two bounds of its histogram, so
    it is a guess; `reached`, the share within the goal, is exact where the goal is a bound.
    """
    if prometheus is None and since is not None:
        raise ConfigError("processes know no past before they began: --since needs --prometheus")
    if prometheus is not None:
        back = _span(since or "1h")
        rows = asyncio.run(report(Kept(Prometheus(prometheus), int(back.total_seconds()))))
        about = f"the last {since or '1h'}, from {prometheus}"
    else:
        addresses, token = _addresses(metrics)
        rows, about = asyncio.run(_scraped(addresses, token, over))
    output.rows(map(msgspec.structs.asdict, rows), _COLUMNS)
    output.note(f"measured: {about}")
    if prometheus is None:
        output.note(_honesty())
    return int(any(row.met is False for row in rows))


def _addresses(given: tuple[str, ...]) -> tuple[tuple[str, ...], str | None]:
    """Return where metrics are, and with which token."""
    if given:
        return given, os.environ.get("PSM_TOKEN")
    up = find_running(os.environ)
    if up is None or not up.metrics:
        raise ConfigError("no `psm up` runs here: name --metrics addresses, or a --prometheus")
    return tuple(up.metrics.values()), up.admin_token


async def _scraped(
    addresses: tuple[str, ...], token: str | None, over: str | None
) -> tuple[list[SloRow], str]:
    found = await Scrape.of(addresses, token)
    about = "since each process began"
    if over is not None:
        await asyncio.sleep(_span(over).total_seconds())
        found = (await Scrape.of(addresses, token)).since(found)
        about = f"the last {over}"
    about = f"{about}, of {len(addresses) - len(found.missing)} processes"
    if found.missing:
        about = f"{about}; {'; '.join(found.missing.values())}"
    return await report(found), about


def _span(text: str) -> timedelta:
    try:
        return duration(text)
    except PolicyError as error:
        raise ConfigError(str(error)) from error


def _honesty() -> str:
    return (
        f"one machine of {os.cpu_count()} processors, which broker, database and all processes "
        "share: what is missed here may be met where each has its own, and what is met here has "
        "no network and no replica in it"
    )
