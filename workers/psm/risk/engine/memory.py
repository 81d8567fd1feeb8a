"""What a slot holds, and how it comes back: from a checkpoint and the records behind it."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from psm.contracts.errors import InvariantError
from psm.risk.engine.answers import Answers, note
from psm.risk.engine.cancels import Cancels
from psm.risk.engine.checkpoint import CHECKPOINT, hash_of, read_checkpoint
from psm.risk.engine.ids import AnsweredRequests
from psm.risk.engine.member import microseconds
from psm.risk.engine.membership import Memberships
from psm.risk.engine.orders import OpenOrders
from psm.risk.engine.parents import ParentWatch
from psm.risk.engine.path import Path, canonical
from psm.risk.engine.records import Chain
from psm.risk.engine.rules import ENGINE, RULES, Registry, rules_of
from psm.risk.engine.transfers import TransferWatch
from psm.risk.engine.vector import Vector
from psm.risk.engine.watch import LossWatch
from psm.risk.engine.windows import Windows
from psm.risk.market import MarketView
from psm.risk.messages import RiskOutput, Stored
from psm.risk.rulebook import Rulebook


class SlotMemory:
    """Everything that a slot knows.

    Attributes:
        rules: that it has; the last ones decide.
    """

    rules: ClassVar[Registry] = RULES

    def __init__(self, number: int) -> None:
        self.number, self.clock = number, 0
        self._path, self._windows = Path(), Windows()
        self._market = MarketView()
        self._chain = Chain(number, self._path)
        self._watch = LossWatch(self._path, self._chain)
        self._orders = OpenOrders(self._path, self._watch)
        self._remembered = AnsweredRequests()
        self._vector = Vector()
        self._members = Memberships(
            self._chain, self._market, self._path, self._vector, self._remembered, self._watch
        )
        self._parents = ParentWatch(
            self._path, self._chain, self._watch, self._market, self._members, self._windows
        )
        self._transfers = TransferWatch(self._path, self._watch)
        self._cancels = Cancels(self._path, self._chain)
        self._rulebook: Rulebook | None = None
        self._answers: Answers | None = None
        self._day_ends = 0
        self._turned = 0
        self._engine = ENGINE
        self._positions = {"ORDERS": 0, "RULEBOOK": 0, "TRADES": 0}

    @property
    def n(self) -> int:
        """Number of its last record, 0 before the first; contiguous."""
        return self._chain.n

    @property
    def previous(self) -> str:
        """SHA-256 of its last record's bytes, hex; before the first one that of the slot's name."""
        return self._chain.previous

    def take_recorded(self, record: RiskOutput | Stored) -> None:
        """Take a record of this slot that was stored after the checkpoint.

        The last one once more, byte for byte, is left alone: the broker stored it twice.

        Raises:
            InvariantError: it is not the one after the last: a hole, or another chain.
        """
        if self._chain.is_repeated(record.data):
            return
        event_type, time, payload = self._chain.take(record.data)
        self._advance(microseconds(time))
        self._path.apply(payload.get("path") or {})
        if payload.get("vector"):
            self._vector.restore({payload["group"]: payload["vector"]})
        if event_type == "LatchSet":
            key = f"{payload['group']}|{payload['scope']}|{payload['code']}"
            self._watch.name_latch(key, self._chain.previous)
        if event_type == "AccountReleased":
            self._vector.forget(payload["account_id"])
        if event_type == "risk_decision":
            self._engine = self._require(payload["engine"])
            # What an account is owed that moved here is decided late.
            before = self._positions["ORDERS"]
            self._positions["ORDERS"] = max(before, payload["orders_sequence"])
            note(payload, record.data, self._windows, self._remembered)

    def checkpoint(self) -> bytes:
        """Return the complete path state, canonical JSON with its own hash."""
        state = self._state()
        return canonical({**state, "hash": hash_of(state)})

    @classmethod
    def restored(cls, checkpoint: bytes) -> Self:
        """Return the slot of a checkpoint; members enter again, path state is complete.

        Raises:
            InvariantError: the bytes are not what `checkpoint` wrote.
        """
        state = read_checkpoint(checkpoint)
        slot = cls(state["slot"])
        slot.clock = state["clock"]
        slot._engine = slot._require(state["engine"])
        slot._chain.n, slot._chain.previous = state["n"], state["previous"]
        slot._positions.update(state["consumed"])
        slot._path.restore(state["path"])
        slot._windows.restore(state["windows"])
        slot._remembered.restore(state["requests"])
        slot._vector.restore(state["vector"])
        return slot

    def state_hash(self) -> str:
        """Return SHA-256 of the path state, hex."""
        return hash_of(self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "form": CHECKPOINT,
            "slot": self.number,
            "clock": self.clock,
            "engine": self._engine,
            "n": self._chain.n,
            "previous": self._chain.previous,
            "consumed": {"ORDERS": self._positions["ORDERS"]},
            "path": self._path.document(),
            "windows": self._windows.document(),
            "requests": self._remembered.document(),
            "vector": self._vector.document(),
        }

    def _require(self, engine: str) -> str:
        """Return the rules that decided last; who does not have them must not decide after them.

        Raises:
            InvariantError: this code does not have them.
        """
        if rules_of(self.rules, engine) is None:
            raise InvariantError(
                f"slot {self.number}: {engine} decided last, and this code has rules up to "
                f"{self.rules[-1].version}"
            )
        return engine

    def _day_time(self) -> int:
        """Return the time by which days and latches turn: that of TRADES alone, once it is known.

        A request that ORDERS stored a moment later turns nothing.
        """
        return self._turned or self.clock

    def _advance(self, time: int) -> None:
        self.clock = max(self.clock, time)
