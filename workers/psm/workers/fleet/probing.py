"""Watching the neighbours: each member is probed by a few others, all the time.

When a process ends, the broker closes its subscriptions at once and answers a probe with "no
responders". Twice within a moment, and the member is gone, long before its key ends.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection

from psm.adapters.tasks import end_all
from psm.workers.fleet.ports import ProbeAnswer, Prober
from psm.workers.fleet.view import FleetView

NEIGHBOURS = 3


def neighbours(me: str, others: Collection[str], count: int = NEIGHBOURS) -> list[str]:
    """Return the members that follow `me` on a ring; each has as many that watch it."""
    ring = sorted({me, *others}, key=_place)
    start = ring.index(me) + 1
    return [*ring[start:], *ring[: start - 1]][:count]


def _place(member: str) -> tuple[bytes, str]:
    return hashlib.blake2b(member.encode(), digest_size=8).digest(), member


class Watch:
    """Probes that are under way."""

    def __init__(
        self,
        me: str,
        prober: Prober,
        confirm_s: float,
        gone: Callable[[str, ProbeAnswer], Awaitable[None]],
    ) -> None:
        """Nobody is probed yet.

        Args:
            me: this worker's id.
            prober: sends one probe.
            confirm_s: how long after the first bad answer a member is asked again.
            gone: told of a member that is not there, and by which answer it is known.
        """
        self._me = me
        self._prober = prober
        self._confirm_s = confirm_s
        self._gone = gone
        self._running: dict[str, asyncio.Task[None]] = {}

    def look_at(self, view: FleetView) -> None:
        """Probe the neighbours and the suspects that are not being probed already."""
        others = view.others()
        suspects = view.suspects & others.keys()
        for member in sorted({*neighbours(self._me, others), *suspects}):
            if member not in self._running:
                task = asyncio.create_task(self._ask(member, member in suspects))
                self._running[member] = task

    async def close(self) -> None:
        """End all probes."""
        await end_all(self._running.values())

    async def _ask(self, member: str, suspect: bool) -> None:
        try:
            await self._ask_twice(member, suspect)
        finally:
            del self._running[member]

    async def _ask_twice(self, member: str, suspect: bool) -> None:
        """Ask again before the worst is believed."""
        bad = {ProbeAnswer.GONE, ProbeAnswer.SILENT} if suspect else {ProbeAnswer.GONE}
        if await self._prober.probe(member) not in bad:
            return
        await asyncio.sleep(self._confirm_s)
        answer = await self._prober.probe(member)
        if answer in bad:
            await self._gone(member, answer)
