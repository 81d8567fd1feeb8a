"""Live reads at the doors: HTTP, NATS request-reply and the command line, on real servers."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from nats.aio.msg import Msg
from tests.integration.test_http import Api, serving
from tests.support import feed
from tests.support.events import deposit, event, mark, trade
from tests.support.live import answering
from tests.support.owner import owning
from tests.support.running import psm_here
from tests.support.workbench import until

from psm.contracts.codec import encode
from psm.contracts.live import LIVE_SUBJECT, LiveQuestion, LiveRead
from psm.contracts.subjects import partition_of
from psm.workers.api.documents import (
    MarginDocument,
    OrdersDocument,
    PositionsDocument,
    StateDocument,
)
from psm.workers.fleet import live_reads
from psm.workers.fleet.worker import Worker

DOCUMENTS: dict[LiveRead, Any] = {
    "state": StateDocument,
    "positions": PositionsDocument,
    "margin": MarginDocument,
    "orders": OrdersDocument,
}


@pytest.fixture
async def api(nats_url: str, postgres_dsn: str) -> AsyncIterator[Api]:
    async with serving(nats_url, postgres_dsn, ingest=False) as api:
        yield api


@pytest.fixture
async def owner(api: Api) -> AsyncIterator[Worker]:
    async with owning(api.nc) as worker, answering(api.nc, worker, 4):
        yield worker


async def over_nats(api: Api, question: LiveQuestion | str) -> Msg:
    body = question.encode() if isinstance(question, str) else encode(question)
    return await api.nc.request(LIVE_SUBJECT, body, timeout=30)


def error_of(answer: Msg) -> tuple[str, str]:
    assert answer.data == b""
    headers = answer.headers or {}
    return headers["Nats-Service-Error-Code"], headers["Nats-Service-Error"]


@pytest.mark.usefixtures("owner")
async def test_doors_give_the_same_bytes(
    api: Api, nats_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """HTTP, NATS and the command line show one document, valid by its schema, with its ETag."""
    sent = [deposit(1, "1000"), trade(2, "buy", "1", "100"), mark(1, "90")]
    last = await feed.publish(api.nc, sent)
    account = sent[0].subject.removeprefix("trades.")
    for read, kind in DOCUMENTS.items():
        query = {"live": "1", "min_log_sequence": str(last)}
        response = await api.client.get(f"/psm/{read}/{account}", params=query)
        assert response.status_code == 200, response.text
        assert response.headers["cache-control"] == "no-store"
        answer = msgspec.json.decode(response.content, type=kind)
        assert answer.as_of.log_sequence == answer.log_sequence == last
        question = LiveQuestion(account_id=account, read=read, min_log_sequence=last)
        found = await over_nats(api, question)
        assert found.data == response.content
        assert found.headers is not None
        assert found.headers["ETag"] == response.headers["etag"]
        assert response.headers["etag"] == f'"{last}-{answer.state_hash}"'
        again = {"If-None-Match": response.headers["etag"]}
        response = await api.client.get(f"/psm/{read}/{account}", params=query, headers=again)
        assert response.status_code == 304
    plain = await over_nats(api, account)
    assert json.loads(plain.data)["equity"] == "990"
    monkeypatch.setenv("NATS_URL", nats_url)
    assert await psm_here("state", account, "--live", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(plain.data)
    assert await psm_here("state", account, "--live", "--min-log-sequence", str(last)) == 0
    assert f"{last} at " in capsys.readouterr().out
    assert await psm_here("positions", account, "--live") == 0
    assert "BTC-PERP" in capsys.readouterr().out


@pytest.mark.usefixtures("owner")
async def test_questions_that_mean_nothing(api: Api) -> None:
    """What cannot be asked is 400, who does not exist 404, and what does not come 504."""
    path = "/psm/state/acc"
    for query, detail in (
        ("live=1&at_sequence=1", "leave it out with at_sequence"),
        ("live=true&at=2025-12-12T10:30:00Z", "leave it out with at"),
        ("live=yes", "live must be true or false"),
        ("min_log_sequence=1", "min_log_sequence has no effect without live"),
        ("live=false&min_log_sequence=1", "min_log_sequence has no effect without live"),
        ("live=1&min_log_sequence=-1", "min_log_sequence must be an integer"),
        ("live=1&timeout_s=1", "timeout_s has no effect without min_sequence or min_log_sequence"),
    ):
        assert detail in (await api.problem(f"{path}?{query}", 400))["detail"]
    assert (await api.problem("/psm/state/a.b?live=1", 400))["type"].endswith("account-id")
    assert (await api.problem(f"{path}?live=1", 404))["type"].endswith("unknown-account")
    late = await api.problem(f"{path}?live=1&min_sequence=2&timeout_s=0.1", 504)
    assert late["detail"] == "acc: the books have version 0, not yet 2"
    assert late.get("reached_sequence") == 0
    assert error_of(await over_nats(api, "acc"))[0] == "404"
    assert error_of(await over_nats(api, "a b"))[0] == "400"
    code, text = error_of(await over_nats(api, '{"account_id":"acc","read":"x"}'))
    assert (code, text[:17]) == ("400", "not a live read: ")
    waits = LiveQuestion(account_id="acc", min_log_sequence=10**9, timeout_ms=100)
    assert error_of(await over_nats(api, waits))[0] == "504"


async def test_without_an_owner_it_is_503(
    api: Api, nats_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a handover whoever asks is told to come again in a second."""
    monkeypatch.setattr(live_reads, "OWNER_WAIT_S", 0.2)
    response = await api.client.get("/psm/state/acc?live=1")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["type"] == "urn:psm:problem:no-owner"
    assert error_of(await over_nats(api, "acc"))[0] == "503"
    monkeypatch.setenv("NATS_URL", nats_url)
    assert await psm_here("state", "acc", "--live") == 2
    assert "nobody has partition" in capsys.readouterr().err


async def test_spent_share_is_429(api: Api, owner: Worker) -> None:
    """Beyond 5 % of a worker's time live reads are refused, and the log goes on."""
    last = await feed.publish(api.nc, [deposit(1, stream="acc")])
    query = f"/psm/margin/acc?live=1&min_log_sequence={last}"
    assert (await api.client.get(query)).status_code == 200
    owner._live_budget.spend(5.0)
    response = await api.client.get(query)
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert response.json()["type"] == "urn:psm:problem:too-many-live-reads"
    assert error_of(await over_nats(api, "acc"))[0] == "429"


async def test_what_no_message_holds_is_too_large(api: Api, owner: Worker) -> None:
    """An answer beyond 1 MiB is an error over NATS that says so, and whole over HTTP."""
    numbers = itertools.count(1)

    def order() -> dict[str, Any]:
        name = f"o{next(numbers):04d}" + "x" * 120
        return {"order_id": name, "symbol": "S", "side": "buy", "type": "market", "quantity": "1"}

    sent = [event("OrderSubmitted", order(), n, stream="acc") for n in range(1, 2201)]
    last = await feed.publish(api.nc, sent)
    own = partition_of("acc", 4)
    await until(lambda: owner.holdings()[own].position >= last, "all orders are folded")
    question = LiveQuestion(account_id="acc", read="orders", min_log_sequence=last)
    code, text = error_of(await over_nats(api, question))
    assert (code, text.partition(":")[0]) == ("413", "too_large")
    assert text.endswith("ask over HTTP")
    response = await api.client.get(f"/psm/orders/acc?live=1&min_log_sequence={last}")
    assert response.status_code == 200
    assert len(response.content) > 1024 * 1024
    assert len(response.json()["orders"]) == 2200
    code, _ = error_of(await over_nats(api, LiveQuestion(account_id="acc", min_sequence=1)))
    assert code == "413"
    small = LiveQuestion(account_id="acc", read="margin", min_sequence=1)
    assert json.loads((await over_nats(api, small)).data)["account_id"] == "acc"


async def test_waiting_questions_do_not_hold_up_others(api: Api, owner: Worker) -> None:
    """One that waits for the future lets all others through."""
    await feed.publish(api.nc, [deposit(1, stream="acc")])
    inbox = api.nc.new_inbox()
    waiting = await api.nc.subscribe(inbox)
    question = LiveQuestion(account_id="acc", min_sequence=2, timeout_ms=30000)
    for _ in range(20):
        await api.nc.publish(LIVE_SUBJECT, encode(question), reply=inbox)
    answered = await over_nats(api, LiveQuestion(account_id="acc", min_sequence=1))
    assert json.loads(answered.data)["sequence_number"] == 1
    assert waiting.pending_msgs == 0
    await feed.publish(api.nc, [deposit(2, stream="acc")])
    for _ in range(20):
        message = await waiting.next_msg(timeout=30)
        assert json.loads(message.data)["sequence_number"] == 2
