"""A broker with a rulebook in which two persons speak, orders, and what decides on them."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from nats.aio.client import Client
from tests.support.risk_ledger import LedgerSlot
from tests.support.rules import ADA, BOB, Person, Rules
from tests.support.workbench import end, until
from tests.support.worker_process import WorkerProcess

from psm.adapters.jetstream import connect, publish_expected, read_range, stream_info
from psm.adapters.jetstream.streams_apply import apply
from psm.adapters.telemetry import quiet
from psm.contracts import subjects
from psm.contracts.subjects import ORDERS, RISK, RULEBOOK
from psm.risk.engine import Slot
from psm.risk.rulebook import slot_of
from psm.workers.fleet import NatsMembers
from psm.workers.fleet.live_reads import Owners
from psm.workers.ops.keys import made_signature
from psm.workers.process.settings import Settings
from psm.workers.risk.door import Decisions, RiskDoor
from psm.workers.risk.feed import AskLive, live_owners
from psm.workers.risk.inputs import SlotInputs
from psm.workers.risk.settings import SlotSettings
from psm.workers.risk.worker import RiskWorker

PSM_RISK_WORKER = "psm.workers.cli risk worker"
"""The command itself, with the engine that decides live."""
DESK = "desk"
SLOT = slot_of(DESK)
ACCOUNT = "acc_001"


class RiskBench:
    """What a test does with the broker.

    Attributes:
        rules: the rulebook as it should be folded, and who speaks in it.
    """

    def __init__(self, nc: Client, settings: Settings) -> None:
        self.nc = nc
        self.settings = settings
        self.rules = Rules()
        self._said = 0
        self._orders = itertools.count(1)

    async def say(self) -> None:
        """Publish what was said in `rules` since the last time."""
        for message in self.rules.log[self._said :]:
            await publish_expected(self.nc, RULEBOOK, message.subject, message.data, expected=None)
        self._said = len(self.rules.log)

    async def group(self, name: str = DESK, members: tuple[str, ...] = (ACCOUNT,)) -> None:
        """Define a group, as two persons do."""
        self.rules.both("GroupDefined", group=name, members=list(members), currency="USDT")
        await self.say()

    def halt_event(self, scope: str = "group", name: str = DESK) -> tuple[str, bytes]:
        """Return subject and bytes of a halt, not published."""
        event = self.rules.event(ADA, "HaltSet", scope=scope, id=name, mode="halted")
        return event.subject, event.data

    async def order(self, order_id: str | None = None, account: str = ACCOUNT) -> int:
        """Publish an order; return its sequence in ORDERS."""
        subject = subjects.order_command(account)
        data = order_event(order_id or f"o{next(self._orders)}", account)
        return (await publish_expected(self.nc, ORDERS, subject, data, expected=None)).sequence

    def worker(
        self, name: str = "one", engine: type[Slot] = LedgerSlot, **tuning: Any
    ) -> OwnWorker:
        """Return a risk worker in this process; it runs the slots that it is told to."""
        owners = Owners(self.nc, NatsMembers(self.nc), self.settings.partitions)
        return OwnWorker(self.nc, name, SlotSettings(**tuning), engine, live_owners(owners))

    async def decisions(self, slot: int = SLOT) -> list[dict[str, Any]]:
        """Return the payloads of all decisions of a slot, as stored."""
        last = (await stream_info(self.nc, RISK)).last_sequence
        pattern = f"risk.decision.{slot}.*"
        batches = read_range(self.nc, RISK, [pattern], 1, last)
        return [msgspec.json.decode(m.data)["payload"] async for b in batches for m in b]

    async def decided(self, count: int, slot: int = SLOT) -> list[dict[str, Any]]:
        """Wait for so many decisions; check that they are a chain and that each order has one."""
        deadline = asyncio.get_running_loop().time() + 60
        while len(found := await self.decisions(slot)) < count:
            assert asyncio.get_running_loop().time() < deadline, f"{len(found)} of {count}"
            await asyncio.sleep(0.05)
        assert [one["n"] for one in found] == list(range(1, len(found) + 1))
        orders = [one["order_id"] for one in found]
        assert len(set(orders)) == len(orders), "an order was decided twice"
        return found


class OwnWorker:
    """A risk worker inside of the test's process; a context in which it runs."""

    def __init__(
        self, nc: Client, name: str, settings: SlotSettings, engine: type[Slot], live: AskLive
    ) -> None:
        instruments = quiet()
        self.decisions = Decisions(nc)
        self.inputs = SlotInputs(
            nc, made_signature, instruments.metrics, instruments.risk_metrics, live
        )
        self.worker = RiskWorker(
            nc,
            name,
            self.inputs,
            settings,
            instruments.risk_metrics,
            self.decisions.answered,
            engine,
        )
        self.door = RiskDoor(nc, self.inputs, self.decisions)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> OwnWorker:
        self._task = asyncio.create_task(self.worker.run())
        await self.decisions.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.worker.stop()
        assert self._task is not None
        await asyncio.wait([self._task], timeout=30)
        await end(self._task)

    def state(self, slot: int = SLOT) -> str:
        """Return what a slot does here; `gone` where it is not held."""
        holding = self.worker.holdings().get(slot)
        return "gone" if holding is None else holding.state

    async def owning(self, slot: int = SLOT) -> OwnWorker:
        """Take a slot, and wait until it takes commands."""
        self.worker.take(slot)
        await until(lambda: self.inputs.loop_of(slot), f"slot {slot} is live")
        return self


class RiskProcess(WorkerProcess):
    """A real `psm risk worker` process, by default on the smallest engine."""

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        module: str = "tests.support.risk_process",
        **settings: object,
    ) -> None:
        self._lines = folder / f"risk-{len(list(folder.glob('risk-*')))}.log"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PSM_")}
        own = {name: str(value) for name, value in settings.items()}
        with self._lines.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *module.split()],
                env={**clean, "NATS_URL": url, "PSM_LOG_FORMAT": "json", **own},
                stdout=output,
                stderr=output,
            )


def order_event(order_id: str, account: str = ACCOUNT, **fields: Any) -> bytes:
    """Return an `order_request`."""
    payload: Mapping[str, Any] = {
        "account_id": account,
        "order_id": order_id,
        "symbol": "BTC-PERP",
        "side": "buy",
        "type": "limit",
        "quantity": "1",
        "price": "100",
        **fields,
    }
    return _event("order_request", account, payload)


def result_event(order_id: str, account: str, status: str, **fields: Any) -> bytes:
    """Return an `order_result`."""
    payload = {"account_id": account, "order_id": order_id, "status": status, **fields}
    return _event("order_result", account, payload)


def _event(event_type: str, account: str, payload: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(
        {
            "event_id": str(uuid.uuid4()),
            "event_type": event_type,
            "stream_id": account,
            "timestamp": "2026-01-02T03:04:05Z",
            "schema_version": "1.0.0",
            "payload": payload,
        }
    )


@asynccontextmanager
async def open_risk_bench(url: str, *, group: bool = True) -> AsyncIterator[RiskBench]:
    """Connect, make the streams, found the rulebook, and define a group."""
    settings = Settings(nats_url=url)
    nc = await connect(url, name="test")
    try:
        await apply(nc, settings)
        bench = RiskBench(nc, settings)
        await bench.say()
        if group:
            await bench.group()
        yield bench
    finally:
        await nc.close()


__all__ = ["ACCOUNT", "ADA", "BOB", "DESK", "SLOT", "Person", "RiskBench", "RiskProcess"]
