"""An anchor: size and root of the tree over the log at a moment, signed, chained to the last one.

The entry of a log message is its event hash (32 bytes) followed by its subject as the producer
published it: bytes, place and account are bound, and nothing that a move to another broker changes.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from psm.contracts.codec import canonical_bytes
from psm.contracts.envelope import event_hash
from psm.contracts.errors import ContractError
from psm.contracts.merkle import leaf_hash
from psm.contracts.subjects import published, token_bytes
from psm.workers.ops.keys import Keyring, key_id
from psm.workers.proof.anchors.risk_heads import RiskHeads

VERSION = 1
_DOMAIN = b"psm-anchor\n"
"""In front of what is signed: a signature for anything else is none for an anchor."""


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """A signed statement: the log's first `size` messages have this root.

    Attributes:
        version: of this form.
        log: name of the JetStream stream.
        first_sequence: log sequence of leaf 0.
        size: number of leaves; the last one is log sequence `first_sequence + size - 1`.
        root: of the tree, hex.
        log_time: JetStream time of the last message, RFC 3339.
        created_at: when this was signed, by the signer's clock; evidence, never an order.
        previous: SHA-256 of the anchor line before this one, hex; None for the first.
        epoch: of the log: 0 until another region is promoted.
        risk: how far the rulebook and the records of risk were; None of a log without a rulebook.
        key_id: of the key that signed.
        signature: Ed25519 over the other fields, hex.
    """

    version: int = VERSION
    log: str
    first_sequence: int
    size: int
    root: str
    log_time: str
    created_at: str
    previous: str | None
    epoch: int = 0
    risk: RiskHeads | None = None
    key_id: str
    signature: str = ""

    @property
    def last_sequence(self) -> int:
        """Log sequence of the last message it covers."""
        return self.first_sequence + self.size - 1

    def signed_bytes(self) -> bytes:
        """Return what the signature is made over: canonical JSON without the signature."""
        fields = self._fields()
        del fields["signature"]
        return _DOMAIN + canonical_bytes(fields)

    def signed(self, key: Ed25519PrivateKey) -> Anchor:
        """Return it, signed."""
        named = msgspec.structs.replace(self, key_id=key_id(key.public_key()))
        signature = key.sign(named.signed_bytes()).hex()
        return msgspec.structs.replace(named, signature=signature)

    def is_signed_by(self, keys: Keyring) -> bool:
        """Return whether a known key signed exactly this."""
        try:
            signature = bytes.fromhex(self.signature)
        except ValueError:
            return False
        return keys.verifies(self.key_id, signature, self.signed_bytes())

    def line(self) -> bytes:
        """Return it as a line of the anchor file, without the line's end."""
        return canonical_bytes(self._fields())

    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = msgspec.to_builtins(self)
        if self.risk is None:
            del fields["risk"]
        return fields


_decoder = msgspec.json.Decoder(Anchor)


def read_anchor(line: bytes) -> Anchor:
    """Return the anchor in a line.

    Raises:
        ContractError: it is none, or of an unknown version.
    """
    try:
        anchor = _decoder.decode(line)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ContractError("bad_anchor", "a line of the anchor file is no anchor") from error
    if anchor.version != VERSION:
        raise ContractError("bad_anchor", f"anchors of version {anchor.version} are not known here")
    return anchor


def digest_of(line: bytes) -> str:
    """Return what the next anchor says as `previous`."""
    return hashlib.sha256(line).hexdigest()


def entry_of(hashed: bytes, subject: str) -> bytes:
    """Return the tree's entry for a message with this event hash and public subject."""
    return hashed + token_bytes(subject)


def leaf_of(subject: str, data: bytes) -> bytes:
    """Return the leaf of a message of the log; `subject` as stored."""
    return leaf_hash(entry_of(event_hash(data), published(subject)))
