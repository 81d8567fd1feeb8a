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
                    case Stored():  slot.take_market(one)
                    case Reached():  slot.reach(one.log_sequence)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import msgspec
from nats.aio.client import Client

from psm.contracts.feed import FeedInput
from psm.risk.messages import Stored


class Entered(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An account as a whole; what was known of it before counts no more.

    It comes first for every account that is followed, and again where a loss could not be repaired
    input by input.

    Attributes:
        account_id: whose.
        document: of `psm.get.live`, read `state`.
        log_sequence: up to which the account's log is in it.
    """

    account_id: str
    document: bytes
    log_sequence: int


class Lost(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something of an account is missing, or may be: unknown until it is regained or entered.

    What is known of it is kept: inputs that were missing may follow, each next to the one before.
    """

    account_id: str


class Regained(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A lost account is known again: what was missing came before this, or nothing was."""

    account_id: str


class Reached(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """TRADES has no other mark or instrument up to here: M, without a message."""

    log_sequence: int


Delivered = Entered | FeedInput | Lost | Regained | Stored | Reached
"""What the feed gives. Of one account, and of the market, always in the order of the log."""


class RiskFeed:
    """Follows accounts that may change, and all marks and instruments.

    For one task: nothing here may be called by two at once.
    """

    def __init__(self, nc: Client, *, market_from: int = 1) -> None:
        """Nothing is heard before `running`.

        Args:
            nc: connection of `psm.adapters.jetstream.connect`.
            market_from: log sequence of the first mark or instrument wanted.
        """

    def follow(self, accounts: Iterable[str]) -> None:
        """Follow exactly these accounts from now on; new ones come by `Entered`.

        Of one that is left out nothing comes any more, not even what had arrived.
        """

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hear, check and repair meanwhile.

        Raises:
            PSMError: what cannot be waited out: a stream that is not there, no permission.
        """
        yield

    async def take(self, wait_s: float, most: int = 1000) -> list[Delivered]:
        """Return what has arrived; an empty list where nothing came within `wait_s` seconds.

        Raises:
            PSMError: as `running`; the feed has ended.
        """
        return []

    async def reach(self, log_sequence: int, wait_s: float) -> bool:
        """Ask the leader for all marks and instruments up to a place of the log.

        What `take` returns from then on brings the market there, if it can be told in time.

        Returns:
            Whether it can; `False` after `wait_s` seconds.
        """
        return False

    def is_known(self, account_id: str) -> bool:
        """Return whether an account was entered, and is not lost, as far as `take` has told."""
        return False

    @property
    def market_position(self) -> int:
        """M, as far as `take` has told: every mark and instrument up to this log sequence."""
        return 0
