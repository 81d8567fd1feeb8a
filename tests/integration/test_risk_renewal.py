"""The owner record is renewed in its turn: however much waits, and however much comes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.support.risk_bench import SLOT, OwnWorker, RiskBench, open_risk_bench
from tests.support.workbench import until

from psm.adapters.jetstream import publish_atomic as publish_atomic_really
from psm.adapters.jetstream import read_range, stream_info
from psm.contracts import subjects
from psm.contracts.subjects import RISK
from psm.workers.risk import store as store_module
from psm.workers.risk.owner import OwnerRecord, load_owner
from psm.workers.risk.store import RiskStore

MORE = 60
"""Orders that come, one while each write is on its way: so none ends with nothing left to store."""


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[RiskBench]:
    async with open_risk_bench(nats_url) as opened:
        yield opened


@contextmanager
def never_idle(
    bench: RiskBench, worker: OwnWorker, patch: pytest.MonkeyPatch, loads: list[int]
) -> Iterator[None]:
    """Let another order be decided while each write is on its way."""
    left = MORE

    async def followed(nc: Any, stream: str, messages: Any, **more: Any) -> Any:
        nonlocal left
        loop = worker.inputs.loop_of(SLOT)
        if left and loop is not None:
            left -= 1
            order = await bench.order()
            await until(lambda: loop.commands_from > order, "the next one is decided")
            loads.append(order)
        return await publish_atomic_really(nc, stream, messages, **more)

    with patch.context() as patched:
        patched.setattr(store_module, "publish_atomic", followed)
        yield


async def owner_records(bench: RiskBench) -> list[OwnerRecord]:
    last = (await stream_info(bench.nc, RISK)).last_sequence
    batches = read_range(bench.nc, RISK, [subjects.risk_owner(SLOT)], 1, last)
    return [load_owner(message.data) async for batch in batches for message in batch]


async def test_renewed_while_something_always_waits(
    bench: RiskBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in its turn behind what its checkpoint knows; the slot is owned once, throughout."""
    loads: list[int] = []
    async with bench.worker(checkpoint_records=10, batch_records=1) as worker:
        await worker.owning()
        with never_idle(bench, worker, monkeypatch, loads):
            await bench.order()
            await until(lambda: len(loads) == MORE, "the load is over", 60)
            renewed = [one for one in await owner_records(bench) if one.reason == "renewal"]
            assert len(renewed) >= MORE // 10 - 1, "all along, not when the load is over"
        await bench.decided(MORE + 1)
    records = await owner_records(bench)
    assert [one.reason for one in records[1:]] == ["renewal"] * (len(records) - 1)
    assert [one.n for one in records] == sorted(one.n for one in records)
    store = RiskStore(bench.nc, SLOT)
    newest = await store.newest()
    assert newest is not None
    assert (newest.record.n, newest.record.orders) == (MORE + 1, MORE + 1), "stopped behind all"


@pytest.mark.parametrize("checkpoint_records", [1, 7])
async def test_killed_anywhere_a_checkpoint_knows_nothing_that_is_not_stored(
    bench: RiskBench, monkeypatch: pytest.MonkeyPatch, checkpoint_records: int
) -> None:
    """At each record the newest checkpoint is of one before it: whoever takes over goes on."""
    loads: list[int] = []
    async with bench.worker(checkpoint_records=checkpoint_records) as worker:
        await worker.owning()
        with never_idle(bench, worker, monkeypatch, loads):
            await bench.order()
            await until(lambda: len(loads) == MORE, "the load is over", 60)
        await bench.decided(MORE + 1)
    last, n = (await stream_info(bench.nc, RISK)).last_sequence, 0
    async for batch in read_range(bench.nc, RISK, [subjects.risk_slot(SLOT)], 1, last):
        for message in batch:
            match subjects.risk_kind(message.subject):
                case "owner" if message.subject == subjects.risk_owner(SLOT):
                    assert load_owner(message.data).n == n
                case "decision":
                    n += 1
    assert n == MORE + 1
