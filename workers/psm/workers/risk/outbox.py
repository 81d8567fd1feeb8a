"""What a slot's loop has decided and not stored yet, and the renewals that stand in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

import msgspec

from psm.risk.messages import RiskOutput
from psm.workers.risk.owner import OwnerRecord
from psm.workers.risk.settings import SlotSettings


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """What waits for its turn to be stored, and to be answered.

    Attributes:
        output: the record; None where an earlier decision is only told again.
        command: sequence of the command that it answers; 0 for none.
        decision: its answer.
        received: when the command came, monotonic.
        traceparent: W3C trace context of whoever asked; None where there is none.
    """

    output: RiskOutput | None
    command: int = 0
    decision: bytes = b""
    received: float = 0.0
    traceparent: str | None = None


class Renewal(msgspec.Struct, frozen=True, kw_only=True):
    """An owner record that waits behind all records which its checkpoint knows.

    Attributes:
        record: as it will be stored.
        parts: of its checkpoint, where that does not fit into it.
    """

    record: OwnerRecord
    parts: Sequence[bytes]


class Outbox:
    """Records in the order in which they are to be stored.

    A renewal has its turn like any record: what was decided by then stands before it and what
    comes stands behind. So a checkpoint never holds what is not stored, and no load keeps a
    renewal waiting until there is nothing else to do.
    """

    def __init__(self) -> None:
        self._queue: deque[Waiting | Renewal] = deque()
        self._records = 0  # behind the last checkpoint
        self._orders = 0
        self._renewing = False

    def __bool__(self) -> bool:
        return bool(self._queue)

    def restart(self, records: int, orders: int) -> None:
        """Begin behind a checkpoint.

        Args:
            records: stored since.
            orders: sequence of ORDERS that it is as of.
        """
        self._queue.clear()
        self._records, self._orders, self._renewing = records, orders, False

    def clear(self) -> None:
        """Forget what waits: it will be decided anew, from what is stored."""
        self._queue.clear()

    @property
    def is_saved(self) -> bool:
        """Whether the last checkpoint, stored or waiting, has every record."""
        return not self._records

    def due(self, settings: SlotSettings, orders: int, age_s: float) -> bool:
        """Return whether a renewal is to be put here.

        Args:
            settings: when one is due.
            orders: sequence of ORDERS up to which all is decided.
            age_s: of the checkpoint that is stored, s.
        """
        return not self._renewing and (
            self._records >= settings.checkpoint_records
            or orders - self._orders >= settings.checkpoint_orders
            or age_s >= settings.renew_s
        )

    def put(self, outputs: Sequence[RiskOutput]) -> None:
        """Put records that answer nothing."""
        self._queue.extend(Waiting(output=output) for output in outputs)
        self._records += len(outputs)

    def put_answer(self, answer: Waiting) -> None:
        """Put the answer of a command."""
        self._queue.append(answer)
        self._records += answer.output is not None

    def put_renewal(self, record: OwnerRecord, parts: Sequence[bytes]) -> None:
        """Put an owner record with a checkpoint as of now."""
        self._queue.append(Renewal(record=record, parts=parts))
        self._records, self._orders, self._renewing = 0, record.orders, True

    def next(self, most: int) -> Renewal | list[Waiting]:
        """Return what is to be stored next: a renewal, or the records up to one."""
        found: list[Waiting] = []
        for one in islice(self._queue, most):
            if isinstance(one, Renewal):
                return found or one
            found.append(one)
        return found

    def stored(self, what: Renewal | list[Waiting]) -> None:
        """Forget what `next` returned."""
        if isinstance(what, Renewal):
            self._renewing = False
        for _ in range(1 if isinstance(what, Renewal) else len(what)):
            self._queue.popleft()
