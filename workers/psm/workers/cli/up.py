"""`psm up`: everything on this machine, NATS and PostgreSQL included."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from psm.adapters import telemetry
from psm.workers.config import load_settings
from psm.workers.up.supervisor import Plan, Supervisor


def default_data_dir() -> Path:
    """Return where state is kept unless another folder is named."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "psm"


def up(
    *,
    data_dir: Annotated[
        Path | None, Parameter(help="Folder of all state; default ~/.local/state/psm.")
    ] = None,
    workers: Annotated[int, Parameter(help="Worker processes; they share the partitions.")] = 1,
    partitions: Annotated[
        int | None, Parameter(help="Partitions of a new log; default PSM_PARTITIONS.")
    ] = None,
    nats_port: Annotated[int, Parameter(help="Port of NATS; 0 takes a free one.")] = 0,
    postgres_port: Annotated[int, Parameter(help="Port of PostgreSQL; 0 takes a free one.")] = 0,
    http_port: Annotated[int, Parameter(help="Port of the read API; 0 takes a free one.")] = 0,
    sync: Annotated[
        bool,
        Parameter(
            name="--sync",
            negative="--no-sync",
            help="Write to disk before acknowledging; --no-sync is for experiments only.",
        ),
    ] = True,
    marks: Annotated[
        bool | None,
        Parameter(help="Also sample marketdata.ticker.* into marks; default PSM_MARKS."),
    ] = None,
) -> int:
    """Run servers, workers, projector, archive and API until a signal; ingest is on.

    Prints one JSON line on stdout when everything is ready. Logs go to stderr.
    """
    settings = load_settings()
    telemetry.logs.configure(settings.log_level, settings.log_format)
    plan = Plan(
        data_dir=data_dir or default_data_dir(),
        workers=workers,
        partitions=partitions or settings.partitions,
        nats_port=nats_port,
        postgres_port=postgres_port,
        http_port=http_port,
        sync=sync,
        marks=settings.marks if marks is None else marks,
    )
    return asyncio.run(run(plan))


async def run(plan: Plan) -> int:
    """Run a plan in the foreground until a signal; return 0 after a clean stop."""
    main = asyncio.current_task()
    assert main is not None
    told = asyncio.Event()

    def stop() -> None:
        # Also in the middle of starting. Once only: the stop itself must not be interrupted, and
        # it is bounded.
        if not told.is_set():
            told.set()
            main.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        async with Supervisor(plan) as running:
            sys.stdout.write(msgspec.json.encode(running.addresses).decode() + "\n")
            sys.stdout.flush()
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        if not told.is_set():
            raise
    return 0
