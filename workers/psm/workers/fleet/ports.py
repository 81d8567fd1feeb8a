"""What the fleet logic needs of the outside; in-memory twins stand in for all of it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Protocol

from psm.workers.fleet.members import Holding, Member, MemberEntry


class ProbeAnswer(Enum):
    """What came back from a probe."""

    ALIVE = "alive"
    GONE = "gone"
    """The broker says at once that nobody listens there."""
    SILENT = "silent"
    """Nothing came in time: slow, frozen, or out of our reach. Proves nothing."""
    UNSURE = "unsure"
    """Our own connection is down or was only just restored. Proves nothing."""


class MemberStore(Protocol):
    """The bucket of member keys. A key ends by itself when it is not renewed.

    Methods raise `TransientError` when the broker does not answer.
    """

    async def put(self, member: Member) -> int:
        """Write or renew a key, tell the others; return its revision."""

    async def delete(self, member_id: str, revision: int | None) -> int | None:
        """Delete a key and tell the others.

        Args:
            member_id: whose.
            revision: delete only if the key is still as of this revision; None always.

        Returns:
            The revision of the deletion, or None if the key has changed since.
        """

    async def entries(self) -> list[MemberEntry]:
        """Return all keys."""


class Prober(Protocol):
    """Asks members whether they are there."""

    async def probe(self, member_id: str) -> ProbeAnswer:
        """Ask one member; answers within about half a second."""


class Runner(Protocol):
    """Runs partitions. Nothing here waits."""

    def take(self, number: int) -> None:
        """Start to run a partition."""

    def let_go(self, number: int) -> None:
        """Drain a partition, commit, save, and end it; it is held until then."""

    def holdings(self) -> Mapping[int, Holding]:
        """Return what is held, by partition."""

    def resting(self) -> frozenset[int]:
        """Return the partitions that must not be taken again yet."""


class FleetCounts(Protocol):
    """Where a fleet tells how it is: of partitions, or of slots, by names of their own."""

    def fleet(self, *, members: int, owned: int, unowned: int) -> None:
        """Set what this worker has and sees of the fleet."""

    def member_lost(self, reason: str) -> None:
        """Count a worker found dead: `no_responders` or `expired`."""
