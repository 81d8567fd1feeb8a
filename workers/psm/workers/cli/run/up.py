"""`psm up`: everything on this machine, NATS and PostgreSQL included."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter, validators

from psm.adapters import telemetry
from psm.adapters.embedded import refuse_in_production
from psm.contracts.errors import ConfigError
from psm.workers.cli.shared.output import say
from psm.workers.local.supervisor import Addresses, LocalPlan, Supervisor
from psm.workers.process.config import load_settings
from psm.workers.process.running import Announcement, announced, state_folder

# NATS where every client looks for it, HTTP where `psm serve` is; PostgreSQL beside its usual
# port, where this machine may well run one.
NATS_PORT, HTTP_PORT, POSTGRES_PORT = 4222, 8004, 15432
_LAST_PORT = 65535

Port = Annotated[int | None, Parameter(validator=validators.Number(gte=0, lte=_LAST_PORT))]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where the servers of `psm up` listen, on loopback."""

    port: Annotated[
        Port, Parameter(help="Ports from here on: NATS, HTTP, PostgreSQL; 0 takes free ones.")
    ] = None
    nats_port: Annotated[Port, Parameter(help=f"Port of NATS; default {NATS_PORT}.")] = None
    http_port: Annotated[Port, Parameter(help=f"Port of the API; default {HTTP_PORT}.")] = None
    postgres_port: Annotated[
        Port, Parameter(help=f"Port of PostgreSQL; default {POSTGRES_PORT}.")
    ] = None

    def chosen(self) -> dict[str, int]:
        """Return the ports by their names; 0 for a free one."""
        given = {
            "nats_port": self.nats_port,
            "http_port": self.http_port,
            "postgres_port": self.postgres_port,
        }
        usual = [NATS_PORT, HTTP_PORT, POSTGRES_PORT]
        if self.port is not None:
            usual = [self.port + index if self.port else 0 for index in range(3)]
        ports = {
            name: port if own is None else own
            for (name, own), port in zip(given.items(), usual, strict=True)
        }
        if max(ports.values()) > _LAST_PORT:
            raise ConfigError(f"--port {self.port}: three ports follow, so choose one below 65534")
        return ports


USUAL_PORTS = Ports()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Extras:
    """What `psm up` runs where it is wanted."""

    marks: Annotated[
        bool | None,
        Parameter(help="Also sample marketdata.ticker.* into marks; default PSM_MARKS."),
    ] = None
    risk: Annotated[
        bool | None,
        Parameter(help="Also decide on orders of risk groups; default PSM_RISK."),
    ] = None


NO_EXTRAS = Extras()


def default_data_dir() -> Path:
    """Return where state is kept unless another folder is named."""
    return (state_folder(os.environ) or Path("~/.local/state").expanduser()) / "psm"


def up(
    *,
    data_dir: Annotated[
        Path | None, Parameter(help="Folder of all state; default ~/.local/state/psm.")
    ] = None,
    workers: Annotated[int, Parameter(help="Worker processes; they share the partitions.")] = 1,
    partitions: Annotated[
        int | None,
        Parameter(
            help="Partitions of a new log, 1 to 1024; default PSM_PARTITIONS.",
            validator=validators.Number(gte=1, lte=1024),
        ),
    ] = None,
    ports: Ports = USUAL_PORTS,
    sync: Annotated[
        bool,
        Parameter(
            name="--sync",
            negative="--no-sync",
            help="Write to disk before acknowledging; --no-sync is for experiments only.",
        ),
    ] = True,
    extras: Extras = NO_EXTRAS,
    verbose: Annotated[
        bool, Parameter(negative="", help="Logs of all parts on stderr, not in DATA_DIR/logs.")
    ] = False,
) -> int:
    """Run servers, workers, projector, archive and API until a signal; ingest is on.

    Prints one JSON line on stdout when everything is ready. Other commands of this user find what
    runs by themselves; `psm env` says where it is to other programs.
    """
    settings = load_settings(find_up=False)
    refuse_in_production(settings.env)
    telemetry.logs.configure(settings.log_level if verbose else "warning", settings.log_format)
    folder = (data_dir or default_data_dir()).expanduser().absolute()
    plan = LocalPlan(
        data_dir=folder,
        workers=workers,
        partitions=settings.partitions if partitions is None else partitions,
        **ports.chosen(),
        sync=sync,
        log_dir=None if verbose else folder / "logs",
        marks=settings.marks if extras.marks is None else extras.marks,
        risk=settings.risk if extras.risk is None else extras.risk,
        analytics=settings.analytics,
    )
    return asyncio.run(run(plan))


def announcement(addresses: Addresses, plan: LocalPlan) -> Announcement:
    """Return what commands of this user are to find."""
    return Announcement(
        **msgspec.structs.asdict(addresses), partitions=plan.partitions, pid=os.getpid()
    )


async def run(plan: LocalPlan) -> int:
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
    _tell("Starting NATS, PostgreSQL, workers, projector, archive and API ...")
    try:
        async with Supervisor(plan) as running:
            with announced(announcement(running.addresses, plan)) as found:
                sys.stdout.write(msgspec.json.encode(running.addresses).decode() + "\n")
                sys.stdout.flush()
                _tell(_ready(plan, found=found))
                await running.wait()
    except asyncio.CancelledError:
        if not told.is_set():
            raise
    return 0


def _tell(text: str) -> None:
    """Say something to the person at the terminal, if there is one."""
    if sys.stderr.isatty():
        say(text, sys.stderr)


def _ready(plan: LocalPlan, *, found: bool) -> str:
    logs = f"Logs are in {plan.log_dir}. " if plan.log_dir else ""
    if not found:
        return f"Ready. {logs}Another psm up runs, and commands find that one: set NATS_URL, too."
    return (
        f"Ready. {logs}Ctrl-C stops.\n"
        "In another terminal: psm publish FILE, psm state ACCOUNT, psm tail, psm top, psm env"
    )
