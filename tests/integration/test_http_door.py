"""The door of the HTTP API: who may ask, how, and how long a request may take."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.integration.test_http import EVENT, Api, serving
from tests.support.psm_stream import Account
from tests.support.workbench import until_answer

POST = {"method": "POST"}
OWN = {"Content-Type": "application/json"}


@pytest.fixture
async def api(nats_url: str, postgres_dsn: str) -> AsyncIterator[Api]:
    async with serving(nats_url, postgres_dsn, ingest=True, hosts=("psm.example",)) as api:
        yield api


async def raw(api: Api, request: bytes) -> tuple[int, bytes]:
    """Send bytes and return status and everything that came back until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.client.base_url.port)
    try:
        writer.write(request)
        async with asyncio.timeout(30):
            answer = await reader.read()
    finally:
        writer.close()
    return int(answer.split(b" ", 2)[1]), answer


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:1", "[::1]:80", "127.1.2.3", "PSM.example:8"]
)
async def test_own_names_are_answered(api: Api, host: str) -> None:
    assert (await api.client.get("/health/live", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "psm.example.evil", "",
     "8.8.8.8", "localhost@evil", "[::1", "a:b:c", "2130706433"],
)  # fmt: skip
async def test_rebound_name_reads_nothing(api: Api, host: str) -> None:
    """What a browser sends that was told by DNS that evil.example is here."""
    await api.write(Account("acc_001").deposit())
    for path in ("/psm/state/acc_001", "/health/live", "/metrics", "/schema", "/nowhere"):
        found = await api.problem(path, 421, headers={"Host": host})
        assert "PSM_HTTP_HOSTS" in found["detail"]
    assert (await raw(api, b"GET /health/live HTTP/1.0\r\n\r\n"))[0] == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "nonsense"},
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
async def test_page_of_another_origin_writes_nothing(api: Api, headers: dict[str, str]) -> None:
    found = await api.problem("/psm/events", 403, json=EVENT, headers=headers, **POST)
    assert found["type"] == "urn:psm:problem:foreign-origin"
    preflight = await api.client.options("/psm/events", headers=headers)
    assert preflight.status_code == 403
    read = await api.client.get("/health/live", headers=headers)
    assert read.status_code == 200, "reading needs no permission, but the page cannot see it"
    for answer in (preflight, read):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert (await api.client.post("/psm/events", json=EVENT)).status_code == 201, "and curl may"


async def test_own_page_may_write(api: Api) -> None:
    port = api.client.base_url.port
    own = {"Origin": f"http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}
    assert (await api.client.post("/psm/events", json=EVENT, headers=own)).status_code == 201
    proxied = {"Origin": "https://psm.example", "Host": "psm.example"}
    assert (await api.client.post("/psm/events", json=EVENT, headers=proxied)).status_code == 200


async def test_body_says_what_it_is(api: Api) -> None:
    """Without Content-Type nothing is taken for JSON, on any path."""
    body = json.dumps(EVENT).encode()
    for path in ("/psm/events", "/psm/state/acc_001"):
        found = await api.problem(path, 415, content=body, **POST)
        assert "Content-Type" in found["detail"]
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""):
        await api.problem("/psm/events", 415, content=body, headers={"Content-Type": kind}, **POST)


async def test_answers_are_kept_by_nobody_else(api: Api) -> None:
    await api.write(Account("acc_001").deposit())
    assert (await api.client.post("/psm/events", json=EVENT)).status_code == 201
    for path in ("/psm/state/acc_001", "/psm/orders/acc_001", "/psm/accounts"):
        headers = (await api.client.get(path)).headers
        assert headers["cache-control"] == "private, no-cache"
        assert headers["vary"] == "Authorization, Cookie"
    for path in ("/psm/state/acc_001?at_sequence=1", "/psm/replay/acc_001", "/events", "/health"):
        answer = await api.client.get(path)
        assert answer.headers["cache-control"] == "no-store", path


STRUCTURES: list[Any] = [
    [], {}, [[]], {"a": []}, None, True, 1, "", "x" * 300, "\x00", "1e999999", 10**30, "\ud800",
]  # fmt: skip
FLAT = {
    "event_id": "7b0e0c0e-8a57-4d8c-9c56-0b7f3f0f2a03",
    "event_type": "TradeExecuted",
    "timestamp": "2025-12-12T17:30:00Z",
    "account_id": "acc_001",
    "symbol": "BTC-PERP",
    "side": "short",
    "quantity": 0.2,
    "price": 42500.00,
}


@pytest.mark.parametrize("draft", [EVENT, FLAT], ids=["envelope", "flat"])
async def test_no_json_is_an_internal_error(
    api: Api, draft: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Each field as any structure: an answer that says what is wrong, and no traceback."""
    caplog.set_level(logging.INFO)
    for name in [*draft, "sequence_number", "metadata", "correlation_id", "event"]:
        for value in STRUCTURES:
            body = json.dumps({**draft, name: value}).encode()
            answer = await api.client.post("/psm/events", content=body, headers=OWN)
            told = f"{name}={value!r}: {answer.status_code} {answer.text}"
            assert answer.status_code in (200, 201, 400, 403, 409, 422), told
            if answer.status_code == 422:
                assert answer.json()["detail"], told
                assert answer.json()["reason"], told
    for body in (b"[]", b"1", b"null", b"", b"\xff", b"{" * 60_000, b"[" * 60_000):
        answer = await api.client.post("/psm/events", content=body, headers=OWN)
        assert answer.status_code == 400, answer.text
    assert not [record for record in caplog.records if record.exc_info]


async def test_client_that_leaves_in_mid_body_is_no_error(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    head = (
        b"POST /psm/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000\r\n\r\n{"
    )
    for _ in range(3):
        _, writer = await asyncio.open_connection("127.0.0.1", api.client.base_url.port)
        writer.write(head)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    counted = 'route="/psm/events",status="400"'
    await until_answer(
        lambda: api.client.get("/metrics"), lambda a: counted in a.text, "it is counted"
    )
    assert not [record for record in caplog.records if record.exc_info]
