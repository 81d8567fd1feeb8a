"""A trading house at work: accounts that trade, symbols whose marks walk, at a steady rate.

An open loop: what is due is sent, whatever became of what went before. Accounts have money, so none
comes near liquidation, and each gets to hold every symbol.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from nats.aio.client import Client

from benchmarks.rig import Message
from psm.contracts.codec import encode

_IDS = uuid.UUID("0e7a1a52-6f43-4f0c-9a52-6a1a3b1de003")
_TURN_S = 0.01
_ACK_S = 30.0
_STEP = 0.0005  # of a price at each of its marks


class House:
    """What the accounts and the market say next; the same seed says the same."""

    def __init__(self, accounts: int, symbols: int, seed: int = 7) -> None:
        self._dice = random.Random(seed)
        self._numbers: dict[str, int] = {}
        self._prices = [100.0 + 10 * place for place in range(symbols)]
        self.accounts = [f"acc_{number:05d}" for number in range(accounts)]
        self._marked = 0

    def deposits(self) -> list[Message]:
        """Return the first event of each account."""
        return [
            self._event(f"trades.{account}", account, "CashDeposited", {"amount": "1000000"})
            for account in self.accounts
        ]

    def trade(self) -> Message:
        """Return the next fill of any account."""
        dice, account = self._dice, self._dice.choice(self.accounts)
        place = dice.randrange(len(self._prices))
        payload = {
            "symbol": f"S{place:02d}",
            "side": dice.choice(("buy", "sell")),
            "quantity": f"{dice.randint(1, 40) / 10}",
            "price": f"{self._prices[place]:.2f}",
            "commission": "0.05",
        }
        return self._event(f"trades.{account}", account, "TradeExecuted", payload)

    def mark(self) -> Message:
        """Return the next mark; the symbols take turns."""
        place = self._marked % len(self._prices)
        self._marked += 1
        self._prices[place] *= 1 + self._dice.uniform(-_STEP, _STEP)
        symbol = f"S{place:02d}"
        payload = {"symbol": symbol, "price": f"{self._prices[place]:.2f}"}
        return self._event(f"marks.{symbol}", symbol, "MarkPriceUpdated", payload)

    def _event(self, subject: str, stream: str, kind: str, payload: dict[str, str]) -> Message:
        number = self._numbers[subject] = self._numbers.get(subject, 0) + 1
        body = {
            "event_id": str(uuid.uuid5(_IDS, f"{subject}/{number}")),
            "event_type": kind,
            "stream_id": stream,
            "sequence_number": number,
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "schema_version": "1.0.0",
            "payload": payload,
        }
        return Message(subject, encode(body))


class Load:
    """Trades and marks at their rates until `stop`.

    Attributes:
        sent: events acknowledged.
        failed: events that were not acknowledged in time.
        behind_s: how late the latest event was sent.
    """

    def __init__(
        self,
        nc: Client,
        house: House,
        trades_per_s: float,
        marks_per_s: float,
        told: Callable[[bytes], object] = lambda _data: None,
    ) -> None:
        """Nothing is sent before `run`; `told` is called with each trade as it is sent."""
        self.sent = self.failed = 0
        self.behind_s = 0.0
        self._js = nc.jetstream()
        self._house = house
        self._told = told
        self._rates = ((house.trade, trades_per_s), (house.mark, marks_per_s))
        self._waiting: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def run(self, *, funded: bool = False) -> None:
        """Send until told to stop; return when everything was answered.

        Args:
            funded: whether the accounts have their money already.
        """
        for message in () if funded else self._house.deposits():
            await self._send(message)
        began = time.perf_counter()
        counts = [0 for _ in self._rates]
        while not self._stopping:
            for place, (make, per_s) in enumerate(self._rates):
                while (late_s := time.perf_counter() - began - counts[place] / per_s) >= 0:
                    self.behind_s = max(self.behind_s, late_s)
                    counts[place] += 1
                    task = asyncio.create_task(self._send(make()))
                    self._waiting.add(task)
                    task.add_done_callback(self._waiting.discard)
                    # Sent in the order made; a backlog gives way to the answers.
                    await asyncio.sleep(0)
            await asyncio.sleep(_TURN_S)
        await asyncio.gather(*self._waiting)

    @property
    def unanswered(self) -> int:
        """How many events the broker has not acknowledged."""
        return len(self._waiting)

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping = True

    async def _send(self, message: Message) -> None:
        if message.subject.startswith("trades."):
            self._told(message.data)
        try:
            await self._js.publish(message.subject, message.data, timeout=_ACK_S)
        except Exception:  # noqa: BLE001 - whatever it is, the soak has failed, and goes on
            self.failed += 1
        else:
            self.sent += 1
