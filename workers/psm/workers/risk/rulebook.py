"""The stream RULEBOOK: read and fold it, and say something in it.

Whoever says something folds the rulebook first, so that what would be refused is not written. It is
stored only directly behind what was read: what was foreseen is what becomes of it.
"""

from __future__ import annotations

import copy
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.client import Client

from psm.adapters.jetstream import (
    ApiConflictError,
    Outgoing,
    UnknownOutcomeError,
    publish_expected,
    read_range,
    stream_info,
)
from psm.contracts import codec, registry
from psm.contracts.errors import ContractError, TransientError
from psm.contracts.rulebook_codec import decode_event, decode_signed, signed_bytes, subject_of
from psm.contracts.rulebook_events import RULEBOOK_EVENTS
from psm.contracts.subjects import RULEBOOK, encode_token
from psm.risk.messages import Stored
from psm.risk.rulebook import Rulebook, Ruled
from psm.workers.ops.keys import key_id, made_signature

_SERVICE = "psm-risk"
_ATTEMPTS = 50
_BEHIND = "Nats-Expected-Last-Sequence"
_UNSIGNED = "0" * 128
_EVERYTHING = "rulebook.*.*"


class Saying(msgspec.Struct, frozen=True, kw_only=True):
    """Something to say: what, by whom, with which key."""

    event_type: str
    content: Mapping[str, Any]
    actor: str
    reason: str
    key: Ed25519PrivateKey


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the rulebook, and what became of it.

    Attributes:
        stored: as it stands there; sequence 0 for what was only tried.
        ruled: what became of it.
    """

    stored: Stored
    ruled: Ruled


class ReadRulebook(msgspec.Struct, frozen=True, kw_only=True):
    """The rulebook as it is now, and everything that was said in it."""

    rulebook: Rulebook
    said: tuple[Said, ...]


async def read_rulebook(nc: Client) -> ReadRulebook:
    """Read the stream RULEBOOK from its start, and fold it.

    Raises:
        StreamNotFoundError: there is none; see `psm streams apply`.
        LogDamagedError: a message is missing.
        TransientError: it cannot be read now.
    """
    rulebook, said = Rulebook(made_signature), []
    last = (await stream_info(nc, RULEBOOK)).last_sequence
    async for messages in read_range(nc, RULEBOOK, [_EVERYTHING], 1, last):
        for message in messages:
            stored = Stored(
                sequence=message.sequence,
                time=message.time_ns // 1000,
                subject=message.subject,
                data=message.data,
            )
            said.append(Said(stored=stored, ruled=rulebook.take(stored)))
    return ReadRulebook(rulebook=rulebook, said=tuple(said))


def signed_event(saying: Saying, *, event_id: str | None = None) -> Outgoing:
    """Return an event as it is to be published: its subject, and its body, signed.

    Raises:
        ContractError: it is none; the text names the field.
    """
    event_id, version = event_id or str(uuid.uuid4()), registry.version_of(saying.event_type)
    said = {
        **{name: value for name, value in saying.content.items() if value is not None},
        "actor": saying.actor,
        "reason": saying.reason,
        "key_id": key_id(saying.key.public_key()),
        "signature": _UNSIGNED,
    }
    _refuse_unknown(saying.event_type, said)
    event = decode_event(saying.event_type, codec.encode_event(said))
    payload = codec.decode_untyped(codec.encode_event(said))
    signed = signed_bytes(event_id, saying.event_type, version, payload)
    body = {
        "event_id": event_id,
        "event_type": saying.event_type,
        "stream_id": encode_token(event.place()[1]),
        "timestamp": datetime.now(UTC).isoformat(timespec="microseconds")[:26] + "Z",
        "schema_version": version,
        "source_service": _SERVICE,
        "payload": {**payload, "signature": saying.key.sign(signed).hex()},
    }
    outgoing = Outgoing(subject_of(event), codec.encode_event(body))
    decode_signed(outgoing.subject, outgoing.data)
    return outgoing


async def say(nc: Client, saying: Saying, *, dry_run: bool = False) -> Said:
    """Say something in the rulebook; what would be refused is returned and not written.

    Args:
        nc: connection of a user that may write there.
        saying: what.
        dry_run: write nothing.

    Raises:
        ContractError: it is no event.
        TransientError: others write so much that this found no place, or the broker is away.
    """
    outgoing = signed_event(saying)
    subject, body = outgoing.subject, outgoing.data
    for _ in range(_ATTEMPTS):
        found = await read_rulebook(nc)
        before = [one for one in found.said if one.stored.data == body]
        if before:
            return before[0]  # an attempt whose answer was lost
        tried = _tried(found.rulebook, subject, body)
        if dry_run or tried.ruled.outcome == "refused":
            return tried
        expected = {_BEHIND: str(found.rulebook.sequence)}
        try:
            await publish_expected(nc, RULEBOOK, subject, body, expected=None, headers=expected)
        except (ApiConflictError, UnknownOutcomeError):
            continue
        return await _read_back(nc, body)
    raise TransientError("others write into RULEBOOK all the time; try again")


async def _read_back(nc: Client, body: bytes) -> Said:
    found = await read_rulebook(nc)
    return next(one for one in found.said if one.stored.data == body)


def _tried(rulebook: Rulebook, subject: str, body: bytes) -> Said:
    """Return what would become of an event that came now."""
    stored = Stored(
        sequence=rulebook.sequence + 1, time=time.time_ns() // 1000, subject=subject, data=body
    )
    ruled = copy.deepcopy(rulebook).take(stored)
    return Said(stored=msgspec.structs.replace(stored, sequence=0), ruled=ruled)


def _refuse_unknown(event_type: str, payload: Mapping[str, Any]) -> None:
    """Refuse a field that means nothing: a slip, which would be signed and have no effect."""
    known = RULEBOOK_EVENTS[event_type].__struct_fields__ if event_type in RULEBOOK_EVENTS else ()
    for name in payload:
        if known and name not in known:
            text = f"{event_type} has no field {name}; it has {', '.join(known)}"
            raise ContractError("invalid_payload", text, name)
