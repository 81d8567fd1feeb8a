"""The ports of the fleet in memory: a bucket, probes, and workers that only pretend to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from psm.adapters import telemetry
from psm.adapters.jetstream.streams import MEMBER_TTL_S
from psm.contracts.errors import TransientError
from psm.workers.fleet import Fleet, FleetSettings, Holding, Member, MemberEntry
from psm.workers.fleet.members import HoldingState
from psm.workers.fleet.ports import ProbeAnswer

_METRICS = telemetry.quiet().metrics


class MemoryBucket:
    """The bucket, the news and what the broker knows of connections, for all workers of a test.

    Attributes:
        now: the broker's clock; it ends keys.
        gone: members whose connection is closed.
        frozen: members that do not answer.
        mute: no news are delivered.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.gone: set[str] = set()
        self.frozen: set[str] = set()
        self.mute = False
        self.hearers: dict[str, Callable[[MemberEntry], None]] = {}
        self._keys: dict[str, tuple[float, MemberEntry]] = {}
        self._revision = 0

    def entries(self) -> list[MemberEntry]:
        """Return the keys that have not ended."""
        self._keys = {
            name: (at, entry)
            for name, (at, entry) in self._keys.items()
            if self.now - at < MEMBER_TTL_S
        }
        return [entry for _, entry in self._keys.values()]

    def write(self, name: str, member: Member | None) -> int:
        """Store a key and tell everybody; return its revision."""
        self._revision += 1
        entry = MemberEntry(id=name, revision=self._revision, member=member)
        self._keys[name] = (self.now, entry)
        for hearer in () if self.mute else tuple(self.hearers.items()):
            if hearer[0] not in self.gone | self.frozen:
                hearer[1](entry)
        return self._revision

    def revision(self, name: str) -> int:
        """Return the revision of a key; 0 if there is none."""
        return max((entry.revision for entry in self.entries() if entry.id == name), default=0)


class MemoryStore:
    """`MemberStore` of one worker; `down` cuts it off."""

    def __init__(self, bucket: MemoryBucket) -> None:
        self.bucket = bucket
        self.down = False
        self.puts = 0

    async def put(self, member: Member) -> int:
        self._check()
        self.puts += 1
        return self.bucket.write(member.id, member)

    async def delete(self, member_id: str, revision: int | None) -> int | None:
        self._check()
        if revision is not None and self.bucket.revision(member_id) != revision:
            return None
        return self.bucket.write(member_id, None)

    async def entries(self) -> list[MemberEntry]:
        self._check()
        return self.bucket.entries()

    def _check(self) -> None:
        if self.down:
            raise TransientError("cut off")


class MemoryProber:
    """`Prober` of one worker.

    Attributes:
        wrong: what it answers of these members, whatever is true.
        script: its next answers, of whomever.
    """

    def __init__(self, bucket: MemoryBucket) -> None:
        self._bucket = bucket
        self.wrong: dict[str, ProbeAnswer] = {}
        self.script: list[ProbeAnswer] = []

    async def probe(self, member_id: str) -> ProbeAnswer:
        if self.script:
            return self.script.pop(0)
        if member_id in self.wrong:
            return self.wrong[member_id]
        if member_id in self._bucket.gone:
            return ProbeAnswer.GONE
        return ProbeAnswer.SILENT if member_id in self._bucket.frozen else ProbeAnswer.ALIVE


class MemoryRunner:
    """`Runner` that takes no time, except to drain if `slow`."""

    def __init__(self) -> None:
        self.states: dict[int, HoldingState] = {}
        self.slow = False
        self.rests: set[int] = set()
        self.most_draining = 0

    def take(self, number: int) -> None:
        assert number not in self.states, f"partition {number} is taken twice"
        self.states[number] = "live"

    def let_go(self, number: int) -> None:
        self.states[number] = "draining"
        draining = [n for n, state in self.states.items() if state == "draining"]
        self.most_draining = max(self.most_draining, len(draining))
        if not self.slow:
            del self.states[number]

    def drained(self) -> None:
        """End all that is draining."""
        self.states = {n: state for n, state in self.states.items() if state != "draining"}

    def holdings(self) -> Mapping[int, Holding]:
        return {n: Holding(partition=n, state=state) for n, state in sorted(self.states.items())}

    def resting(self) -> frozenset[int]:
        return frozenset(self.rests)


class MemoryWorker:
    """One worker: its fleet, and everything around it.

    Attributes:
        offset_s: what its own clock differs from the broker's.
    """

    def __init__(
        self,
        name: str,
        bucket: MemoryBucket,
        partitions: int,
        *,
        pinned: tuple[int, ...] | None = None,
        offset_s: float = 0.0,
    ) -> None:
        self.name = name
        self.bucket = bucket
        self.store = MemoryStore(bucket)
        self.prober = MemoryProber(bucket)
        self.runner = MemoryRunner()
        self.offset_s = offset_s
        started = "2000-01-01T00:00:00Z" if offset_s < 0 else "2100-01-01T00:00:00Z"
        me = Member(id=name, host=name, pid=1, version="0", started_at=started, pinned=pinned)
        self.fleet = Fleet(
            me,
            partitions,
            self.store,
            self.prober,
            self.runner,
            _METRICS,
            FleetSettings(confirm_s=0.0),
            clock=lambda: bucket.now + self.offset_s,
        )
        bucket.hearers[name] = self.fleet.hear

    @property
    def holds(self) -> set[int]:
        return set(self.runner.states)
