"""What a soak looks at: streams, memory and lag of each process, disk; and what it makes of it."""

from __future__ import annotations

import asyncio
import os
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream.api import call
from psm.contracts.subjects import PSM, TRADES

STREAMS = (TRADES, PSM)
GROWTH_MAX = 0.10
"""Memory that a process may gain after it has settled, as a share of what it had until then."""

_LAG = "_lag_events"
_MEGABYTE = 1_000_000
_WAIT_S = 30.0


class Watched(msgspec.Struct, frozen=True):
    """One process.

    Attributes:
        pid: whose memory is looked at.
        metrics: port on loopback that answers `/metrics`; None where it has none.
    """

    pid: int
    metrics: int | None = None


class Minute(msgspec.Struct, kw_only=True):
    """One line of the table.

    Attributes:
        minutes: since the load began.
        messages, megabytes: stored in each stream so far, before compression.
        per_s: messages of each stream a second since the line before.
        disk_mb: the broker's whole store on disk.
        memory_mb: highest resident set of each process since the line before.
        lag: messages that each process has not handled, by what it says; None: it did not answer.
        behind_s: longest delay of the load against its own plan, so far.
    """

    minutes: float
    messages: dict[str, int]
    megabytes: dict[str, float]
    per_s: dict[str, int]
    disk_mb: float
    memory_mb: dict[str, float]
    lag: dict[str, int | None]
    behind_s: float


class Watch:
    """Looks at the processes of a soak."""

    def __init__(self, nc: Client, store: Path, watched: Mapping[str, Watched]) -> None:
        self._nc = nc
        self._store = store
        self._watched = watched
        self._began = self._last_at = time.monotonic()
        self._last = dict.fromkeys(STREAMS, 0)
        self._peaks = dict.fromkeys(watched, 0.0)

    def sample(self) -> None:
        """Look at the memory.

        Raises:
            ProcessLookupError: a process is not there any more.
        """
        for name, one in self._watched.items():
            self._peaks[name] = max(self._peaks[name], resident_mb(one.pid))

    async def minute(self, behind_s: float) -> Minute:
        """Return the line since the one before."""
        self.sample()
        now = time.monotonic()
        states = {n: (await self._info(n))["state"] for n in STREAMS}
        messages = {name: int(state["messages"]) for name, state in states.items()}
        took = now - self._last_at
        found = Minute(
            minutes=round((now - self._began) / 60, 2),
            messages=messages,
            megabytes={n: round(state["bytes"] / _MEGABYTE, 1) for n, state in states.items()},
            per_s={name: round((messages[name] - self._last[name]) / took) for name in STREAMS},
            disk_mb=round(await asyncio.to_thread(_disk_mb, self._store), 1),
            memory_mb={name: round(peak, 1) for name, peak in self._peaks.items()},
            lag=await self.lag(),
            behind_s=round(behind_s, 2),
        )
        self._last, self._last_at = messages, now
        self._peaks = dict.fromkeys(self._watched, 0.0)
        return found

    async def _info(self, stream: str) -> dict[str, Any]:
        return await call(self._nc, f"STREAM.INFO.{stream}", timeout_s=_WAIT_S)

    async def lag(self) -> dict[str, int | None]:
        """Return what each process has not handled, in messages; None where it does not answer."""
        asked = {name: one.metrics for name, one in self._watched.items() if one.metrics}
        found = await asyncio.gather(*(asyncio.to_thread(_lag, port) for port in asked.values()))
        return dict(zip(asked, found, strict=True))


def growth(minutes: Sequence[Minute], settle_minutes: float) -> dict[str, float]:
    """Return what each process gained after it has settled, as a share of its peak until then.

    Peaks are compared, for memory that is collected goes up and down. Empty where the soak did not
    outlast the settling.
    """
    before = [one.memory_mb for one in minutes if one.minutes <= settle_minutes]
    after = [one.memory_mb for one in minutes if one.minutes > settle_minutes]
    if not before or not after:
        return {}
    return {
        name: round(max(one[name] for one in after) / max(one[name] for one in before) - 1, 3)
        for name in before[0]
    }


def resident_mb(pid: int) -> float:
    """Return the resident set of a process.

    Raises:
        ProcessLookupError: there is none.
    """
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (FileNotFoundError, IndexError):
        raise ProcessLookupError(f"process {pid} has ended") from None
    if not pages:  # a process that ended and nobody waited for
        raise ProcessLookupError(f"process {pid} has ended")
    return pages * os.sysconf("SC_PAGE_SIZE") / _MEGABYTE


def _disk_mb(folder: Path) -> float:
    """Return what is allocated for the files below a folder, while others come and go."""
    used = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                used += os.stat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH116, PTH118
            except FileNotFoundError:
                continue
    return used / _MEGABYTE


def _lag(port: int) -> int | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=_WAIT_S) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return None
    return round(
        sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("psm_") and _LAG in line.partition("{")[0].partition(" ")[0]
        )
    )
