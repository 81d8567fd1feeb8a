"""The log that the fold is measured on: accounts with many open positions, and everything else."""

from __future__ import annotations

import random
import uuid
from typing import Any

from psm.contracts.codec import encode
from psm.contracts.subjects import stored_trades
from psm.domain.messages import LogMessage

PARTITIONS = 16
MILLISECOND = 1_000_000


class MixedLog:
    """Opening deposits and positions (`warm`), then the measured mix (`measured`).

    Six in ten are fills, one in ten is a mark; the rest are orders, funding, deposits and fees.
    With `shared` symbols every account holds every symbol, so each mark values all accounts;
    without, each account has its own, and a mark values one.
    """

    def __init__(
        self, *, events: int, accounts: int, positions: int, shared: bool = True, seed: int = 7
    ) -> None:
        self._rng = random.Random(seed)
        self._numbers: dict[str, int] = {}
        self._orders: list[tuple[str, str, str]] = []
        self._written: list[LogMessage] = []
        self._accounts = [f"a{n}" for n in range(accounts)]
        self._symbols = {
            account: [f"{'' if shared else account}S{n}" for n in range(positions)]
            for account in self._accounts
        }
        for account in self._accounts:
            self._event(account, "CashDeposited", amount="1000000")
            for symbol in self._symbols[account]:
                fill = {"side": "buy", "quantity": "1.5", "price": "100.25"}
                self._event(account, "TradeExecuted", symbol=symbol, **fill)
        warm = len(self._written)
        for _ in range(events):
            self._mixed()
        self.warm, self.measured = self._written[:warm], self._written[warm:]

    def _event(self, account: str, event_type: str, **payload: Any) -> None:
        self._write(stored_trades(account, PARTITIONS), account, event_type, payload)

    def _write(self, subject: str, stream: str, event_type: str, payload: dict[str, Any]) -> None:
        sequence = len(self._written) + 1
        number = self._numbers[subject] = self._numbers.get(subject, 0) + 1
        body = {
            "event_id": str(uuid.UUID(int=sequence)),
            "event_type": event_type,
            "stream_id": stream,
            "sequence_number": number,
            "timestamp": "2025-12-12T10:30:00Z",
            "schema_version": "1.0.0",
            "payload": payload,
        }
        time = sequence * 2 * MILLISECOND
        self._written.append(
            LogMessage(log_sequence=sequence, subject=subject, time=time, data=encode(body))
        )

    def _mixed(self) -> None:
        rng = self._rng
        account = rng.choice(self._accounts)
        symbol = rng.choice(self._symbols[account])
        price, draw = f"{100 + rng.randrange(200) / 100:.2f}", rng.random()
        side, quantity = rng.choice(["buy", "sell"]), str(rng.randrange(1, 9) / 10)
        if draw < 0.6:
            fill = {"side": side, "quantity": quantity, "price": price, "commission": "0.05"}
            self._event(account, "TradeExecuted", symbol=symbol, **fill)
        elif draw < 0.72:
            if self._orders and rng.random() < 0.5:  # as many orders end as begin
                owner, order, _ = self._orders.pop(rng.randrange(len(self._orders)))
                self._event(owner, "OrderCancelled", order_id=order)
                return
            order = f"o{len(self._written)}"
            self._orders.append((account, order, symbol))
            new = {"side": side, "type": "limit", "quantity": quantity, "price": price}
            self._event(account, "OrderSubmitted", order_id=order, symbol=symbol, **new)
        elif draw < 0.80:
            paid = {"funding_payment": "-0.12", "funding_rate": "0.0001"}
            self._event(account, "FundingApplied", symbol=symbol, **paid)
        elif draw < 0.85:
            self._event(account, "CashDeposited", amount="10")
        elif draw < 0.90:
            self._event(account, "FeeCharged", amount="0.5")
        else:
            payload = {"symbol": symbol, "price": price}
            self._write(f"marks.{symbol}", symbol, "MarkPriceUpdated", payload)
