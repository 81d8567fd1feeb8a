"""Proofs for others: this event is in the log, and the log only grew since an older anchor."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import StoredMessage
from psm.contracts.codec import decode_untyped
from psm.contracts.envelope import event_hash
from psm.contracts.errors import ConfigError, ContractError, LogDamagedError
from psm.contracts.merkle import HASH_BYTES, consistency_proof, inclusion_proof, root_of
from psm.contracts.subjects import printable, published
from psm.workers.log.reader import last_log_sequence, read_stored, stored_at
from psm.workers.proof.anchors.anchor import Anchor, leaf_of
from psm.workers.proof.anchors.store import AnchorStore

VERSION = 1


async def find_event(nc: Client, event_id: str) -> StoredMessage:
    """Return the first message of the log with this `event_id`; reads the log until it is found.

    Raises:
        ConfigError: there is none.
    """
    end = await last_log_sequence(nc)
    wanted = event_id.lower()
    async for batch in read_stored(nc, [">"], 1, end):
        for message in batch:
            if wanted.encode() in message.data.lower() and _event_id(message) == wanted:
                return message
    raise ConfigError(f"the log has no event {event_id}")


async def message_at(nc: Client, log_sequence: int) -> StoredMessage:
    """Return the message at a log sequence.

    Raises:
        ConfigError: there is none.
    """
    message = await stored_at(nc, log_sequence)
    if message is None:
        raise ConfigError(f"the log has no message at log sequence {log_sequence}")
    return message


def prove(
    store: AnchorStore, anchors: list[Anchor], message: StoredMessage, since: int | None
) -> dict[str, Any]:
    """Return the proof that a message is in the newest anchor's tree.

    Args:
        store: with the leaves.
        anchors: oldest first, at least one.
        message: of the log.
        since: size of an older anchor that the newest is to be proven a continuation of.

    Raises:
        ConfigError: no anchor covers the message, or there is none of size `since`.
        LogDamagedError: the message is not the one that was anchored.
    """
    anchor = anchors[-1]
    index = message.sequence - anchor.first_sequence
    if not 0 <= index < anchor.size:
        raise ConfigError(
            f"log sequence {message.sequence} is not anchored yet: the last anchor covers up to "
            f"{anchor.last_sequence}; run psm anchor create"
        )
    kept = store.leaves(anchor.size)
    leaves = [kept[i : i + HASH_BYTES] for i in range(0, len(kept), HASH_BYTES)]
    if root_of(leaves).hex() != anchor.root:
        raise LogDamagedError("the leaves kept do not give the anchor's root: no proof is possible")
    if leaf_of(message.subject, message.data) != leaves[index]:
        raise LogDamagedError(
            f"log sequence {message.sequence} is not the message that was anchored; "
            "run psm anchor verify"
        )
    document = {
        "version": VERSION,
        "anchor": msgspec.to_builtins(anchor),
        "log_sequence": message.sequence,
        "leaf_index": index,
        "subject": _subject(message),
        "event_hash": event_hash(message.data).hex(),
        "event_base64": base64.b64encode(message.data).decode(),
        "inclusion": [node.hex() for node in inclusion_proof(leaves, index)],
    }
    if since is not None:
        older = next((one for one in anchors if one.size == since), None)
        if older is None:
            sizes = ", ".join(str(one.size) for one in anchors[-10:])
            raise ConfigError(f"there is no anchor of {since} messages; the last are of {sizes}")
        document["older_anchor"] = msgspec.to_builtins(older)
        document["consistency"] = [node.hex() for node in consistency_proof(leaves, since)]
    return document


def _subject(message: StoredMessage) -> str:
    subject = published(message.subject)
    if not subject.isprintable() or not subject.isascii():
        raise ConfigError(
            f"log sequence {message.sequence} came on {printable(subject)}, which is no subject of "
            "an event: it was rejected, and is anchored without a proof of its own"
        )
    return subject


def _event_id(message: StoredMessage) -> str | None:
    try:
        found = decode_untyped(message.data).get("event_id")
    except ContractError:
        return None
    return found.lower() if isinstance(found, str) else None
