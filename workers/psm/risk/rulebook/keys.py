"""Whose keys may say what, and the pairs of persons that some events need."""

from __future__ import annotations

import hashlib

import msgspec

from psm.contracts.rulebook_codec import SignedEvent
from psm.contracts.rulebook_events import KeyDefined, Right, RulebookEvent
from psm.risk.rulebook.answers import RefusedError, Verify

_FOUNDERS = 2


class HeldKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key: whose, which, and what it may do; nothing once it is void."""

    holder: str
    public_key: bytes
    rights: tuple[Right, ...]


def key_id(public_key: bytes) -> str:
    """Return the first 16 hex digits of SHA-256 of a raw public key."""
    return hashlib.sha256(public_key).hexdigest()[:16]


class Keys:
    """Every key that was ever defined, by its id."""

    def __init__(self, verify: Verify) -> None:
        self.held: dict[str, HeldKey] = {}
        self._verify = verify

    @property
    def founded(self) -> bool:
        """Whether there are the two keys without which nobody can agree with anybody."""
        return len(self.held) >= _FOUNDERS

    def require_signed(self, signed: SignedEvent) -> None:
        """Make sure that the holder of a key said this.

        Raises:
            RefusedError: the key is not known or void, another's, or did not sign.
        """
        event = signed.event
        key = self.held.get(event.key_id)
        if key is None and isinstance(event, KeyDefined) and not self.founded:
            key = founder(event, self.held)
        if key is None:
            raise RefusedError("unknown_key", f"no key {event.key_id} is defined")
        if key.holder != event.actor:
            raise RefusedError(
                "wrong_holder", f"key {event.key_id} is {key.holder}'s, not {event.actor}'s"
            )
        if not key.rights:
            raise RefusedError("void_key", f"key {event.key_id} of {key.holder} is void")
        signature = hex_bytes(event.signature, "signature")
        if not self._verify(key.public_key, signature, signed.signed):
            raise RefusedError("bad_signature", f"key {event.key_id} did not sign this")

    def valid(self, name: str) -> bool:
        """Return whether a key is known and not void."""
        return name in self.held and bool(self.held[name].rights)

    def may(self, name: str, right: Right) -> bool:
        """Return whether a key has a right now."""
        key = self.held.get(name)
        return key is not None and right in key.rights

    def require(self, event: RulebookEvent, *rights: Right) -> None:
        """Make sure that the key of an event has one of these rights.

        Raises:
            RefusedError: it has none of them.
        """
        if not any(self.may(event.key_id, right) for right in rights):
            needed = " or ".join(rights)
            raise RefusedError("no_right", f"key {event.key_id} of {event.actor} may not {needed}")

    def define(self, event: KeyDefined) -> None:
        """Take a key as it is defined from here on.

        Raises:
            RefusedError: it is another's already.
        """
        raw = hex_bytes(event.public_key, "public_key")
        known = self.held.get(key_id(raw))
        if known is not None and known.holder != event.holder:
            raise RefusedError("wrong_holder", f"the key is {known.holder}'s for ever")
        self.held[key_id(raw)] = HeldKey(holder=event.holder, public_key=raw, rights=event.rights)


def founder(event: KeyDefined, held: dict[str, HeldKey]) -> HeldKey:
    """Return the key that says itself who it is: one of the first two.

    Raises:
        RefusedError: it does not, or its holder is a founder already.
    """
    raw = hex_bytes(event.public_key, "public_key")
    if event.key_id != key_id(raw) or event.actor != event.holder:
        raise RefusedError("unknown_key", "each of the first two keys is defined by its own holder")
    if any(key.holder == event.holder for key in held.values()):
        raise RefusedError("four_eyes", f"{event.holder} has a key: the second is another person's")
    if "propose" not in event.rights or "approve" not in event.rights:
        raise RefusedError("no_right", "the first two keys may propose and approve")
    return HeldKey(holder=event.holder, public_key=raw, rights=event.rights)


def hex_bytes(text: str, field: str) -> bytes:
    """Return the bytes of a text of lower-case hex digits.

    Raises:
        RefusedError: it is none.
    """
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if found.hex() != text:
        raise RefusedError("invalid_payload", f"{field} must be lower-case hex digits")
    return found


class PendingConsent(msgspec.Struct, frozen=True, kw_only=True):
    """What one person said that a second one must say, too."""

    content: bytes
    actor: str
    key_id: str


class Consents:
    """Said by one, waiting for another: the newest of each subject matter."""

    def __init__(self, keys: Keys) -> None:
        self.waiting: dict[tuple[str, ...], PendingConsent] = {}
        self._keys = keys

    def agreed(self, matter: tuple[str, ...], event: RulebookEvent) -> bool:
        """Return whether another person said the same before; else keep it until one does.

        Raises:
            RefusedError: the same person, or the same key, said it; or neither may approve.
        """
        first = self.waiting.get(matter)
        if first is None or first.content != event.content() or not self._keys.valid(first.key_id):
            self.waiting[matter] = PendingConsent(
                content=event.content(), actor=event.actor, key_id=event.key_id
            )
            return False
        require_another(first.actor, first.key_id, event)
        if not any(self._keys.may(name, "approve") for name in (first.key_id, event.key_id)):
            raise RefusedError("no_right", "neither of the two keys may approve")
        del self.waiting[matter]
        return True


def require_another(actor: str, name: str, event: RulebookEvent) -> None:
    """Make sure that an event is another person's, with another key.

    Raises:
        RefusedError: it is not.
    """
    if actor == event.actor or name == event.key_id:
        raise RefusedError("four_eyes", f"{event.actor} said so before: another person must agree")
