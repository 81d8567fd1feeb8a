"""The fleet from one worker's side: joins, renews, watches the others, takes and lets go.

    fleet = Fleet(me, partitions, store, prober, worker)
    await fleet.run()    # until `leave` was called and everything is handed over

`turn` does whatever is due and waits for nothing but the broker, so that a simulator can drive it
with a clock of its own. Clocks are only ever compared with themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from psm.adapters.jetstream.streams import MEMBER_TTL_S
from psm.adapters.logs import get_logger
from psm.contracts.errors import TransientError
from psm.workers.fleet import planner
from psm.workers.fleet.members import Member, MemberEntry
from psm.workers.fleet.planner import Plan, Situation
from psm.workers.fleet.ports import FleetCounts, MemberStore, ProbeAnswer, Prober, Runner
from psm.workers.fleet.probing import Watch
from psm.workers.fleet.view import FleetView

_log = get_logger()


class FleetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times and limits.

    Attributes:
        ttl_s: a key that was not renewed for so long is gone.
        renew_s: the own key is renewed this often ...
        report_s: ... and this long after a partition changed its state.
        list_s: the keys are read this often; news arrive in between.
        probe_s: the neighbours are probed this often.
        confirm_s: a member that seems gone is probed again after this long.
        settle_s: partitions move once nobody came for so long ...
        settle_max_s: ... or after this long of coming and coming.
        patience_s: how long another member may keep a partition that should be ours.
        doubt_s: how long a member that seemed gone and was not is believed to be there.
        leave_s: how long leaving may take.
        draining_max: how many partitions are handed over at the same time.
        tick_s: the longest pause between two turns.
    """

    ttl_s: float = MEMBER_TTL_S
    renew_s: float = 3.0
    report_s: float = 0.5
    list_s: float = 1.0
    probe_s: float = 0.25
    confirm_s: float = 0.1
    settle_s: float = 0.3
    settle_max_s: float = 2.0
    patience_s: float = 15.0
    doubt_s: float = 30.0
    leave_s: float = 20.0
    draining_max: int = 4
    tick_s: float = 0.1


class Fleet:
    """Decides which partitions this worker runs."""

    def __init__(
        self,
        me: Member,
        partitions: int,
        store: MemberStore,
        prober: Prober,
        runner: Runner,
        metrics: FleetCounts,
        settings: FleetSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is told to anybody before the first turn.

        Args:
            me: this worker, holding nothing yet.
            partitions: of the log.
            store: the bucket of member keys.
            prober: asks other members whether they are there.
            runner: runs the partitions.
            metrics: where counts go.
            settings: times and limits.
            clock: seconds that never run backwards; of this process only.
        """
        self._me = me
        self._partitions = partitions
        self._store = store
        self._runner = runner
        self._metrics = metrics
        self._settings = settings or FleetSettings()
        self._clock = clock
        self._view = FleetView(me.id, self._settings.settle_s, self._settings.settle_max_s)
        self._watch = Watch(me.id, prober, self._settings.confirm_s, self._gone)
        self._plan = Plan(mine=frozenset(), take=(), let_go=(), waiting={})
        self._wake = asyncio.Event()
        self._leaving_since: float | None = None
        self._told: Member | None = None  # as the key has it
        self._told_at = 0.0
        self._revision = 0
        self._listed_at: float | None = None
        self._probed_at = 0.0
        self._joined_at = 0.0
        self._connected = True  # as far as the last request told
        self._doubtful: dict[str, float] = {}  # until when "gone" is not believed, by member
        self._contested = False
        self._waiting_since: dict[int, float] = {}

    # --- for the process ------------------------------------------------------------------------

    async def run(self) -> None:
        """Take part until `leave` was called and everything is handed over."""
        try:
            while not self._left():
                await self.turn()
                await self._pause()
            if self._runner.holdings():
                _log.warning("fleet.leave_timed_out", partitions=len(self._runner.holdings()))
        finally:
            await self._watch.close()
            await self._farewell()

    def leave(self) -> None:
        """Hand over everything, then end `run`."""
        if self._leaving_since is None:
            self._leaving_since = self._clock()
            self._me = msgspec.structs.replace(self._me, leaving=True)
        self._wake.set()

    def wake(self) -> None:
        """Take the next turn now: something changed."""
        self._wake.set()

    def hear(self, entry: MemberEntry) -> None:
        """Take in what another member tells everybody."""
        if entry.id == self._me.id:
            self._contested |= entry.member is None and entry.revision > self._revision
            self._wake.set()
        elif self._learn(entry):
            if self._told is not None and not self._contested:
                self._act()  # at once: the turn may be waiting for a slow broker
            self._wake.set()

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Return whether every partition that should be ours is live, and what is not."""
        holdings = self._runner.holdings()
        live = {number for number, holding in holdings.items() if holding.state == "live"}
        stopped = {number for number, holding in holdings.items() if holding.state == "stopped"}
        mine, now = self._plan.mine, self._clock()
        joined = self._told is not None and self._listed_at is not None
        detail = {
            "member": self._me.id,
            "members": len(self._view.others()) + joined,
            "partitions": len(mine),
            "live": len(live),
            "recovering": sorted(mine - live - stopped),
            "waiting": {str(p): holder for p, holder in sorted(self._plan.waiting.items())},
            "leaving": self._me.leaving,
        }
        # Right after joining nothing is assigned yet, and everything will be.
        member = joined and now - self._joined_at > self._settings.settle_s
        return member and not self._me.leaving and mine <= live, detail

    # --- one turn -------------------------------------------------------------------------------

    async def turn(self) -> None:
        """Do what is due."""
        now = self._clock()
        if self._told is not None and self._lapsed(now):
            self._contested = True
        try:
            if self._contested or self._told is None or self._due(self._told_at, "renew_s"):
                await self._tell()
            if self._contested or self._listed_at is None or self._due(self._listed_at, "list_s"):
                await self._list()
        except TransientError as error:
            self._cut_off(error)
        else:
            self._connected = True
        if self._due(self._probed_at, "probe_s"):
            self._probed_at = now
            self._watch.look_at(self._view)
        self._act()
        await self._tell_changes()
        self._report()

    def _act(self) -> None:
        """Plan, take and let go."""
        now = self._clock()
        situation = self._situation(now)
        self._plan = planner.plan(situation)
        since = {number: self._waiting_since.get(number, now) for number in self._plan.waiting}
        self._waiting_since = since
        for number in self._plan.take:
            if number in self._plan.waiting and self._me.pinned is None:
                _log.warning("fleet.patience_ended", partition=number)
            self._runner.take(number)
        for number in self._plan.let_go:
            self._runner.let_go(number)
        if self._connected:
            self._contested = False

    def _situation(self, now: float) -> Situation:
        holdings = self._runner.holdings()
        patience = self._settings.patience_s
        return Situation(
            me=self._me.id,
            partitions=self._partitions,
            pinned=self._me.pinned,
            others=self._view.others(),
            holding=frozenset(holdings),
            draining=frozenset(n for n, held in holdings.items() if held.state == "draining"),
            resting=self._runner.resting(),
            settled=self._view.settled(now),
            may_take=self._may_take(now),
            contested=self._contested,
            waited=frozenset(n for n, t in self._waiting_since.items() if now - t >= patience),
            leaving=self._me.leaving,
            draining_max=self._settings.draining_max,
        )

    def _may_take(self, now: float) -> bool:
        """Return whether this worker is a member, knows the others and was there a moment ago."""
        if self._told is None or self._listed_at is None or not self._connected:
            return False
        if self._lapsed(now):
            return False
        # Others that start together with this one may still be coming. But nobody waits for that
        # whose owner leaves.
        new = now - self._joined_at < self._settings.settle_s and self._me.pinned is None
        return not new or any(member.leaving for member in self._view.others().values())

    def _lapsed(self, now: float) -> bool:
        """Return whether the own key may have ended: the last renewal is too long ago."""
        return now - self._told_at >= self._settings.ttl_s - 1.0

    def _due(self, at: float, interval: Literal["renew_s", "list_s", "probe_s"]) -> bool:
        seconds: float = getattr(self._settings, interval)
        return self._clock() - at >= seconds

    def _cut_off(self, error: TransientError) -> None:
        if self._connected:
            _log.warning("fleet.cut_off", detail=str(error))
        self._connected = False

    # --- keys -----------------------------------------------------------------------------------

    async def _list(self) -> None:
        entries = await self._store.entries()
        self._listed_at = self._clock()
        for entry in entries:
            self._learn(entry)
        self._view.compare({entry.id for entry in entries})
        if self._is_gone(entries):
            # Expired, or somebody thought us gone: come back, and give way where others are now.
            self._contested = True
            await self._tell()

    def _is_gone(self, entries: Sequence[MemberEntry]) -> bool:
        """Return whether the own key has ended or was deleted; the answer may be a little old."""
        for entry in entries:
            if entry.id == self._me.id:
                return entry.member is None and entry.revision > self._revision
        return self._due(self._told_at, "list_s")

    def _learn(self, entry: MemberEntry) -> bool:
        """Take in one key; return whether it was news."""
        now, was_deleted = self._clock(), self._view.is_deleted(entry.id)
        news = self._view.learn(entry, now)
        if news and was_deleted and entry.member is not None:
            # It was there all the time, only not for us: else it would go and come for ever.
            self._doubtful[entry.id] = now + self._settings.doubt_s
        return news

    async def _tell(self) -> None:
        """Write the own key."""
        holdings = self._runner.holdings()
        member = msgspec.structs.replace(
            self._me, holdings=tuple(holdings[number] for number in sorted(holdings))
        )
        started = self._clock()
        self._revision = await self._store.put(member)
        if self._told is None:
            self._joined_at = self._clock()
            self._view.arrive(self._joined_at)
            _log.info("fleet.joined", member=member.id, pinned=member.pinned is not None)
        # From before it was sent: the broker may have stored it as early as that.
        self._told, self._told_at = member, started

    async def _tell_changes(self) -> None:
        """Write the own key if others wait for what changed."""
        told = self._told
        if told is None or not self._connected:
            return
        holdings = self._runner.holdings()
        states = {holding.partition: holding.state for holding in told.holdings}
        now = {number: holding.state for number, holding in holdings.items()}
        at_once = told.leaving != self._me.leaving or states.keys() != now.keys()
        late = states != now and self._clock() - self._told_at >= self._settings.report_s
        if not at_once and not late:
            return
        try:
            await self._tell()
        except TransientError as error:
            self._cut_off(error)

    async def _gone(self, member_id: str, answer: ProbeAnswer) -> None:
        """A member did not answer: the broker says it is gone, or its key is, too."""
        now = self._clock()
        reason: Literal["no_responders", "expired"] = "expired"
        if member_id in self._view.suspects:
            self._view.forget(member_id)
        elif answer is ProbeAnswer.GONE and self._doubtful.get(member_id, now) <= now:
            reason = "no_responders"
            try:
                deleted = await self._store.delete(member_id, self._view.revision(member_id))
            except TransientError:
                return
            if deleted is None:
                return  # it has renewed its key meanwhile
            self._view.learn(MemberEntry(id=member_id, revision=deleted, member=None), now)
        else:
            return  # its key is there again, or it only seemed gone before
        self._metrics.member_lost(reason)
        _log.warning("fleet.member_lost", member=member_id, reason=reason)
        self._wake.set()

    # --- the rest -------------------------------------------------------------------------------

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._settings.tick_s):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _left(self) -> bool:
        since = self._leaving_since
        if since is None:
            return False
        return not self._runner.holdings() or self._clock() - since >= self._settings.leave_s

    async def _farewell(self) -> None:
        if self._told is None:
            return
        try:
            await self._store.delete(self._me.id, None)
        except TransientError:
            return  # the key ends by itself
        _log.info("fleet.left", member=self._me.id)

    def _report(self) -> None:
        holdings = self._runner.holdings()
        me = msgspec.structs.replace(self._me, holdings=tuple(holdings.values()))
        everybody = {**self._view.others(), me.id: me}
        self._metrics.fleet(
            members=len(everybody),
            owned=sum(holding.state == "live" for holding in holdings.values()),
            unowned=len(planner.unowned(self._partitions, everybody)),
        )
