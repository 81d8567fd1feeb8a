"""The stream RULEBOOK: read and fold it, and say something in it.

Whoever says something folds the rulebook first, so that what would be refused is not written. It is
stored only directly behind what was read: what was foreseen is what becomes of it.
"""

from __future__ import annotations

import contextlib
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
    get,
    publish_expected,
    read_range,
    stream_info,
)
from psm.contracts import codec, registry
from psm.contracts.errors import ContractError, LogDamagedError, TransientError
from psm.contracts.rulebook_codec import decode_event, decode_signed, signed_bytes, subject_of
from psm.contracts.rulebook_events import RULEBOOK_EVENTS
from psm.contracts.subjects import RULEBOOK, encode_token
from psm.risk.messages import Stored
from psm.risk.rulebook import Rulebook, Ruled, slot_of
from psm.workers.ops.keys import key_id, made_signature
from psm.workers.risk.ports import stored_of

_SERVICE = "psm-risk"
_ATTEMPTS = 50
_BEHIND = "Nats-Expected-Last-Sequence"
_UNSIGNED = "0" * 128
_EVERYTHING = "rulebook.*.*"


async def hidden_rules(nc: Client, taken: int, before: int) -> list[Stored]:
    """Return what RULEBOOK has between two of its sequences, which a replica did not show.

    Raises:
        LogDamagedError: it is gone.
    """
    found = []
    for sequence in range(taken + 1, before):
        hidden = await get(nc, RULEBOOK, sequence)
        if hidden is None:
            raise LogDamagedError(f"RULEBOOK: message {sequence} is gone; restore it")
        found.append(stored_of(hidden))
    return found


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


class RulebookReader:
    """The rulebook as far as it was read, and everything that was said in it.

    Attributes:
        rulebook: folded from the start of the stream.
        said: in order.
    """

    def __init__(self, nc: Client) -> None:
        self.rulebook = Rulebook(made_signature)
        self.said: list[Said] = []
        self._nc = nc

    async def read(self) -> None:
        """Read what came since.

        Raises:
            StreamNotFoundError: there is none; see `psm streams apply`.
            LogDamagedError: a message is missing.
            TransientError: it cannot be read now.
        """
        first, last = (
            self.rulebook.sequence + 1,
            (await stream_info(self._nc, RULEBOOK)).last_sequence,
        )
        if first > last:
            return
        async for messages in read_range(self._nc, RULEBOOK, [_EVERYTHING], first, last):
            for message in messages:
                stored = Stored(
                    sequence=message.sequence,
                    time=message.time_ns // 1000,
                    subject=message.subject,
                    data=message.data,
                )
                self.said.append(Said(stored=stored, ruled=self.rulebook.take(stored)))

    def tried(self, outgoing: Outgoing) -> Said:
        """Return what would become of an event that came now."""
        stored = Stored(
            sequence=self.rulebook.sequence + 1,
            time=time.time_ns() // 1000,
            subject=outgoing.subject,
            data=outgoing.data,
        )
        ruled = copy.deepcopy(self.rulebook).take(stored)
        return Said(stored=msgspec.structs.replace(stored, sequence=0), ruled=ruled)


def slots_of(rulebook: Rulebook) -> list[int]:
    """Return the slots that the groups of a rulebook are in, or ever were, ascending."""
    left = (one.group for hops in rulebook.left.values() for one in hops)
    return sorted({slot_of(name): None for name in (*rulebook.groups, *left)})


async def read_rulebook(nc: Client) -> RulebookReader:
    """Read the stream RULEBOOK from its start, and fold it.

    Raises:
        As `RulebookReader.read`.
    """
    reader = RulebookReader(nc)
    await reader.read()
    return reader


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


async def say(nc: Client, reader: RulebookReader, saying: Saying, *, dry_run: bool = False) -> Said:
    """Say something in the rulebook; what would be refused is returned and not written.

    Args:
        nc: connection of a user that may write there.
        reader: of the rulebook; when this returns, it has read what was said.
        saying: what.
        dry_run: write nothing.

    Raises:
        ContractError: it is no event.
        TransientError: others write so much that this found no place, or the broker is away.
    """
    outgoing, begin = signed_event(saying), len(reader.said)
    for _ in range(_ATTEMPTS):
        await reader.read()
        found = [one for one in reader.said[begin:] if one.stored.data == outgoing.data]
        if found:  # this attempt's, or an earlier one's whose answer was lost
            return found[0]
        tried = reader.tried(outgoing)
        if dry_run or tried.ruled.outcome == "refused":
            return tried
        with contextlib.suppress(ApiConflictError, UnknownOutcomeError):
            await publish_expected(
                nc, RULEBOOK, outgoing.subject, outgoing.data, expected=None,
                headers={_BEHIND: str(reader.rulebook.sequence)},
            )  # fmt: skip
    raise TransientError("others write into RULEBOOK all the time; try again")


def _refuse_unknown(event_type: str, payload: Mapping[str, Any]) -> None:
    """Refuse a field that means nothing: a slip, which would be signed and have no effect."""
    known = RULEBOOK_EVENTS[event_type].__struct_fields__ if event_type in RULEBOOK_EVENTS else ()
    for name in payload:
        if known and name not in known:
            text = f"{event_type} has no field {name}; it has {', '.join(known)}"
            raise ContractError("invalid_payload", text, name)
