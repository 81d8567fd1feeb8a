"""A slot of the risk engine in memory, with everything that a decision may have to look at."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

from tests.support.risk_log import GROUP, RiskLog
from tests.support.rules import ADA

from psm.contracts import codec
from psm.contracts.recorded import decode_audit, decode_recorded
from psm.contracts.subjects import order_command
from psm.risk.engine import Slot
from psm.risk.limits import Check
from psm.risk.messages import RiskOutput, Stored
from psm.risk.rulebook import slot_of

SYMBOLS = tuple(f"S{number:02}-PERP" for number in range(50))
STRATEGY = "maker"
LOOSE = "1000000000"

_MONEY = (
    *("max_order_quantity", "max_order_notional", "notional_period", "open_orders_notional"),
    *("leverage", "exposure_symbol", "exposure_gross", "exposure_net", "exposure_currency"),
    *("exposure_sector", "exposure_cluster", "available_margin", "daily_loss_money"),
)
_COUNTS = ("open_orders_count", "order_rate", "message_rate", "repeated_execution", "loss_streak")
EVERY_LIMIT: dict[str, Any] = {
    **dict.fromkeys(_MONEY, LOOSE),
    **dict.fromkeys(_COUNTS, 10**9),
    "concentration": "1",
    "cooldown": 1,
    "drawdown": "0.9",
    "duplicate_order": 1,
    "fee_rate": "0.001",
    "hedge_credit": "0.5",
    "mark_age": 3600,
    "price_collar": "0.9",
    "price_collar_passive": "0.9",
    "collar_period": "0.9",
    "risk_per_trade": "0.5",
    "self_cross": True,
    "stop_required": True,
}
"""A limit of every check, none of which is reached."""


class RiskBook:
    """A group with its limits, positions and open orders, and orders to decide.

    Attributes:
        slot: what decides.
        accounts: how many the group has.
    """

    def __init__(
        self, accounts: int = 1, symbols: Sequence[str] = SYMBOLS, scopes: int = 1
    ) -> None:
        """Build it: every account is funded; the first holds every symbol and has orders in it."""
        names = tuple(f"acc_{number}" for number in range(accounts))
        log = RiskLog(accounts=names, deposit="10000000")
        self._account, self.accounts = names[0], accounts
        _tag(log, SYMBOLS)
        for symbol in SYMBOLS:
            log.instrument(symbol)
            log.mark(symbol, "100")
            log.trade("buy", "3", "100", symbol, account=names[0])
            log.event(
                names[0], "OrderSubmitted", order_id=f"open-{symbol}", symbol=symbol, side="sell",
                type="limit", quantity="1", price="120",
            )  # fmt: skip
        log.limits(EVERY_LIMIT)
        self.slot: Slot = log.folder.slots[slot_of(GROUP)]
        self._time, self._asked = log.clock, 0
        self.slot.reach(log.folder.books.position)

    def next_order(self) -> Stored:
        """Return the next order."""
        self._asked += 1
        self._time += 30_000  # an equal one is a second later
        return order(
            self._account, f"o{self._asked}", SYMBOLS[self._asked % len(SYMBOLS)],
            sequence=self._asked, time=self._time, strategy_id=STRATEGY, stop_loss="90",
        )  # fmt: skip

    def decide(self, *, dry_run: bool = False) -> tuple[float, list[RiskOutput]]:
        """Decide on the next order; return its seconds of processor time, and the records."""
        command = self.next_order()
        started = time.process_time()
        outputs = self.slot.decide(command, dry_run=dry_run)
        return time.process_time() - started, outputs


def least(command: Stored, record: bytes) -> float:
    """Return the seconds of processor time that no decision can do without, however it is made.

    The request is read and hashed, a result is made for each check, the record is encoded and
    hashed: nothing is looked up, compared or remembered.
    """
    event = codec.decode_untyped(record)
    results = [(one["name"], one["scope"], one.get("value")) for one in event["payload"]["checks"]]
    started = time.process_time()
    fields = decode_audit(decode_recorded(command.data))
    hashlib.sha256(codec.canonical_bytes(fields)).hexdigest()
    event["payload"]["checks"] = [
        Check(name=name, scope=scope, passed=True, value=value) for name, scope, value in results
    ]
    hashlib.sha256(codec.canonical_bytes(event)).hexdigest()
    return time.process_time() - started


def _tag(log: RiskLog, symbols: Sequence[str]) -> None:
    """Give every symbol a currency, one of five sectors and one of ten clusters."""
    tags = {
        symbol: {"sector": f"sector{number % 5}", "currency": "USDT"}
        for number, symbol in enumerate(symbols)
    }
    log.both("TagsDefined", name="all", tags=tags)
    log.say(
        ADA, "ClustersDefined", version=1, as_of_day="2026-11-30", window=90, symbols=[*symbols],
        clusters={f"c{first:02}": [*symbols[first::10]] for first in range(10) if symbols[first:]},
        beta=dict.fromkeys(symbols, "1"), sigma=dict.fromkeys(symbols, "0.01"),
        matrix_hash="0" * 64, returns_hash="0" * 64, code="1",
    )  # fmt: skip


def order(
    account: str, order_id: str, symbol: str, *, sequence: int, time: int, **more: Any
) -> Stored:
    """Return a request to buy one of a symbol."""
    payload = {
        "account_id": account, "order_id": order_id, "symbol": symbol, "side": "buy",
        "type": "limit", "quantity": "1", "price": "101", **more,
    }  # fmt: skip
    body = {
        "event_id": str(uuid.UUID(int=sequence, version=4)),
        "event_type": "order_request",
        "timestamp": "2026-12-01T00:00:00Z",
        "schema_version": "1.0.0",
        "payload": payload,
    }
    return Stored(
        sequence=sequence, time=time, subject=order_command(account), data=json.dumps(body).encode()
    )
