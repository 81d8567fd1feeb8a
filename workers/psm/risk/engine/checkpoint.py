"""The saved memory of a slot: canonical JSON with its own hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from psm.contracts import codec
from psm.contracts.errors import InvariantError

CHECKPOINT = 1
"""Form of checkpoints."""


def hash_of(state: Mapping[str, Any]) -> str:
    """Return SHA-256 of what a checkpoint says, hex."""
    return hashlib.sha256(codec.canonical_bytes(state)).hexdigest()


def read_checkpoint(checkpoint: bytes) -> dict[str, Any]:
    """Return what a checkpoint says.

    Raises:
        InvariantError: the bytes are not what `Slot.checkpoint` wrote.
    """
    try:
        state = msgspec.json.decode(checkpoint, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvariantError(f"no checkpoint of a slot: {error}") from None
    told = state.pop("hash", None)
    if state.get("form") != CHECKPOINT or told != hash_of(state):
        raise InvariantError("a checkpoint is not what was written, or of another version")
    return state
