"""Traffic for the chaos suite: two kinds of producers that never give up, and what they were told.

One is the `Publisher` of the contracts, which numbers events and is idempotent. The other is a
producer that anybody may write: it sends numbered events, gaps, repeats and junk, and sends again
whatever was not acknowledged, so that the log holds events twice, far apart and out of order.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
from collections.abc import Sequence
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.js.errors import APIError
from tests.support import feed
from tests.support.events import Sent, deposit, fee, opened, trade
from tests.support.workbench import end

from psm.contracts.publisher import Publisher

OWN = "own"
"""First letters of the accounts that the `Publisher` writes."""

_GIVE_UP_S = 300.0
_ACK_S = 1.0
_RETRY_S = 0.05


class Load:
    """Both producers at work until `stop`.

    Attributes:
        acked: log sequence -> SHA-256 (hex) of the event whose acknowledgement named it.
        repeats: attempts made after one that got no answer.
    """

    def __init__(self, nc: Client, seed: int, *, accounts: int = 4, pause_s: float = 0.01) -> None:
        self.acked: dict[int, str] = {}
        self.repeats = 0
        self._nc = nc
        self._seed = seed
        self._pause_s = pause_s
        self._stopping = False
        self._tasks = [
            asyncio.create_task(self._press()),
            *(asyncio.create_task(self._append(f"{OWN}_{n}")) for n in range(accounts)),
        ]

    async def stop(self) -> None:
        """Return when everything that was begun is acknowledged."""
        self._stopping = True
        try:
            await asyncio.gather(*self._tasks)
        finally:
            await end(*self._tasks)

    async def cancel(self) -> None:
        """End at once, for a test that has failed."""
        await end(*self._tasks)

    async def more(self, count: int = 30, timeout_s: float = 60.0) -> None:
        """Return when so many more events are acknowledged: the log takes events again."""
        wanted = len(self.acked) + count
        async with asyncio.timeout(timeout_s):
            while len(self.acked) < wanted:
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.02)

    async def _append(self, stream: str) -> None:
        """Append events of one account, numbered by the publisher."""
        dice = random.Random(f"{self._seed}/{stream}")
        async with Publisher(
            self._nc, request_timeout_s=2.0, give_up_s=_GIVE_UP_S, assume_new=True
        ) as publisher:
            for turn in itertools.count():
                if self._stopping:
                    return
                sent = _next(dice, stream, turn, str(self._seed))
                stored = await publisher.append(sent.data)
                self.acked[stored.log_sequence] = stored.event_hash
                await asyncio.sleep(self._pause_s * 4)

    async def _press(self) -> None:
        """Send troubled traffic one by one; a lost answer means that it is sent again."""
        js = self._nc.jetstream()
        for message in _endless(self._seed):
            if self._stopping:
                return
            while True:
                try:
                    ack = await js.publish(message.subject, message.data, timeout=_ACK_S)
                except (nats.errors.Error, APIError):
                    self.repeats += 1
                    await asyncio.sleep(_RETRY_S)
                else:
                    self.acked[ack.seq] = hashlib.sha256(message.data).hexdigest()
                    break
            await asyncio.sleep(self._pause_s)


def _next(dice: random.Random, stream: str, turn: int, salt: str) -> Sent:
    """Return the n-th event of an account; without a number, which the publisher assigns."""
    more: dict[str, Any] = {"stream": stream, "salt": f"{salt}/{turn}", "sequence_number": None}
    if turn == 0:
        return opened(1, **more)
    kind = dice.random()
    if kind < 0.2:
        return deposit(1, str(dice.randint(1, 1000)), **more)
    if kind < 0.3:
        return fee(1, f"0.{dice.randint(1, 99):02}", **more)
    side, quantity = dice.choice(["buy", "sell"]), f"{dice.randint(1, 9)}.25"
    price, symbol = str(dice.randint(90, 110)), dice.choice(feed.SYMBOLS)
    return trade(1, side, quantity, price, symbol, commission="0.1", **more)


def _endless(seed: int) -> Sequence[Sent]:
    """More traffic than any test sends, with repeats of events sent long before."""
    sent = feed.traffic(seed, accounts=12, events=20_000)
    dice = random.Random(f"{seed}/repeats")
    return [
        old
        for place, message in enumerate(sent)
        for old in ([message, sent[dice.randrange(place)]] if place % 40 == 39 else [message])
    ]
