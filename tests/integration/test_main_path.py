"""From a foreign service's event to the update, the views and the reads, on real servers."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import nats
import pytest
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError
from tests.support import events
from tests.support.running import Running, psm, psm_up, request
from tests.support.workbench import until

BUY, FUNDING, FLAT_SELL, FLAT_FUNDING = events.SAMPLES
TOTALS = {
    "sequence_number": 4,
    "status": "open",
    "currency": "USDT",
    "cash": {"USDT": "94.908"},
    "realized_pnl": "100",
    "fees": "2.95",
    "funding": "-2.142",
    "unrealized_pnl": "150",
    "equity": "244.908",
}
POSITION = {
    "side": "long",
    "size": "0.3",
    "entry_price": "42000",
    "mark_price": "42500",
    "mark_source": "fill",
    "realized_pnl": "100",
    "unrealized_pnl": "150",
    "fees": "2.95",
    "funding": "-2.1",
}
HASHES = ("chain_hash", "ledger_hash", "state_hash")
VERSIONS = ("log_sequence", *HASHES)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with psm_up(tmp_path_factory.mktemp("up")) as running:
        yield running


async def test_sample_events_arrive_everywhere_with_the_same_hashes(running: Running) -> None:
    """Four events by four doors give one account, equal on every way out."""
    nc = await nats.connect(running.nats_url)
    heard: list[Msg] = []

    async def hear(message: Msg) -> None:
        heard.append(message)

    await nc.subscribe("psm.position.updated", cb=hear)
    await nc.flush()
    try:
        for event in (BUY, FUNDING):
            await nc.jetstream().publish("trades.acc_001", event)
        assert append_flat(running)["sequence_number"] == 3
        environment = {"NATS_URL": running.nats_url}
        await asyncio.to_thread(psm, "publish", "-", stdin=FLAT_FUNDING, environment=environment)
        state = read(running, "state", "?min_sequence=4")
        assert_figures(state)
        assert_reads_agree(running, state)
        await assert_stream_agrees(nc, state, heard)
        await assert_requests_agree(nc, running)
        await assert_tables_agree(running.postgres_dsn, state)
    finally:
        await nc.close()


async def test_restart_with_the_same_folder_keeps_the_state(tmp_path: Path) -> None:
    """What was true before a stop is true after a start, and the numbers go on."""
    with psm_up(tmp_path, "--no-sync", "--workers", "2") as first:
        await publish(first.nats_url, BUY, FUNDING)
        before = read(first, "state", "?min_sequence=2")
        assert first.stop(signal.SIGINT) == 0
    with psm_up(tmp_path, "--no-sync") as second:
        assert read(second, "state") == before
        assert append_flat(second)["sequence_number"] == 3
        after = read(second, "state", "?min_sequence=3")
        assert after["positions"]["BTC-PERP"]["size"] == "0.3"
        assert picked(replay(second), HASHES) == picked(after, HASHES)
        assert second.stop() == 0


async def test_foreign_events_on_the_subject_do_not_stop_the_account(running: Running) -> None:
    """Junk, a duplicate and a number from the future change nothing that was true."""
    stream = "acc_junk"
    first, second, third = (
        events.deposit(number, f"{number}0", stream=stream).data for number in (1, 2, 3)
    )
    subject = f"trades.{stream}"
    await publish(running.nats_url, first, b"hello", first, third, subject=subject)
    state = read(running, "state", "?min_sequence=1", account=stream)
    assert state["cash"] == {"USDT": "10"}
    await publish(running.nats_url, second, subject=subject)
    state = read(running, "state", "?min_sequence=3", account=stream)
    assert state["cash"] == {"USDT": "60"}
    assert state["status"] == "open"


def test_unknown_and_malformed_accounts_are_told_apart(running: Running) -> None:
    """An unknown account is 404, an id that cannot be one is 400, both as problem documents."""
    assert running.get("/psm/state/nobody")[0] == 404
    assert running.get("/psm/state/no%20id")[0] == 400


# --- steps ----------------------------------------------------------------------------------------


def append_flat(running: Running) -> dict[str, Any]:
    """Append the flat trade over HTTP twice: once created, once found again."""
    url = f"{running.http_url}/psm/events"
    status, created = request(url, FLAT_SELL)
    assert status == 201, created
    status, found = request(url, FLAT_SELL)
    assert status == 200, found
    assert found["sequence_number"] == created["sequence_number"]
    return dict(created)


def assert_figures(state: dict[str, Any]) -> None:
    assert {name: state[name] for name in TOTALS} == TOTALS
    assert list(state["positions"]) == ["BTC-PERP"]
    position = state["positions"]["BTC-PERP"]
    assert {name: position[name] for name in POSITION} == POSITION


def assert_reads_agree(running: Running, state: dict[str, Any]) -> None:
    positions, margin = read(running, "positions"), read(running, "margin")
    for answer in (positions, margin):
        assert picked(answer, VERSIONS) == picked(state, VERSIONS)
    assert positions["positions"] == state["positions"]
    assert margin["equity"] == state["equity"]
    assert picked(replay(running), HASHES) == picked(state, HASHES)


async def assert_stream_agrees(nc: Any, state: dict[str, Any], heard: list[Msg]) -> None:
    """The core subscriber heard exactly what the durable stream holds."""
    durable = await stored(nc, "psm.position.updated.*.acc_001")
    await until(lambda: len(heard) >= len(durable), "it heard as many")
    assert [message.data for message in heard] == [message.data for message in durable]
    assert [int(message.headers["Nats-Sequence"]) for message in heard if message.headers] == [
        message.seq for message in durable
    ]
    states = [
        json.loads(m.data)["payload"] for m in await stored(nc, "psm.state.updated.*.acc_001")
    ]
    assert [payload["sequence_number"] for payload in states] == [1, 2, 3, 4]
    assert picked(states[-1], VERSIONS) == picked(state, VERSIONS)
    position = json.loads(durable[-1].data)["payload"]
    assert {name: position[name] for name in POSITION} == POSITION


async def assert_requests_agree(nc: Any, running: Running) -> None:
    for name in ("state", "positions", "margin"):
        answer = await nc.request(f"psm.get.{name}", b"acc_001", timeout=5)
        assert json.loads(answer.data) == read(running, name)
    unknown = await nc.request("psm.get.state", b"nobody", timeout=5)
    assert unknown.headers["Nats-Service-Error-Code"] == "404"


async def assert_tables_agree(dsn: str, state: dict[str, Any]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        balances = await connection.fetch("SELECT * FROM balances_view WHERE account_id='acc_001'")
        positions = await connection.fetch(
            "SELECT * FROM positions_view WHERE account_id='acc_001'"
        )
        margins = await connection.fetch("SELECT * FROM margin_view WHERE account_id='acc_001'")
    finally:
        await connection.close()
    assert [picked(dict(row), VERSIONS) for row in balances] == [picked(state, VERSIONS)]
    assert json.loads(balances[0]["cash"]) == state["cash"]
    assert [str(row["equity"]) for row in (*balances, *margins)] == [state["equity"]] * 2
    assert [(row["symbol"], str(row["size"])) for row in positions] == [("BTC-PERP", "0.3")]
    # The last event moved cash only: the position's row is of the event that moved it last.
    assert positions[0]["sequence_number"] == 3
    assert margins[0]["chain_hash"] == state["chain_hash"]


def picked(document: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: document[name] for name in names}


def read(running: Running, name: str, query: str = "", account: str = "acc_001") -> dict[str, Any]:
    status, document = running.get(f"/psm/{name}/{account}{query}")
    assert status == 200, document
    return dict(document)


def replay(running: Running) -> dict[str, Any]:
    """Return the last line of `psm replay`."""
    environment = {"NATS_URL": running.nats_url}
    done = psm("replay", "acc_001", "-o", "jsonl", environment=environment)
    return dict(json.loads(done.stdout.splitlines()[-1]))


async def stored(nc: Any, subject: str) -> list[Any]:
    """Return the messages of the stream PSM on a subject, in order."""
    messages: list[Any] = []
    sequence = 1
    while True:
        try:
            message = await nc.jetstream().get_msg("PSM", sequence, subject=subject, next=True)
        except NotFoundError:
            return messages
        messages.append(message)
        sequence = message.seq + 1


async def publish(url: str, *bodies: bytes, subject: str = "trades.acc_001") -> None:
    nc = await nats.connect(url)
    try:
        for body in bodies:
            await nc.jetstream().publish(subject, body)
    finally:
        await nc.close()
