"""The real fleet logic on twins: who has what after joins, deaths, silence and broken clocks."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import msgspec
import pytest
from tests.support.memory_fleet import MemoryBucket, MemoryWorker

from psm.workers.fleet import Holding, Member, MemberEntry
from psm.workers.fleet.members import dump_member, load_member, this_member
from psm.workers.fleet.planner import Situation, plan, unowned
from psm.workers.fleet.ports import ProbeAnswer
from psm.workers.fleet.probing import neighbours

PARTITIONS = 8
TICK_S = 0.1


class Cluster:
    """Some workers on one bucket, turned by hand."""

    def __init__(self, *names: str) -> None:
        self.bucket = MemoryBucket()
        self.workers = {name: MemoryWorker(name, self.bucket, PARTITIONS) for name in names}

    def add(self, worker: MemoryWorker) -> MemoryWorker:
        self.workers[worker.name] = worker
        return worker

    def __getitem__(self, name: str) -> MemoryWorker:
        return self.workers[name]

    async def run(self, seconds: float) -> None:
        """Let time pass; workers that are gone or frozen do nothing."""
        for _ in range(round(seconds / TICK_S)):
            for name, worker in self.workers.items():
                if name not in self.bucket.gone | self.bucket.frozen:
                    await worker.fleet.turn()
            for _ in range(6):  # the probes
                await asyncio.sleep(0)
            self.bucket.now += TICK_S

    def kill(self, name: str) -> None:
        self.bucket.gone.add(name)
        self.workers[name].runner.states.clear()

    def owners(self) -> dict[int, list[str]]:
        """Return who has each partition."""
        return {
            number: [name for name, worker in self.workers.items() if number in worker.holds]
            for number in range(PARTITIONS)
        }

    def each_has_one(self) -> bool:
        return all(len(owners) == 1 for owners in self.owners().values())


# --- joining and leaving ------------------------------------------------------------------------


async def test_worker_alone_takes_everything() -> None:
    """After a moment for others that start together with it."""
    cluster = Cluster("a")
    await cluster.run(0.2)
    assert cluster["a"].holds == set()
    assert not cluster["a"].fleet.readiness()[0]
    await cluster.run(0.5)
    assert cluster["a"].holds == set(range(PARTITIONS))
    assert cluster["a"].fleet.readiness()[0]


async def test_workers_that_start_together_share_without_handing_over() -> None:
    """Nobody takes what it would have to give away a moment later."""
    cluster = Cluster("a", "b", "c")
    await cluster.run(2)
    assert cluster.each_has_one()
    assert sorted(len(worker.holds) for worker in cluster.workers.values()) == [2, 3, 3]
    assert all(worker.runner.most_draining == 0 for worker in cluster.workers.values())


async def test_newcomer_waits_until_the_owner_let_go() -> None:
    """It takes nothing that somebody else still has, however long that drains."""
    cluster = Cluster("a")
    await cluster.run(1)
    cluster["a"].runner.slow = True
    cluster.add(MemoryWorker("b", cluster.bucket, PARTITIONS))
    await cluster.run(3)
    assert cluster["b"].holds == set()
    ready, detail = cluster["b"].fleet.readiness()
    assert not ready
    assert set(detail["waiting"].values()) == {"a"}
    for _ in range(3):
        cluster["a"].runner.drained()
        await cluster.run(0.3)
    assert len(cluster["b"].holds) == PARTITIONS // 2
    assert cluster.each_has_one()
    assert cluster["b"].fleet.readiness()[0]


async def test_partitions_are_handed_over_a_few_at_a_time() -> None:
    """A leaver goes on with the rest while the first are on their way."""
    cluster = Cluster("a", "b")
    await cluster.run(1)
    a = cluster["a"]
    a.runner.slow = True
    cluster.add(MemoryWorker("c", cluster.bucket, PARTITIONS))
    a.fleet.leave()
    for _ in range(8):
        await cluster.run(0.2)
        a.runner.drained()
    await cluster.run(0.5)
    assert a.holds == set()
    assert 0 < a.runner.most_draining <= 4
    assert cluster.each_has_one()


async def test_patience_with_an_owner_that_never_lets_go_ends() -> None:
    """A member that keeps what is not its own is fenced in the end, not waited for for ever."""
    cluster = Cluster("a")
    await cluster.run(1)
    cluster["a"].runner.slow = True
    cluster.add(MemoryWorker("b", cluster.bucket, PARTITIONS))
    await cluster.run(14)
    assert cluster["b"].holds == set()
    await cluster.run(4)
    assert len(cluster["b"].holds) == PARTITIONS // 2


async def test_pinned_partitions_are_left_to_their_worker() -> None:
    """A worker that was told its partitions keeps them; the others share the rest."""
    cluster = Cluster("a", "b")
    await cluster.run(1)
    cluster.add(MemoryWorker("fixed", cluster.bucket, PARTITIONS, pinned=(0, 1)))
    await cluster.run(3)
    assert cluster["fixed"].holds == {0, 1}
    assert cluster["a"].holds | cluster["b"].holds == set(range(2, PARTITIONS))
    assert cluster.each_has_one()
    cluster["fixed"].fleet.leave()
    await cluster.run(1)
    assert cluster["fixed"].holds == set()
    assert cluster.each_has_one()


async def test_two_pinned_to_the_same_partition_both_run_it() -> None:
    """An operator who insists gets it: the cursor decides which of them commits."""
    cluster = Cluster()
    for name in ("x", "y"):
        cluster.add(MemoryWorker(name, cluster.bucket, PARTITIONS, pinned=(3,)))
    await cluster.run(1)
    assert cluster.owners()[3] == ["x", "y"]


# --- dying --------------------------------------------------------------------------------------


async def test_killed_worker_is_replaced_long_before_its_key_ends() -> None:
    """The broker says that nobody is there; two probes, and the others take over."""
    cluster = Cluster("a", "b", "c")
    await cluster.run(2)
    cluster.kill("b")
    await cluster.run(0.6)
    assert cluster.each_has_one()
    assert cluster["b"].holds == set()
    assert [entry.id for entry in cluster.bucket.entries() if entry.member] == ["a", "c"]


async def test_frozen_worker_is_replaced_when_its_key_ends() -> None:
    """Silence proves nothing while the key is there; what it did meanwhile, fencing sees to."""
    cluster = Cluster("a", "b")
    await cluster.run(2)
    cluster.bucket.frozen.add("b")
    before = cluster["a"].holds
    await cluster.run(6.5)
    assert cluster["a"].holds == before
    await cluster.run(6)
    assert cluster["a"].holds == set(range(PARTITIONS))


async def test_frozen_worker_that_wakes_gives_way_and_gets_its_share_back() -> None:
    """What others took over meanwhile it lets go at once, and takes again when they let go."""
    cluster = Cluster("a", "b")
    await cluster.run(2)
    cluster.bucket.frozen.add("b")
    await cluster.run(13)
    assert not cluster.each_has_one()
    cluster.bucket.frozen.clear()
    await cluster["b"].fleet.turn()
    assert cluster["b"].holds == set()
    await cluster.run(2)
    assert cluster.each_has_one()
    assert len(cluster["b"].holds) == PARTITIONS // 2


async def test_worker_that_only_seemed_gone_comes_back_and_is_believed() -> None:
    """A wrong "no responders" costs one takeover, not one every second."""
    cluster = Cluster("a", "b")
    await cluster.run(2)
    cluster["a"].prober.wrong["b"] = ProbeAnswer.GONE
    await cluster.run(2)
    puts = cluster["b"].store.puts
    await cluster.run(10)
    assert cluster.each_has_one()
    assert len(cluster["b"].holds) == PARTITIONS // 2
    assert cluster["b"].store.puts - puts < 8


async def test_one_bad_probe_is_not_believed() -> None:
    """A moment in which a connection is made anew is no death."""
    cluster = Cluster("a", "b")
    await cluster.run(2)
    cluster["a"].prober.script = [ProbeAnswer.GONE, ProbeAnswer.ALIVE] * 8
    await cluster.run(5)
    assert cluster["a"].prober.script == []
    assert len(cluster["b"].holds) == PARTITIONS // 2


async def test_takeover_works_without_any_news() -> None:
    """News may get lost; the keys are read anyway."""
    cluster = Cluster("a", "b", "c")
    cluster.bucket.mute = True
    await cluster.run(4)
    assert cluster.each_has_one()
    cluster.kill("c")
    await cluster.run(3)
    assert cluster.each_has_one()


# --- what must not happen -----------------------------------------------------------------------


async def test_worker_that_is_cut_off_takes_nothing() -> None:
    """It cannot know who is there; what it has it keeps, for the cursor decides."""
    cluster = Cluster("a", "b")
    await cluster.run(2)
    held = cluster["a"].holds
    cluster["a"].store.down = True
    cluster.kill("b")
    await cluster.run(20)
    assert cluster["a"].holds == held
    cluster["a"].store.down = False
    await cluster.run(1)
    assert cluster["a"].holds == set(range(PARTITIONS))


async def test_broker_whose_clock_jumps_ends_nobody() -> None:
    """All keys are gone at once, but the members answer: nothing moves."""
    cluster = Cluster("a", "b", "c")
    await cluster.run(2)
    before = cluster.owners()
    for _ in range(3):
        cluster.bucket.now += 3600
        cluster.bucket.entries()
        cluster.bucket.now -= 3600
        await cluster.run(0.5)
        assert cluster.owners() == before
    await cluster.run(5)
    assert cluster.owners() == before


@pytest.mark.parametrize("offset_s", [-3600.0, 3600.0])
async def test_clocks_an_hour_apart_change_nothing(offset_s: float) -> None:
    """Clocks are only compared with themselves: the same turns, the same owners."""
    straight, skewed = Cluster("a", "b", "c"), Cluster("a", "c")
    skewed.add(MemoryWorker("b", skewed.bucket, PARTITIONS, offset_s=offset_s))
    for cluster in (straight, skewed):
        await cluster.run(2)
        cluster.kill("a")
        await cluster.run(1)
        cluster.bucket.frozen.add("c")
        await cluster.run(13)
        cluster.bucket.frozen.clear()
        await cluster.run(2)
        assert cluster.each_has_one()
    assert {n: set(o) for n, o in straight.owners().items()} == {
        n: set(o) for n, o in skewed.owners().items()
    }


async def test_fenced_partition_rests_before_it_is_taken_again() -> None:
    """Whoever was refused waits; then the membership decides again."""
    cluster = Cluster("a")
    await cluster.run(1)
    runner = cluster["a"].runner
    del runner.states[5]
    runner.rests.add(5)
    await cluster.run(1)
    assert 5 not in cluster["a"].holds
    runner.rests.clear()
    await cluster.run(0.2)
    assert 5 in cluster["a"].holds


async def test_storm_of_joins_and_deaths_ends_in_peace() -> None:
    """Workers come, leave and die for a minute: afterwards each partition has one owner."""
    dice = random.Random(4)
    cluster = Cluster("w0", "w1")
    did: Counter[str] = Counter()
    for turn in range(60):
        alive = [n for n in cluster.workers if n not in cluster.bucket.gone]
        what = dice.choice(["join", "leave", "kill"]) if len(alive) > 1 else "join"
        did[what] += 1
        if what == "join":
            cluster.add(MemoryWorker(f"j{turn}", cluster.bucket, PARTITIONS))
        elif what == "leave":
            cluster[dice.choice(alive)].fleet.leave()
        else:
            cluster.kill(dice.choice(alive))
        await cluster.run(1)
        for name, worker in cluster.workers.items():
            if worker.fleet.readiness()[1]["leaving"] and not worker.holds:
                cluster.kill(name)
    cluster.add(MemoryWorker("last", cluster.bucket, PARTITIONS))
    await cluster.run(16)
    assert cluster.each_has_one()
    assert min(did.values()) > 5


# --- the pieces ---------------------------------------------------------------------------------


def member(name: str, *, leaving: bool = False, pinned: tuple[int, ...] | None = None) -> Member:
    return Member(
        id=name, host=name, pid=1, version="0", started_at="", leaving=leaving, pinned=pinned
    )


def test_leaving_members_get_nothing() -> None:
    """Those that leave are not counted when partitions are shared out."""
    others = {"b": member("b", leaving=True)}
    assert plan(Situation(me="a", partitions=8, others=others)).mine == frozenset(range(8))
    assert plan(Situation(me="a", partitions=8, leaving=True)).mine == frozenset()


def test_nothing_moves_while_others_are_still_coming() -> None:
    """Surplus is let go once the membership is quiet."""
    restless = Situation(
        me="a", partitions=8, others={"b": member("b")}, holding=frozenset(range(8)), settled=False
    )
    assert plan(restless).let_go == ()


def test_contested_partitions_are_let_go_all_at_once() -> None:
    """What others run already is no handover; what only moves is let go a few at a time."""
    holdings = tuple(Holding(partition=number, state="live") for number in range(6))
    others = {"b": msgspec.structs.replace(member("b", pinned=()), holdings=holdings)}
    woken = Situation(
        me="a", partitions=8, others=others, holding=frozenset(range(8)), contested=True
    )
    assert plan(woken).let_go == tuple(range(6))
    moving = Situation(me="a", partitions=8, holding=frozenset(range(8)), leaving=True)
    assert plan(moving).let_go == (0, 1, 2, 3)


def test_every_member_is_watched_by_others() -> None:
    """However many there are, each is probed by three others, or by all if there are fewer."""
    names = [f"w{n}" for n in range(10)]
    watched = Counter(n for me in names for n in neighbours(me, [o for o in names if o != me]))
    assert watched == dict.fromkeys(names, 3)
    assert neighbours("a", ["b"]) == ["b"]
    assert neighbours("a", []) == []


def test_unowned_are_those_nobody_runs() -> None:
    """A partition that stopped for good is as good as unowned."""
    holdings = (Holding(partition=0, state="recovering"), Holding(partition=2, state="stopped"))
    members = {"a": msgspec.structs.replace(member("a"), holdings=holdings), "b": member("b")}
    assert unowned(3, members) == [1, 2]


def test_member_is_the_same_after_its_key_was_read() -> None:
    """The bytes in the bucket hold everything, and a newer version's fields do no harm."""
    me = this_member("1.2.3", (1, 2))
    assert load_member(dump_member(me)) == me
    assert load_member(dump_member(me)[:-1] + b',"colour":"red"}') == me
    assert this_member("1.2.3", None).id != me.id


def test_deleted_entry_has_no_member() -> None:
    """News of a deletion and of a member look different."""
    assert MemberEntry(id="a", revision=1, member=None).member is None
