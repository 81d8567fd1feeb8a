"""The determinism gate on a live log: the replay against what was published."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support import feed
from tests.support.events import deposit, retried, trade, unknown
from tests.support.running import psm
from tests.support.slots import slots_env
from tests.support.workbench import Bench, open_bench

from psm.adapters.jetstream import last_for
from psm.contracts.subjects import partition_of

PARTITIONS = 4


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url, partitions=PARTITIONS) as opened:
        await opened.publish(feed.traffic(40, accounts=4, events=120))
        await opened.publish(deposit(1, stream="late"), unknown(2, stream="late"))
        await opened.publish(trade(4, "buy", "1", "42000", stream="gap"))
        await opened.publish([deposit(n, stream="gap") for n in (1, 2, 3)])
        yield opened


async def validated(bench: Bench, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Return exit code and document of `psm validate` on this log."""
    done = await asyncio.to_thread(
        psm,
        "validate",
        *arguments,
        "-o",
        "json",
        environment={
            "NATS_URL": bench.settings.nats_url,
            "PSM_PARTITIONS": str(PARTITIONS),
            **slots_env(bench.settings.valuation_slots),
        },
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


async def test_replays_agree_with_what_was_published(bench: Bench) -> None:
    """Every event's hashes are the published ones, blocked and released streams included."""
    _, before = await validated(bench)
    assert (before["ok"], before["published"]) == (True, 0)
    async with bench.worker():
        await bench.judge()
    code, document = await validated(bench)
    assert (code, document["divergence"]) == (0, None)
    assert document["published"] == before["unpublished"] > 100
    assert document["unpublished"] == 0
    assert document["result_hash"] == before["result_hash"]
    code, one = await validated(bench, "gap", "--sequence", "1", "4")
    assert (code, one["published"], one["compared"]) == (0, 4, 4)


async def test_repairs_that_changed_no_number_agree(bench: Bench) -> None:
    """A retry that blocks again publishes the number of before once more, and is no divergence."""
    async with bench.worker():
        await bench.judge()
        await bench.publish(retried(stream="late"), retried(stream="late", salt="again"))
        await bench.publish(retried(stream="gap"))
        await bench.judge()
    code, document = await validated(bench)
    assert (code, document["divergence"], document["unpublished"]) == (0, None, 0)


async def test_published_update_with_another_hash_is_named(bench: Bench) -> None:
    """Somebody who can write to the stream PSM cannot make the past agree."""
    async with bench.worker():
        await bench.judge()
    partition = partition_of("gap", PARTITIONS)
    stored = await last_for(bench.nc, "PSM", f"psm.state.updated.{partition}.gap")
    assert stored is not None
    update = json.loads(stored.data)
    forged = {**update, "payload": {**update["payload"], "ledger_hash": "00" * 32}}
    await bench.nc.jetstream().publish(
        f"_psm.state.updated.{partition}.gap", json.dumps(forged).encode()
    )
    code, document = await validated(bench)
    found = document["divergence"]
    assert code == 1
    assert (found["between"], found["field"]) == ("published", "ledger_hash")
    assert found["expected"] == "00" * 32
    assert found["found"] == update["payload"]["ledger_hash"]
    assert found["subject"] == "trades.gap"
