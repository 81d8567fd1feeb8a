"""The `nats` command line reads the log by sequence, follows updates and publishes events."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.support import events
from tests.support.nats_cli import nats_cli
from tests.support.running import SETTLE_S, Running, psm_up, run
from tests.support.screen import on_terminal

pytestmark = pytest.mark.nats_cli

ACCOUNT = "acc_001"
OTHER = "acc_002"
LOG_SUBJECT = "trades.*.acc_001"
PROBE = "signals.probe"  # whoever gives no user may publish and hear it


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Five events of two accounts and a mark, published by the command line itself."""
    with psm_up(tmp_path_factory.mktemp("up"), "--no-sync") as running:
        for sent in SENT:
            cli(running, "pub", "--quiet", "-J", sent.subject, sent.data.decode())
        for account in (ACCOUNT, OTHER):
            assert running.get(f"/psm/state/{account}?min_sequence=2")[0] == 200
        yield running


SENT = (
    events.deposit(1, stream=ACCOUNT),
    events.deposit(1, stream=OTHER),
    events.trade(2, "buy", "0.5", "42000", stream=ACCOUNT),
    events.mark(1, "42100"),
    events.trade(2, "sell", "1", "42000", stream=OTHER),
    events.trade(3, "sell", "0.2", "42500", stream=ACCOUNT),
)
"""The log, from log sequence 1."""


def test_any_event_is_got_by_its_log_sequence(running: Running) -> None:
    """`nats stream get TRADES N` gives the bytes that were published."""
    for sequence, sent in enumerate(SENT, 1):
        item = json.loads(cli(running, "stream", "get", "TRADES", str(sequence), "--json"))
        assert item["seq"] == sequence
        assert item["subject"].split(".")[-1] == sent.subject.split(".")[-1]
    shown = cli(running, "stream", "get", "TRADES", "3")
    assert SENT[2].data.decode() in shown


def test_one_account_is_replayed_from_a_sequence(running: Running) -> None:
    """`nats sub --stream TRADES --start-sequence N --terminate-at-end` gives the rest in order."""
    for start, expected in ((1, [0, 2, 5]), (3, [2, 5]), (4, [5])):
        assert replayed(running, start) == [SENT[index].data for index in expected]


def test_one_account_is_paged_through(running: Running) -> None:
    """`nats stream view` shows one account's events and nothing else."""
    command = [nats_cli(), "-s", running.nats_url, "stream", "view", "TRADES", "25"]
    with on_terminal([*command, "--subject", LOG_SUBJECT]) as screen:
        assert screen.await_end() == 0, screen.text
    found = re.findall(r"^\[(\d+)\] Subject", screen.text, re.MULTILINE)
    assert [int(number) for number in found] == [
        1, 3, 6,
    ]  # fmt: skip


def test_a_published_event_is_booked_and_its_update_heard(running: Running) -> None:
    """`nats pub trades.<account>` moves a position; `nats sub` hears of it."""
    sent = events.trade(1, "buy", "0.25", "42000", stream="acc_cli")
    with listening(running, "psm.position.updated") as heard:
        cli(running, "pub", sent.subject, sent.data.decode())
        update = json.loads(await_line(heard, "{"))
    assert (update["stream_id"], update["payload"]["size"]) == ("acc_cli", "0.25")
    _, state = running.get("/psm/state/acc_cli?min_sequence=1")
    assert state["positions"]["BTC-PERP"]["size"] == "0.25"


def test_the_reads_are_a_service(running: Running) -> None:
    """`nats micro ls` lists PSM, and `nats req` gets the document of the HTTP read."""
    services = json.loads(cli(running, "micro", "ls", "--json"))
    assert [service["name"] for service in services] == ["psm"]
    answer = cli(running, "req", "--raw", "psm.get.state", ACCOUNT)
    assert json.loads(answer) == running.get(f"/psm/state/{ACCOUNT}")[1]


def test_the_durable_updates_are_read_by_account(running: Running) -> None:
    """The stream PSM holds each account's updates under a subject of its own."""
    shown = cli(
        running, "sub", "--stream", "PSM", "--all", "--terminate-at-end", "--raw",
        f"psm.state.updated.*.{ACCOUNT}",
    )  # fmt: skip
    states = [json.loads(line)["payload"] for line in shown.splitlines() if line.startswith("{")]
    booked = [state["sequence_number"] for state in states if state["cause"] == "event"]
    assert booked == [1, 2, 3]


def test_the_log_takes_no_deletion(running: Running) -> None:
    """An operator cannot remove an event from the log, not even on purpose."""
    command = [nats_cli(), "-s", running.nats_url, "stream", "rmm", "TRADES", "1", "--force"]
    assert run(command, check=False).returncode != 0
    assert replayed(running, 1)[0] == SENT[0].data


def cli(running: Running, *arguments: str) -> str:
    """Return what the command line prints on stdout."""
    return run([nats_cli(), "-s", running.nats_url, *arguments], timeout_s=30).stdout


def replayed(running: Running, start: int) -> list[bytes]:
    """Return the account's events from a log sequence on."""
    shown = cli(
        running, "sub", "--stream", "TRADES", "--start-sequence", str(start),
        "--terminate-at-end", "--raw", LOG_SUBJECT,
    )  # fmt: skip
    return [line.encode() for line in shown.splitlines() if line.startswith("{")]


@contextmanager
def listening(running: Running, subject: str) -> Iterator[list[str]]:
    """Run `nats sub` and give the lines it prints; it is listening when this begins."""
    process = subprocess.Popen(
        [nats_cli(), "-s", running.nats_url, "sub", "--raw", subject, PROBE],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    reader = threading.Thread(target=lines.extend, args=(process.stdout,))
    reader.start()
    try:
        deadline = time.monotonic() + SETTLE_S
        while "hello\n" not in lines:
            assert time.monotonic() < deadline, lines
            cli(running, "pub", "--quiet", PROBE, "hello")
        yield lines
    finally:
        process.kill()
        reader.join()
        process.stdout.close()
        process.wait()


def await_line(lines: list[str], start: str) -> str:
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        for line in lines:
            if line.startswith(start):
                return line
        time.sleep(0.02)
    raise AssertionError(lines)
