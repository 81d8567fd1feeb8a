"""The real processes under fire, and the oracles that are asked after every fault.

What the oracles check (see docs/faults.md): every acknowledged event is in the log where the
acknowledgement says, with its bytes (O1); updates are those of a fold from the first message, byte
for byte, once each and in order, which includes numbers, chains and hashes (O2, O3, O7); cash,
fees and positions are those of an independent slow ledger (O4, O6); the views are the fold (O5);
and all of that is reached in bounded time after the fault (O8).
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from tests.support import log_oracle
from tests.support.chaos_load import OWN, Load
from tests.support.events import Sent
from tests.support.log_oracle import Verdict
from tests.support.nats_cluster import make_streams
from tests.support.reference import Reference
from tests.support.running import Running, request, started
from tests.support.slots import slots_env
from tests.support.views import Views, assert_views_equal_fold

from psm.adapters.jetstream import StoredMessage, connect, last_for, read_range
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.codec import decode_untyped
from psm.contracts.errors import TransientError
from psm.workers.local.parts import free_port
from psm.workers.process.settings import Settings

PARTITIONS = 4
SETTLE_S = 60.0
ROUNDING = Fraction(1, 10**15)
_END = 2**62


class Process:
    """One `psm` process with a health port.

    Attributes:
        running: the process.
        health: address of `/health/ready`.
    """

    def __init__(self, running: Running, port: int) -> None:
        self.running = running
        self.health = f"http://127.0.0.1:{port}/health/ready"

    async def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Return whether it says that it is ready, and the details."""
        try:
            status, detail = await asyncio.to_thread(request, self.health)
        except OSError as error:  # it does not listen yet
            return False, {"error": str(error)}
        return status == 200, detail

    async def until_ready(self, *, ready: bool = True, timeout_s: float = SETTLE_S) -> float:
        """Wait until it says so; return how long that took in seconds."""
        began = time.monotonic()
        while True:
            found, detail = await self.readiness()
            if found == ready:
                return time.monotonic() - began
            assert self.running.process.poll() is None, self.log
            waited = time.monotonic() - began
            assert waited < timeout_s, f"ready={found} after {waited:.0f} s: {detail}\n{self.log}"
            await asyncio.sleep(0.05)

    def freeze(self) -> None:
        """Stop it without ending it."""
        self.running.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.running.process.send_signal(signal.SIGCONT)

    @property
    def log(self) -> str:
        """The end of what it wrote."""
        return self.running.log.read_text()[-4000:]

    def logged(self, event: str) -> int:
        """Return how often it logged an event."""
        return self.running.log.read_text().count(f'"event":"{event}"')


class Stage:
    """A log, the processes on it, and the load.

    Attributes:
        nc: the test's own connection, past any proxy.
        began_ns: log time of the beginning.
    """

    def __init__(self, nc: Client, settings: Settings, folder: Path, dsn: str | None) -> None:
        self.nc = nc
        self.settings = settings
        self.began_ns = time.time_ns()
        self._folder = folder
        self._dsn = dsn
        self._stack = ExitStack()
        self._environment = {
            "NATS_URL": settings.nats_url,
            "PSM_PARTITIONS": str(settings.partitions),
            "PSM_REPLICAS": str(settings.replicas),
            **slots_env(settings.valuation_slots),
            "PSM_SNAPSHOT_INTERVAL_S": "2",
            "PSM_SNAPSHOT_EVENTS": "20",
            "PSM_METRICS_HOST": "127.0.0.1",
            **({"POSTGRES_DSN": dsn} if dsn else {}),
        }

    def start(self, command: str, *arguments: str, **environment: object) -> Process:
        """Start `psm COMMAND`; it ends with the stage."""
        port = free_port()
        own = {
            **self._environment,
            "PSM_METRICS_PORT": str(port),
            **{name: str(value) for name, value in environment.items()},
        }
        running = self._stack.enter_context(
            started(self._folder, command, *arguments, environment=own)
        )
        return Process(running, port)

    def close(self) -> None:
        """End all processes."""
        self._stack.close()

    async def commits(self, timeout_s: float = SETTLE_S) -> None:
        """Wait for a commit from now on."""
        since, began = time.time_ns(), time.monotonic()
        while True:
            last = await self._last_commit()
            if last is not None and last.time_ns > since:
                return
            waited = time.monotonic() - began
            assert waited < timeout_s, f"no commit for {waited:.0f} s"
            await asyncio.sleep(0.1)

    async def _last_commit(self) -> StoredMessage | None:
        try:
            return await last_for(self.nc, "PSM", "psm.cursor.*", timeout_s=2.0)
        except TransientError:
            return None

    async def longest_pause(self, since_ns: int) -> float:
        """Return the longest time without a commit since then, in seconds, by the log's times."""
        times = [
            message.time_ns
            async for batch in read_range(self.nc, "PSM", ["psm.cursor.*"], 1, _END)
            for message in batch
            if message.time_ns >= since_ns
        ]
        assert times, "nothing was committed"
        return max(after - before for before, after in pairwise([since_ns, *times])) / 1e9

    async def judge(self, load: Load, settle_s: float = SETTLE_S) -> Verdict:
        """Stop the load, wait so long for everything to settle and ask all oracles.

        Raises:
            AssertionError: an oracle found something.
        """
        await load.stop()
        log = [m async for batch in read_range(self.nc, "TRADES", [">"], 1, _END) for m in batch]
        check_acknowledged(load, log)
        verdict = await log_oracle.judge(self.nc, self.settings, timeout_s=settle_s)
        assert verdict.count > 0
        if self._dsn is not None:
            partitions = self.settings.partitions
            views = await assert_views_equal_fold(self.nc, self._dsn, partitions, settle_s)
            check_money(views, log)
        return verdict


def check_acknowledged(load: Load, log: list[StoredMessage]) -> None:
    """Every event stands where its acknowledgement says (O1)."""
    found = {message.sequence: hashlib.sha256(message.data).hexdigest() for message in log}
    missing = [seq for seq in load.acked if seq not in found]
    assert not missing, f"acknowledged and not in the log: {missing[:5]} of {len(missing)}"
    other = [seq for seq, hashed in load.acked.items() if found[seq] != hashed]
    assert not other, f"acknowledged with other bytes: {other[:5]} of {len(other)}"
    assert load.acked, "nothing was acknowledged"


def check_money(views: Views, log: list[StoredMessage]) -> None:
    """The ledgers are those of a slow one in fractions that shares no code (O4, O6)."""
    mine = [message for message in log if message.subject.split(".")[-1].startswith(OWN)]
    ids = [decode_untyped(message.data)["event_id"] for message in mine]
    assert len(ids) == len(set(ids)), "the publisher appended an event twice"
    reference = Reference([Sent(subject=m.subject, data=m.data) for m in mine])
    assert reference.cash, "the publisher appended nothing"
    balances, positions = views["balances_view"], views["positions_view"]
    for stream, cash in reference.cash.items():
        row = balances[stream,]
        assert Fraction(row["fees"]) == reference.fees[stream], f"{stream}: {row['fees']}"
        _check_close(row["cash"].get("USDT", "0"), cash, f"{stream}: cash")
        _check_close(row["realized_pnl"], reference.realized(stream), f"{stream}: realized")
        for symbol, held in reference.positions(stream).items():
            row = positions[stream, "contract", symbol, "net"]
            signed = Fraction(row["size"]) * (-1 if row["side"] == "short" else 1)
            assert signed == held.size, f"{stream} {symbol}: {signed}, not {held.size}"
    for (stream,), row in balances.items():
        if "equity" in row and "unrealized_pnl" in row and set(row["cash"]) <= {"USDT"}:
            total = Decimal(row["cash"].get("USDT", 0)) + Decimal(row["unrealized_pnl"])
            assert total == Decimal(row["equity"]), f"{stream}: equity is not cash plus gains"


def _check_close(found: str, exact: Fraction, what: str) -> None:
    """The fold rounds the cost of a partial close to 34 digits, and the views show 18 decimals."""
    assert abs(Fraction(found) - exact) < ROUNDING, f"{what} is {found}, not {float(exact)}"


@asynccontextmanager
async def staged(
    url: str,
    folder: Path,
    dsn: str | None = None,
    *,
    replicas: int = 1,
    partitions: int = PARTITIONS,
    seen_url: str | None = None,
) -> AsyncIterator[Stage]:
    """Make the streams and give the stage; its processes are ended afterwards.

    Args:
        url: of the broker, for the test's own connection.
        folder: for the output of the processes.
        dsn: of a migrated database, where views are wanted.
        replicas: of the streams.
        partitions: of the log.
        seen_url: what the processes connect to, if not to `url`: a proxy.
    """
    settings = Settings(
        nats_url=seen_url or url,
        partitions=partitions,
        replicas=3 if replicas == 3 else 1,
    )
    nc = await connect(url, name="test")
    stage = Stage(nc, settings, folder, dsn)
    try:
        await make_streams(nc, lambda: apply(nc, settings))
        yield stage
    finally:
        await asyncio.to_thread(stage.close)
        await nc.close()
