"""A whole PSM in one simulated world: producers, workers of a fleet, projectors, two servers.

Everything but the servers, the links and the clocks is the real code. A run has three acts: faults
rain while producers write; then they stop, and everything must come to rest in time; then a new
worker alone must go on from what the others saved.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import msgspec
import nats.errors
from nats.aio.client import Client
from tests.support import feed
from tests.support.counted import CountedMoves
from tests.support.events import Sent, addressed, deposit
from tests.support.simulator.broker import MemoryBroker
from tests.support.simulator.client import MemoryClient
from tests.support.simulator.clocks import Clocks
from tests.support.simulator.database import MemoryDatabase, MemoryPool
from tests.support.simulator.faults import ProcessFault, Swarm
from tests.support.simulator.loop import SimulatedLoop, context_of
from tests.support.simulator.operators import Operators
from tests.support.simulator.oracles import refold
from tests.support.simulator.poison import poisoned
from tests.support.simulator.traffic import FLATS, flat, traffic

from psm.adapters import postgres
from psm.adapters.jetstream import ApiError
from psm.adapters.jetstream.batch import publish_expected
from psm.contracts import subjects
from psm.contracts.errors import ConfigError, TransientError
from psm.domain.books import Books
from psm.domain.market.slots import ValuationSlots
from psm.domain.messages import LogMessage
from psm.projections.current_state import CURRENT_STATE
from psm.workers.fleet import Fleet, Member, NatsMembers, NatsProber
from psm.workers.fleet.worker import Worker
from psm.workers.log.cursor import load_cursor
from psm.workers.log.reader import log_message
from psm.workers.partition.heads_store import PostgresHeads
from psm.workers.partition.settings import PartitionSettings
from psm.workers.projector.follower import Projector

SETTLE_S = 150.0
"""Virtual seconds within which everything must be committed and shown once the faults stop.

A partition may rest for 30 s where it was fenced again and again, and be left alone for as long
by one that is not believed to be gone; a key ends after 10 s, a follower pauses up to 7 s.
"""

_WORKERS_MAX = 4
_CLOCKS_S = 3600.0
_REPAIRS_MAX = 100
_NEXT_S = 0.05
_START_ERRORS = (TransientError, ConfigError, nats.errors.Error)  # exits; is started again


class Size(msgspec.Struct, frozen=True):
    """Settings of the log."""

    partitions: int
    replicas: int = 1
    valuation_slots: ValuationSlots = ValuationSlots(fast_ms=200, mid_ms=1_000, slow_ms=5_000)


class Heads(PostgresHeads):
    """The real reads of the heads, on a pool that is there already."""

    def __init__(self, pool: MemoryPool) -> None:
        super().__init__("")
        self._pool = cast("postgres.Pool", pool)


class World:
    """One seed's world.

    Attributes:
        acked: log sequence -> SHA-256 of the bytes whose acknowledgement named it.
        defects: what a process failed with that it must never fail with.
        moved: how many accounts were evicted and returned.
    """

    def __init__(self, loop: SimulatedLoop, swarm: Swarm, clocks: Clocks) -> None:
        dice = swarm.dice
        self.loop = loop
        self.swarm = swarm
        self.clocks = clocks
        self.size = Size(dice.randint(1, 4))
        self.broker = MemoryBroker(loop, swarm, self.size)
        self.database = MemoryDatabase(loop, swarm)
        self.acked: dict[int, str] = {}
        self.defects: list[str] = []
        self.moved: Counter[str] = Counter()
        self.metrics = CountedMoves(self.moved)
        self._accounts = dice.randint(1, 8)
        # Written before the rules of the simulated log are in place: the author folds, too.
        self._coming = poisoned(swarm, traffic(dice, dice.randrange(2**32), self._accounts))
        self._operators = Operators(dice)
        self.tuning = PartitionSettings(
            partitions=self.size.partitions,
            slots=self.size.valuation_slots,
            batch_messages=dice.choice([1, 3, 10, 300]),
            snapshot_interval_s=dice.choice([0.0, 0.5, 3.0, 60.0]),
            snapshot_events=dice.choice([1, 5, 100]),
            quiet_messages=dice.choice([1, 10, 10_000]),
            quiet_s=dice.choice([0.5, 5.0]),
            accounts_in_memory=dice.choice([0, 2, 200_000]),
        )
        self._started = 0
        self._clients: dict[str, MemoryClient] = {}
        self._pools: dict[str, MemoryPool] = {}
        self._workers: dict[str, Worker | None] = {}
        self._fleets: dict[str, Fleet] = {}
        self._projectors: list[str] = []
        self._writers: dict[str, asyncio.Task[None]] = {}
        loop.on_death(self._died)

    # --- the run --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Play all three acts."""
        dice = self.swarm.dice
        for _ in range(dice.randint(1, 3)):
            self.start_worker()
        for _ in range(dice.randint(1, 2)):
            self.start_projector()
        pause_s = dice.choice([0.01, 0.1, 0.3])
        shares = dice.randint(1, 3)
        for share in range(shares):
            self.start_writer(f"writer{share}", self._coming[share::shares], pause_s)
        self.start_operator(dice.randint(0, 20), dice.choice([0.1, 1.0, 2.0]))
        await self._rain(dice.uniform(5.0, 25.0))
        await self.rest("after the faults")
        self.finish_writers()
        for name in list(self._workers):
            self.loop.kill(name)
        self.start_worker()
        await self._repair()
        self.start_writer("last", self._one_more(), 0.01)
        await self.rest("with one new worker")
        self.finish_writers()

    async def _repair(self) -> None:
        """Let operators repair every stream that still waits."""
        for _ in range(_REPAIRS_MAX):
            repairs = self._operators.repairs(self._books())
            self.start_writer("repairs", repairs, 0.01)
            await self.rest("with repairs")
            self.finish_writers()
            if not repairs:
                return
        raise AssertionError("streams that were repaired again and again still wait")

    async def _rain(self, seconds: float) -> None:
        """Do harm for a while."""
        dice, until = self.swarm.dice, self.loop.time() + seconds
        harm = self._harm()
        every_s = dice.choice([0.2, 1.0, 4.0])
        while self.loop.time() < until:
            await asyncio.sleep(dice.uniform(0, 2) * every_s)
            if self.swarm.actions:
                fault = dice.choice(self.swarm.actions)
                if fault in harm and harm[fault]():
                    self.swarm.count(fault)
            if not self._workers and dice.random() < 0.5:
                self.start_worker()
            if not self._projectors and dice.random() < 0.5:
                self.start_projector()

    def _one_more(self) -> list[Sent]:
        """Return the next event of every account: its update tells the whole state."""
        versions = {
            stream: account.delivery.version
            for books in self._books()
            for stream, account in books.accounts.items()
        }
        names = [feed.account(number) for number in range(self._accounts)]
        names += map(flat, range(FLATS))
        return [deposit(versions.get(n, 0) + 1, "1", stream=n, salt="last") for n in names]

    def _books(self) -> list[Books]:
        """Return what the log says by now."""
        log = self.log()
        return [refold(log, self.size, number).books for number in range(self.size.partitions)]

    def log(self) -> list[LogMessage]:
        """Return everything in the log."""
        return [log_message(message) for message in self.broker.streams["TRADES"].stored.values()]

    async def rest(self, when: str) -> None:
        """Stop all faults and wait until everything written is committed and shown."""
        self.swarm.calm = True
        self.loop.spare()
        self.broker.away = self.database.away = False
        deadline = self.loop.time() + SETTLE_S
        while (missing := self._missing()) is not None:
            if not self._workers:
                self.start_worker()
            if not self._projectors:
                self.start_projector()
            for name, worker in self._workers.items():
                assert worker is None or not worker.failed, f"{name} stopped: {worker.failed}"
            if self.loop.time() > deadline:
                raise AssertionError(f"no progress {when}: {missing}")
            await asyncio.sleep(_NEXT_S)

    def _missing(self) -> str | None:
        """Return what has yet to happen before the world is at rest."""
        for name, task in self._writers.items():
            if not task.done():
                return f"{name} waits for acknowledgements"
        log, updates = self.broker.streams["TRADES"], self.broker.streams["PSM"]
        for number in range(self.size.partitions):
            last = max(
                (m.sequence for f in subjects.partition_filters(number) if (m := log.last_of(f))),
                default=0,
            )
            stored = updates.last_of(subjects.cursor(number))
            cursor = load_cursor(stored.data) if stored else None
            if last and (cursor is None or cursor.log_sequence < last or cursor.part):
                return f"partition {number} is committed to {cursor}, its log ends at {last}"
            shown = self.database.checkpoints.get((CURRENT_STATE.name, number))
            if stored and (shown is None or shown["stream_sequence"] < stored.sequence):
                return f"partition {number} is shown up to {shown}, committed at {stored.sequence}"
        return None

    # --- processes ------------------------------------------------------------------------------

    def start_worker(self) -> bool:
        """Start one more worker."""
        if len(self._workers) >= _WORKERS_MAX:
            return False
        name = self._name("worker")
        pool = self._pools[name] = MemoryPool(self.database)
        client = self._client(name)
        self._workers[name] = None  # it can be killed from its first moment on
        self.loop.spawn(name, self._watched(name, lambda: self._work(name, client, pool)))
        return True

    async def _work(self, name: str, client: MemoryClient, pool: MemoryPool) -> None:
        """What `psm worker` does."""
        nc = cast("Client", client)
        worker = Worker(nc, (), self.tuning, self.metrics, Heads(pool), steps_down=True)
        me = Member(id=name, host=name, pid=1, version="0", started_at="2000-01-01T00:00:00Z")
        store, prober = NatsMembers(nc), NatsProber(nc, time.monotonic)
        fleet = Fleet(
            me, self.size.partitions, store, prober, worker, self.metrics, clock=time.monotonic
        )
        self._workers[name], self._fleets[name] = worker, fleet
        worker.on_change(fleet.wake)
        try:
            await prober.listen(me.id)
            await store.listen(fleet.hear)
        except _START_ERRORS:
            return
        running = asyncio.create_task(worker.run())
        try:
            await fleet.run()
        finally:
            worker.stop()
            if worker.holdings():
                running.cancel()
            await asyncio.wait([running])
        self.defects += [f"{name}, partition {n}: {why}" for n, why in worker.failed.items()]

    def start_projector(self) -> bool:
        """Start one more projector of all partitions."""
        if len(self._projectors) >= 2:
            return False
        name = self._name("projector")
        pool = self._pools[name] = MemoryPool(self.database)
        views = Projector(
            cast("Client", self._client(name)),
            cast("postgres.Pool", pool),
            (CURRENT_STATE,),
            range(self.size.partitions),
            self.metrics,
        )
        self._projectors.append(name)
        self.loop.spawn(name, self._watched(name, views.run))
        return True

    def start_writer(self, name: str, messages: Sequence[Sent], pause_s: float) -> None:
        """Start a producer that sends each message until it is acknowledged."""
        client = self._client(name)
        writing = self._watched(name, lambda: self._write(client, messages, pause_s))
        self._writers[name] = self.loop.spawn(name, writing)

    async def _write(self, client: MemoryClient, messages: Sequence[Sent], pause_s: float) -> None:
        for message in messages:
            await self._publish(client, message)
            await asyncio.sleep(pause_s)

    async def _publish(self, client: MemoryClient, message: Sent) -> None:
        """Send a message until it is acknowledged; one whose answer was lost is stored twice."""
        nc = cast("Client", client)
        message = addressed(message, self.size.partitions)
        while True:
            try:
                ack = await publish_expected(
                    nc, "TRADES", message.subject, message.data, expected=None, timeout_s=1.0
                )
            except (TransientError, ApiError):
                await asyncio.sleep(0.1)
            else:
                self.acked[ack.sequence] = hashlib.sha256(message.data).hexdigest()
                return

    def start_operator(self, turns: int, every_s: float) -> None:
        """Start somebody who looks at the streams now and then, and says something."""
        client = self._client("operator")
        operating = self._watched("operator", lambda: self._operate(client, turns, every_s))
        self._writers["operator"] = self.loop.spawn("operator", operating)

    async def _operate(self, client: MemoryClient, turns: int, every_s: float) -> None:
        for _ in range(turns):
            await asyncio.sleep(self.swarm.dice.uniform(0, 2) * every_s)
            message = self._operators.attempt(self._books())
            if message is not None:
                await self._publish(client, message)

    def finish_writers(self) -> None:
        """Forget producers that are done."""
        for task in self._writers.values():
            task.result()
        self._writers.clear()

    async def _watched(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a process; if it ends by itself, it is gone as a process that exits."""
        try:
            await run()
        except Exception as error:
            self.defects.append(f"{name}: {type(error).__name__}: {error}")
            raise
        if name not in self._writers:
            self.loop.call_soon(self.loop.kill, name)

    def _name(self, kind: str) -> str:
        self._started += 1
        name = f"{kind}{self._started}"
        self.clocks.monotonic_s[name] = self.swarm.dice.uniform(0, 1e6)
        self.clocks.wall_s[name] = self.swarm.dice.choice([0.0, -_CLOCKS_S, _CLOCKS_S])
        return name

    def _client(self, name: str) -> MemoryClient:
        client = self._clients[name] = MemoryClient(self.broker, name)
        return client

    def _died(self, name: str) -> None:
        """A process was killed: the kernel closes its connections."""
        client = self._clients.pop(name, None)
        if client is not None:
            client.close()
        pool = self._pools.pop(name, None)
        if pool is not None:
            pool.close()
        worker = self._workers.pop(name, None)
        if worker is not None:
            self.defects += [f"{name}, partition {n}: {why}" for n, why in worker.failed.items()]
        self._fleets.pop(name, None)
        if name in self._projectors:
            self._projectors.remove(name)

    # --- harm -----------------------------------------------------------------------------------

    def _harm(self) -> dict[ProcessFault, Callable[[], bool]]:
        return {
            "worker_killed": lambda: self._kill("worker_killed", list(self._workers)),
            "projector_killed": lambda: self._kill("projector_killed", list(self._projectors)),
            "worker_frozen": lambda: self._freeze(list(self._workers)),
            "projector_frozen": lambda: self._freeze(list(self._projectors)),
            "worker_joined": self.start_worker,
            "worker_left": self._leave,
            "connection_cut": self._cut,
            "consumer_deleted": self.broker.delete_some_consumer,
            "broker_away": lambda: self._away(self.broker),
            "database_away": lambda: self._away(self.database),
            "clock_jumped": self._jump,
            "broker_clock_jumped": self._jump_broker,
        }

    def _kill(self, fault: ProcessFault, names: list[str]) -> bool:
        if not names:
            return False
        name, steps = self.swarm.dice.choice(names), int(10 ** self.swarm.dice.uniform(0, 3))
        self.loop.kill_after(name, steps, lambda: self.swarm.count(fault))
        return False  # it has not happened yet

    def _freeze(self, names: list[str]) -> bool:
        if not names:
            return False
        dice = self.swarm.dice
        self.loop.freeze(dice.choice(names), dice.choice([0.3, 2.0, 15.0]) * dice.uniform(0.5, 1))
        return True

    def _leave(self) -> bool:
        if not self._fleets:
            return False
        name = self.swarm.dice.choice(list(self._fleets))
        self.loop.call_soon(self._fleets[name].leave, context=context_of(name))  # SIGTERM
        return True

    def _cut(self) -> bool:
        dice = self.swarm.dice
        name = dice.choice(list(self._clients))
        self._clients[name].cut(dice.choice([0.05, 1.0, 12.0]) * dice.uniform(0.5, 1))
        return True

    def _away(self, server: MemoryBroker | MemoryDatabase) -> bool:
        def back() -> None:
            server.away = False

        server.away = True
        seconds = self.swarm.dice.choice([0.2, 3.0, 8.0]) * self.swarm.dice.uniform(0.5, 1)
        self.loop.call_later(seconds, back)
        return True

    def _jump(self) -> bool:
        dice = self.swarm.dice
        self.clocks.wall_s[dice.choice(list(self._clients))] += dice.uniform(-1, 1) * _CLOCKS_S
        return True

    def _jump_broker(self) -> bool:
        self.broker.offset_s += self.swarm.dice.uniform(-0.2, 1) * _CLOCKS_S
        return True
