"""`python -m benchmarks.memory`: what accounts cost in memory, and how long they take to come back.

One worker process takes over accounts with two open positions each, from their snapshots on a real
broker; then a mark of each symbol moves all of them. "Full windows" are 256 remembered events and
256 business keys an account. Shared machines: state the load beside the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from benchmarks.logs import PARTITIONS, MixedLog
from psm.adapters import telemetry
from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import connect
from psm.adapters.jetstream.streams_apply import apply
from psm.adapters.logs import configure
from psm.contracts import subjects
from psm.contracts.codec import encode
from psm.contracts.envelope import event_hash
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.snapshot import dump_account
from psm.domain.windows import WINDOW, FillWindow, IdentityWindow
from psm.workers.fleet.worker import Worker
from psm.workers.log.cursor import Cursor
from psm.workers.partition.jetstream import JetStreamLog, JetStreamSnapshots
from psm.workers.partition.ports import Commit
from psm.workers.partition.settings import PartitionSettings
from psm.workers.process.settings import Settings

MEGABYTES_MAX = 1_200
SECONDS_MAX = 20.0
_SYMBOLS = ("S0", "S1")
_IDS = uuid.UUID("0e7a1a52-6f43-4f0c-9a52-6a1a3b1de002")
_AT_ONCE = 256
_GROUP = 2_000  # accounts made at a time, so that the maker needs little memory itself


async def measure(accounts: int, *, full: bool) -> dict[str, Any]:
    """Return memory and times of one worker with so many accounts."""
    with tempfile.TemporaryDirectory(prefix="psm-memory-") as folder:
        server = EmbeddedNats(Path(folder), sync=False)
        await server.start()
        try:
            await _fill(server.url, accounts, full=full)
            worker = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.memory", "--worker", server.url),
                stdout=asyncio.subprocess.PIPE,
            )
            output, _ = await worker.communicate()
        finally:
            await server.stop()
    found = json.loads(output)
    base, recovered, valued = (found.pop(name) for name in ("base", "recovered", "valued"))
    return {
        "accounts": accounts,
        "windows": "full" if full else "empty",
        "load": round(os.getloadavg()[0], 1),
        **found,
        "worker_mb": round(base / 1e6),
        "recovered_mb": round(recovered / 1e6),
        "valued_mb": round(valued / 1e6),
        "bytes_per_account_recovered": round((recovered - base) / accounts),
        "bytes_per_account_valued": round((valued - base) / accounts),
    }


async def _fill(url: str, accounts: int, *, full: bool) -> None:
    """Make a log of one message, committed, and the snapshots of accounts as of it."""
    nc = await connect(url, name="filler")
    try:
        await apply(nc, Settings(nats_url=url, partitions=PARTITIONS))
        await nc.jetstream().publish("marks.S0", _mark("S0", 1, "100"))
        store = JetStreamSnapshots(nc, 0)  # writes to any partition's subjects
        message = await JetStreamLog(nc, 0).message_at(1)
        assert message is not None
        hashed = event_hash(message.data)
        cursor = Cursor(log_sequence=1, event_hash=hashed.hex())
        for number in range(PARTITIONS):
            commit = Commit(cursor=cursor, updates=(), traceparents={})
            await JetStreamLog(nc, number).commit(commit, 0)
        for first in range(0, accounts, _GROUP):
            dumped = _dumped(first, min(_GROUP, accounts - first), hashed, full=full)
            for start in range(0, len(dumped), _AT_ONCE):
                group = dumped[start : start + _AT_ONCE]
                await asyncio.gather(*(store.write(subject, data, 0) for subject, data in group))
    finally:
        await nc.close()


def _dumped(first: int, count: int, hashed: bytes, *, full: bool) -> list[tuple[str, bytes]]:
    books = Books(partitions=PARTITIONS)
    for message in MixedLog(events=0, accounts=count, positions=len(_SYMBOLS)).warm:
        fold(books, message, emit="nothing")
    dumped = []
    for name, account in enumerate(books.accounts.values(), first):
        account.stream_id = f"a{name}"
        if full:
            fill_windows(account)
        account.delivery.last_log_sequence = 1
        data = dump_account(account, 1, hashed)
        number = subjects.partition_of(account.stream_id, PARTITIONS)
        dumped.append((subjects.snapshot(number, account.stream_id), data))
    return dumped


def fill_windows(account: Account) -> None:
    """Let it remember as many events and business keys as it may."""
    size = WINDOW * 16
    account.delivery.identities = IdentityWindow(os.urandom(size), os.urandom(size))
    account.ledger.fill_keys = FillWindow(os.urandom(size))


def _mark(symbol: str, number: int, price: str) -> bytes:
    return encode(
        {
            "event_id": str(uuid.uuid5(_IDS, f"{symbol}/{number}")),
            "event_type": "MarkPriceUpdated",
            "stream_id": symbol,
            "sequence_number": number,
            "timestamp": "2025-12-12T10:30:00Z",
            "schema_version": "1.0.0",
            "payload": {"symbol": symbol, "price": price},
        }
    )


async def _work(url: str) -> dict[str, Any]:
    """Take all partitions over, take a mark of each symbol; return seconds and bytes."""
    configure("error")
    metrics = telemetry.quiet().metrics
    nc = await connect(url, name="worker")
    base, started = _resident_bytes(), time.monotonic()
    settings = PartitionSettings(partitions=PARTITIONS, snapshot_interval_s=3600.0)
    worker = Worker(nc, range(PARTITIONS), settings, metrics)
    running = asyncio.create_task(worker.run())
    try:
        await _until(running, lambda: worker.readiness()[0])
        seconds, cpu = time.monotonic() - started, time.process_time()
        recovered = _resident_bytes()
        for symbol in _SYMBOLS:
            await nc.jetstream().publish(f"marks.{symbol}", _mark(symbol, 2, "101.5"), timeout=60)
        started = time.monotonic()
        last = 1 + len(_SYMBOLS)
        await _until(running, lambda: all(h.position >= last for h in worker.holdings().values()))
        marked = time.monotonic() - started
        valued = _resident_bytes()
        started = time.monotonic()
        gc.collect()
        return {
            "recovery_s": round(seconds, 2),
            "recovery_cpu_s": round(cpu, 2),
            "marks_s": round(marked, 2),
            "full_collection_s": round(time.monotonic() - started, 2),
            "peak_mb": round(_peak_bytes() / 1e6),
            "base": base,
            "recovered": recovered,
            "valued": valued,
        }
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await nc.close()


async def _until(running: asyncio.Task[None], found: Any) -> None:
    while not found():
        if running.done():
            running.result()
        await asyncio.sleep(0.005)


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Measure and print; return 1 where a target is missed with empty windows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--windows", choices=["empty", "full", "both"], default="both")
    parser.add_argument("--worker", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        sys.stdout.write(json.dumps(asyncio.run(_work(options.worker))))
        return 0
    missed = False
    for full in (False, True):
        if options.windows in ("both", "full" if full else "empty"):
            found = asyncio.run(measure(options.accounts, full=full))
            sys.stdout.write(json.dumps(found, indent=2) + "\n")
            slow = found["recovery_s"] > SECONDS_MAX
            missed = missed or slow or (not full and found["valued_mb"] > MEGABYTES_MAX)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
