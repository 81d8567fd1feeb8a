"""Fencing slots from outside: what a person's halt does before it answers.

The halt is appended to the rulebook first. Then an owner record is written for each slot in scope:
no approval that was decided before can be stored behind it. The owner takes its record again and
reads the rulebook from the leader on the way. A slot that nobody ever owned needs no fence: its
first owner reads the rulebook, too.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Iterable

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import (
    ApiConflictError,
    Outgoing,
    last_for,
    publish_atomic,
    publish_expected,
)
from psm.adapters.jetstream.batch import EXPECTED_LAST_SUBJECT_SEQUENCE
from psm.adapters.tasks import BackOff
from psm.contracts import subjects
from psm.contracts.errors import TransientError
from psm.contracts.subjects import RISK, RULEBOOK
from psm.risk.rulebook import SLOTS, Effect, Rulebook, slot_of
from psm.workers.risk.owner import dump_owner, load_owner
from psm.workers.risk.store import OWNER_HEADER

_RETRY_S = (0.005, 0.5)
_GIVE_UP_S = 10.0


class Fence(msgspec.Struct, frozen=True, kw_only=True):
    """A slot behind whose record nothing is stored that was decided before.

    Attributes:
        slot: number.
        sequence: of the fencing record in RISK; 0 where nobody ever owned the slot.
    """

    slot: int
    sequence: int


def slots_in_scope(rulebook: Rulebook, scope: str, name: str) -> list[int]:
    """Return the slots whose decisions a scope speaks of, ascending.

    Args:
        rulebook: as it stands.
        scope: `firm`, `group`, `account`, `strategy` or `symbol`.
        name: of it.
    """
    if scope == "group":
        # A parent's halt holds for its children.
        names = {name, *(g.name for g in rulebook.groups.values() if g.parent == name)}
        return sorted({slot_of(one) for one in names})
    if scope == "account":
        group = rulebook.group_of(name)
        return [] if group is None else [slot_of(group.name)]
    return sorted({slot_of(one) for one in rulebook.groups}) or list(range(SLOTS))


async def fence_tightened(
    nc: Client, rulebook: Rulebook, effects: Iterable[Effect], by: str
) -> list[Fence]:
    """Fence the slots for which an event tightened something; none where it did not.

    Args:
        nc: connection.
        rulebook: with the event in it.
        effects: of the event.
        by: who said it, for the records.

    Raises:
        TransientError: a fence was not acknowledged within ten seconds; do it again.
    """
    scopes = [effect.scope.partition(":") for effect in effects if effect.tightens]
    slots = {slot for scope, _, name in scopes for slot in slots_in_scope(rulebook, scope, name)}
    return await fence(nc, slots, by)


async def append_and_fence(
    nc: Client, subject: str, event: bytes, slots: Collection[int], by: str
) -> tuple[int, list[Fence]]:
    """Append an event to the rulebook, then fence slots; return when all is acknowledged.

    Args:
        nc: connection.
        subject: of the event, `rulebook.<scope>.<id>`.
        event: its bytes.
        slots: those in its scope.
        by: who fences, for the records.

    Returns:
        The event's sequence in RULEBOOK, and the fences.

    Raises:
        TransientError: not all is acknowledged; do it again.
    """
    ack = await publish_expected(nc, RULEBOOK, subject, event, expected=None)
    return ack.sequence, await fence(nc, slots, by)


async def fence(nc: Client, slots: Collection[int], by: str) -> list[Fence]:
    """Write a fencing owner record for each slot; from the answer on, nothing older is stored.

    Raises:
        TransientError: a fence was not acknowledged within ten seconds; do it again.
        LogDamagedError: what stands as an owner record is none.
    """
    return list(await asyncio.gather(*(_fenced(nc, slot, by) for slot in sorted(slots))))


async def _fenced(nc: Client, slot: int, by: str) -> Fence:
    """Put a record behind the newest one; its owner may write another one meanwhile."""
    owner, token = subjects.risk_owner(slot), uuid.uuid4().hex
    loop = asyncio.get_running_loop()
    until, back_off = loop.time() + _GIVE_UP_S, BackOff(*_RETRY_S)
    while True:
        try:
            newest = await last_for(nc, RISK, owner)
            if newest is None:
                return Fence(slot=slot, sequence=0)
            if newest.header(OWNER_HEADER) == token:  # stored, only the answer was lost
                return Fence(slot=slot, sequence=newest.sequence)
            record = load_owner(newest.data).following(by, "fence", newest.sequence)
            headers = {
                OWNER_HEADER: token,
                EXPECTED_LAST_SUBJECT_SEQUENCE: str(newest.sequence),
            }
            message = Outgoing(subjects.entrance(owner), dump_owner(record), headers)
            ack = await publish_atomic(nc, RISK, [message], batch_id="")
        except (ApiConflictError, TransientError) as error:
            if loop.time() >= until:
                raise TransientError(
                    f"slot {slot} is not fenced: {error}; try again, the halt itself is appended"
                ) from error
            await back_off.pause()
        else:
            return Fence(slot=slot, sequence=ack.first)
