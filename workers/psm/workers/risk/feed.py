"""What a risk engine follows, in an order that it may apply: accounts, marks and instruments.

Accounts come from their updates as PSM republishes them, over core NATS, which is fast and loses
what a slow reader or a broken connection costs. `UpdateFeed` notices a hole, the missing inputs are
read from the stream PSM, and where that does not do the whole account is read anew. Meanwhile the
account is lost, and nothing may be decided on it.

    feed = RiskFeed(nc)
    feed.follow(members)
    async with feed.running():
        while True:
            for one in await feed.take(0.001):
                match one:
                    case Entered():  slot.enter(one.account_id, one.document, one.log_sequence)
                    case FeedInput():  slot.take_input(one)
                    case Lost():  slot.lose(one.account_id)
                    case Regained():  slot.regain(one.account_id)
                    case Unfolded():  slot.unfolded(one.account_id, one.log_sequence, one.since)
                    case OrdersTold():  slot.take_told(one.account_id, one.updates)
                    case Stored():  slot.take_market(one)
                    case Reached():  slot.reach(one.log_sequence)
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from nats.aio.client import Client

from psm.contracts.feed import FeedInput
from psm.risk.messages import Stored
from psm.workers.risk.accounts import COMPARE_S, HEARD_MAX, AccountFeed
from psm.workers.risk.delivered import (
    Delivered,
    Entered,
    Lost,
    OrdersTold,
    Reached,
    Regained,
    Unfolded,
)
from psm.workers.risk.ended_orders import EndedOrders
from psm.workers.risk.market import MarketFeed
from psm.workers.risk.missed import AskLive, live_owners, live_service

__all__ = [
    "AskLive",
    "Delivered",
    "Entered",
    "FeedInput",
    "Lost",
    "OrdersTold",
    "Reached",
    "Regained",
    "RiskFeed",
    "Stored",
    "Unfolded",
    "live_owners",
    "live_service",
]

_LOOK_S = 0.1  # so soon a broken connection is told, if nothing else comes


class RiskFeed:
    """Follows accounts that may change, and all marks and instruments.

    For one task: nothing here may be called by two at once. What waits to be taken is bounded: of
    updates that come beyond it the accounts are lost, and repaired; marks wait in the stream.

    Attributes:
        accounts: the half of accounts, with its counters.
        market: the half of marks and instruments, with its counters.
    """

    def __init__(
        self,
        nc: Client,
        *,
        market_from: int = 0,
        live: AskLive | None = None,
        compare_s: float = COMPARE_S,
        heard_max: int = HEARD_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is heard before `running`.

        Args:
            nc: connection of `psm.adapters.jetstream.connect`.
            market_from: log sequence of the first mark or instrument wanted; 0 for the newest of
                each symbol, and whatever follows.
            live: who answers for whole accounts; by default the service `psm.get.live`.
            compare_s: how often each account is compared with the leader.
            heard_max: updates that may wait to be taken.
            clock: seconds that never run backwards, by which it is seen that nothing was taken.
        """
        self._wake = asyncio.Event()
        self.accounts = AccountFeed(
            nc,
            live or live_service(nc),
            self._wake,
            compare_s=compare_s,
            heard_max=heard_max,
            clock=clock,
        )
        self._ended = EndedOrders(nc, self._wake)
        self.market = MarketFeed(nc, self._wake, start=market_from)

    def follow(self, accounts: Iterable[str]) -> None:
        """Follow exactly these accounts from now on; new ones come by `Entered`.

        Of one that is left out nothing comes any more, not even what had arrived.
        """
        self.accounts.follow(accounts)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hear, compare and repair meanwhile."""
        async with self.accounts.running(), self.market.running():
            try:
                yield
            finally:
                await self._ended.close()

    def tell_orders(self, account_id: str, since: int) -> None:
        """Have `take` return what PSM told of an account's orders since then, us: `OrdersTold`."""
        self._ended.look(account_id, since)

    async def take(self, wait_s: float, most: int = 1000) -> list[Delivered]:
        """Return what has arrived; an empty list where nothing came within `wait_s` seconds.

        Before a decision, take until it is empty.

        Args:
            wait_s: how long to wait for the first of it; 0 for not at all.
            most: about how much.

        Raises:
            PSMError: the feed has ended, for a reason that cannot be waited out: a stream that is
                not there, no permission.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + wait_s
        while True:
            self._wake.clear()
            found: list[Delivered] = [*self._ended.take(), *self.accounts.take(most)]
            found += self.market.take(most)
            left = ends_at - loop.time()
            if found or left <= 0:
                return found
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, _LOOK_S)):
                    await self._wake.wait()

    async def reach(self, log_sequence: int, wait_s: float, symbols: Iterable[str] = ()) -> bool:
        """Ask the leader for all marks and instruments up to a place of the log.

        What `take` returns from then on brings the market there, and has the newest mark and
        definition of each of these symbols, also where a replica had hidden it.

        Args:
            log_sequence: the place, such as the highest one of a decision's vector.
            wait_s: how long it may take.
            symbols: what is to be decided about.

        Returns:
            Whether it was told in time.
        """
        return await self.market.reach(log_sequence, symbols, wait_s)

    def is_known(self, account_id: str) -> bool:
        """Return whether an account was entered, and is not lost, as far as `take` has told."""
        return self.accounts.is_known(account_id)

    @property
    def market_position(self) -> int:
        """M, as far as `take` has told: every mark and instrument up to this log sequence."""
        return self.market.position
