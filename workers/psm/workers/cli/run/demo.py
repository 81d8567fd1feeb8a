"""`psm demo`: everything of `psm up`, a live feed from a process of its own, and a table."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.live import Live

from psm.adapters import telemetry
from psm.adapters.embedded import Child, refuse_in_production
from psm.adapters.jetstream import connect
from psm.adapters.terminal import is_plain
from psm.contracts.errors import ConfigError
from psm.workers.cli.run.up import Port, announcement
from psm.workers.cli.shared.connections import broker
from psm.workers.local.board import Board
from psm.workers.local.desk import GROUP, found_desk
from psm.workers.local.feed.market import CURRENCY
from psm.workers.local.feed.overtrader import DESK_ACCOUNT
from psm.workers.local.supervisor import Addresses, LocalPlan, Supervisor
from psm.workers.process.config import load_settings
from psm.workers.process.running import announced

FEED = Path(__file__).parents[2] / "local" / "feed"
ACCOUNTS_MAX = 200
RATE_MAX = 1000.0
_REFRESH_S = 0.5
_SNAPSHOT_EVERY_S = 5.0
_FEED_STOP_S = 10.0
_PIPE_WIDTH = 150
_LINES_AFTER = 5  # what is said below the last table


def demo(
    *,
    seconds: Annotated[
        float | None, Parameter(help="Stop after this long; default runs until Ctrl-C.")
    ] = None,
    data_dir: Annotated[
        Path | None, Parameter(help="Keep the state here; default a folder that is removed.")
    ] = None,
    accounts: Annotated[int, Parameter(help="Accounts that trade.")] = 6,
    rate: Annotated[float, Parameter(help="Events of accounts per second, all together.")] = 20,
    workers: Annotated[int, Parameter(help="Worker processes; they share the partitions.")] = 1,
    nats_port: Annotated[Port, Parameter(help="Port of NATS; default a free one.")] = None,
    postgres_port: Annotated[
        Port, Parameter(help="Port of PostgreSQL; default a free one.")
    ] = None,
    http_port: Annotated[Port, Parameter(help="Port of the read API; default a free one.")] = None,
) -> int:
    """Run everything on this machine with a realistic feed, and show what it does.

    The feed is a process that knows nothing of PSM: a plain NATS client, as your services are.
    """
    if not 1 <= accounts <= ACCOUNTS_MAX:
        raise ConfigError(f"--accounts {accounts}: choose 1 to {ACCOUNTS_MAX}")
    if not 0 < rate <= RATE_MAX:
        raise ConfigError(f"--rate {rate:g}: choose more than 0, at most {RATE_MAX:g}")
    if seconds is not None and not seconds > 0:
        raise ConfigError(f"--seconds {seconds:g}: choose more than 0")
    settings = load_settings(find_up=False)
    refuse_in_production(settings.env)
    # A table is being drawn: the parts log into files, and this process only what went wrong.
    telemetry.logs.configure("error", settings.log_format)
    with _folder(data_dir) as folder:
        plan = LocalPlan(
            data_dir=folder,
            workers=workers,
            partitions=settings.partitions,
            nats_port=nats_port or 0,
            postgres_port=postgres_port or 0,
            http_port=http_port or 0,
            log_dir=folder / "logs",
            risk=True,
        )
        return asyncio.run(_Demo(plan, accounts, rate, seconds).run())


class _Demo:
    """One run of the demo."""

    def __init__(self, plan: LocalPlan, accounts: int, rate: float, seconds: float | None) -> None:
        self._plan = plan
        self._accounts = [f"acc_{number:03}" for number in range(1, accounts + 1)]
        self._rate = rate
        self._seconds = seconds
        self._told = asyncio.Event()
        self._console = Console(
            width=None if sys.stdout.isatty() else _PIPE_WIDTH,
            color_system=None if is_plain() else "auto",
        )

    async def run(self) -> int:
        """Run until a signal or the end of the time; return 0 after a clean stop."""
        main = asyncio.current_task()
        assert main is not None
        ready = False

        def stop() -> None:
            if not self._told.is_set():
                self._told.set()
                if not ready:
                    main.cancel()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        self._print("Starting NATS, PostgreSQL, worker, projector, risk and API ...")
        try:
            async with Supervisor(self._plan) as running:
                ready = True
                with announced(announcement(running.addresses, self._plan)):
                    await self._show(running.addresses)
        except asyncio.CancelledError:
            if not self._told.is_set():
                raise
        self._print("Everything is stopped.")
        return 0

    async def _show(self, addresses: Addresses) -> None:
        """Run feed and table until told to stop; the last table is of a feed that has ended."""
        keys = self._plan.data_dir / "keys"
        await _found(addresses, keys)
        self._print(_to_try(addresses, keys))
        nc = await connect(addresses.nats_url, name="psm-demo")
        feed = _Feed(addresses.nats_url, len(self._accounts), self._rate, self._plan)
        try:
            board = Board(nc, self._accounts, DESK_ACCOUNT)
            await board.start()
            feed.start()
            await self._watch(board, feed)
            await feed.stop()
            await asyncio.sleep(_REFRESH_S)  # the last events reach the views
            await board.refresh()
            height = self._console.height - _LINES_AFTER if self._console.is_terminal else None
            self._console.print(board.render(self._console.width, height))
        finally:
            await feed.stop()
            await nc.close()
        self._print(feed.summary())

    async def _watch(self, board: Board, feed: _Feed) -> None:
        ends = time.monotonic() + self._seconds if self._seconds is not None else float("inf")
        terminal = self._console.is_terminal
        with _live(self._console) if terminal else contextlib.nullcontext() as live:
            next_snapshot = time.monotonic() + _SNAPSHOT_EVERY_S
            while not self._told.is_set() and time.monotonic() < ends:
                await board.refresh()
                feed.keep(board)
                if live is not None:
                    picture = board.render(self._console.width, self._console.height)
                    live.update(picture, refresh=True)
                elif time.monotonic() >= next_snapshot:
                    self._console.print(board.render(self._console.width))
                    next_snapshot += _SNAPSHOT_EVERY_S
                pause = min(_REFRESH_S, max(ends - time.monotonic(), 0.001))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._told.wait(), pause)

    def _print(self, text: str) -> None:
        # As it is: addresses must survive being copied, so nothing is wrapped or interpreted.
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


class _Feed:
    """The process that publishes, started again if it dies."""

    def __init__(self, url: str, accounts: int, rate: float, plan: LocalPlan) -> None:
        options = {"--url": url, "--accounts": accounts, "--rate": rate}
        self._command = [sys.executable, "-P", "-m", FEED.name, "--desk"]
        self._command += [str(word) for option in options.items() for word in option]
        self._log = (plan.log_dir or plan.data_dir) / "feed.log"
        self._child: Child | None = None

    def start(self) -> None:
        """Start it."""
        # Its own folder is all that it sees of this installation.
        environment = {**os.environ, "PYTHONPATH": str(FEED.parent)}
        self._child = Child.start(
            self._command, name="the feed", log=self._log, environment=environment
        )

    def keep(self, board: Board) -> None:
        """Start it again if it is gone."""
        if self._child is not None and self._child.returncode is not None:
            board.note = f"the feed ended (see {self._log}); started again"
            self.start()

    async def stop(self) -> None:
        """Ask it to finish what it is doing, and wait for its end."""
        if self._child is not None:
            await self._child.stop(signal.SIGTERM, _FEED_STOP_S)

    def summary(self) -> str:
        """Say what it published, from its last line."""
        assert self._child is not None
        try:
            published = json.loads(self._child.tail(1))["published"]
        except (ValueError, KeyError):
            return f"The feed said no more than stands in {self._log}."
        return "Published: " + ", ".join(f"{count} {name}" for name, count in published.items())


@contextlib.contextmanager
def _folder(data_dir: Path | None) -> Iterator[Path]:
    if data_dir is not None:
        yield data_dir.expanduser().absolute()
        return
    with tempfile.TemporaryDirectory(prefix="psm-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "data"


def _live(console: Console) -> Live:
    return Live(console=console, auto_refresh=False, transient=True)


async def _found(addresses: Addresses, keys: Path) -> None:
    """Found the desk as a risk officer of the broker would."""
    settings = load_settings({"NATS_URL": addresses.nats_url, **addresses.operator}, find_up=False)
    async with broker(settings, "psm-demo") as nc:
        await found_desk(nc, keys, DESK_ACCOUNT, CURRENCY)


def _to_try(addresses: Addresses, keys: Path) -> str:
    """Return commands for a second terminal. The database password stays in its file."""
    psm = sys.argv[0] if sys.argv[0].endswith("psm") else "psm"
    return f"""
Try in another terminal:
  {psm} state acc_001
  {psm} tail acc_001
  {psm} top
  {psm} report acc_001 --html acc_001.html   # after two minutes; open it in a browser
  curl {addresses.http_url}/psm/state/acc_001
  nats -s {addresses.nats_url} sub psm.position.updated
  eval "$({psm} env)"; psql "$POSTGRES_DSN" -c 'TABLE balances_view'

{DESK_ACCOUNT} trades too much. Once its loss of the day reaches the cap, only what closes passes:
  {psm} risk decisions {DESK_ACCOUNT}
  {psm} risk state
  {psm} risk limits show
  {psm} risk resume group:{GROUP} LATCH --key {keys}/ada --reason "seen"   # LATCH: from the table
  {psm} risk resume group:{GROUP} LATCH --key {keys}/bob --reason "agreed"

NATS {addresses.nats_url}   HTTP {addresses.http_url}
Data {addresses.data_dir}
"""
