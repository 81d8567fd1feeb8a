"""What `psm fleet` shows: the members, and for each partition who runs it and how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import last_for
from psm.adapters.jetstream.streams import PARTITIONS_KEY
from psm.contracts import subjects
from psm.contracts.subjects import PSM
from psm.workers.fleet.members import Holding, Member
from psm.workers.fleet.nats_fleet import NatsMembers
from psm.workers.log.cursor import load_cursor
from psm.workers.log.reader import log_info

_READS = 16  # at the same time

Owned = list[tuple[Member, Holding]]


class PartitionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One partition.

    Attributes:
        owner: id of the member that runs it; several, with commas, while they meet; or None.
        state: `live`, `recovering`, `draining`, `stopped`, `contested` or `unowned`.
        position: log sequence its owner has folded; None without an owner.
        lag: log sequences between that and the partition's last message.
        committed: log sequence up to which all updates are committed; 0 before the first.
    """

    partition: int
    owner: str | None
    state: str
    position: int | None
    lag: int | None
    committed: int


class MemberRow(msgspec.Struct, frozen=True, kw_only=True):
    """One worker.

    Attributes:
        kind: `share`, or `pinned` when it was told its partitions.
        state: `active` or `leaving`.
        live: partitions it runs.
        partitions: partitions it has, those that are not live included.
        lag: sum over its partitions.
    """

    member: str
    host: str
    pid: int
    version: str
    started_at: str
    kind: str
    state: str
    live: int
    partitions: int
    lag: int


class FleetReport(msgspec.Struct, frozen=True, kw_only=True):
    """All of it; `unowned` are the partitions that nobody runs."""

    members: list[MemberRow]
    partitions: list[PartitionRow]
    unowned: list[int]


async def fleet_report(nc: Client) -> FleetReport:
    """Read keys and cursors; how many partitions there are, the log itself says.

    Raises:
        ConfigError: there is no log, or no bucket `psm-fleet`.
        TransientError: the broker does not answer.
    """
    log = await log_info(nc)
    partitions = int(log.config["metadata"][PARTITIONS_KEY])
    entries = await NatsMembers(nc).entries()
    members = [entry.member for entry in entries if entry.member is not None]
    members.sort(key=lambda member: member.id)
    limit = asyncio.Semaphore(_READS)

    async def committed(number: int) -> int:
        async with limit:
            stored = await last_for(nc, PSM, subjects.cursor(number))
        return load_cursor(stored.data).log_sequence if stored else 0

    cursors = await asyncio.gather(*map(committed, range(partitions)))
    return report_of(members, cursors)


def report_of(members: Sequence[Member], cursors: Sequence[int]) -> FleetReport:
    """Put the report together; `cursors` has the committed position of each partition."""
    rows = [_partition(number, members, committed) for number, committed in enumerate(cursors)]
    return FleetReport(
        members=[_member(member) for member in members],
        partitions=rows,
        unowned=[row.partition for row in rows if row.state in {"unowned", "stopped"}],
    )


def _partition(number: int, members: Sequence[Member], committed: int) -> PartitionRow:
    owned: Owned = [
        (member, holding)
        for member in members
        for holding in member.holdings
        if holding.partition == number
    ]
    if not owned:
        return PartitionRow(
            partition=number,
            owner=None,
            state="unowned",
            position=None,
            lag=None,
            committed=committed,
        )
    furthest = max((holding for _, holding in owned), key=lambda holding: holding.position)
    return PartitionRow(
        partition=number,
        owner=",".join(member.id for member, _ in owned),
        state=furthest.state if len(owned) == 1 else "contested",
        position=furthest.position,
        lag=furthest.lag,
        committed=committed,
    )


def _member(member: Member) -> MemberRow:
    return MemberRow(
        member=member.id,
        host=member.host,
        pid=member.pid,
        version=member.version,
        started_at=member.started_at,
        kind="share" if member.pinned is None else "pinned",
        state="leaving" if member.leaving else "active",
        live=sum(holding.state == "live" for holding in member.holdings),
        partitions=len(member.holdings),
        lag=sum(holding.lag for holding in member.holdings),
    )
