"""A rulebook in memory, and people with keys who say things in it."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from psm.adapters.jetstream import Outgoing
from psm.contracts.rulebook_events import Right
from psm.risk.messages import Stored
from psm.risk.rulebook import Rulebook, Ruled
from psm.workers.ops.keys import key_id, made_signature, raw_public
from psm.workers.risk.rulebook import Saying, signed_event

T0 = 1_796_083_200_000_000  # 2026-12-01T00:00:00Z
SECOND = 1_000_000
MINUTE = 60 * SECOND
EVERY_RIGHT: tuple[Right, ...] = ("propose", "approve", "halt", "publish")


class Person:
    """Somebody with a key; the same name gives the same key."""

    def __init__(self, name: str, key: str | None = None) -> None:
        self.name = name
        self.key = Ed25519PrivateKey.from_private_bytes(
            hashlib.sha256((key or name).encode()).digest()
        )

    @property
    def key_id(self) -> str:
        return key_id(self.key.public_key())

    @property
    def public_key(self) -> str:
        return raw_public(self.key.public_key()).hex()


ADA, BOB, EVE = Person("ada"), Person("bob"), Person("eve")


class Rules:
    """A rulebook, and the messages that made it.

    Attributes:
        clock: time of the next message.
    """

    def __init__(self, *, founded: bool = True) -> None:
        self.book = Rulebook(made_signature)
        self.log: list[Stored] = []
        self.clock = T0
        self._ids = itertools.count(1)
        if founded:
            for person in (ADA, BOB):
                assert self.key(person, person).outcome == "applied"

    def event(self, person: Person, event_type: str, **content: Any) -> Outgoing:
        """Return an event that a person signed."""
        saying = Saying(
            event_type=event_type,
            content=content,
            actor=person.name,
            reason=content.pop("why", "a test"),
            key=person.key,
        )
        return signed_event(saying, event_id=f"7f0c2a34-3f5e-4f27-9d5e-{next(self._ids):012d}")

    def say(self, person: Person, event_type: str, **content: Any) -> Ruled:
        """Say something; return what became of it."""
        event = self.event(person, event_type, **content)
        return self.take(event.data, event.subject)

    def take(self, body: bytes, subject: str) -> Ruled:
        """Store any bytes; return what became of them."""
        stored = Stored(sequence=len(self.log) + 1, time=self.clock, subject=subject, data=body)
        self.log.append(stored)
        self.clock += SECOND
        return self.book.take(stored)

    def both(self, event_type: str, **content: Any) -> Ruled:
        """Say something twice: Ada, then Bob."""
        first = self.say(ADA, event_type, **content)
        assert first.outcome == "pending", first
        return self.say(BOB, event_type, **content)

    def key(self, signer: Person, holder: Person, rights: tuple[Right, ...] = EVERY_RIGHT) -> Ruled:
        """Define a key."""
        return self.say(
            signer, "KeyDefined", holder=holder.name, public_key=holder.public_key,
            rights=list(rights),
        )  # fmt: skip

    def propose(
        self, person: Person, limits: dict[str, Any], scope: str = "group", name: str = "desk",
        **more: Any,
    ) -> Ruled:  # fmt: skip
        """Propose the next version of a scope's limits."""
        text = scope if scope == "firm" else f"{scope}:{name}"
        content: dict[str, Any] = {
            "scope": scope,
            "id": "firm" if scope == "firm" else name,
            "limits": limits,
            "version": self.book.documents.version_of(text) + 1,
        }
        return self.say(person, "LimitsProposed", **{**content, **more})

    def approve(
        self, person: Person, proposal: Ruled, scope: str = "group", name: str = "desk"
    ) -> Ruled:
        """Approve a proposal."""
        return self.say(person, "LimitsApproved", scope=scope, id=name, proposal_hash=proposal.hash)

    def limits(self, scope: str = "group:desk", clock: int | None = None) -> dict[str, Any] | None:
        """Return what is in force of a scope, less what is not set."""
        found = self.book.documents.limits_of(scope, self.clock if clock is None else clock)
        return None if found is None else msgspec.to_builtins(found.limits)


def refolded(log: list[Stored], at: Callable[[Stored], Stored] = lambda one: one) -> Rulebook:
    """Fold messages again from the start."""
    book = Rulebook(made_signature)
    for one in log:
        book.take(at(one))
    return book
