"""Conflicts, refusals and rejections are found: by command, HTTP and metric, whoever sent them."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client
from prometheus_client.exposition import generate_latest
from tests.integration.test_http import serving
from tests.support import archiving as arch
from tests.support.log import deposit, empty_log
from tests.support.owner import owning
from tests.support.running import psm
from tests.support.workbench import WAIT_S, end, until

from psm.adapters import telemetry
from psm.adapters.jetstream import read_range
from psm.workers.fleet.worker import Worker
from psm.workers.partition.settings import PartitionSettings

FIRST = deposit("acc", 1)
MARK = {**deposit("BTC", 1), "event_type": "MarkPriceUpdated", "payload": {"symbol": "BTC"}}
SENT: tuple[tuple[str, bytes, str | None], ...] = (
    ("trades.acc", json.dumps(FIRST).encode(), None),
    ("trades.acc", json.dumps(FIRST, indent=2).encode(), "event_id_conflict"),
    ("trades.acc", json.dumps(deposit("acc", 1)).encode(), "sequence_conflict"),
    ("trades.acc", b"junk", "invalid_json"),
    ("trades.acc", json.dumps(deposit("acc")).encode(), "sequence_missing"),
    ("trades.acc", json.dumps(deposit("acc", 2, payload={})).encode(), "invalid_payload"),
    ("trades.other", json.dumps(deposit("other", 1, payload={})).encode(), "invalid_payload"),
    ("marks.BTC", json.dumps(MARK).encode(), "invalid_payload"),
    ("trades.acc", json.dumps(deposit("acc", 3)).encode(), None),
)
"""Subject, body, and the reason for which it changes nothing."""


async def updates_of(nc: Client) -> list[dict[str, Any]]:
    """Return every `EventRefused` in the stream PSM."""
    found = []
    async for batch in read_range(nc, "PSM", ["psm.event.refused.*.*"], 1, 2**62):
        found += [json.loads(message.data) for message in batch]
    return found


@pytest.fixture
async def refused(nats_url: str, postgres_dsn: str) -> AsyncIterator[Any]:
    """A service whose archive has what became of everything in `SENT`."""
    async with serving(nats_url, postgres_dsn, ingest=False) as api:
        async with owning(api.nc), arch.archiving(api.nc, postgres_dsn):
            for subject, body, _ in SENT:
                await api.nc.jetstream().publish(subject, body)
            wanted = sum(reason is not None for *_, reason in SENT)
            await arch.at_least(postgres_dsn, "SELECT count(*) FROM event_refusals", wanted)
            await arch.at_least(postgres_dsn, "SELECT count(*) FROM events", len(SENT))
        yield api


async def listed(api: Any, query: str = "") -> list[dict[str, Any]]:
    """Return all pages of a list, each asked for as the page before says."""
    found: list[dict[str, Any]] = []
    path = f"/psm/refusals?{query}"
    while path:
        response = await api.client.get(path)
        assert response.status_code == 200, response.text
        page = response.json()
        found += page["refusals"]
        following = response.links.get("next", {}).get("url", "")
        assert bool(following) == (page["next_before"] is not None)
        path = following
    return found


async def test_every_message_that_changed_nothing_is_listed(refused: Any) -> None:
    """The newest first, as PSM published them, with what the message says of itself."""
    rows = await listed(refused)
    updates = {u["payload"]["log_sequence"]: u for u in await updates_of(refused.nc)}
    assert {row["log_sequence"]: row["reason"] for row in rows} == {
        at: reason for at, (*_, reason) in enumerate(SENT, 1) if reason
    }
    assert [row["refused_at"] for row in rows] == sorted(
        (row["refused_at"] for row in rows), reverse=True
    )
    for row in rows:
        subject, body, reason = SENT[row["log_sequence"] - 1]
        update = updates[row["log_sequence"]]
        own = update["payload"]
        assert row["reason"] == reason
        for name in ("outcome", "reason", "detail", "account_id"):
            assert row[name] == own[name]
        assert row["field"] == own.get("field")
        assert row["refused_at"][:23] == update["timestamp"][:23]
        event = json.loads(body) if body != b"junk" else {}
        assert row["event_id"] == event.get("event_id")
        assert row["sequence_number"] == event.get("sequence_number")
        assert row["subject"].rpartition(".")[2] == subject.rpartition(".")[2]


async def test_lists_are_filtered_and_paged(refused: Any) -> None:
    """By account, reason and time; pages follow each other without a gap or a repeat."""
    every = await listed(refused)
    for account in ("acc", "other", "BTC"):
        wanted = [row for row in every if row["account_id"] == account]
        assert await listed(refused, f"account={account}") == wanted
        assert await listed(refused, f"account={account}&limit=1") == wanted
    wanted = [row for row in every if row["reason"] == "invalid_payload"]
    assert await listed(refused, "reason=invalid_payload&limit=2") == wanted
    assert await listed(refused, f"since={every[2]['refused_at']}") == every[:3]
    assert await listed(refused, "since=2100-01-01T00:00:00Z") == []
    assert await listed(refused, "before=999999") == []
    for query in (
        "foo=1",
        "reason=no_such",
        "since=yesterday",
        "limit=0",
        "limit=1001",
        "before=x",
    ):
        assert (await refused.client.get(f"/psm/refusals?{query}")).status_code == 400
    assert (await refused.client.get("/api/psm/refusals")).json()["refusals"] == every


async def test_command_lists_them(refused: Any, postgres_dsn: str) -> None:
    """A table for people, exact JSON for programs, words for each code."""

    async def run(*arguments: str, code: int = 0) -> Any:
        environment = {"POSTGRES_DSN": postgres_dsn}
        done = await asyncio.to_thread(
            psm, "refusals", *arguments, environment=environment, check=False
        )
        assert done.returncode == code, done.stderr
        return done

    every = await listed(refused)
    assert json.loads((await run("-o", "json")).stdout) == every
    lines = (await run("acc", "--since", "-1h", "-o", "jsonl")).stdout.splitlines()
    assert list(map(json.loads, lines)) == [row for row in every if row["account_id"] == "acc"]
    assert "no such refusals" in (await run("nobody")).stderr
    table = await run("acc")
    for text in ("account", "reason", "sequence_conflict", "invalid_json"):
        assert text in table.stdout
    assert "sequence_conflict: another event has this sequence number" in table.stderr
    page = await run("--limit", "2", "--reason", "invalid_payload", "-o", "json")
    assert f"--before {json.loads(page.stdout)[-1]['psm_sequence']}" in page.stderr
    for wrong in (("--since", "soon"), ("--limit", "0"), ("--reason", "nonsense")):
        await run(*wrong, code=2)


async def test_metric_counts_them_by_reason(nats_url: str) -> None:
    """Each message once, also one that is refused when a gap closes."""
    instruments = telemetry.setup("psm-worker", level="error")
    async with empty_log(nats_url) as nc:
        settings = PartitionSettings(partitions=4)
        worker = Worker(nc, range(4), settings, instruments.metrics)
        task = asyncio.create_task(worker.run())
        try:
            for subject, body, _ in SENT:
                await nc.jetstream().publish(subject, body)
            late = {**deposit("gap", 2, payload={}), "event_id": str(uuid.uuid4())}
            await nc.jetstream().publish("trades.gap", json.dumps(late).encode())
            await nc.jetstream().publish("trades.gap", json.dumps(deposit("gap", 1)).encode())

            def counted() -> dict[str, float]:
                found: dict[str, float] = {}
                for line in generate_latest(instruments.registry).decode().splitlines():
                    if line.startswith("psm_events_refused_total{"):
                        reason = line.partition('reason="')[2].partition('"')[0]
                        found[reason] = found.get(reason, 0) + float(line.rpartition(" ")[2])
                return found

            wanted = dict.fromkeys(("event_id_conflict", "sequence_conflict"), 1.0)
            wanted |= {"invalid_json": 1, "sequence_missing": 1, "invalid_payload": 4}
            await until(lambda: counted() == wanted, "all are counted")
            worker.stop()
            await asyncio.wait_for(task, WAIT_S)
        finally:
            await end(task)
            instruments.shutdown()
