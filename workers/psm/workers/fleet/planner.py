"""What a worker should take and let go, given what it knows. Pure.

Membership is a hint and may be wrong or late: the worst that a wrong plan costs is a refused
commit. So two rules keep the peace in all the usual cases. A partition is taken only when nobody
else says it has it, and it is let go only when the membership has been quiet for a moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import msgspec

from psm.workers.fleet.members import Member
from psm.workers.fleet.rendezvous import shares


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a plan depends on.

    Attributes:
        me: this worker's id.
        partitions: of the log.
        pinned: partitions that this worker runs whatever the others do; None takes its share.
        others: the other members that are thought alive, by id.
        holding: partitions this worker has, those it is letting go included.
        draining: those it is letting go.
        resting: partitions from which it was fenced a moment ago.
        settled: nobody came within the last moments; partitions may move.
        may_take: it is a member itself, as far as it knows.
        contested: it was away, or was thought so, and others may have taken over.
        waited: partitions that another member should have let go long ago.
        leaving: it takes nothing more and hands over what it has.
        draining_max: how many it lets go at the same time; not of those that others run, too.
    """

    me: str
    partitions: int
    pinned: tuple[int, ...] | None = None
    others: Mapping[str, Member] = {}
    holding: frozenset[int] = frozenset()
    draining: frozenset[int] = frozenset()
    resting: frozenset[int] = frozenset()
    settled: bool = True
    may_take: bool = True
    contested: bool = False
    waited: frozenset[int] = frozenset()
    leaving: bool = False
    draining_max: int = 4


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do now.

    Attributes:
        mine: partitions this worker should have.
        take: of these, to take now.
        let_go: to drain and let go now.
        waiting: of `mine`, those that another member still has, and which.
    """

    mine: frozenset[int]
    take: tuple[int, ...]
    let_go: tuple[int, ...]
    waiting: Mapping[int, str]


def plan(now: Situation) -> Plan:
    """Return what to do."""
    held_by_others = {
        number: member.id
        for member in sorted(now.others.values(), key=lambda member: member.id)
        for number in member.holds
    }
    mine = frozenset() if now.leaving else frozenset(_mine(now))
    missing = sorted(mine - now.holding - now.resting)
    free = [
        number
        for number in missing
        if now.pinned is not None or number not in held_by_others or number in now.waited
    ]
    take = free if now.may_take else []
    surplus = now.holding - mine if now.settled or now.leaving else frozenset[int]()
    room = max(0, now.draining_max - len(now.draining))
    let_go = set(sorted(surplus - now.draining)[:room])
    if now.contested and now.pinned is None:
        # Others run these already: nothing is gained by going on with them for a while.
        let_go |= (now.holding & held_by_others.keys()) - now.draining
    return Plan(
        mine=mine,
        take=tuple(take),
        let_go=tuple(sorted(let_go)),
        waiting={number: held_by_others[number] for number in missing if number in held_by_others},
    )


def unowned(partitions: int, members: Mapping[str, Member]) -> list[int]:
    """Return the partitions that no member runs, ascending: nobody has it, or it stopped."""
    run = {
        holding.partition
        for member in members.values()
        for holding in member.holdings
        if holding.state != "stopped"
    }
    return [number for number in range(partitions) if number not in run]


def _mine(now: Situation) -> tuple[int, ...]:
    """Partitions this worker should have, were everybody to agree."""
    if now.pinned is not None:
        return now.pinned
    staying = [member for member in now.others.values() if not member.leaving]
    pinned = {number for member in staying for number in member.pinned or ()}
    sharing = {now.me} | {member.id for member in staying if member.pinned is None}
    free = tuple(number for number in range(now.partitions) if number not in pinned)
    return _share(now.me, free, tuple(sorted(sharing)))


@lru_cache(maxsize=64)
def _share(me: str, partitions: tuple[int, ...], members: tuple[str, ...]) -> tuple[int, ...]:
    owners = shares(partitions, members)
    return tuple(number for number in partitions if owners[number] == me)
