"""The smallest engine that a slot's loop can run: approves while nothing is halted, and counts.

Its decisions follow from its inputs alone, so what a crash did can be seen in them: each order has
one, `n` is contiguous, and each names the one before. It needs no account.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from psm.contracts.errors import InvariantError
from psm.contracts.feed import FeedInput
from psm.risk.engine import Slot
from psm.risk.messages import RiskOutput, Stored
from psm.risk.rulebook import Rulebook


class LedgerSlot(Slot):
    """Approves each order once; a second one of its id gets the same answer again."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.count = 0
        self.link = hashlib.sha256(f"{number}".encode()).hexdigest()
        self.orders: dict[str, str] = {}
        self.positions = {"ORDERS": 0, "RULEBOOK": 0, "TRADES": 0}
        self.rulebook: Rulebook | None = None

    @property
    def n(self) -> int:
        return self.count

    @property
    def previous(self) -> str:
        return self.link

    @property
    def consumed(self) -> dict[str, int]:
        return self.positions

    @property
    def owed(self) -> dict[str, int]:
        return {}

    def holds_back(self, account_id: str) -> bool:
        return False

    def begin(self, orders: int) -> None:
        pass

    def members(self) -> tuple[str, ...]:
        return ()

    def take_rulebook(self, rulebook: Rulebook, at: int) -> list[RiskOutput]:
        self.rulebook = rulebook
        return []

    def enter(self, account_id: str, document: bytes, log_sequence: int) -> list[RiskOutput]:
        return []

    def take_input(self, found: FeedInput) -> list[RiskOutput]:
        return []

    def lose(self, account_id: str) -> list[RiskOutput]:
        return []

    def regain(self, account_id: str) -> list[RiskOutput]:
        return []

    def reach(self, log_sequence: int) -> list[RiskOutput]:
        return []

    def take_market(self, message: Stored) -> list[RiskOutput]:
        return []

    def awaits(self, account_id: str) -> bool:
        return False

    def take_release(self, record: Stored) -> list[RiskOutput]:
        return []

    def take_figures(self, record: Stored) -> list[RiskOutput]:
        return []

    def take_clock(self, time: int) -> list[RiskOutput]:
        return []

    def decide(self, command: Stored, *, dry_run: bool = False) -> list[RiskOutput]:
        payload = msgspec.json.decode(command.data)["payload"]
        account, order = payload["account_id"], payload["order_id"]
        earlier = self.orders.get(order)
        if earlier is not None and not dry_run:
            return [RiskOutput(kind="decision", key=account, data=earlier.encode())]
        assert self.rulebook is not None
        mode = self.rulebook.mode_of(account, None, payload["symbol"], command.time).mode
        fields = {
            "n": 0 if dry_run else self.count + 1,
            "previous": self.previous,
            "orders": command.sequence,
            "rulebook": self.rulebook.sequence,
            "order_id": order,
            "account_id": account,
            "decision": "rejected" if mode == "halted" else "approved",
            "checks": [{"name": "mode", "passed": mode != "halted"}],
        }
        data = msgspec.json.encode({"event_type": "risk_decision", "payload": fields})
        output = RiskOutput(kind="decision", key=account, data=data)
        if not dry_run:
            self.take_recorded(output)
        return [output]

    def take_recorded(self, record: RiskOutput | Stored) -> None:
        payload: dict[str, Any] = msgspec.json.decode(record.data)["payload"]
        if (payload["n"], payload["previous"]) != (self.count + 1, self.previous):
            raise InvariantError(f"slot {self.number}: {payload['n']} does not follow {self.n}")
        self.count += 1
        self.link = hashlib.sha256(record.data).hexdigest()
        self.positions["ORDERS"] = payload["orders"]
        self.orders[payload["order_id"]] = record.data.decode()

    def checkpoint(self) -> bytes:
        return msgspec.json.encode(
            [self.number, self.n, self.previous, self.orders, self.positions]
        )

    @classmethod
    def restored(cls, checkpoint: bytes) -> LedgerSlot:
        number, n, previous, orders, positions = msgspec.json.decode(checkpoint)
        slot = cls(number)
        slot.count, slot.link, slot.orders, slot.positions = n, previous, orders, positions
        return slot

    def state_hash(self) -> str:
        return hashlib.sha256(self.checkpoint()).hexdigest()
