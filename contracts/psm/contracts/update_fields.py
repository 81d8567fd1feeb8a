"""What updates have in common: canonical decimals, hashes, and the fields of every payload."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

Decimal18 = Annotated[
    str, Meta(pattern=r"^-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?$", description="canonical decimal")
]
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$", description="SHA-256, hex")]
Status = Literal["open", "gap", "blocked"]
Cause = Literal["event", "mark"]


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of every update.

    Attributes:
        account_id: the stream.
        sequence_number: version of the account after the cause; may repeat, 0 if none.
        log_sequence: of the message whose folding produced the update.
        event_log_sequence: of the original message, where it was parked or held before.
        cause: `event` of the account's own stream, or a `mark`.
        event_hash: SHA-256 of the account's last event, null before the first.
        chain_hash: of the account after its last event.
        flags: sorted codes; opinions about booked facts.
    """

    account_id: str
    sequence_number: int
    log_sequence: int
    event_log_sequence: int | UnsetType = UNSET
    cause: Cause
    event_hash: Hash | None
    chain_hash: Hash
    flags: tuple[str, ...]
