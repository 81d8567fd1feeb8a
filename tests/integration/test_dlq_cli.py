"""`psm dlq` as an operator runs it, next to a running worker."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.domain import given
from tests.support.events import deposit, trade, unknown
from tests.support.running import psm
from tests.support.slots import even_slots, slots_env
from tests.support.workbench import Bench, open_bench

from psm.contracts.subjects import partition_of

PARTITIONS = 4


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url, partitions=PARTITIONS, slots=even_slots(1000)) as opened:
        yield opened


async def psm_dlq(bench: Bench, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `psm dlq` while the worker goes on."""
    environment = {
        "NATS_URL": bench.settings.nats_url,
        "PSM_PARTITIONS": str(PARTITIONS),
        "LOGNAME": "ann",
        **slots_env(bench.settings.valuation_slots),
    }
    return await asyncio.to_thread(psm, "dlq", *arguments, environment=environment, check=False)


async def told(bench: Bench, *arguments: str, code: int = 0) -> Any:
    """Return what the command answers as JSON."""
    run = await psm_dlq(bench, *arguments, "-o", "json")
    assert run.returncode == code, run.stdout + run.stderr
    return json.loads(run.stdout)


async def test_dismissing_the_event_that_blocks(bench: Bench) -> None:
    """It is listed, shown, tried, dismissed; the trial promised exactly what came."""
    sent = [deposit(1), unknown(2), trade(3, "buy", "1", "100"), deposit(4, "-1")]
    async with bench.worker():
        await bench.publish(deposit(1, stream="fine"), sent)
        await bench.judge()
        (row,) = await told(bench, "list", code=1)
        assert (row["account_id"], row["status"], row["log_sequence"]) == ("acc_001", "blocked", 3)
        shown = await told(bench, "show", "acc_001", code=1)
        assert (shown["reason"], shown["held"]) == ("unknown_event_type", 2)
        assert shown["blocking"]["body"] == sent[1].data.decode()
        before = (await bench.judge()).count
        tried = await told(bench, "dismiss", "acc_001", "--reason", "typo", "--dry-run")
        assert (await bench.judge()).count == before, "a trial writes nothing"
        retried = await told(bench, "retry", "acc_001", "--reason", "upgrade", code=1)
        assert (retried["outcome"], retried["status"]) == ("blocked", "blocked")
        done = await told(bench, "dismiss", "acc_001", "--reason", "typo")
        assert (done["outcome"], done["settled"], done["refused"]) == ("applied", 3, 2)
        assert {name: done[name] for name in tried if name != "dry_run"} == {
            name: value for name, value in tried.items() if name != "dry_run"
        }
        assert await told(bench, "list") == []
        assert (await told(bench, "show", "acc_001"))["status"] == "open"
        verdict = await bench.judge()
    dismissal = verdict.payloads("EventRefused")[0]
    assert dismissal["detail"] == f"dismissed by operator event {done['event_id']}"
    twin = given(sent[0], deposit(2, "-1"), *sent[2:])
    assert done["ledger_hash"] == twin.account().ledger_hash().hex()


async def test_voiding_numbers_that_never_come(bench: Bench) -> None:
    """By default all that are missing; what would be refused is not published."""
    async with bench.worker():
        await bench.publish(deposit(1), deposit(4), deposit(7))
        await bench.judge()
        shown = await told(bench, "show", "acc_001", code=1)
        assert (shown["missing"], shown["parked"], shown["parked_last"]) == ([2, 3], 2, 7)
        done = await told(bench, "void", "acc_001", "--reason", "lost", "--actor", "bob")
        assert (done["sequence_number"], done["status"]) == (4, "gap")
        far = await psm_dlq(
            bench,
            "void",
            "acc_001",
            "--reason",
            "lost",
            "--from-sequence",
            "6",
            "--to-sequence",
            "6",
        )
        assert far.returncode == 1
        assert "void_invalid: the first number missing is 5, not 6" in far.stderr
        done = await told(bench, "void", "acc_001", "--reason", "lost")
        assert (done["sequence_number"], done["status"]) == (7, "open")
        verdict = await bench.judge()
    assert verdict.payloads("EventRefused") == []
    own = partition_of("acc_001", PARTITIONS)
    assert verdict.books[own].accounts["acc_001"].delivery.version == 7


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["dismiss", "acc_001", "--reason", "x"], 2, "no message blocks the stream"),
        (["void", "acc_001", "--reason", "x"], 2, "no number is missing"),
        (["retry", "acc_001", "--reason", "x"], 1, "not_blocking"),
        (["retry", "acc_001", "--reason", ""], 2, "payload.reason"),
        (["retry", "acc_001"], 2, "--reason"),
        (["show", "nobody"], 1, "the log has no event of this account"),
        (["show", "a.b"], 2, "is no account id"),
    ],
)
async def test_what_cannot_be_done_is_said(
    bench: Bench, arguments: list[str], code: int, text: str
) -> None:
    """Nothing is published, and the answer says what is wrong."""
    last = await bench.publish(deposit(1))
    run = await psm_dlq(bench, *arguments)
    assert run.returncode == code, run.stderr
    assert text in run.stderr
    assert await bench.publish(deposit(2)) == last + 1


async def test_nobody_folds_the_event(bench: Bench) -> None:
    """Without a worker the event is in the log, and the operator learns not to send another."""
    await bench.publish(deposit(1), unknown(2))
    run = await psm_dlq(bench, "dismiss", "acc_001", "--reason", "x", "--timeout", "0.2")
    assert run.returncode == 2
    assert "the event is in the log, at log sequence 3, but no worker committed it" in run.stderr
