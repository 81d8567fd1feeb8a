"""Asking for decisions: the real engine on real accounts, over NATS and over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import nats.errors
import pytest
from httpx import ASGITransport, AsyncClient
from nats.aio.msg import Msg
from starlette.applications import Starlette
from starlette.routing import Route
from tests.support.broker import compose_broker, connect_as, settings_of
from tests.support.events import deposit, instrument, mark
from tests.support.risk_bench import (
    ACCOUNT,
    ADA,
    BOB,
    PSM_RISK_WORKER,
    SLOT,
    RiskBench,
    RiskProcess,
    open_risk_bench,
    order_event,
)
from tests.support.workbench import until
from tests.support.worker_process import WorkerProcess

from psm.adapters.jetstream import publish_expected, stream_info
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts import subjects
from psm.contracts.subjects import ORDERS, RISK, RISK_CHECK
from psm.risk.engine import Slot
from psm.workers.api.risk_http import risk_check
from psm.workers.log.shape import log_shape
from psm.workers.process.settings import Settings
from psm.workers.proof.risk.live import Range, prove_risk
from psm.workers.risk.door import PROBLEM_HEADER
from psm.workers.risk.fences import fence

ORDER = {
    "account_id": ACCOUNT,
    "order_id": "o1",
    "symbol": "BTC-PERP",
    "side": "buy",
    "type": "limit",
    "quantity": "2",
    "price": "100",
}


@pytest.fixture
async def bench(nats_url: str, tmp_path: Path) -> AsyncIterator[RiskBench]:
    """An account with 10 000 USDT in a group that may order 5 at once, folded by a worker."""
    async with open_risk_bench(nats_url) as opened:
        nc = opened.nc
        proposed = opened.rules.propose(ADA, {"max_order_quantity": "5"})
        opened.rules.approve(BOB, proposed)
        await opened.say()
        partitions = opened.settings.partitions
        async with WorkerProcess(nats_url, tmp_path, PSM_PARTITIONS=partitions) as worker:
            await worker.ready(partitions)
            for sent in (instrument(), mark(1, "100"), deposit(1, "10000")):
                await publish_expected(nc, "TRADES", sent.subject, sent.data, expected=None)
            yield opened


async def ask(bench: RiskBench, order: Any, **more: Any) -> Msg:
    body = msgspec.json.encode({"order": order, **more})
    return await bench.nc.request(RISK_CHECK, body, timeout=10)


def payload(answer: Msg) -> dict[str, Any]:
    assert not (answer.headers or {}).get(PROBLEM_HEADER), answer.headers
    return dict(msgspec.json.decode(answer.data)["payload"])


def failed(decision: dict[str, Any]) -> list[str]:
    return [check["name"] for check in decision["checks"] if not check["passed"]]


def names(decision: dict[str, Any]) -> list[tuple[str, bool]]:
    return [(check["name"], check["passed"]) for check in decision["checks"]]


async def counts(bench: RiskBench) -> list[int]:
    """Return how many messages ORDERS and RISK have."""
    return [(await stream_info(bench.nc, name)).messages for name in (ORDERS, RISK)]


@pytest.mark.timeout(120)
async def test_answer_is_the_stored_decision(bench: RiskBench) -> None:
    """Approved, too large, the same again, another under its id; heard is what is stored."""
    heard: list[bytes] = []

    async def hear(message: Msg) -> None:
        heard.append(message.data)

    await bench.nc.subscribe(subjects.risk_republished("decision", ACCOUNT), cb=hear)
    async with bench.worker(engine=Slot) as worker:
        await worker.owning()
        service = await worker.door.listen()
        first = await ask(bench, ORDER)
        assert payload(first)["decision"] == "approved", failed(payload(first))
        large = await ask(bench, {**ORDER, "order_id": "o2", "quantity": "6"})
        assert payload(large)["decision"] == "rejected"
        assert failed(payload(large)) == ["max_order_quantity"]
        assert (await ask(bench, ORDER)).data == first.data, "the same order, the same answer"
        other = await ask(bench, {**ORDER, "quantity": "1"})
        assert "duplicate_order_id" in failed(payload(other))
        stored = await bench.decisions(SLOT)
        assert [one["order_id"] for one in stored] == ["o1", "o2", "o1"]
        assert [one["decision"] for one in stored] == ["approved", "rejected", "rejected"]
        await until(lambda: len(heard) == 3, "all are heard")
        assert heard == [first.data, large.data, other.data]
        await service.stop()


@pytest.mark.timeout(120)
async def test_dry_run_stores_nothing(bench: RiskBench) -> None:
    """The same figures, no message anywhere; asked of another process, too."""
    async with bench.worker(engine=Slot) as worker, bench.worker("two", engine=Slot) as other:
        await worker.owning()
        service = await worker.door.listen()
        before = await counts(bench)
        dry = payload(await ask(bench, ORDER, dry_run=True))
        assert (dry["decision"], dry.get("n", 0)) == ("approved", 0)
        await service.stop()
        await until(other.inputs.ready.is_set, "the other reads the rulebook")
        elsewhere = await other.door.listen()
        again = payload(await ask(bench, ORDER, dry_run=True))
        assert (again["decision"], names(again)) == (dry["decision"], names(dry))
        assert await counts(bench) == before
        decided = payload(await ask(bench, ORDER))
        assert decided["decision"] == "approved", "who asks need not be who decides"
        await elsewhere.stop()


@pytest.mark.timeout(120)
async def test_orders_that_are_published_are_decided_alike(bench: RiskBench) -> None:
    """The asynchronous door; and a whole event may be asked about, too."""
    async with bench.worker(engine=Slot) as worker:
        await worker.owning()
        service = await worker.door.listen()
        await bench.order("p1")
        event = msgspec.Raw(order_event("p2"))
        assert payload(await ask(bench, event))["order_id"] == "p2"
        assert [one["order_id"] for one in await bench.decisions()] == ["p1", "p2"]
        await service.stop()


@pytest.mark.parametrize(
    ("question", "kind", "status"),
    [
        ({"order": {**ORDER, "account_id": "nobody"}}, "no-group", "404"),
        ({"order": {**ORDER, "quantity": "-1"}}, "invalid-order", "422"),
        ({"order": {"account_id": ACCOUNT}}, "invalid-order", "422"),
        ({"order": [1]}, "invalid-order", "422"),
        ({"order": {"event_type": "alert"}}, "invalid-order", "422"),
        ({}, "invalid-order", "422"),
        ({"order": msgspec.Raw(b"[" * 5_000 + b"]" * 5_000)}, "invalid-order", "422"),
        ({"order": ORDER, "dry": True}, "invalid-order", "422"),
        ({"order": ORDER, "timeout_ms": 50}, "not-decided", "504"),
        ({"order": ORDER, "dry_run": True}, "no-owner", "503"),
    ],
)
async def test_questions_without_a_decision(
    nats_url: str, question: Any, kind: str, status: str
) -> None:
    """Each says what is wrong, by a word to branch on; nobody owns the slot here."""
    async with open_risk_bench(nats_url) as bench, bench.worker() as worker:
        await until(worker.inputs.ready.is_set, "it has read the rulebook")
        service = await worker.door.listen()
        body = msgspec.json.encode(question)
        answer = await bench.nc.request(RISK_CHECK, body, timeout=10)
        headers = answer.headers or {}
        assert headers[PROBLEM_HEADER] == kind, headers
        assert headers["Nats-Service-Error-Code"] == status
        assert answer.data == b""
        app = Starlette(routes=[Route("/psm/risk/check", risk_check(bench.nc), methods=["POST"])])
        async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
            json = {"Content-Type": "application/json"}
            told = await client.post("/psm/risk/check", content=body, headers=json)
            assert told.status_code == int(status)
            assert told.json()["type"] == f"urn:psm:problem:{kind}"
        await service.stop()


@pytest.mark.timeout(120)
async def test_over_http(bench: RiskBench) -> None:
    """200 with the record whatever it says; 503 where no engine runs; only JSON, not too large."""
    app = Starlette(routes=[Route("/psm/risk/check", risk_check(bench.nc), methods=["POST"])])
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        nobody = await client.post("/psm/risk/check", json={"order": ORDER})
        assert (nobody.status_code, nobody.headers["Retry-After"]) == (503, "1")
        assert nobody.json()["type"] == "urn:psm:problem:no-risk-engine"
        async with bench.worker(engine=Slot) as worker:
            await worker.owning()
            service = await worker.door.listen()
            for quantity, decision in (("5", "approved"), ("6", "rejected")):
                order = {**ORDER, "order_id": f"h{quantity}", "quantity": quantity}
                answer = await client.post("/psm/risk/check", json={"order": order})
                assert answer.status_code == 200, answer.text
                assert answer.json()["payload"]["decision"] == decision
            text = await client.post("/psm/risk/check", content=b"{}")
            assert text.status_code == 415
            large = {"order": {**ORDER, "context": {"a": "x" * 70_000}}}
            assert (await client.post("/psm/risk/check", json=large)).status_code == 413
            await service.stop()


@pytest.mark.timeout(180)
async def test_state_of_an_account_moves_the_decision(bench: RiskBench) -> None:
    """What the worker folds is seen: with equity halved, half as much may be ordered."""
    proposed = bench.rules.propose(ADA, {"exposure_gross": "1"})
    bench.rules.approve(BOB, proposed)
    await bench.say()
    async with bench.worker(engine=Slot) as worker:
        await worker.owning()
        service = await worker.door.listen()
        whole = payload(await ask(bench, {**ORDER, "quantity": "100"}, dry_run=True))
        assert whole["decision"] == "approved", failed(whole)
        sent = mark(2, "201")
        await publish_expected(bench.nc, "TRADES", sent.subject, sent.data, expected=None)

        async def refused() -> bool:
            order = {**ORDER, "quantity": "50", "price": "201"}
            return failed(payload(await ask(bench, order, dry_run=True))) == ["exposure_gross"]

        deadline = asyncio.get_running_loop().time() + 30
        while not await refused():
            assert asyncio.get_running_loop().time() < deadline, "the mark is not seen"
            await asyncio.sleep(0.05)
        await service.stop()


async def test_nobody_answers_where_no_worker_runs(nats_url: str) -> None:
    """The broker says so at once."""
    async with open_risk_bench(nats_url) as bench:
        with pytest.raises(nats.errors.NoRespondersError):
            await ask(bench, ORDER)


@pytest.mark.timeout(120)
async def test_each_does_what_its_user_may(tmp_path: Path) -> None:
    """With the broker's users: the worker decides, a service asks, an officer halts, none more."""
    (tmp_path / "broker").mkdir()
    async with compose_broker(tmp_path / "broker") as url:
        admin, officer, service = [
            await connect_as(user, url) for user in ("admin", "officer", "service")
        ]
        settings = Settings(nats_url=url)
        await apply(admin, settings)
        bench = RiskBench(officer, settings)
        await bench.say()
        await bench.group()
        own = {**settings_of("risk"), "PSM_PARTITIONS": settings.partitions}
        async with RiskProcess(url, tmp_path, module=PSM_RISK_WORKER, **own) as worker:
            await worker.logged("slot.acquired")
            body = msgspec.json.encode({"order": ORDER})
            # Nobody folds its account, so it is unknown: decided all the same.
            answer = await service.request(RISK_CHECK, body, timeout=20)
            assert "account_known" in failed(payload(answer))
            (put,) = await fence(officer, [SLOT], "ada")
            again = msgspec.json.encode({"order": {**ORDER, "order_id": "o2"}})
            second = payload(await service.request(RISK_CHECK, again, timeout=20))
            assert second["n"] > payload(answer)["n"]
            assert put.sequence > 0
            assert worker.events("nats.permission_refused") == []
            worker.terminate()
            assert await worker.ended() == 0, worker.text
        auditor = await connect_as("auditor", url)
        proof = await prove_risk(auditor, log_shape(settings), Range())
        assert (proof.deviations, proof.decisions) == ([], 2)
        for nc in (admin, officer, service, auditor):
            await nc.close()
