"""`psm audit` of a short and of a long stream: rate and memory must not depend on the length."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.figures import Figure, Size
from benchmarks.rig import Rig, fills, rig, until
from psm.workers.proof.audit.findings import AuditReport

LENGTHS = (20_000, 500_000)
"""Updates of the stream PSM; a trade makes three."""

_ACCOUNTS = 100
_FILL_S = 1800.0
_POLL_S = 0.1


async def measure(size: Size) -> list[Figure]:
    """Audit the same stream twice, the second time when it is long."""
    figures: list[Figure] = []
    stored = 0
    async with rig() as broker:
        for full in LENGTHS:
            rounds = size.of(full) // (3 * _ACCOUNTS) + 1
            events = _ACCOUNTS * rounds - stored
            first = stored // _ACCOUNTS + 1
            await broker.fill(fills(events, _ACCOUNTS, first=first))
            stored += events
            await _fold(broker, stored)
            report, seconds, busy_s, megabytes = await asyncio.to_thread(_audit, broker)
            if report.counts:
                raise ValueError(f"a sound stream has findings: {report.counts}")
            name = f"audit of {report.updates:,} updates"
            figures += [
                Figure(name=name, unit="updates/s", value=report.updates / seconds),
                Figure(name=f"{name}, of its own time", unit="1/s", value=report.updates / busy_s),
                Figure(name=f"{name}, memory", unit="MB", value=megabytes),
            ]
    return figures


async def _fold(broker: Rig, last: int) -> None:
    partition = broker.partition()
    task = asyncio.create_task(partition.run())
    await until(lambda: partition.stats.position >= last, "the log is folded", _FILL_S)
    partition.stop()
    await task


def _audit(broker: Rig) -> tuple[AuditReport, float, float, float]:
    """Return what an audit in a process of its own says, and what it took.

    Seconds, those in which it computed, and the greatest memory in megabytes.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PSM_")}
    own = {name: str(value) for name, value in broker.environment.items()}
    with tempfile.TemporaryDirectory(prefix="psm-bench-") as folder:
        found = Path(folder, "report.json")
        started = time.perf_counter()
        with found.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "psm.workers.cli", "audit", "-o", "json"],
                env={**clean, **own},
                stdout=output,
            )
            megabytes, ended = 0.0, 0
            while not ended:
                # Not `ru_maxrss`, which is this process's own where that was the greater one.
                megabytes = max(megabytes, _peak(process.pid))
                time.sleep(_POLL_S)
                ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        report = msgspec.json.decode(found.read_bytes(), type=AuditReport)
    return report, seconds, usage.ru_utime + usage.ru_stime, megabytes


def _peak(pid: int) -> float:
    """Return the greatest memory that a running process ever had, in megabytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0
