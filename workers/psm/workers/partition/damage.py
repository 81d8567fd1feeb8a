"""Where a damaged log begins: the first event that is missing or has other bytes.

Three things remember the log: the broker's own count of it, the commit cursors and updates in
PSM, and the heads in PostgreSQL. Each names the first damaged point as exactly as it can.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import StoredMessage, get, last_for, read_range
from psm.adapters.jetstream.api import call
from psm.adapters.jetstream.batch import EXPECTED_LAST_SUBJECT_SEQUENCE
from psm.contracts import subjects
from psm.contracts.subjects import PSM, TRADES
from psm.contracts.updates import StateUpdated
from psm.contracts.updates_read import Decoded
from psm.projections.witness.heads import ChainHead, LogHead
from psm.workers.log.cursor import Cursor, load_cursor
from psm.workers.log.reader import log_info, stored_at

CURSORS_MAX = 20_000
"""How many commits are walked back in search of one that agrees with the log."""

WHAT_NEXT = "run `psm audit`, then see docs/runbook.md, 'A damaged log'"
_STATE = msgspec.json.Decoder(Decoded[StateUpdated])


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """The first event known to be missing or altered.

    Attributes:
        log_sequence: where it stood in the log.
        stream_id, sequence_number: the event there, if anything remembers which it was.
        expected: SHA-256 of its bytes, hex, likewise.
        found: SHA-256 of what is there now; None if nothing is.
    """

    log_sequence: int
    stream_id: str | None = None
    sequence_number: int | None = None
    expected: str | None = None
    found: str | None = None

    def __str__(self) -> str:
        event = f" (event {self.sequence_number} of {self.stream_id})" if self.stream_id else ""
        what = "missing" if self.found is None else f"altered: its hash is {self.found[:16]}…"
        was = f", it was {self.expected[:16]}…" if self.expected and self.found else ""
        return f"log sequence {self.log_sequence}{event} is {what}{was}"


async def first_hole(nc: Client) -> int | None:
    """Return the first log sequence that the broker itself says it lost; None if it has all.

    The log denies deletion, so whatever is not there between its beginning and its end was lost.
    """
    info = await log_info(nc)
    begin = int(info.config.get("first_seq") or 1)
    if info.last_sequence < begin:
        return None
    if info.first_sequence > begin:
        return begin
    if info.messages == info.last_sequence - info.first_sequence + 1:
        return None
    details = await call(nc, f"STREAM.INFO.{TRADES}", {"deleted_details": True})
    deleted = details["state"].get("deleted") or []
    return int(deleted[0]) if deleted else info.first_sequence


async def log_hash(nc: Client, log_sequence: int) -> str | None:
    """Return SHA-256 of the message at a log sequence, from the leader; None if it has none."""
    message = await stored_at(nc, log_sequence)
    return hashlib.sha256(message.data).hexdigest() if message else None


async def by_updates(nc: Client, partition: int) -> Damage | None:
    """Return the first event behind the newest agreeing commit that the log has no more.

    What PSM published of each event carries its hash and log sequence. None if all agree, or if
    none of the last `CURSORS_MAX` commits does.
    """
    newest = await last_for(nc, PSM, subjects.cursor(partition))
    agreeing = await _newest_agreeing(nc, newest)
    if newest is None or agreeing is None:
        return None
    wanted = [f"psm.state.updated.{partition}.*"]
    end = newest.sequence + load_cursor(newest.data).updates
    async for batch in read_range(nc, PSM, wanted, agreeing + 1, end):
        for message in batch:
            damage = await _altered(nc, _STATE.decode(message.data).payload)
            if damage is not None:
                return damage
    return None


async def _newest_agreeing(nc: Client, newest: StoredMessage | None) -> int | None:
    """Return where in PSM the newest cursor stands whose log message is there as it was.

    0 where even the first cursor disagrees; None if the search was given up.
    """
    message = newest
    for _ in range(CURSORS_MAX):
        if message is None:
            return 0
        cursor: Cursor = load_cursor(message.data)
        if cursor.log_sequence == 0 or (
            await log_hash(nc, cursor.log_sequence) == cursor.event_hash
        ):
            return message.sequence
        before = int(message.header(EXPECTED_LAST_SUBJECT_SEQUENCE) or 0)
        message = await get(nc, PSM, before) if before else None
    return None


async def _altered(nc: Client, state: StateUpdated) -> Damage | None:
    if state.cause != "event" or state.event_hash is None:
        return None
    own = state.event_log_sequence
    at = state.log_sequence if own is msgspec.UNSET else own
    found = await log_hash(nc, at)
    if found == state.event_hash:
        return None
    return Damage(
        log_sequence=at,
        stream_id=state.account_id,
        sequence_number=state.sequence_number,
        expected=state.event_hash,
        found=found,
    )


async def by_log_heads(nc: Client, heads: Sequence[LogHead]) -> tuple[int, LogHead] | None:
    """Return the first head, ascending, that the log does not have, and where the last good is.

    Found by halves: behind the first loss nothing is as it was. None if the newest agrees.
    """
    if not heads or await log_hash(nc, heads[-1].log_sequence) == heads[-1].event_hash:
        return None
    low, high = 0, len(heads) - 1  # heads before `low` agree, the one at `high` does not
    while low < high:
        middle = (low + high) // 2
        if await log_hash(nc, heads[middle].log_sequence) == heads[middle].event_hash:
            low = middle + 1
        else:
            high = middle
    return (heads[low - 1].log_sequence if low else 0), heads[low]


async def by_chain_heads(nc: Client, heads: Sequence[ChainHead]) -> Damage | None:
    """Return the first of these heads whose event is not in the log as it was."""
    for head in sorted(heads, key=lambda h: (h.event_log_sequence or h.log_sequence, h.stream_id)):
        at = head.event_log_sequence or head.log_sequence
        found = await log_hash(nc, at)
        if found != head.event_hash:
            return Damage(
                log_sequence=at,
                stream_id=head.stream_id,
                sequence_number=head.sequence_number,
                expected=head.event_hash,
                found=found,
            )
    return None
