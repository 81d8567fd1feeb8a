"""What really happened to the one account of a risk world, and a feed that tells it, badly.

The log of accounts is folded as it grows. Each process hears of it late, loses the account now and
then, and enters it anew as a whole: all that the real feed may do, and nothing that it must not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
from tests.support.events import Sent, deposit, event, instrument, mark, trade

from psm.contracts import codec
from psm.contracts.feed import FeedInput
from psm.contracts.valuation import equity_at
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.messages import Folded, LogMessage
from psm.domain.publication.figures import state_document
from psm.domain.publication.log_times import log_time
from psm.risk.engine.orders import order_told
from psm.risk.messages import Stored
from psm.workers.risk.delivered import Delivered, Entered, Lost, OrdersTold, Reached

ACCOUNT, SYMBOL = "acc_1", "BTC-PERP"
HELD = Decimal(20)
"""What the account holds, long."""


class Truth:
    """The log of accounts and marks.

    Attributes:
        told: what a perfect feed would tell, each with its place.
        documents: the account after each message, by place.
        prices: the mark after each message, by place.
        shown: order -> place at which it was seen to be cancelled.
        inputs: places at which the account changed, ascending.
        last: place of the last message.
    """

    def __init__(self) -> None:
        self.told: list[tuple[int, Delivered]] = []
        self.documents: dict[int, bytes] = {}
        self.prices: dict[int, Decimal] = {}
        self.shown: dict[str, int] = {}
        self.inputs: list[int] = []
        self.last = 0
        self._books = Books(partitions=1)
        self._numbers = {ACCOUNT: 0, SYMBOL: 0}
        self._price = Decimal(100)

    def begin(self, now_ns: int) -> None:
        """Define the instrument, fund the account, let it buy."""
        self._append(instrument(1, SYMBOL), now_ns)
        self.move("100", now_ns)
        self._append(deposit(self._next(ACCOUNT), "10000", stream=ACCOUNT), now_ns)
        bought = trade(self._next(ACCOUNT), "buy", str(HELD), "100", SYMBOL, stream=ACCOUNT)
        self._append(bought, now_ns)

    def move(self, price: str, now_ns: int) -> None:
        """Mark the symbol."""
        self._price = Decimal(price)
        self._append(mark(self._next(SYMBOL), price, SYMBOL), now_ns)

    def show(self, order: dict[str, Any], now_ns: int) -> None:
        """Let the venue take an approved order and cancel it."""
        names = ("order_id", "symbol", "side", "type", "quantity", "price")
        self._event("OrderSubmitted", {name: order[name] for name in names}, now_ns)
        self._event("OrderCancelled", {"order_id": order["order_id"]}, now_ns)
        self.shown[order["order_id"]] = self.last

    def equity(self, place: int, marked: int) -> Decimal | None:
        """Return the account's equity as of a place, at the mark as of another."""
        document = msgspec.json.decode(self.documents[place])
        return equity_at(document, {SYMBOL: self.prices[marked]}, {})

    def state_hash(self, place: int) -> str:
        """Return the account's state hash as of a place."""
        found: str = msgspec.json.decode(self.documents[place])["state_hash"]
        return found

    def orders_since(self, time: int) -> tuple[bytes, ...]:
        """Return what was told of orders since a time, us."""
        return tuple(
            update
            for _, one in self.told
            if isinstance(one, FeedInput)
            for update in one.updates
            if (told := order_told(update)) is not None and told.time >= time
        )

    def _event(self, event_type: str, payload: dict[str, Any], now_ns: int) -> None:
        number = self._next(ACCOUNT)
        self._append(event(event_type, payload, number, stream=ACCOUNT), now_ns)

    def _next(self, stream: str) -> int:
        self._numbers[stream] += 1
        return self._numbers[stream]

    def _append(self, sent: Sent, now_ns: int) -> None:
        self.last += 1
        head, _, stream = sent.subject.partition(".")
        subject = f"trades.0.{stream}" if head == "trades" else sent.subject
        message = LogMessage(log_sequence=self.last, subject=subject, time=now_ns, data=sent.data)
        result = fold(self._books, message)
        assert isinstance(result, Folded), result
        if head != "trades":
            stored = Stored(
                sequence=self.last, time=now_ns // 1000, subject=subject, data=sent.data
            )
            self.told.append((self.last, stored))
        own = [one for one in result.updates if one.previous is not None]
        if own:
            found = FeedInput(
                account_id=ACCOUNT,
                log_sequence=own[0].log_sequence,
                previous=own[0].previous,
                updates=tuple(one.data for one in own),
            )
            self.told.append((self.last, found))
            self.inputs.append(self.last)
        self.prices[self.last] = self._price
        account = self._books.accounts.get(ACCOUNT)
        if account is not None:
            document = dict(state_document(self._books, account))
            document["as_of"] = {"log_sequence": self.last, "time": log_time(now_ns)}
            self.documents[self.last] = codec.encode(document)


class TruthFeed:
    """`RiskFeed` of one process.

    Attributes:
        is_blind: the account was lost, and not entered since.
    """

    def __init__(self, truth: Truth, dice: random.Random, loss: float) -> None:
        self.is_blind = True
        self._truth, self._dice, self._loss = truth, dice, loss
        self._at = 0  # place in what is told
        self._followed: dict[str, None] = {}
        self._hurry = False
        self._asked: int | None = None
        self.market_position = 0

    def follow(self, accounts: Iterable[str]) -> None:
        """Follow these accounts from now on; they are entered anew."""
        wanted = dict.fromkeys(accounts)
        if wanted.keys() != self._followed.keys():
            self.is_blind = True
        self._followed = wanted

    def is_known(self, account_id: str) -> bool:
        """Return whether it was entered, and not lost since."""
        return account_id in self._followed and not self.is_blind

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Nothing runs."""
        yield

    async def take(self, wait_s: float, most: int = 1000) -> list[Delivered]:
        """Return some of what is new."""
        await asyncio.sleep(wait_s * self._dice.random())
        found: list[Delivered] = []
        if self._followed and not self.is_blind and self._dice.random() < self._loss:
            self.is_blind = True
            found.append(Lost(account_id=ACCOUNT))
        elif self._followed and self.is_blind and self._dice.random() < 0.1:
            self.is_blind = False
            last = self._truth.last
            document = self._truth.documents[last]
            found.append(Entered(account_id=ACCOUNT, document=document, log_sequence=last))
        if self._asked is not None and self._dice.random() < 0.2:
            updates = self._truth.orders_since(self._asked)
            found.append(OrdersTold(account_id=ACCOUNT, updates=updates))
            self._asked = None
        hurry, self._hurry = self._hurry, False
        return [*found, *self._further(most if hurry else self._dice.choice((0, 1, 3, most)))]

    def tell_orders(self, account_id: str, since: int) -> None:
        """Have `take` return, at some time, what was told of orders since then."""
        self._asked = since

    async def reach(self, log_sequence: int, wait_s: float) -> bool:
        """Have everything told by the next `take`, or not in time."""
        await asyncio.sleep(wait_s * self._dice.random())
        self._hurry = self._dice.random() < 0.8
        return self._hurry

    def _further(self, most: int) -> list[Delivered]:
        told = self._truth.told
        new = told[self._at : self._at + most]
        self._at += len(new)
        found = []
        for place, one in new:
            self.market_position = max(self.market_position, place)
            if isinstance(one, Stored) or not self.is_blind:
                found.append(one)
        if self._at == len(told) and self.market_position < self._truth.last:
            self.market_position = self._truth.last
            found.append(Reached(log_sequence=self.market_position))
        return found
