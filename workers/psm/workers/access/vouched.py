"""`Psm-Principal`: who appended an event over HTTP, vouched for by the service's signature.

A header of NATS proves nothing, for whoever may publish may write any. So the service signs what
it vouches for, with its own Ed25519 key, over the hash of the event, its subject, who it was, and
when: `v1;<principal>;<time>;<key id>;<signature>`. A person is there by pseudonym, because headers
are kept for years.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from psm.contracts.errors import ConfigError
from psm.contracts.subjects import token_bytes
from psm.workers.access.policy import Principal
from psm.workers.ops.keys import Keyring, key_id, load_private, load_public

HEADER = "Psm-Principal"
_VERSION = "v1"
_PARTS = 5
_DOMAIN = b"psm-principal\n"
_SHOWN_MAX = 128


class Author(msgspec.Struct, frozen=True, kw_only=True):
    """Who appended an event.

    Attributes:
        principal: that the service vouches for; None where nobody does.
        door: by which it came: `http`, or `nats`, whose users are not told apart.
        at: when, by the service's clock, RFC 3339; of a vouched one.
        claimed: what the event says itself where nobody vouches for it.
    """

    principal: str | None
    door: Literal["http", "nats"]
    at: str | None = None
    claimed: str | None = None


class Signer:
    """Vouches for what comes over HTTP.

    Attributes:
        key_id: of its key.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key, self.key_id = key, key_id(key.public_key())
        self._secret = key.private_bytes_raw()

    @classmethod
    def of_file(cls, path: Path) -> Signer:
        """Return the one with the key of a PEM file; a ConfigError where it holds none."""
        return cls(load_private(path))

    def become(self, other: Signer) -> None:
        """Sign with the key of another one from now on."""
        self._key, self.key_id, self._secret = other._key, other.key_id, other._secret

    def header(self, principal: Principal, subject: str, event_hash: bytes, at: str) -> str:
        """Return the header of an event.

        Args:
            principal: who appends it.
            subject: that it is published to.
            event_hash: SHA-256 of its bytes as they are stored.
            at: now, RFC 3339.
        """
        name = self._name(principal)
        signature = self._key.sign(_signed(event_hash, subject, name, at))
        return ";".join((_VERSION, name, at, self.key_id, urlsafe_b64encode(signature).decode()))

    def _name(self, principal: Principal) -> str:
        """Return the id; of a person a pseudonym, which nobody finds who has not this key."""
        if principal.person is not None:
            return principal.person
        if principal.kind != "person":
            return principal.id
        named = f"person\n{principal.key if principal.how == 'jwt' else ''}\n{principal.id}"
        return f"u_{hmac.new(self._secret, named.encode(), hashlib.sha256).hexdigest()[:16]}"


def author_of(header: str | None, subject: str, event_hash: bytes, keys: Keyring) -> Author:
    """Return who appended an event, by its header.

    Args:
        header: `Psm-Principal`; None without one.
        subject: that it is stored on.
        event_hash: SHA-256 of its bytes as they are stored.
        keys: of services that count.
    """
    if header is None:
        return Author(principal=None, door="nats")
    parts = header.split(";")
    claimed = parts[1] if len(parts) > 1 else header
    nobody = Author(principal=None, door="nats", claimed=claimed[:_SHOWN_MAX])
    if len(parts) != _PARTS or parts[0] != _VERSION:
        return nobody
    _, name, at, named_key, text = parts
    try:
        signature = urlsafe_b64decode(text)
        signed = _signed(event_hash, subject, name, at)
    except ValueError:
        return nobody
    if not keys.verifies(named_key, signature, signed):
        return nobody
    return Author(principal=name, door="http", at=at)


def is_forged(header: str, keys: Keyring) -> bool:
    """Return whether a header that proves nothing names a key of ours: forged, or altered."""
    parts = header.split(";")
    return len(parts) == _PARTS and keys.has(parts[3])


def keyring_of(files: Iterable[str]) -> Keyring:
    """Return the public keys of PEM files; a ConfigError where one holds none."""
    return Keyring(load_public(Path(file)) for file in files)


def vouching(key_file: str | None, keys: Iterable[str]) -> tuple[Signer | None, Keyring]:
    """Return who vouches for those who append, and the keys by which that is judged.

    Args:
        key_file: with the signer's own key; None: nobody vouches.
        keys: files of public keys that count.

    Raises:
        ConfigError: a key cannot be used, or nobody could verify what is signed.
    """
    ring = keyring_of(keys)
    if key_file is None:
        return None, ring
    signer = Signer.of_file(Path(key_file))
    if not ring.has(signer.key_id):
        raise ConfigError(
            f"PSM_HTTP_PRINCIPAL_KEYS does not name the public key of {key_file}: what it signs, "
            "nobody could verify"
        )
    return signer, ring


def _signed(event_hash: bytes, subject: str, principal: str, at: str) -> bytes:
    said = f"\n{principal}\n{at}".encode()
    return b"\n".join((_DOMAIN[:-1], event_hash.hex().encode(), token_bytes(subject))) + said
