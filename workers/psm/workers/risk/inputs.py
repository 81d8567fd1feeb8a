"""The inputs of all slots of a process: one reader a source, one task that takes them in turn.

Before commands are decided, everything else that has arrived is taken. So a halt or a loss that is
there counts, and no slot waits for another one's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from nats.aio.client import Client

from psm.adapters.jetstream import OrderedReader, StoredMessage, last_for, stream_info
from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.adapters.risk_metrics import RiskMetrics
from psm.adapters.tasks import end_all
from psm.contracts.errors import TransientError
from psm.contracts.feed import FeedInput
from psm.contracts.subjects import ORDERS, RISK, RULEBOOK
from psm.risk.engine.results import read_end
from psm.risk.messages import Stored
from psm.risk.rulebook import Rulebook, Verify, slot_of
from psm.workers.risk import orders_log
from psm.workers.risk.delivered import Delivered, Entered, Reached
from psm.workers.risk.feed import AskLive, RiskFeed
from psm.workers.risk.figures import FiguresReader
from psm.workers.risk.order_lag import OrderLag
from psm.workers.risk.owed import Owed, next_owed, read_owed
from psm.workers.risk.ports import Decider, stored_of
from psm.workers.risk.rulebook import hidden_rules

RULES = "rulebook.*.*"
RELEASES = "risk.release.*.*"
_FEED_WAIT_S = 0.01
_DRAIN_S = 0.001
_REACH_S = 0.005
_MEMBERS_S = 3.0
_MOST = 500
_AT_ONCE = 16
_WATCH_S = 1.0
_log = get_logger()


class SlotInputs:
    """`Inputs` on the streams of a broker.

    Attributes:
        rulebook: as far as it was read.
        ready: set once rulebook and market are read up to where they were at the start.
    """

    def __init__(
        self,
        nc: Client,
        verify: Verify,
        metrics: Metrics,
        risk_metrics: RiskMetrics,
        live: AskLive | None = None,
    ) -> None:
        """Nothing is read before `run`.

        Args:
            nc: connection.
            verify: checks a signature of the rulebook.
            metrics: where counts of readers go.
            risk_metrics: where counts of commands go.
            live: who answers for whole accounts; by default the service `psm.get.live`.
        """
        self.rulebook = Rulebook(verify)
        self.ready = asyncio.Event()
        self._nc = nc
        self._live = live
        self._risk_metrics = risk_metrics
        reset = metrics.reader_reset
        self._rules = OrderedReader(nc, RULEBOOK, [RULES], on_reset=reset)
        self._orders = OrderedReader(nc, ORDERS, orders_log.SAID, on_reset=reset)
        self._releases = OrderedReader(nc, RISK, [RELEASES], on_reset=reset)
        self._figures = FiguresReader(nc, reset)
        self._released: dict[str, Stored] = {}  # newest by account
        self._feed: RiskFeed | None = None
        self._rules_at = 0
        self._rules_changed = asyncio.Event()
        self._slots: dict[int, int] = {}  # those with groups, and since when, us
        self._market: dict[str, Stored] = {}
        self._needed = 0  # log sequence up to which the market is to be known
        self._loops: dict[int, Decider] = {}
        self._group_of: dict[str, str] = {}  # of each account that is followed
        self._joining: dict[int, float] = {}  # those without commands yet, and since when
        self._fresh: list[Decider] = []
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._nudge = asyncio.Event()
        self._lag = OrderLag(risk_metrics)

    # --- what a loop asks for -------------------------------------------------------------------

    async def first_command(self, slot: int) -> int | None:
        await self.ready.wait()
        since = self._slots.get(slot)
        return (
            None
            if since is None
            else await orders_log.first_at(self._nc, ORDERS, orders_log.COMMANDS, since)
        )

    async def groups_change(self) -> None:
        await self._rules_changed.wait()

    async def rules_as_led(self) -> None:
        last = await last_for(self._nc, RULEBOOK, RULES)
        while last is not None and self.rulebook.sequence < last.sequence:
            await self._rules_changed.wait()

    def attach(self, loop: Decider) -> None:
        self._fresh.append(loop)
        self._nudge.set()

    def detach(self, loop: Decider) -> None:
        if loop in self._fresh:
            self._fresh.remove(loop)
        if self._loops.get(loop.number) is loop:
            del self._loops[loop.number]
            self._joining.pop(loop.number, None)

    # --- what doors ask for ---------------------------------------------------------------------

    def slot_of_account(self, account_id: str) -> int | None:
        """Return the slot that decides for an account; None if it is in no group."""
        group = self.rulebook.group_of(account_id)
        return None if group is None else slot_of(group.name)

    def loop_of(self, slot: int) -> Decider | None:
        """Return the loop of a slot, if it takes commands here."""
        loop = self._loops.get(slot)
        return loop if loop is not None and slot not in self._joining else None

    def unknown_members(self) -> int:
        """Return how many members are not known now."""
        members = [name for loop in self._loops.values() for name in loop.members()]
        return sum(self._feed is None or not self._feed.is_known(name) for name in members)

    # --- the task -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Read and deliver until cancelled.

        Raises:
            PSMError: what cannot be waited out: a stream that is not there, a lost rule.
        """
        async with self._opened() as feed:
            self.ready.set()
            watching = asyncio.create_task(self._watch())
            try:
                while True:
                    await self._turn(feed)
            finally:
                await end_all([watching])

    async def _watch(self) -> None:
        """Tell the readers what the leaders have: a damaged replica hides messages silently."""
        while True:
            await asyncio.sleep(_WATCH_S)
            with contextlib.suppress(TransientError):
                if (rule := await last_for(self._nc, RULEBOOK, RULES)) is not None:
                    await self._rules.watch(rule.sequence)
                if "orders" in self._tasks:
                    newest = await self._lag.look(self._nc, self._orders.position)
                    await self._orders.watch(newest)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[RiskFeed]:
        info = await stream_info(self._nc, RULEBOOK)
        while self.rulebook.sequence < info.last_sequence:
            await self._take_rules(await self._rules.fetch(_MOST, 1.0))
        feed = self._feed = RiskFeed(self._nc, live=self._live)
        try:
            async with feed.running():
                yield feed
        finally:
            await end_all(self._tasks.values())
            for reader in (self._rules, self._orders, self._releases, self._figures):
                await reader.close()

    async def _turn(self, feed: RiskFeed) -> None:
        """Wait until something came; take it, what only changes the state first."""
        self._start("feed", lambda: feed.take(_FEED_WAIT_S))
        self._start("rules", lambda: self._rules.fetch(_MOST, 1.0))
        self._start("releases", lambda: self._releases.fetch(_MOST, 1.0))
        if any(group.parent is not None for group in self.rulebook.groups.values()):
            self._start("figures", self._figures.fetch)
        if len(self._loops) > len(self._joining):
            self._start("orders", lambda: self._orders.fetch(_MOST, 1.0))
        self._start("nudge", self._nudge.wait)
        await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        if (commands := self._done("orders")) is not None:
            await self._decide(feed, commands)
        await self._take_arrived(feed)
        if self._done("nudge") is not None:
            self._nudge.clear()
            await self._join(feed)
        await self._begin(feed)
        await self._give_owed(feed)

    def _start(self, name: str, make: Callable[[], Any]) -> None:
        if name not in self._tasks:
            self._tasks[name] = asyncio.ensure_future(make())

    def _done(self, name: str) -> Any:
        """Return what a task brought, and forget it; None while it goes on."""
        task = self._tasks.get(name)
        if task is None or not task.done():
            return None
        del self._tasks[name]
        return task.result()

    async def _drain(self, feed: RiskFeed) -> None:
        """Take what has arrived beside commands, at most for a millisecond."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _DRAIN_S
        while loop.time() < until:
            await asyncio.sleep(0)  # whatever has arrived ends the task that waits for it
            if not await self._take_arrived(feed):
                return
            self._start("feed", lambda: feed.take(0.0))

    async def _take_arrived(self, feed: RiskFeed) -> bool:
        rules, delivered = self._done("rules"), self._done("feed")
        self._take_others()
        if rules:
            await self._take_rules(rules)
            self._follow(feed)
        for one in delivered or ():
            self._deliver(one)
        behind = delivered is not None and self._needed > feed.market_position
        # Now, and not when a command waits for it: where marks are rare nothing else tells.
        if behind and await feed.reach(self._needed, _REACH_S):
            for one in await feed.take(0.0):
                self._deliver(one)
        return bool(rules or delivered)

    def _take_others(self) -> None:
        """Take what other slots have told."""
        for message in self._done("releases") or ():
            self._take_release(stored_of(message))
        for message in self._done("figures") or ():
            for loop in self._loops.values():
                loop.take_figures(stored_of(message))

    # --- rules ----------------------------------------------------------------------------------

    async def _take_rules(self, messages: list[StoredMessage]) -> None:
        """Fold every event, also those that a consumer on a damaged replica was not shown."""
        for message in messages:
            taken = self.rulebook.sequence
            for hidden in await hidden_rules(self._nc, taken, message.sequence):
                self._take_rule(hidden)
            if message.sequence > taken:
                self._take_rule(stored_of(message))
        if messages:
            for loop in self._loops.values():
                loop.take_rulebook(self.rulebook, self._rules_at)
            for release in [*self._released.values()]:  # one may come before the move itself
                self._take_release(release)
            self._rules_changed.set()
            self._rules_changed = asyncio.Event()

    def _take_rule(self, stored: Stored) -> None:
        self.rulebook.take(stored)
        self._rules_at = max(self._rules_at, stored.time)
        for name in self.rulebook.groups:
            self._slots.setdefault(slot_of(name), stored.time)

    def _take_release(self, release: Stored) -> None:
        """Give what a group remembered of an account to the one that came after it."""
        account_id = orders_log.account_of(release.subject)
        if account_id is None:
            return
        self._released[account_id] = release
        for loop in self._loops.values():
            if loop.awaits(account_id):
                loop.take_release(release)

    # --- market and members ---------------------------------------------------------------------

    def _deliver(self, one: Delivered) -> None:
        if isinstance(one, Stored):
            self._market[one.subject] = one
            for loop in self._loops.values():
                loop.take(one)
            return
        if isinstance(one, Reached):
            for loop in self._loops.values():
                loop.take(one)
            return
        if isinstance(one, Entered | FeedInput):
            self._needed = max(self._needed, one.log_sequence)
        slot = self.slot_of_account(one.account_id)
        if slot is None or (own := self._loops.get(slot)) is None:
            return
        own.take(one)
        since = own.reserved_since(one.account_id) if isinstance(one, Entered) else None
        if since is not None and self._feed is not None:
            self._feed.tell_orders(one.account_id, since)

    def _follow(self, feed: RiskFeed, without: Decider | None = None) -> None:
        """Follow the members of all loops; one that is new to its group comes as a whole."""
        found = [
            (name, self.rulebook.group_of(name))
            for loop in self._loops.values()
            if loop is not without
            for name in loop.members()
        ]
        members = {name: "" if group is None else group.name for name, group in found}
        # Whoever moved is known to the feed, and not to where it is now.
        feed.follow([name for name, group in members.items() if self._group_of.get(name) == group])
        feed.follow(members)
        self._group_of = members

    # --- loops that come ------------------------------------------------------------------------

    async def _join(self, feed: RiskFeed) -> None:
        """Let new loops have the market, the rulebook, and their members as a whole."""
        if not self._fresh:
            return
        if (feeding := self._tasks.pop("feed", None)) is not None:
            for one in await feeding:  # nothing else may be asked of the feed meanwhile
                self._deliver(one)
        fresh, self._fresh = self._fresh, []  # only now: some may have been fenced meanwhile
        for loop in fresh:
            self._loops[loop.number] = loop
            self._joining[loop.number] = asyncio.get_running_loop().time()
            for stored in sorted(self._market.values(), key=lambda one: one.sequence):
                loop.take(stored)
            loop.take(Reached(log_sequence=feed.market_position))
            loop.take_rulebook(self.rulebook, self._rules_at)
            for account_id, release in self._released.items():
                if loop.awaits(account_id):
                    loop.take_release(release)
            self._follow(feed, without=loop)
        self._follow(feed)

    async def _begin(self, feed: RiskFeed) -> None:
        """Let loops take commands whose members are known, or do not come."""
        now = asyncio.get_running_loop().time()
        started = []
        for slot, since in list(self._joining.items()):
            loop = self._loops[slot]
            if now - since > _MEMBERS_S or all(map(feed.is_known, loop.members())):
                del self._joining[slot]
                started.append(loop)
        if not started:
            return
        for loop in started:
            loop.begin()
        if (reading := self._tasks.pop("orders", None)) is not None:
            await end_all([reading])
        live = [loop.commands_from for slot, loop in self._loops.items() if self.loop_of(slot)]
        await self._orders.restart_at(min(live))

    async def _give_owed(self, feed: RiskFeed) -> None:
        """Give loops what was said in ORDERS of accounts that moved there, once it is read."""
        owed: Owed | None = self._done("owed")
        if owed is not None:
            await self._drain(feed)
            if self.loop_of(owed.loop.number) is owed.loop:
                owed.loop.take_owed(owed.account_id, owed.said, owed.until)
        following = next_owed(self.loop_of(slot) for slot in self._loops)
        if following is not None:
            self._start("owed", lambda: read_owed(self._nc, following))

    # --- commands -------------------------------------------------------------------------------

    async def _decide(self, feed: RiskFeed, commands: list[StoredMessage]) -> None:
        """Decide, a few at a time: what arrives meanwhile counts, and whoever stores has a turn."""
        for place, message in enumerate(commands):
            if place % _AT_ONCE == 0:
                await self._drain(feed)
            if orders_log.is_end(message.subject):
                self._end(stored_of(message))
                continue
            account_id = orders_log.account_of(message.subject)
            slot = None if account_id is None else self.slot_of_account(account_id)
            if slot is None:
                self._risk_metrics.ungrouped()
            elif (loop := self.loop_of(slot)) is not None:
                loop.decide(stored_of(message), message.header("traceparent"))
        for slot, loop in self._loops.items():
            if slot not in self._joining:
                loop.pass_commands(self._orders.position)

    def _end(self, message: Stored) -> None:
        end = read_end(message)
        slot = None if end is None else self.slot_of_account(end.account_id)
        loop = None if slot is None else self.loop_of(slot)
        if end is not None and loop is not None:
            loop.take_end(end)
