"""What a slot's loop may be told, and what it says of itself."""

from __future__ import annotations

import msgspec


class SlotSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and intervals of a loop.

    Attributes:
        checkpoint_records: a checkpoint is written once so many records are behind the last one.
        checkpoint_orders: or once so many commands of all slots are, so that a takeover reads few.
        renew_s: or after this long; the stream keeps a record for 30 days.
        batch_records: records in one atomic batch at most.
    """

    checkpoint_records: int = 2_000
    checkpoint_orders: int = 50_000
    renew_s: float = 86_400.0
    batch_records: int = 200


class SlotStats(msgspec.Struct, kw_only=True):
    """How a slot is.

    Attributes:
        live: it takes commands, or has no group that could send any.
        position: sequence of ORDERS up to which its commands are decided.
        last_known: sequence of ORDERS that is known to exist.
        decisions: stored since the start.
        takeovers: owner records taken since the start.
        renewed_at: when its checkpoint was written, ns since 1970 by the broker's clock.
    """

    live: bool = False
    position: int = 0
    last_known: int = 0
    decisions: int = 0
    takeovers: int = 0
    renewed_at: int = 0
