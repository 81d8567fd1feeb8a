"""What a decision on an order costs: in memory, and from the request to its stored answer.

The baseline of an answer is what no engine can do without: two publishes in sequence, one of the
request's size and one of the decision's, by nats-py into streams of the same broker.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Literal

from nats.aio.client import Client
from nats.errors import NoRespondersError
from tests.support.rules import ADA, BOB, Rules

from benchmarks.figures import Figure, Size, beside, quantile
from benchmarks.processes import psm
from benchmarks.rig import Message, Rig, rig
from benchmarks.risk_book import EVERY_LIMIT, RiskBook, least
from psm.adapters.jetstream import publish_expected
from psm.contracts.subjects import RISK_CHECK, RULEBOOK
from psm.workers.process.garbage import look_seldom

DECIDE_MS_MAX = 0.3
DRY_RUN_MS_MAX = 1.0
MEDIAN_RATIO_MAX, P99_RATIO_MAX = 2.0, 4.0
FLAT_RATIO_MAX = 1.5
ACCOUNT, GROUP, SYMBOL = "acc_0", "desk", "BTC-PERP"

_MANY = 1_000
_READY_S = 60.0
_WARM = 20
_MS = 1e3


async def measure(size: Size) -> list[Figure]:
    """Measure decisions in memory, then answers with one server and with three."""
    figures = in_memory(size)
    for servers in (1, 3):
        figures += await _stored(servers, size)
    return figures


# --- in memory ------------------------------------------------------------------------------------


def in_memory(size: Size) -> list[Figure]:
    """Decide with 50 symbols and every check, in a small group and in a large one."""
    orders = size.of(2_000)
    alone, many = RiskBook(), RiskBook(accounts=size.of(_MANY))
    look_seldom()  # as `psm risk worker` does
    own: list[list[float]] = []
    crowd: list[list[float]] = []
    for _ in range(size.rounds):
        own.append([alone.decide()[0] * _MS for _ in range(orders)])
        crowd.append([many.decide()[0] * _MS for _ in range(orders)])
    p99 = [quantile(one, 0.99) for one in own]
    medians = [quantile(one, 0.5) for one in own]
    record, command = alone.decide()[1][-1].data, alone.next_order()
    bound = [quantile([least(command, record) * _MS for _ in range(orders)], 0.5) for _ in medians]
    name = f"decide of {many.accounts} accounts beside 1"
    return [
        Figure(
            name="decide, 50 symbols, all checks, p99",
            unit="ms of CPU",
            value=quantile(p99, 0.5),
            spread=(min(p99), max(p99)),
            better="at most",
            target=DECIDE_MS_MAX,
        ),
        beside(
            "the same, median, beside reading, encoding and hashing alone",
            "ms of CPU",
            medians,
            bound,
        ),
        beside(
            f"{name}, median",
            "ms of CPU",
            [quantile(one, 0.5) for one in crowd],
            medians,
            target=FLAT_RATIO_MAX,
            better="at most",
        ),
        beside(
            f"{name}, record",
            "bytes",
            [float(len(many.decide()[1][-1].data))],
            [float(len(alone.decide()[1][-1].data))],
            target=FLAT_RATIO_MAX,
            better="at most",
        ),
    ]


# --- stored ---------------------------------------------------------------------------------------


async def _stored(servers: Literal[1, 3], size: Size) -> list[Figure]:
    """Ask a real risk worker, and publish twice barely, in turns."""
    orders = size.of(500)
    answers: list[list[float]] = []
    bare: list[list[float]] = []
    dry: list[list[float]] = []
    async with rig(servers=servers) as broker:
        await _prepare(broker, servers)
        async with psm("worker", **broker.environment), psm("risk", "worker", **broker.environment):
            asked = _Asking(broker.bare)
            sizes = await asked.ready()
            await _timed(lambda _: asked.stored(), _WARM)
            for _ in range(size.rounds):
                bare.append(await _timed(lambda place: _twice(broker.bare, place, sizes), orders))
                answers.append(await _timed(lambda _: asked.stored(), orders))
                dry.append(await _timed(lambda _: asked.dry_run(), orders))
    name = f"request to stored answer, {servers} server{'s' if servers > 1 else ''}"
    p99 = [quantile(one, 0.99) for one in dry]
    return [
        *(
            beside(
                f"{name}, {what}",
                "ms",
                [quantile(one, share) for one in answers],
                [quantile(one, share) for one in bare],
                target=target,
                better="at most",
            )
            for what, share, target in (
                ("median", 0.5, MEDIAN_RATIO_MAX),
                ("p99", 0.99, P99_RATIO_MAX),
            )
        ),
        Figure(
            name=f"dry run, {servers} server{'s' if servers > 1 else ''}, p99",
            unit="ms",
            value=quantile(p99, 0.5),
            spread=(min(p99), max(p99)),
            better="at most",
            target=DRY_RUN_MS_MAX,
        ),
    ]


async def _prepare(broker: Rig, servers: int) -> None:
    """Fund the account, give its symbol a mark, say the limits, and make the bare streams."""
    await broker.fill([_event("AccountOpened", ACCOUNT, {"currency": "USD"}), *_market()])
    await broker.fill([_event("CashDeposited", ACCOUNT, {"amount": "10000000"}, 2)])
    rules = Rules()
    rules.both("GroupDefined", group=GROUP, members=[ACCOUNT], currency="USD")
    rules.approve(BOB, rules.propose(ADA, EVERY_LIMIT, name=GROUP), name=GROUP)
    for said in rules.log:
        await publish_expected(broker.nc, RULEBOOK, said.subject, said.data, expected=None)
    for place in (1, 2):
        await broker.bare.jetstream().add_stream(
            name=f"BARE{place}", subjects=[f"bare.{place}"], num_replicas=servers
        )


def _market() -> list[Message]:
    definition = {
        "symbol": SYMBOL, "kind": "linear_perp", "base": "BTC", "quote": "USD", "settle": "USD",
    }  # fmt: skip
    return [
        _event("InstrumentDefined", SYMBOL, definition, subject="instruments"),
        _event("MarkPriceUpdated", SYMBOL, {"symbol": SYMBOL, "price": "100"}, subject="marks"),
    ]


def _event(
    event_type: str,
    stream_id: str,
    payload: dict[str, str],
    number: int = 1,
    subject: str = "trades",
) -> Message:
    body = {
        "event_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{event_type} of {stream_id}")),
        "event_type": event_type,
        "stream_id": stream_id,
        "sequence_number": number,
        "timestamp": "2025-12-12T10:30:00Z",
        "schema_version": "1.0.0",
        "payload": payload,
    }
    return Message(f"{subject}.{stream_id}", json.dumps(body).encode())


class _Asking:
    """Orders that are asked for one after the other."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc
        self._asked = 0

    async def ready(self) -> tuple[int, int]:
        """Wait for the first approval; return the bytes of an order's event and its decision."""
        ends = time.perf_counter() + _READY_S
        decision = b""
        while b'"decision":"approved"' not in decision:
            if time.perf_counter() > ends:
                raise TimeoutError(f"no approval in {_READY_S:g} s: {decision.decode()}")
            try:
                decision = await self.stored()
            except NoRespondersError:
                await asyncio.sleep(0.1)
        return len(json.dumps(json.loads(decision)["payload"]["order"])) + 400, len(decision)

    async def stored(self) -> bytes:
        """Return a decision that is stored."""
        return await self._ask(dry_run=False)

    async def dry_run(self) -> bytes:
        """Return one that is not."""
        return await self._ask(dry_run=True)

    async def _ask(self, *, dry_run: bool) -> bytes:
        self._asked += 1
        order = {
            "account_id": ACCOUNT, "order_id": f"o{self._asked}", "symbol": SYMBOL, "side": "buy",
            "type": "limit", "quantity": str(self._asked), "price": "100", "stop_loss": "99.9999",
        }  # fmt: skip
        question = json.dumps({"order": order, "dry_run": dry_run}).encode()
        return (await self._nc.request(RISK_CHECK, question, timeout=10)).data


async def _twice(nc: Client, place: int, sizes: tuple[int, int]) -> None:
    """Publish a request and a decision barely, the second when the first is stored."""
    js = nc.jetstream()
    for number, count in enumerate(sizes, start=1):
        await js.publish(f"bare.{number}", b"%08d" % place + bytes(count), timeout=10)


async def _timed(work: Callable[[int], Awaitable[object]], times: int) -> list[float]:
    """Return how long each of so many took, one after the other, in ms."""
    found = []
    for place in range(times):
        started = time.perf_counter()
        await work(place)
        found.append((time.perf_counter() - started) * _MS)
    return found
