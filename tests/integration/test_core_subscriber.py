"""The examples of docs and README: a producer and a risk engine that need nats-py only."""

from __future__ import annotations

import asyncio
import json
import operator
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nats
import pytest
from examples import producer, risk_engine
from examples.risk_engine import Positions
from nats.aio.client import Client
from tests.support.running import Running, psm_up, run
from tests.support.workbench import until, until_answer

ACCOUNTS = ("acc_a", "acc_b")
SYMBOLS = ("BTC-PERP", "ETH-PERP")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with psm_up(tmp_path_factory.mktemp("up"), "--no-sync") as running:
        yield running


@pytest.fixture
async def nc(running: Running) -> AsyncIterator[Client]:
    nc = await quiet_connection(running)
    yield nc
    await nc.close()


@pytest.fixture
async def slow(running: Running) -> AsyncIterator[Client]:
    """The connection of the follower, which loses messages on purpose."""
    nc = await quiet_connection(running)
    yield nc
    await nc.close()


async def test_a_late_start_knows_every_position(running: Running, nc: Client) -> None:
    """Who starts after the events knows all symbols of all accounts, and then follows."""
    for account in ACCOUNTS:
        for symbol in SYMBOLS:
            await fill(nc, account, symbol, "buy")
        await published(running, account)
    positions = Positions(nc)
    await positions.start()
    await assert_same(running, positions)
    await fill(nc, "acc_a", "BTC-PERP", "sell")
    await fill(nc, "acc_new", "BTC-PERP", "sell")
    await assert_same(running, positions, "acc_new")
    assert positions.repaired == 0


async def test_lost_updates_show_at_the_next_one_and_are_read_again(
    running: Running, nc: Client, slow: Client
) -> None:
    """A slow reader loses messages; the next one's headers tell, and PSM has what is missing."""
    positions = Positions(slow, pending_limit=1)
    await positions.start()
    async with positions.lock:  # it is busy, and its one place for the unread is soon taken
        for _ in range(5):
            await fill(nc, "acc_a", "BTC-PERP", "buy")
        await fill(nc, "acc_b", "ETH-PERP", "buy")
        for account in ACCOUNTS:
            await published(running, account)
        await slow.flush()  # what was sent to it has arrived, and is lost
    for account in ACCOUNTS:
        await drained(positions)
        await fill(nc, account, "ETH-PERP", "sell")
        await published(running, account)
    await assert_same(running, positions)
    assert positions.repaired >= 3


async def test_a_loss_at_the_end_is_found_by_a_check(
    running: Running, nc: Client, slow: Client
) -> None:
    """Where no later update tells of the loss, the last message per subject does."""
    positions = Positions(slow, pending_limit=1)
    await positions.start()
    async with positions.lock:
        for _ in range(4):
            await fill(nc, "acc_a", "BTC-PERP", "sell")
        await published(running, "acc_a")
        await slow.flush()  # what was sent to it has arrived, and is lost
    await drained(positions)
    assert positions.by_key["acc_a", "BTC-PERP"] != (await view(running, "acc_a"))["BTC-PERP"]
    await positions.check()
    await assert_same(running, positions)


def test_the_producer_runs_as_a_command(running: Running) -> None:
    """What a reader of the docs tries first works, and numbers follow each other."""
    command = [sys.executable, producer.__file__, "acc_cmd", "buy", "BTC-PERP", "0.5", "42000"]
    for number in (1, 2):
        done = run([*command, "--commission", "2.10", "--url", running.nats_url])
        assert done.stdout == f"acc_cmd: event {number} took its place\n"
    _, state = running.get("/psm/state/acc_cmd?min_sequence=2")
    assert state["positions"]["BTC-PERP"]["size"] == "1"


async def test_two_producers_share_an_account(running: Running, nc: Client) -> None:
    """Who is refused looks again: no number is lost and none is used twice."""
    second = await nats.connect(running.nats_url)
    await asyncio.gather(
        *(fill(client, "acc_two", "BTC-PERP", "buy", 10) for client in (nc, second))
    )
    await second.close()
    _, state = running.get("/psm/state/acc_two?min_sequence=20")
    assert (state["sequence_number"], state["status"]) == (20, "open")


async def test_the_producer_numbers_by_the_head(running: Running, nc: Client) -> None:
    """Repeats, conflicts, junk and operator events lie behind the last event: none is numbered by.

    The example of before numbered by the last message: a trade was lost, and it said success.
    """
    await fill(nc, "acc_head", "BTC-PERP", "buy", 2)
    js = nc.jetstream()
    stored = await js.get_msg("TRADES", subject="trades.*.acc_head")
    event = json.loads(stored.data or b"")
    repair = {**event, "event_id": str(uuid.uuid4()), "event_type": "StreamRetried"}
    del repair["sequence_number"]
    for behind in (
        json.dumps(event, indent=4).encode(),
        json.dumps({**event, "event_id": str(uuid.uuid4()), "sequence_number": 1}).encode(),
        b"junk",
        json.dumps({**repair, "payload": {"actor": "op", "reason": "test"}}).encode(),
    ):
        await js.publish("trades.acc_head", behind)
        await fill(nc, "acc_head", "BTC-PERP", "buy")
    _, state = running.get("/psm/state/acc_head?min_sequence=6")
    assert state["positions"]["BTC-PERP"]["size"] == "0.6"


async def test_the_producer_never_reports_a_loss_as_success(running: Running, nc: Client) -> None:
    """An event that changes nothing, or waits, is an error and an exit code."""
    await fill(nc, "acc_lost", "BTC-PERP", "buy")
    with pytest.raises(producer.NotAppendedError, match="refused"):
        await fill(nc, "acc_lost", "BTC-PERP", "sideways")
    head, _ = await producer.settled_head(nc, "acc_lost")
    stored = await nc.jetstream().get_msg("TRADES", subject="trades.*.acc_lost")
    late = {**json.loads(stored.data or b""), "event_id": str(uuid.uuid4())}
    late["sequence_number"] = head["last"] + 5
    await nc.jetstream().publish("trades.acc_lost", json.dumps(late).encode())
    command = [sys.executable, producer.__file__, "acc_lost", "buy", "BTC-PERP", "1", "42000"]
    done = subprocess.run(
        [*command, "--url", running.nats_url], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "number 3 of acc_lost is missing" in done.stderr


def test_examples_are_short_and_import_nothing_of_ours() -> None:
    """They show how little is needed."""
    for module in (producer, risk_engine):
        source = Path(str(module.__file__)).read_text()
        assert "import psm" not in source
        assert "from psm" not in source
        assert len(source.splitlines()) < 150


async def quiet_connection(running: Running) -> Client:
    """A connection that is not loud about the messages it loses on purpose."""

    async def ignore(_: Exception) -> None:
        return

    return await nats.connect(running.nats_url, error_cb=ignore)


async def fill(nc: Client, account: str, symbol: str, side: str, times: int = 1) -> None:
    payload = {"symbol": symbol, "side": side, "quantity": "0.1", "price": "2000"}
    for _ in range(times):
        await producer.append(nc, account, "TradeExecuted", payload)


async def view(running: Running, account: str) -> dict[str, Any]:
    status, answer = await asyncio.to_thread(running.get, f"/psm/positions/{account}")
    assert status == 200
    return {symbol: figures(position) for symbol, position in answer["positions"].items()}


async def drained(positions: Positions) -> None:
    """Wait until the follower has taken everything that was not lost."""
    await until(
        lambda: not positions.subscription.pending_msgs and not positions.lock.locked(),
        "it has taken everything",
    )


async def published(running: Running, account: str) -> None:
    """Wait until PSM has published the account's last event: the view follows the stream."""
    nc = await nats.connect(running.nats_url)
    head, _ = await producer.settled_head(nc, account)
    await nc.close()
    path = f"/psm/state/{account}?min_sequence={head['last']}"
    status, _ = await asyncio.to_thread(running.get, path)
    assert status == 200


async def assert_same(running: Running, positions: Positions, *more: str) -> None:
    """Wait until the follower has what the views have, figure by figure."""
    for account in (*ACCOUNTS, *more):
        await published(running, account)
        expected = await view(running, account)
        await until_answer(
            partial(asyncio.to_thread, known, positions, account, expected),
            partial(operator.eq, expected),
            f"{account} is the same",
        )


def known(positions: Positions, account: str, like: dict[str, Any]) -> dict[str, Any]:
    """Return what the follower knows of an account, in the figures of `like`."""
    found = {symbol: p for (owner, symbol), p in positions.by_key.items() if owner == account}
    return {
        symbol: {name: position.get(name) for name in like.get(symbol, position)}
        for symbol, position in found.items()
    }


def figures(document: dict[str, Any]) -> dict[str, Any]:
    """Return a position without the moment of its row: of an update that is its envelope's."""
    return {name: figure for name, figure in document.items() if name != "as_of"}
