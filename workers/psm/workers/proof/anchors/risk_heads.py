"""What an anchor says of risk: how far the rulebook and each slot's records are, and their hashes.

RULEBOOK's hash is the one that every decision names: over all its messages in order. The records of
a slot are a chain, so number and hash of the last one bind all before it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import (
    StoredMessage,
    StreamNotFoundError,
    last_for,
    read_range,
    stream_info,
)
from psm.contracts.codec import decode_untyped
from psm.contracts.subjects import RISK, RULEBOOK
from psm.risk.rulebook import Rulebook
from psm.workers.ops.keys import made_signature
from psm.workers.proof.risk.streams import RecordedStreams
from psm.workers.risk.ports import stored_of
from psm.workers.risk.rulebook import RulebookReader, slots_of

KINDS = ("decision", "alert", "halt", "release")
_AT_ONCE = 64


class SlotHead(msgspec.Struct, frozen=True, kw_only=True):
    """The last record of a slot.

    Attributes:
        slot: number.
        n: of the record, in the slot.
        sequence: of it, in RISK.
        hash: SHA-256 of its bytes, hex.
    """

    slot: int
    n: int
    sequence: int
    hash: str


class RiskHeads(msgspec.Struct, frozen=True, kw_only=True):
    """Ends of what risk says.

    Attributes:
        rulebook_sequence: last message of RULEBOOK; 0 where there is none.
        rulebook_hash: chain over RULEBOOK up to there, hex.
        slots: the slots that ever recorded something, ascending.
    """

    rulebook_sequence: int
    rulebook_hash: str
    slots: tuple[SlotHead, ...] = ()


class HeadFinding(msgspec.Struct, frozen=True, kw_only=True):
    """A head that is not there any more.

    Attributes:
        kind: `rulebook` or `risk`.
        detail: what of it, in words.
        anchored_at: when the first anchor with it was made.
    """

    kind: str
    detail: str
    anchored_at: str


class HeadsCompared(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison found.

    Attributes:
        compared: different heads that were.
        aged: those that were not: RISK holds them no more, and nobody gave an archive.
        findings: what is wrong.
    """

    compared: int
    aged: int
    findings: tuple[HeadFinding, ...]


async def read_heads(nc: Client, reader: RulebookReader) -> RiskHeads | None:
    """Return the heads of now, from the leaders; None of a log without a rulebook.

    Args:
        nc: connection; may read RULEBOOK and RISK.
        reader: as far as it was read before; it reads on.

    Raises:
        LogDamagedError: RULEBOOK lost a message.
        TransientError: it cannot be read now.
    """
    try:
        await reader.read()
    except StreamNotFoundError:
        return None
    rulebook = reader.rulebook
    if not rulebook.sequence:
        return None
    heads = await asyncio.gather(*(_head(nc, slot) for slot in slots_of(rulebook)))
    return RiskHeads(
        rulebook_sequence=rulebook.sequence,
        rulebook_hash=rulebook.hash,
        slots=tuple(head for head in heads if head is not None),
    )


async def compare_heads(
    nc: Client,
    told: Sequence[tuple[str, RiskHeads]],
    recorded: RecordedStreams,
) -> HeadsCompared:
    """Compare what anchors say of risk with what RULEBOOK, RISK and the archive hold.

    Args:
        nc: connection; may read RULEBOOK and RISK.
        told: heads, each with the time of its anchor, ascending.
        recorded: reads RISK.

    Raises:
        TransientError: it cannot be read now.
    """
    rulebooks: dict[tuple[int, str], str] = {}
    slots: dict[SlotHead, str] = {}
    for at, heads in told:
        rulebooks.setdefault((heads.rulebook_sequence, heads.rulebook_hash), at)
        for head in heads.slots:
            slots.setdefault(head, at)
    findings = await _rulebook_findings(nc, rulebooks) if rulebooks else []
    aged, first = 0, (await stream_info(nc, RISK)).first_sequence if slots else 0
    for head, message in await _records(recorded, [*slots]):
        if message is None and head.sequence < first:
            aged = aged + 1
        elif message is None or _hash(message) != head.hash:
            gone = "is gone" if message is None else "is not the one that was anchored"
            text = f"slot {head.slot}: record {head.n}, message {head.sequence} of RISK, {gone}"
            finding = HeadFinding(kind="risk", detail=text, anchored_at=slots[head])
            findings = [*findings, finding]
    return HeadsCompared(
        compared=len(rulebooks) + len(slots) - aged, aged=aged, findings=tuple(findings)
    )


async def _records(
    recorded: RecordedStreams, heads: Sequence[SlotHead]
) -> list[tuple[SlotHead, StoredMessage | None]]:
    """Return the messages at which heads were."""
    found: list[tuple[SlotHead, StoredMessage | None]] = []
    for place in range(0, len(heads), _AT_ONCE):
        asked = heads[place : place + _AT_ONCE]
        messages = await asyncio.gather(*(recorded.get(RISK, one.sequence) for one in asked))
        found = [*found, *zip(asked, messages, strict=True)]
    return found


async def _rulebook_findings(nc: Client, told: Mapping[tuple[int, str], str]) -> list[HeadFinding]:
    """Return the first head of RULEBOOK that does not follow from its messages."""
    hashes = await _rulebook_hashes(nc)
    before = 0
    for (sequence, hashed), at in sorted(told.items()):
        if hashes.get(sequence) != hashed:
            span = f"RULEBOOK: something in messages {before + 1} to {sequence}"
            gone = "is gone" if sequence not in hashes else "is not what was anchored"
            return [HeadFinding(kind="rulebook", detail=f"{span} {gone}", anchored_at=at)]
        before = sequence
    return []


async def _rulebook_hashes(nc: Client) -> dict[int, str]:
    """Return the hash of RULEBOOK up to each message, as far as it has no hole."""
    rulebook = Rulebook(made_signature)
    hashes: dict[int, str] = {}
    try:
        last = (await stream_info(nc, RULEBOOK)).last_sequence
    except StreamNotFoundError:
        return hashes
    async for messages in read_range(nc, RULEBOOK, ["rulebook.*.*"], 1, last):
        for message in messages:
            if message.sequence != rulebook.sequence + 1:
                return hashes
            rulebook.take(stored_of(message))
            hashes[rulebook.sequence] = rulebook.hash
    return hashes


async def _head(nc: Client, slot: int) -> SlotHead | None:
    """Return the newest record of a slot, as the leader has it."""
    found = await asyncio.gather(*(last_for(nc, RISK, f"risk.{kind}.{slot}.*") for kind in KINDS))
    newest = max(
        (one for one in found if one is not None), key=lambda one: one.sequence, default=None
    )
    if newest is None:
        return None
    n = decode_untyped(newest.data)["payload"]["n"]
    return SlotHead(slot=slot, n=n, sequence=newest.sequence, hash=_hash(newest))


def _hash(message: StoredMessage) -> str:
    return hashlib.sha256(message.data).hexdigest()
