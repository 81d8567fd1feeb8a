"""The records of one slot in `RISK`, written behind its owner record and read back.

A write is acknowledged, or it is not known to be stored: then nothing more is written behind this
owner record, because what is still on its way could come after it. The owner takes the record
again, reads what is there, and goes on.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import zip_longest

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import (
    ApiConflictError,
    Outgoing,
    StoredMessage,
    get,
    last_for,
    publish_atomic,
    publish_expected,
    read_range,
)
from psm.adapters.jetstream.batch import (
    EXPECTED_LAST_SUBJECT_SEQUENCE,
    EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT,
    MESSAGE_ID,
)
from psm.adapters.tasks import BackOff
from psm.adapters.tracing import HEADER
from psm.contracts import subjects
from psm.contracts.codec import encode
from psm.contracts.errors import FencedError, LogDamagedError, PSMError, TransientError
from psm.contracts.subjects import RISK, SNAPSHOTS
from psm.risk.messages import RiskOutput
from psm.workers.risk.owner import OwnerRecord, dump_owner, load_owner

OWNER_HEADER = "Psm-Owner"
"""One value for each attempt to own a slot: an unanswered write is known by it again."""

SINGLES_MAX = 4
"""So many records go one by one: with one replica a batch costs as much as six of them."""

ReadRecord = Callable[[int], Awaitable[StoredMessage | None]]
"""Message of RISK at a sequence; None if it is gone."""

_RETRY_S = (0.02, 1.0)
_KINDS = ("decision", "alert", "halt", "release")


def record_id(slot: int, data: bytes) -> str:
    """Return the message id of a record: its number is in its bytes."""
    return f"{slot}:{hashlib.sha256(data).hexdigest()}"


class NotStoredError(PSMError):
    """A record was not acknowledged, and nothing may follow it: take the owner record again."""


class Owned(msgspec.Struct, frozen=True, kw_only=True):
    """An owner record as stored."""

    sequence: int
    record: OwnerRecord


class RiskStore:
    """The records of one slot.

    Attributes:
        slot: number.
        fence: sequence of the own owner record, which every write expects; 0 before it is taken.
        checkpoint_time: when the checkpoint read last was stored, ns since 1970.
    """

    def __init__(self, nc: Client, slot: int) -> None:
        self.slot = slot
        self.fence = 0
        self.checkpoint_time = 0
        self._nc = nc
        self._owner = subjects.risk_owner(slot)

    # --- the owner record -----------------------------------------------------------------------

    async def newest(self) -> Owned | None:
        """Return the newest owner record, from the leader; None where there never was one.

        Raises:
            LogDamagedError: there was one, and it is gone. Nobody may begin anew: an owner that
                still lives would not be fenced, and what the slot had counted would be forgotten.
        """
        if (found := await self._newest()) is not None:
            return found
        known = await last_for(self._nc, RISK, subjects.risk_slot(self.slot)) or await last_for(
            self._nc, SNAPSHOTS, subjects.risk_known(self.slot)
        )
        # The first owner of all may have come between the two looks.
        if known is None or (found := await self._newest()) is not None:
            return found
        raise LogDamagedError(
            f"slot {self.slot}: its owner record is gone, and {known.subject} says that there was "
            "one: restore RISK from its backup; see docs/runbook.md, 'An owner record is gone'"
        )

    async def _newest(self) -> Owned | None:
        stored = await last_for(self._nc, RISK, self._owner)
        if stored is None:
            return None
        return Owned(sequence=stored.sequence, record=load_owner(stored.data))

    async def own(self, record: OwnerRecord, parts: Sequence[bytes], expected: int) -> None:
        """Store an owner record behind the one at `expected`; from then on nobody else writes.

        Raises:
            FencedError: another record was stored meanwhile.
            TransientError: the broker does not answer.
        """
        token = uuid.uuid4().hex
        headers = {OWNER_HEADER: token, EXPECTED_LAST_SUBJECT_SEQUENCE: str(expected)}
        messages = [
            Outgoing(subjects.entrance(self._owner), dump_owner(record), headers),
            *(
                Outgoing(subjects.entrance(subjects.risk_checkpoint(self.slot, place)), part)
                for place, part in enumerate(parts)
            ),
        ]
        back_off = BackOff(*_RETRY_S)
        while True:
            try:
                ack = await publish_atomic(self._nc, RISK, messages, batch_id=uuid.uuid4().hex)
            except (ApiConflictError, TransientError) as error:
                stored = await last_for(self._nc, RISK, self._owner)
                if stored is not None and stored.header(OWNER_HEADER) == token:
                    self.fence = stored.sequence
                    return
                if (stored.sequence if stored else 0) != expected:
                    raise FencedError(
                        f"slot {self.slot}: another owner record was stored"
                    ) from error
            else:
                self.fence = ack.first
                return
            await back_off.pause()

    async def remember(self, record: OwnerRecord) -> None:
        """Note in SNAPSHOTS, which does not age, that this slot has an owner record.

        Raises:
            TransientError: the broker does not answer.
        """
        note = {"slot": self.slot, "sequence": self.fence, "n": record.n, "owner": record.owner}
        subject = subjects.risk_known(self.slot)
        await publish_expected(self._nc, SNAPSHOTS, subject, encode(note), expected=None)

    # --- records --------------------------------------------------------------------------------

    async def write(self, outputs: Sequence[RiskOutput], traces: Sequence[str | None] = ()) -> None:
        """Store records in their order, each behind the own owner record.

        One write is in flight: the record fences other owners, not one's own late publish.

        Args:
            outputs: the records.
            traces: W3C trace context of each, of whoever asked for it.

        Raises:
            NotStoredError: one of them, and so all behind it, may be stored or not.
        """
        try:
            if len(outputs) <= SINGLES_MAX:
                for place, output in enumerate(outputs):
                    message = self._messages([output], traces[place : place + 1])
                    await publish_atomic(self._nc, RISK, message, batch_id="")
            else:
                batch = self._messages(outputs, traces)
                await publish_atomic(self._nc, RISK, batch, batch_id=uuid.uuid4().hex)
        except (ApiConflictError, TransientError) as error:
            raise NotStoredError(f"slot {self.slot}: {error}") from error

    def _messages(
        self, outputs: Sequence[RiskOutput], traces: Sequence[str | None]
    ) -> list[Outgoing]:
        """Return the messages; only a batch's first one is checked.

        The fence is for other owners: a message that comes twice would pass it twice. So
        each record has an id, which follows from its bytes: the broker stores it once.
        """
        fence = {
            EXPECTED_LAST_SUBJECT_SEQUENCE: str(self.fence),
            EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT: self._owner,
        }
        return [
            Outgoing(
                self._entrance(output),
                output.data,
                {
                    MESSAGE_ID: record_id(self.slot, output.data),
                    **({} if place else fence),
                    **({HEADER: trace} if trace is not None else {}),
                },
            )
            for place, (output, trace) in enumerate(zip_longest(outputs, traces))
        ]

    def _entrance(self, output: RiskOutput) -> str:
        return subjects.entrance(subjects.risk_record(output.kind, self.slot, output.key))

    async def checkpoint(self, owned: Owned, read: ReadRecord | None = None) -> tuple[int, bytes]:
        """Return the checkpoint that an owner record carries or names, and where it stands.

        Args:
            owned: the owner record.
            read: from where; None: RISK's leader.

        Raises:
            LogDamagedError: it is not there, or has other bytes.
        """
        at = owned.record.checkpoint_at or owned.sequence
        read = read or partial(get, self._nc, RISK)
        stored = await read(at)
        if stored is None:
            raise self._lost(f"the record with its checkpoint, at RISK sequence {at}, is gone")
        self.checkpoint_time = stored.time_ns
        record = load_owner(stored.data)
        data = record.checkpoint
        if data is None:
            places = range(at + 1, at + 1 + record.parts)
            parts = await asyncio.gather(*map(read, places))
            data = b"".join(part.data for part in parts if part is not None)
        if hashlib.sha256(data).hexdigest() != owned.record.checkpoint_hash:
            raise self._lost(f"its checkpoint at RISK sequence {at} is not what was written")
        return at, data

    async def recorded(self, behind: int) -> list[StoredMessage]:
        """Return the slot's records between a checkpoint and the own owner record, in order.

        Raises:
            FencedError: another process owns the slot by now.
            TransientError: a replica does not show all of them; another one may.
        """
        found: list[StoredMessage] = []
        pattern = subjects.risk_slot(self.slot)
        own_seen = behind == self.fence  # it carries the checkpoint itself
        async for batch in read_range(self._nc, RISK, [pattern], behind + 1, self.fence):
            own_seen = batch[-1].sequence == self.fence
            found += [one for one in batch if subjects.risk_kind(one.subject) in _KINDS]
        last = found[-1].sequence if found else 0
        newest = await asyncio.gather(
            *(last_for(self._nc, RISK, f"risk.{kind}.{self.slot}.*") for kind in _KINDS)
        )
        there = max((one.sequence for one in newest if one is not None), default=0)
        if there > self.fence:
            raise FencedError(f"slot {self.slot}: another owner wrote behind this one's record")
        if not own_seen or behind < there != last:
            raise TransientError(
                f"slot {self.slot}: RISK shows its records up to {last}, and the leader {there}"
            )
        return found

    def _lost(self, what: str) -> LogDamagedError:
        return LogDamagedError(f"slot {self.slot}: {what}; restore RISK from its backup")
