"""`psm top`: partitions, their rates and lags, refreshed while one looks on."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter, validators
from nats.aio.client import Client

from psm.adapters import postgres
from psm.contracts.errors import TransientError
from psm.projections.current_state import CURRENT_STATE
from psm.workers.cli.shared.connections import broker, database
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.fleet.pace import FleetPace
from psm.workers.process.config import Settings, load_settings
from psm.workers.projector.lag import view_lag

_COLUMNS = (
    "partition", "state", "events_s", "lag", "lag_s", "view_lag", "view_lag_s", "owner",
)  # fmt: skip


def top(
    *,
    once: Annotated[
        bool, Parameter(negative="", help="Show it once, after one interval, and end.")
    ] = False,
    interval: Annotated[
        float,
        Parameter(help="Seconds between two looks.", validator=validators.Number(gte=0.1)),
    ] = 2.0,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Show each partition's state, rate and lag, again and again until Ctrl-C.

    `lag` and `lag_s`: messages of the log that the partition's worker has not taken in, and the age
    of the oldest; `view_lag`: likewise what the views lack, where a database is known. Rates are of
    the interval.
    """
    asyncio.run(_run(load_settings(), output, interval, once=once))


async def _run(settings: Settings, output: Output, interval_s: float, *, once: bool) -> None:
    async with AsyncExitStack() as stack:
        nc = await stack.enter_async_context(broker(settings, "psm-top"))
        pool = None
        if settings.postgres_dsn is not None:
            pool = await stack.enter_async_context(database(settings))
        pace = FleetPace(nc)
        await pace.look()
        while True:
            await asyncio.sleep(interval_s)
            try:
                rows = await _rows(nc, pool, pace)
            except TransientError as error:  # it may be a restart that one watches
                output.note(str(error))
                continue
            output.clear()
            output.rows(rows, _COLUMNS)
            rate = sum(row["events_s"] or 0 for row in rows)
            behind = sum(row["lag"] for row in rows)
            output.note(f"all: {rate:.1f} events/s, {behind} behind")
            if once:
                return


async def _rows(nc: Client, pool: postgres.Pool | None, pace: FleetPace) -> list[dict[str, Any]]:
    rows = [msgspec.to_builtins(found) for found in await pace.look()]
    if pool is not None:
        lags = {lag.partition: lag for lag in await view_lag(nc, pool, CURRENT_STATE)}
        for row in rows:
            lag = lags.get(row["partition"])
            row["view_lag"] = lag.lag_events if lag else 0
            row["view_lag_s"] = round(lag.lag_s, 3) if lag else 0.0
    return rows
