"""The owner record of a slot: who may write, and from where the next owner goes on.

Each record of the slot expects the newest owner record's sequence. So a new record fences whoever
wrote before, whatever is still on its way. A record carries the slot's checkpoint or names the
record that does; a large one follows it in parts.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from psm.contracts.codec import encode
from psm.contracts.errors import LogDamagedError

PART_BYTES = 64 * 1024
"""Of a checkpoint in one message; the broker's own limit is a mebibyte, in Base64."""

Reason = Literal["takeover", "renewal", "fence"]


class OwnerRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is stored as `risk.owner.<slot>.record`.

    Attributes:
        slot: number.
        owner: member that may write from here on; with `fence` nobody, and who fenced.
        reason: `takeover` by a new owner, `renewal` by the same, `fence` by a person's halt.
        orders: sequence of ORDERS up to which every command of the slot is answered.
        n: number of the slot's last record in the checkpoint.
        previous: hash of that record.
        checkpoint_hash: SHA-256 of the checkpoint's bytes, hex.
        checkpoint_at: sequence of the record that carries the checkpoint; 0 is this one.
        checkpoint: its bytes, where they fit.
        parts: messages behind this one that hold them otherwise.
    """

    slot: int
    owner: str
    reason: Reason
    orders: int
    n: int
    previous: str
    checkpoint_hash: str
    checkpoint_at: int = 0
    checkpoint: bytes | None = None
    parts: int = 0

    def following(self, owner: str, reason: Reason, at: int) -> OwnerRecord:
        """Return a record of another owner behind this one, which is stored at `at`."""
        return OwnerRecord(
            slot=self.slot,
            owner=owner,
            reason=reason,
            orders=self.orders,
            n=self.n,
            previous=self.previous,
            checkpoint_hash=self.checkpoint_hash,
            checkpoint_at=self.checkpoint_at or at,
        )


def with_checkpoint(
    *, slot: int, owner: str, reason: Reason, orders: int, n: int, previous: str, checkpoint: bytes
) -> tuple[OwnerRecord, list[bytes]]:
    """Return a record that carries a checkpoint, and the parts that follow it."""
    inline = len(checkpoint) <= PART_BYTES
    places = range(0, 0 if inline else len(checkpoint), PART_BYTES)
    parts = [checkpoint[start : start + PART_BYTES] for start in places]
    record = OwnerRecord(
        slot=slot,
        owner=owner,
        reason=reason,
        orders=orders,
        n=n,
        previous=previous,
        checkpoint_hash=hashlib.sha256(checkpoint).hexdigest(),
        checkpoint=checkpoint if inline else None,
        parts=len(parts),
    )
    return record, parts


def dump_owner(record: OwnerRecord) -> bytes:
    """Return the bytes of a record."""
    return encode(record)


def load_owner(data: bytes) -> OwnerRecord:
    """Return the record in `data`.

    Raises:
        LogDamagedError: it is none.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise LogDamagedError(f"this is no owner record: {error}") from error


_decoder = msgspec.json.Decoder(OwnerRecord)
