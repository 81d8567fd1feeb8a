"""`psm tail` and `psm top` on a running system: what is published, rates and lags."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Iterator

import pytest
from tests.support.running import PSM, Running, psm, psm_up
from tests.support.screen import on_terminal

HOSTILE = "a\x1b[31mb"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A `psm up` of the module's own; commands are told where by NATS_URL alone."""
    folder = tmp_path_factory.mktemp("up")
    with psm_up(folder, "--no-sync", "--partitions", "4") as running:
        yield running


def deposits(running: Running, account: str, count: int) -> None:
    lines = [
        json.dumps(
            {
                "event_id": f"7b0e0c0e-8a57-4d8c-9c56-{abs(hash((account, n))) % 10**12:012d}",
                "event_type": "CashDeposited",
                "stream_id": account,
                "timestamp": "2025-12-12T10:30:00Z",
                "schema_version": "1.0.0",
                "payload": {"amount": "1"},
            }
        )
        for n in range(count)
    ]
    psm("publish", "-", stdin="\n".join(lines), environment={"NATS_URL": running.nats_url})


def tailed(running: Running, *arguments: str, publish: str, count: int) -> list[str]:
    """Start `psm tail`, publish until it ends, and return its lines."""
    with subprocess.Popen(
        [*PSM, "tail", *arguments, "--count", str(count)],
        env={**os.environ, "NATS_URL": running.nats_url},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        number = 0
        while process.poll() is None:
            assert time.monotonic() < deadline
            deposits(running, "neighbour", 1)
            deposits(running, publish, number + 1)
            number += 1
        assert process.stdout is not None
        return process.stdout.read().splitlines()


def test_tail_of_an_account_is_its_own(running: Running) -> None:
    """Its events and what PSM says of it, and nobody else's; a document a line."""
    lines = tailed(running, "acc_tail", "-o", "json", publish="acc_tail", count=6)
    documents = [json.loads(line) for line in lines]
    assert len(documents) == 6
    assert {document["subject"].split(".")[-1] for document in documents} == {"acc_tail"}
    assert {document["js_stream"] for document in documents} == {"TRADES", "PSM"}
    events = [d["data"] for d in documents if d["js_stream"] == "TRADES"]
    assert {event["event_type"] for event in events} == {"CashDeposited"}


def test_tail_of_subjects_is_filtered(running: Running) -> None:
    """Public names of updates are known, others are a usage error."""
    lines = tailed(running, "psm.state.updated", publish="acc_subject", count=3)
    assert all(" psm.state.updated." in line for line in lines)
    refused = psm("tail", "nothing.here", environment={"NATS_URL": running.nats_url}, check=False)
    assert refused.returncode == 2
    assert "nothing records" in refused.stderr


def test_tail_writes_escapes_out(running: Running) -> None:
    """What a payload holds does not reach the terminal as a command."""
    environment = {"NATS_URL": running.nats_url}
    with on_terminal([*PSM, "tail", "signals.>", "--count", "1"], environment) as screen:
        while screen.process.poll() is None:
            body = json.dumps({"subject": "signals.strategy.s.X", "data": envelope(HOSTILE)})
            psm("publish", "-", stdin=body, environment=environment)
        screen.await_end()
    assert "\x1b" not in screen.text
    assert "\\x1b[31m" in screen.text


def envelope(text: str) -> dict[str, object]:
    return {
        "event_id": f"7b0e0c0e-8a57-4d8c-9c56-{time.time_ns() % 10**12:012d}",
        "event_type": "SignalMade",
        "stream_id": "s",
        "timestamp": "2025-12-12T10:30:00Z",
        "schema_version": "1.0.0",
        "payload": {"text": text},
    }


def test_top_shows_rates_and_lags(running: Running) -> None:
    """Partitions with their owner; a rate while events come; lags that go back to nothing."""
    environment = {"NATS_URL": running.nats_url, "POSTGRES_DSN": running.postgres_dsn}
    command = [*PSM, "top", "--interval", "1", "-o", "jsonl", "--once"]

    def look() -> list[dict[str, object]]:
        done = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    def look_for_a_rate() -> list[dict[str, object]]:
        # On a busy machine two commands that publish may start a whole interval apart.
        rows = look()
        while not any(row["events_s"] for row in rows):
            assert time.monotonic() < deadline, rows
            rows = look()
        return rows

    async def while_publishing() -> list[dict[str, object]]:
        looking = asyncio.create_task(asyncio.to_thread(look_for_a_rate))
        number = 0
        while not looking.done():
            await asyncio.to_thread(deposits, running, f"acc_top{number}", 20)
            number += 1
        return await looking

    deadline = time.monotonic() + 60
    rows = asyncio.run(while_publishing())
    assert [row["partition"] for row in rows] == [0, 1, 2, 3]
    assert all(row["state"] == "live" and row["owner"] for row in rows)
    deadline = time.monotonic() + 60
    while any(row["lag"] or row["view_lag"] for row in look()):
        assert time.monotonic() < deadline
    plain = psm("top", "--once", "--interval", "0.2", environment={"NATS_URL": running.nats_url})
    assert "events_s" in plain.stdout
    assert "behind" in plain.stderr


def test_top_on_a_terminal_of_80_columns(running: Running) -> None:
    """State, rate and lags are columns; what has no room stands below."""
    environment = {"NATS_URL": running.nats_url, "POSTGRES_DSN": running.postgres_dsn}
    with on_terminal(
        [*PSM, "top", "--once", "--interval", "0.2"], environment, size=(24, 80)
    ) as screen:
        assert screen.await_end() == 0
    assert "view_lag_s" in screen.text.splitlines()[0]
    lines = screen.text.replace("\x1b[2J", "").replace("\x1b[H", "").splitlines()
    assert all(len(line) <= 80 for line in lines)
