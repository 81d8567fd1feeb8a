"""The examples of docs and README: a producer and a risk engine that need nats-py only."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from pathlib import Path

import nats
import pytest
from examples import producer, risk_engine
from examples.risk_engine import Accounts
from nats.aio.client import Client
from nats.aio.msg import Msg
from tests.support.events import mark
from tests.support.running import Running, psm_up, run
from tests.support.workbench import until

from psm.contracts.codec import encode_fields

ACCOUNTS = ("acc_a", "acc_b")
SYMBOLS = ("BTC-PERP", "ETH-PERP")


class Deaf(Accounts):
    """Hears no updates for a while, as a slow reader does.

    Attributes:
        missed: accounts of the inputs that it heard nothing of, each when the last update came.
    """

    def __init__(self, nc: Client, accounts: Sequence[str]) -> None:
        super().__init__(nc, accounts)
        self.deaf = False
        self.missed: list[str] = []

    async def _heard(self, message: Msg) -> None:
        headers = message.headers or {}
        if not self.deaf:
            await super()._heard(message)
        elif "Psm-Position" in headers:
            _, number, of = headers["Psm-Position"].split("/")
            if number == of:
                self.missed.append(headers["Nats-Subject"].rpartition(".")[2])


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


async def test_a_late_start_knows_every_account(running: Running, nc: Client) -> None:
    """Who starts after the events knows all of them, and then follows; an account to come, too."""
    for account in ACCOUNTS:
        for symbol in SYMBOLS:
            await fill(nc, account, symbol, "buy")
        await published(running, account)
    followed = Accounts(nc, [*ACCOUNTS, "acc_new"])
    await followed.start()
    await assert_same(running, followed, *ACCOUNTS)
    assert followed.equity("acc_new") is None, "nobody knows it"
    await fill(nc, "acc_a", "BTC-PERP", "sell")
    await fill(nc, "acc_new", "BTC-PERP", "sell")
    await published(running, "acc_new")
    await followed.repair()
    await assert_same(running, followed, *ACCOUNTS, "acc_new")
    assert followed.repaired == 3


async def test_equity_is_at_the_marks_of_now(running: Running, nc: Client) -> None:
    """A mark moves it before any update does."""
    await nc.jetstream().publish("marks.MARKED", mark(1, "100", "MARKED").data)
    payload = {"symbol": "MARKED", "side": "buy", "quantity": "2", "price": "100"}
    await producer.append(nc, "acc_marked", "TradeExecuted", payload)
    await published(running, "acc_marked")
    followed = Accounts(nc, ["acc_marked"])
    await followed.start()
    assert followed.equity("acc_marked") == 0
    for number, price, equity in ((2, "103.5", 7), (3, "90", -20), (2, "500", -20)):
        await nc.jetstream().publish("marks.MARKED", mark(number, price, "MARKED").data)
        await until(partial(worth, followed, equity), f"equity {equity}")


async def test_a_lost_update_makes_the_account_unknown(
    running: Running, nc: Client, slow: Client
) -> None:
    """At the next update, or at the comparison where none comes; then it is read again."""
    followed = Deaf(slow, ACCOUNTS)
    await followed.start()
    followed.deaf = True
    for _ in range(3):
        await fill(nc, "acc_a", "BTC-PERP", "buy")
    await fill(nc, "acc_b", "BTC-PERP", "buy")
    missed = followed.missed
    await until(lambda: missed.count("acc_a") >= 3 and "acc_b" in missed, "all is missed")
    followed.deaf = False
    await fill(nc, "acc_a", "ETH-PERP", "sell")
    await published(running, "acc_a")
    await until(lambda: followed.equity("acc_a") is None, "a hole is noticed")
    assert followed.equity("acc_b") is not None, "of this one nothing tells yet"
    await followed.compare()
    assert followed.equity("acc_b") is None
    await followed.repair()
    await assert_same(running, followed, *ACCOUNTS)


def test_the_risk_engine_runs_as_a_command(running: Running) -> None:
    """It prints what may trade, and of whom nothing is known."""
    command = [sys.executable, producer.__file__, "acc_risk", "buy", "BTC-PERP", "0.5", "42000"]
    run([*command, "--commission", "2.10", "--url", running.nats_url])
    running.get("/psm/state/acc_risk?min_sequence=1")
    command = [sys.executable, risk_engine.__file__, "acc_risk", "acc_none"]
    with subprocess.Popen(
        [*command, "--url", running.nats_url], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        printed = [process.stdout.readline() for _ in range(4)]
        process.kill()
    assert (
        printed
        == [
            "acc_risk: equity -2.1, may only reduce\n",
            "acc_none: unknown, no order\n",
        ]
        * 2
    )


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


def test_examples_are_short_and_import_the_contracts_at_most() -> None:
    """They show how little is needed."""
    for module, allowed in ((producer, ""), (risk_engine, "from psm.contracts.")):
        source = Path(str(module.__file__)).read_text()
        ours = [line for line in source.splitlines() if line.startswith(("import psm", "from psm"))]
        assert all(allowed and line.startswith(allowed) for line in ours)
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


async def published(running: Running, account: str) -> None:
    """Wait until PSM has published the account's last event: the view follows the stream."""
    nc = await nats.connect(running.nats_url)
    head, _ = await producer.settled_head(nc, account)
    await nc.close()
    path = f"/psm/state/{account}?min_sequence={head['last']}"
    status, _ = await asyncio.to_thread(running.get, path)
    assert status == 200


async def assert_same(running: Running, followed: Accounts, *accounts: str) -> None:
    """Wait until the follower has what the views have, to the byte, but for the age of each row."""
    for account in accounts:
        await published(running, account)
        status, state = await asyncio.to_thread(running.get, f"/psm/state/{account}")
        assert status == 200
        for row in [*state["positions"].values(), *state["assets"].values()]:
            del row["as_of"]
        expected = encode_fields(state)
        await until(partial(shown, followed, account, expected), f"{account} is the same")


def worth(followed: Accounts, equity: int) -> bool:
    """Return whether the marked account has this equity now."""
    return followed.equity("acc_marked") == equity


def shown(followed: Accounts, account: str, expected: bytes) -> bool:
    """Return whether a follower has this document."""
    return followed.document(account) == expected
