"""What it costs to save accounts that only marks touched in the last minute: a worker, a broker.

Each round saves them twice, as whole snapshots and as records within the checkpoint. The accounts
have five positions and, as any that is in use, full windows.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.figures import Figure, Size, beside
from benchmarks.logs import PARTITIONS, MixedLog
from benchmarks.memory import fill_windows
from psm.adapters import telemetry
from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import connect
from psm.adapters.jetstream.streams_apply import apply
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.workers.partition.jetstream import JetStreamSnapshots
from psm.workers.partition.settings import PartitionSettings, PartitionStats
from psm.workers.partition.snapshots import Checkpoints
from psm.workers.process.settings import Settings

ACCOUNTS = 5_000
_POSITIONS = 5
_MINUTE_S = 60


async def measure(size: Size) -> list[Figure]:
    """Save all accounts of one partition in turn as snapshots and as records."""
    with tempfile.TemporaryDirectory(prefix="psm-checkpoint-") as folder:
        server = EmbeddedNats(Path(folder), sync=False)
        await server.start()
        try:
            return await _measured(server.url, size)
        finally:
            await server.stop()


async def _measured(url: str, size: Size) -> list[Figure]:
    accounts = size.of(ACCOUNTS)
    nc = await connect(url, name="checkpoint")
    try:
        await apply(nc, Settings(nats_url=url, partitions=PARTITIONS))
        store = _Counted(nc, 0)
        saving = _Saving(store, accounts)
        await saving.save()  # everybody has a snapshot
        costs: dict[str, list[tuple[float, float]]] = {"snapshots": [], "records": []}
        for _ in range(size.rounds):
            for way, found in costs.items():
                saving.mark_all(whole=way == "snapshots")
                store.written = 0
                seconds = await saving.save()
                found.append((store.written / _MINUTE_S / 1e3, 100 * seconds / _MINUTE_S))
    finally:
        await nc.close()
    name = f"{accounts:,} accounts that marks touched"
    (kept, worked), (bare_kept, bare_worked) = (
        zip(*costs[w], strict=True) for w in ("records", "snapshots")
    )
    return [
        beside(f"{name}: stored", "kB/s", kept, bare_kept, target=0.05, better="at most"),
        beside(f"{name}: processor", "% of a core", worked, bare_worked),
    ]


class _Counted(JetStreamSnapshots):
    """Counts the bytes written."""

    written = 0

    async def write(self, subject: str, data: bytes, expected: int) -> int:
        self.written += len(data)
        return await super().write(subject, data, expected)


class _Saving:
    """Books with accounts of five positions, and what saves them."""

    def __init__(self, store: JetStreamSnapshots, accounts: int) -> None:
        self._books = books = Books(partitions=PARTITIONS)
        log = MixedLog(events=max(1_000, accounts), accounts=accounts, positions=_POSITIONS)
        self._marks = [m for m in log.measured if m.kind == "marks"]
        for message in log.warm + [m for m in log.measured if m.kind != "marks"]:
            fold(books, message, emit="nothing")  # so that no two accounts are alike
        for account in books.accounts.values():
            fill_windows(account)
        quiet = telemetry.quiet().metrics
        self._checkpoints = Checkpoints(
            0, store, books, PartitionSettings(partitions=PARTITIONS), quiet, PartitionStats()
        )

    def mark_all(self, *, whole: bool) -> None:
        """Fold a mark of each symbol; `whole`: let all be saved as if events had touched them."""
        for _ in range(_POSITIONS):
            place = self._books.position + 1
            message = msgspec.structs.replace(self._marks.pop(0), log_sequence=place)
            fold(self._books, message, emit="nothing")
        if whole:
            self._books.marked.clear()

    async def save(self) -> float:
        """Save what changed; return the seconds of processor it took."""
        started = time.process_time()
        done = asyncio.create_task(asyncio.sleep(0))
        self._checkpoints.start(done, self._books.position, "00" * 32)
        await self._checkpoints.finish()
        return time.process_time() - started
