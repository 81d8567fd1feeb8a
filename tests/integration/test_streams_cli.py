"""`psm streams` and `psm publish` as an operator runs them."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path

from tests.support.running import psm

ALL = {
    "TRADES",
    "PSM",
    "SNAPSHOTS",
    "MARKETDATA",
    "SIGNALS",
    "ORDERS",
    "FILLS",
    "RISK",
    "OPS",
    "KV_psm-fleet",
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
    assert psm_at(nats_url, "streams", "check").returncode == 0
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
    done = psm_at(nats_url, "publish", "-", "-o", "json", stdin=text)
    assert done.returncode == 1, done.stderr
    summary = json.loads(done.stdout)
    assert summary == {"appended": 2, "recorded": 1, "duplicates": 1, "failed": 2}
    assert "line 3:" in done.stderr
    assert "line 7:" in done.stderr
    plan = psm_at(nats_url, "publish", "-", "--dry-run", "-o", "json", stdin=text)
    assert plan.returncode == 1
    assert json.loads(plan.stdout)["failed"] == 2
    first = psm_at(nats_url, "publish", "-", "--fail-fast", stdin="not json\n" + json.dumps(event))
    assert first.returncode == 1
    assert "line 1:" in first.stderr
    assert "failed" in first.stdout


def test_cli_publish_many(nats_url: str, tmp_path: Path) -> None:
    """A long file of several accounts keeps each account's order; twice is once."""
    assert psm_at(nats_url, "streams", "apply").returncode == 0
    events = [
        {
            "event_id": str(uuid.uuid4()),
            "event_type": "CashDeposited",
            "stream_id": f"acc{number % 3}",
            "sequence_number": number // 3 + 1,
            "timestamp": "2026-01-02T03:04:05Z",
            "schema_version": "1.0.0",
            "payload": {"amount": "10"},
        }
        for number in range(1500)
    ]
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(map(json.dumps, events)))
    for expected in ("appended", "duplicates"):
        done = psm_at(nats_url, "publish", str(file), "-o", "json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)[expected] == 1500
    missing = psm_at(nats_url, "publish", "nothing.jsonl")
    assert missing.returncode == 2
    assert "cannot read nothing.jsonl" in missing.stderr
