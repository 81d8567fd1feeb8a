"""The commit cursor: how far a partition's updates are committed, and whose turn it is.

The cursor is the first message of every atomic batch and carries the sequence of its predecessor
as the expected last one. So a batch is stored whole by the partition's one owner, or not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from psm.contracts.codec import encode
from psm.contracts.errors import InvariantError
from psm.domain.messages import Update

BATCH_ID_HEADER = "Psm-Batch-Id"


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """Where the committed updates end.

    Attributes:
        log_sequence: last input whose updates are all committed; 0 before the first.
        part: how many updates of the next input are committed already.
        digest: SHA-256 over these, hex; None where `part` is 0.
        event_hash: SHA-256 of the message at `log_sequence`, hex; None before the first.
        updates: how many update messages follow in this batch.
        closed_through: end of the last minute all of whose closes are told by this batch or an
            earlier one; None before the first.
        epoch: of the log: 0 until another region is promoted.
    """

    log_sequence: int
    part: int = 0
    digest: str | None = None
    event_hash: str | None = None
    updates: int = 0
    closed_through: str | None = None
    epoch: int = 0


_decoder = msgspec.json.Decoder(Cursor)


def dump_cursor(cursor: Cursor) -> bytes:
    """Return the bytes of a cursor."""
    return encode(cursor)


def load_cursor(data: bytes) -> Cursor:
    """Return the cursor in a message of `psm.cursor.<partition>`.

    Raises:
        InvariantError: it is no cursor; somebody else wrote to the private entrance.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvariantError("a message on psm.cursor.* is no cursor") from error


class Digest:
    """SHA-256 over the subjects and bytes of updates that come bit by bit."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def add(self, updates: Sequence[Update]) -> str:
        """Take more updates; return the digest over all so far, hex."""
        for update in updates:
            self._sha.update(update.subject.encode() + b"\n" + update.data + b"\n")
        return self._sha.hexdigest()


def digest_of(updates: Sequence[Update]) -> str:
    """Return SHA-256 over the updates' subjects and bytes, hex."""
    return Digest().add(updates)
