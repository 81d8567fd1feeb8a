"""Risk workers in a simulated world: they die, freeze, meet and take over, while orders come.

Worker, loop, store, rulebook and engine are the real code; the broker, the links and the clocks are
simulated, and so is the feed of accounts (`risk_truth`), which has tests of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import msgspec
from nats.aio.client import Client
from tests.support.risk_bench import order_event, result_event
from tests.support.rules import ADA, BOB, Person, Rules
from tests.support.simulator.broker import MemoryBroker
from tests.support.simulator.bugs import patched
from tests.support.simulator.client import MemoryClient
from tests.support.simulator.clocks import Clocks, simulated
from tests.support.simulator.faults import Fault, Swarm
from tests.support.simulator.loop import SimulatedLoop
from tests.support.simulator.risk_oracles import check_last, check_risk, commands_of
from tests.support.simulator.risk_truth import ACCOUNT, Truth, TruthFeed
from tests.support.simulator.run import BugFoundError, _log_nothing
from tests.support.simulator.world import Size

from psm.adapters.jetstream import ApiError
from psm.adapters.jetstream.batch import publish_expected
from psm.adapters.telemetry import quiet
from psm.contracts import subjects
from psm.contracts.errors import PSMError, TransientError
from psm.contracts.subjects import ORDERS, RISK, RULEBOOK
from psm.risk.rulebook import slot_of
from psm.workers.ops.keys import made_signature
from psm.workers.risk import inputs as slot_inputs
from psm.workers.risk.inputs import SlotInputs
from psm.workers.risk.settings import SlotSettings
from psm.workers.risk.worker import RiskWorker

GROUP = "desk"
SLOT = slot_of(GROUP)
OPEN_MAX = 6
LIMITS: dict[str, Any] = {
    "open_orders_count": OPEN_MAX,
    "daily_loss_money": "100",
    "max_order_quantity": "5",
    "mark_age": 100_000,
}
_STEPS_MAX = 2_000_000
_SETTLE_S = 120.0
_WORKERS_MAX = 3
_READ_S = 20.0
LAST = 3
"""Orders at the end, when nothing is on its way any more."""


class RiskReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one seed did; `seen` counts decisions by outcome and reason, takeovers and latches."""

    seed: int
    trace: int
    decisions: int
    seen: Counter[str]
    fired: Counter[Fault]


class RiskWorld:
    """One seed's world.

    Attributes:
        truth: what happens to the account.
        defects: what a process failed with that it must never fail with.
        rules: the rulebook as it is said.
    """

    def __init__(
        self, loop: SimulatedLoop, swarm: Swarm, clocks: Clocks, loss: float | None = None
    ) -> None:
        self.loop, self.swarm, self.clocks = loop, swarm, clocks
        self.broker = MemoryBroker(loop, swarm, Size(1))
        self.truth = Truth()
        self.defects: list[str] = []
        self.rules = Rules()
        self._said = 0
        self._orders = swarm.dice.randint(25, 50)
        self._workers: dict[str, RiskWorker | None] = {}
        self._clients: dict[str, MemoryClient] = {}
        self._writers: list[asyncio.Task[None]] = []
        self._started = 0
        usual = swarm.dice.choice([0.0, 0.05, 0.2])
        self._loss = usual if loss is None else loss
        self._settings = SlotSettings(
            checkpoint_records=swarm.dice.choice([2, 10, 1000]),
            batch_records=swarm.dice.choice([1, 5, 200]),
        )
        loop.on_death(self._died)

    # --- the run --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Let orders come while everything breaks; then everything must be decided in time."""
        dice = self.swarm.dice
        self.truth.begin(self.broker._now_ns())
        await self._founded()
        for _ in range(dice.randint(1, 2)):
            self._start()
        self._write("strategy", self._strategy)
        self._write("officers", self._officers)
        self._write("market", self._market)
        harm = self._harm()
        until = self.loop.time() + dice.uniform(5.0, 15.0)
        while self.loop.time() < until:
            await asyncio.sleep(dice.uniform(0, 1))
            dice.choice(harm)()
            if not self._workers:
                self._start()
        await self._rest()
        for name in list(self._workers):
            self.loop.kill(name)
        self._start()
        await asyncio.sleep(_READ_S)  # a new owner, to which everything of before was told
        self._orders = LAST
        self._write("last", self._strategy)
        await self._rest()

    async def _rest(self) -> None:
        """Stop all faults, and wait until every order has a decision."""
        self.swarm.calm = True
        self.loop.spare()
        self.broker.away = False
        deadline = self.loop.time() + _SETTLE_S
        while (missing := self._missing()) is not None:
            if not self._workers:
                self._start()
            for name, worker in self._workers.items():
                assert worker is None or not worker.failed, f"{name} stopped: {worker.failed}"
            if self.loop.time() > deadline:
                raise AssertionError(f"no progress: {missing}")
            await asyncio.sleep(0.1)
        for task in self._writers:
            task.result()
        self._writers = []

    def _missing(self) -> str | None:
        if not all(task.done() for task in self._writers):
            return "somebody waits for acknowledgements"
        ordered = {_order_id(one.data) for one in commands_of(self.broker.streams[ORDERS])}
        decided = {one["order_id"] for one in self.decisions()}
        left = sorted(ordered - decided)
        return f"{left} have no decision" if left else None

    def decisions(self) -> list[dict[str, Any]]:
        """Return the payloads of the stored decisions, in order."""
        return [
            msgspec.json.decode(message.data)["payload"]
            for message in self.broker.streams[RISK].stored.values()
            if message.subject.startswith("risk.decision.")
        ]

    # --- who writes -----------------------------------------------------------------------------

    async def _founded(self) -> None:
        """Say who may speak, the group and its limits, before anybody orders."""
        self.rules.both("GroupDefined", group=GROUP, members=[ACCOUNT], currency="USDT")
        self.rules.propose(ADA, LIMITS)  # holds at once: there were none
        await self._publish_rules(self._client("founders"))

    async def _strategy(self, client: MemoryClient) -> None:
        dice = self.swarm.dice
        for _ in range(self._orders):
            await asyncio.sleep(dice.uniform(0, 0.6))
            self._started += 1
            sells = dice.random() < 0.4
            data = order_event(
                f"o{self._started}", ACCOUNT, side="sell" if sells else "buy",
                quantity=str(dice.choice((1, 2, 6))), price="100",
            )  # fmt: skip
            await self._publish(client, ORDERS, subjects.order_command(ACCOUNT), data)

    async def _market(self, client: MemoryClient) -> None:
        """Move the mark below the day's cap and back, and let the venue end approved orders.

        It shows them, or says so: that an order is rejected PSM may never be told.
        """
        dice, ended = self.swarm.dice, dict[str, None]()
        for _ in range(60):
            await asyncio.sleep(dice.uniform(0, 0.4))
            now = self.broker._now_ns()
            if dice.random() < 0.5:
                self.truth.move(dice.choice(("94", *("97", "99", "100", "101", "103") * 4)), now)
                continue
            open_ones = [
                one["order"] | {"quantity": one["approved_quantity"]}
                for one in self.decisions()
                if one["decision"] != "rejected" and one["order_id"] not in ended
            ]
            if open_ones:
                order = dice.choice(open_ones)
                ended[order["order_id"]] = None
                if dice.random() < 0.6:
                    self.truth.show(order, now)
                    continue
                fields = {"status": dice.choice(("rejected", "cancelled", "expired"))}
                data = result_event(order["order_id"], ACCOUNT, filled_quantity="0", **fields)
                await self._publish(client, ORDERS, subjects.order_status(order["order_id"]), data)

    async def _officers(self, client: MemoryClient) -> None:
        """Change limits by two, halt by one, and lift what is halted or latched by two."""
        dice, lifted = self.swarm.dice, dict[str, None]()
        for _ in range(dice.randint(3, 10)):
            await asyncio.sleep(dice.uniform(0, 3))
            match dice.choice(("propose", "propose", "approve", "lift")):
                case "propose":
                    most = dice.choice(("3", "4", "5", "7"))
                    self.rules.propose(ADA, {**LIMITS, "max_order_quantity": most})
                case "approve":
                    proposed = self.rules.book.documents.proposed.get(f"group:{GROUP}")
                    if proposed is not None:
                        self._say(
                            BOB, "LimitsApproved", scope="group", id=GROUP,
                            proposal_hash=proposed.hash,
                        )  # fmt: skip
                case "lift":
                    for name in [name for name in self._latches() if name not in lifted]:
                        lifted[name] = None
                        for person in (ADA, BOB):
                            self._say(person, "HaltLifted", scope="group", id=GROUP, halt_hash=name)
            await self._publish_rules(client)

    def _say(self, person: Person, event_type: str, **content: Any) -> None:
        assert self.rules.say(person, event_type, **content).outcome != "refused"

    def _latches(self) -> list[str]:
        stored = self.broker.streams[RISK].stored.values()
        halts = [m.data for m in stored if m.subject.startswith("risk.halt.")]
        return [hashlib.sha256(data).hexdigest() for data in halts]

    async def _publish_rules(self, client: MemoryClient) -> None:
        while self._said < len(self.rules.log):
            message = self.rules.log[self._said]
            self._said += 1
            await self._publish(client, RULEBOOK, message.subject, message.data)

    async def _publish(self, client: MemoryClient, stream: str, subject: str, data: bytes) -> None:
        """Send a message until it is acknowledged; one whose answer was lost is stored twice."""
        nc = cast("Client", client)
        while True:
            try:
                await publish_expected(nc, stream, subject, data, expected=None, timeout_s=1.0)
            except (TransientError, ApiError):
                await asyncio.sleep(0.1)
            else:
                return

    def _write(self, name: str, write: Callable[[MemoryClient], Any]) -> None:
        client = self._client(name)
        self._writers.append(self.loop.spawn(name, self._watched(lambda: write(client), name)))

    # --- processes ------------------------------------------------------------------------------

    def _start(self) -> None:
        """Start one more risk worker."""
        if len(self._workers) >= _WORKERS_MAX:
            return
        self._started += 1
        name = f"risk{self._started}"
        self.clocks.monotonic_s[name] = self.swarm.dice.uniform(0, 1e6)
        client = self._client(name)
        self._workers[name] = None
        self.loop.spawn(name, self._watched(lambda: self._work(name, client), name, ends=True))

    async def _work(self, name: str, client: MemoryClient) -> None:
        """What `psm risk worker` does; it always wants the slot."""
        nc, instruments = cast("Client", client), quiet()
        inputs = SlotInputs(nc, made_signature, instruments.metrics, instruments.risk_metrics)
        worker = RiskWorker(nc, name, inputs, self._settings, instruments.risk_metrics)
        self._workers[name] = worker
        running = asyncio.create_task(worker.run())
        while not running.done():
            if SLOT not in worker.resting() and SLOT not in worker.failed:
                worker.take(SLOT)
            await asyncio.wait([running], timeout=0.5)
        try:
            running.result()
        except TransientError:
            return  # it exits, and is started again

    async def _watched(
        self, work: Callable[[], Awaitable[None]], name: str, *, ends: bool = False
    ) -> None:
        try:
            await work()
        except PSMError as error:
            self.defects.append(f"{name}: {type(error).__name__}: {error}")
            raise
        if ends:
            self.loop.call_soon(self.loop.kill, name)

    def feed_of(self, *_: object, **__: object) -> TruthFeed:
        """Stand in for `RiskFeed`."""
        return TruthFeed(self.truth, self.swarm.dice, 0.0 if self.swarm.calm else self._loss)

    def _client(self, name: str) -> MemoryClient:
        client = self._clients[name] = MemoryClient(self.broker, name)
        return client

    def _died(self, name: str) -> None:
        client = self._clients.pop(name, None)
        if client is not None:
            client.close()
        self._workers.pop(name, None)

    # --- harm -----------------------------------------------------------------------------------

    def _harm(self) -> list[Callable[[], None]]:
        dice = self.swarm.dice

        def one() -> str | None:
            return dice.choice(list(self._workers)) if self._workers else None

        def kill() -> None:
            if (name := one()) is not None:
                steps = int(10 ** dice.uniform(0, 3))
                self.loop.kill_after(name, steps, lambda: self.swarm.count("worker_killed"))

        def freeze() -> None:
            if (name := one()) is not None:
                self.loop.freeze(name, dice.choice([0.3, 2.0, 12.0]))
                self.swarm.count("worker_frozen")

        def cut() -> None:
            self._clients[dice.choice(list(self._clients))].cut(dice.choice([0.05, 1.0]))
            self.swarm.count("connection_cut")

        def lose_consumer() -> None:
            if self.broker.delete_some_consumer():
                self.swarm.count("consumer_deleted")

        return [kill, kill, freeze, cut, lose_consumer, self._start]


def run_risk_seed(
    seed: int, *, loss: float | None = None, faults: Mapping[Fault, float] | None = None
) -> RiskReport:
    """Run one seed and check everything.

    Args:
        seed: of everything that is left to chance.
        loss: how often the feed loses an account; None: as the seed says.
        faults: how often these happen, whatever the seed says.

    Raises:
        BugFoundError: with the seed and what is wrong.
    """
    swarm = Swarm(seed)
    swarm.insist(faults or {})
    loop = SimulatedLoop(random.Random(f"turns/{seed}"), _STEPS_MAX)  # type: ignore[abstract]
    clocks = Clocks(loop)
    _log_nothing()
    with simulated(clocks, seed):
        world = RiskWorld(loop, swarm, clocks, loss)
        try:
            with patched([(slot_inputs, "RiskFeed", world.feed_of)]):
                loop.run_until_complete(world.run())
                seen = check_risk(world.broker.streams, world.truth)
                check_last(world.broker.streams, world.truth, LAST)
            assert not world.defects, f"a process failed: {world.defects}"
            return RiskReport(
                seed=seed, trace=loop.trace, decisions=len(world.decisions()), seen=seen,
                fired=swarm.fired,
            )  # fmt: skip
        except Exception as error:
            found = "; ".join([*world.defects, *loop.complaints][:3])
            what = f"risk seed {seed}: {type(error).__name__}: {error}"
            raise BugFoundError(f"{what}{'; ' if found else ''}{found}") from error
        finally:
            loop.dispose()


def _order_id(data: bytes) -> str:
    found: str = msgspec.json.decode(data)["payload"]["order_id"]
    return found
