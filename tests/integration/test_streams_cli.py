"""`psm streams` and `psm publish` as an operator runs them."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import subprocess
import uuid
from functools import partial
from pathlib import Path

import nats
from nats.js.api import ConsumerConfig
from tests.support.running import PSM, psm

from psm.adapters.jetstream import OrderedReader, connect
from psm.adapters.jetstream.streams import BOUNDS

ALL = {
    "TRADES",
    "PSM",
    "SNAPSHOTS",
    "MARKETDATA",
    "SIGNALS",
    "ORDERS",
    "FILLS",
    "RISK",
    "RULEBOOK",
    "OPS",
    "KV_psm-fleet",
    "HEALTH",
}
TRADES = "TRADES"


def psm_at(
    url: str, *arguments: str, stdin: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command as an operator does."""
    environment = {"NATS_URL": url, "PSM_PARTITIONS": "4", **env}
    return psm(*arguments, stdin=stdin, environment=environment, check=False)


def test_cli_streams(nats_url: str) -> None:
    """apply, check and status tell the same story, with exit codes to build on."""
    missing = psm_at(nats_url, "streams", "check")
    assert missing.returncode == 2
    assert "TRADES: the stream does not exist" in missing.stderr
    plan = psm_at(nats_url, "streams", "apply", "--dry-run", "-o", "json")
    assert plan.returncode == 0, plan.stderr
    assert {row["action"] for row in json.loads(plan.stdout)} == {"create"}
    assert psm_at(nats_url, "streams", "apply").returncode == 0
    checked = psm_at(nats_url, "streams", "check", "-o", "json")
    assert checked.returncode == 0
    shown = json.loads(checked.stdout)
    assert {name: int(shown[name]) for name in BOUNDS} == BOUNDS
    assert shown["psm.canonical_form"] == "1"
    again = psm_at(nats_url, "streams", "apply", "-o", "json")
    assert (again.returncode, json.loads(again.stdout)) == (0, [])
    status = psm_at(nats_url, "streams", "status", "-o", "json")
    rows = {row["stream"]: row for row in json.loads(status.stdout)}
    assert set(rows) == ALL
    assert rows[TRADES]["verdict"] == "ok"
    wrong = psm_at(nats_url, "streams", "apply", PSM_PARTITIONS="8")
    assert wrong.returncode == 2
    assert "new generation" in wrong.stderr


def test_cli_publish(nats_url: str) -> None:
    """Lines of every form enter; a bad one is named by its number and does not stop the rest."""
    assert psm_at(nats_url, "streams", "apply").returncode == 0
    event = {
        "event_id": "7f0c2a34-3f5e-4f27-9d5e-000000000001",
        "event_type": "CashDeposited",
        "stream_id": "acc",
        "timestamp": "2026-01-02T03:04:05Z",
        "schema_version": "1.0.0",
        "payload": {"amount": "10"},
    }
    draft = {
        "event_id": "7f0c2a34-3f5e-4f27-9d5e-000000000002",
        "event_type": "TradeExecuted",
        "timestamp": "2026-01-02T03:04:05Z",
        "account_id": "acc",
        "symbol": "BTC-PERP",
        "side": "long",
        "quantity": 0.5,
        "price": 42000.0,
        "commission": 2.1,
    }
    recorded = {"subject": "signals.strategy.s1.BTC", "data": {**event, "payload": {}}}
    lines = [event, draft, {"broken": True}, recorded, {"subject": "trades.acc", "data": event}]
    text = "\n".join(map(json.dumps, lines)) + "\n\nnot json\n"
    done = psm_at(nats_url, "publish", "-", "--assume-new", "-o", "json", stdin=text)
    assert done.returncode == 1, done.stderr
    summary = json.loads(done.stdout)
    assert summary == {"appended": 2, "recorded": 1, "duplicates": 1, "failed": 2}
    assert "line 3:" in done.stderr
    assert "line 7:" in done.stderr
    plan = psm_at(nats_url, "publish", "-", "--dry-run", "-o", "json", stdin=text)
    assert plan.returncode == 1
    assert json.loads(plan.stdout) == {"would_append": 3, "would_record": 1, "failed": 2}
    first = psm_at(nats_url, "publish", "-", "--fail-fast", stdin="not json\n" + json.dumps(event))
    assert first.returncode == 1
    assert "line 1:" in first.stderr
    assert "failed" in first.stdout


def test_cli_publish_goes_on_after_odd_lines(nats_url: str) -> None:
    """Whatever a line is, it is named, and the good lines behind it go in."""
    assert psm_at(nats_url, "streams", "apply").returncode == 0
    event = {
        "event_id": "7f0c2a34-3f5e-4f27-9d5e-000000000003",
        "event_type": "CashDeposited",
        "stream_id": "acc",
        "timestamp": "2026-01-02T03:04:05Z",
        "schema_version": "1.0.0",
        "payload": {"amount": "10"},
    }
    flat = {"event_type": "TradeExecuted", "account_id": "acc", "side": [], "symbol": "X"}
    lines = [
        '{"event_type":[]}',
        json.dumps(flat),
        json.dumps(event).replace('"10"', "9" * 5000),
        '{"a":' + "[" * 50_000,
        json.dumps({"subject": "signals.a b.X", "data": event}),
        json.dumps({"subject": "signals.a\0b.X", "data": event}),
        json.dumps({"subject": "signals." + "x" * 5000, "data": event}),
        json.dumps({"subject": 5, "data": event}),
        json.dumps({**event, "event_type": "StreamRetried"}),
        json.dumps({**event, "correlation_id": "\0"}),
        json.dumps({**event, "note": "\0", "metadata": 7}),
    ]
    arguments = ("publish", "-", "--assume-new", "-o", "json")
    done = psm_at(nats_url, *arguments, stdin="\n".join(lines))
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["appended"] == 1
    told = [json.loads(line)["line"] for line in done.stderr.splitlines()]
    assert told == list(range(1, len(lines))), done.stderr


def test_cli_publish_many(nats_url: str, tmp_path: Path) -> None:
    """A long file of several accounts keeps each account's order; twice is once."""
    assert psm_at(nats_url, "streams", "apply").returncode == 0
    file = tmp_path / "events.jsonl"
    file.write_text(deposits(1500))
    for expected in ("appended", "duplicates"):
        done = psm_at(nats_url, "publish", str(file), "-o", "json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)[expected] == 1500
    missing = psm_at(nats_url, "publish", "nothing.jsonl")
    assert missing.returncode == 2
    assert "cannot read nothing.jsonl" in missing.stderr


def test_cli_publish_says_what_went_in_when_interrupted(nats_url: str, tmp_path: Path) -> None:
    """Ctrl-C: the count is what the log has, the exit code says interrupted, again goes on."""
    assert psm_at(nats_url, "streams", "apply").returncode == 0
    file = tmp_path / "events.jsonl.gz"
    file.write_bytes(gzip.compress(deposits(30_000).encode()))
    with subprocess.Popen(
        [*PSM, "publish", str(file), "-o", "json"],
        env={**os.environ, "NATS_URL": nats_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background ignores interrupts, and children inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
    ) as process:
        while asyncio.run(last_sequence(nats_url)) < 100:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said, noted = process.communicate(timeout=60)
    stored = asyncio.run(last_sequence(nats_url))
    assert process.returncode == 130
    assert json.loads(said)["appended"] == stored < 30_000
    assert f"interrupted: {stored} went in" in noted


async def last_sequence(nats_url: str) -> int:
    nc = await nats.connect(nats_url)
    try:
        return int((await nc.jetstream().stream_info("TRADES")).state.last_seq)
    finally:
        await nc.close()


def deposits(count: int) -> str:
    """Return lines of deposits into three accounts."""
    return "\n".join(
        json.dumps(
            {
                "event_id": str(uuid.UUID(int=number + 1)),
                "event_type": "CashDeposited",
                "stream_id": f"acc{number % 3}",
                "sequence_number": number // 3 + 1,
                "timestamp": "2026-01-02T03:04:05Z",
                "schema_version": "1.0.0",
                "payload": {"amount": "10"},
            }
        )
        for number in range(count)
    )


async def test_consumers_say_who_reads(nats_url: str) -> None:
    """A reader of PSM is named by its connection, another by its description; lag is counted."""
    assert psm_at(nats_url, "streams", "apply").returncode == 0
    nc = await nats.connect(nats_url)
    ours = await connect(nats_url, name="psm-projector")
    reader = OrderedReader(ours, TRADES, ["trades.*.*"])
    try:
        await nc.jetstream().publish("control.rules", b"{}")
        await reader.fetch(1, 1.0)
        config = ConsumerConfig(durable_name="theirs", description="the desk's screen")
        await nc.jetstream().add_consumer(TRADES, config)
        done = await asyncio.to_thread(psm_at, nats_url, "consumers", "-o", "json")
    finally:
        await reader.close()
        await ours.close()
        await nc.close()
    found = {row["reader"]: row for row in json.loads(done.stdout)}
    assert found.keys() == {"psm-projector", "the desk's screen"}
    theirs = found["the desk's screen"]
    assert (theirs["durable"], theirs["pending"]) == (True, 1)
    assert found["psm-projector"]["filters"] == ["trades.*.*"]
