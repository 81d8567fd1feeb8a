"""Odd inputs into every route: an answer that says what is wrong, never an internal error."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from tests.integration.test_http import Api, serving
from tests.support.events import deposit
from tests.support.feed import publish
from tests.support.psm_stream import Account

from psm.workers.api.server import ServerLimits

ODD = [
    "", " ", "0", "-1", "1", "1.5", "1e9", "9" * 18, "9" * 19, "9" * 5000, "\u0661", "NaN", "inf",
    "-0", "+1", "true", "TRUE", "null", "[]", "{}", "a" * 300, "\x00", "a\x00b", "\r\nX: y", "%00",
    "%", "%ff", "..", "../..", "/", "//", "?", "#", ";", "&", "=", "'", '"', "\\", "' OR 1=1 --",
    "\u202e", "\ud7ff", "\U0001f4a9", "2025-12-12T10:30:00Z", "2025-13-40T99:99:99Z",
    "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "2025-12-12T24:00:00Z", "0" * 64,
    "acc_001", "liquidatable", "drawdown", "-Infinity,", "Infinity,acc_001", "NaN,", "0,\u00e9",
]  # fmt: skip
HEADERS = ["If-None-Match", "Accept", "traceparent", "Range", "Cookie", "Authorization"]

BODY = b'{"event_type":"CashDeposited"}'
GOOD = (
    b"POST /psm/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
LIMITS = ServerLimits(receive_s=0.2)


@pytest.fixture
async def api(nats_url: str, postgres_dsn: str) -> AsyncIterator[Api]:
    async with serving(nats_url, postgres_dsn, ingest=True) as api:
        await publish(api.nc, [deposit(1, "1"), deposit(2, "1")])
        await api.write(Account("acc_001").deposit())
        yield api


async def test_every_parameter_takes_anything(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    draw = random.Random(10)
    paths: dict[str, Any] = (await api.client.get("/schema")).json()["paths"]
    for path, operations in paths.items():
        if path.startswith("/api/"):
            continue  # the same handlers
        names = [p["name"] for p in operations.get("get", {}).get("parameters", [])]
        for odd in draw.sample(ODD, 6):
            text = quote(odd, safe="")
            await _asks(api, path.replace("{", "").replace("}", "") + f"?{text}={text}")
            if "{" in path:
                await _asks(api, path.partition("{")[0] + text + path.partition("}")[2])
            known = path.replace("{account_id}", "acc_001").replace("{event_id}", "1")
            for name in names:
                more = "&timeout_s=0" if name == "min_sequence" else ""
                await _asks(api, f"{known}?{name}={text}{more}")
    assert not [record for record in caplog.records if record.exc_info]


async def test_every_header_takes_anything(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    for odd in random.Random(10).sample(ODD, 20):
        if all(character.isprintable() and character.isascii() for character in odd.strip()):
            for name in HEADERS:
                await _asks(api, "/psm/state/acc_001", headers={name: odd.strip()})
    assert not [record for record in caplog.records if record.exc_info]


async def _asks(api: Api, target: str, **more: Any) -> None:
    answer = await api.client.get(target, timeout=60, **more)
    told = f"{target[:200]}: {answer.status_code} {answer.text[:300]}"
    nobody = answer.status_code == 503 and "problem:no-owner" in answer.text  # no worker is here
    assert answer.status_code < 500 or answer.status_code == 504 or nobody, told
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", told
        assert answer.json()["detail"], told


async def test_damaged_requests_harm_nobody(
    nats_url: str, postgres_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Good requests with bytes changed, cut out or doubled; others are answered meanwhile."""
    caplog.set_level(logging.INFO)
    draw = random.Random(10)
    async with serving(nats_url, postgres_dsn, ingest=True, limits=LIMITS) as api:
        for _ in range(20):
            answers = await asyncio.gather(*(_sends(api, _damaged(draw)) for _ in range(50)))
            for sent, answer in answers:
                assert b" 500 " not in answer.partition(b"\r\n")[0], sent
        _, answer = await _sends(api, GOOD)
        assert b" 422 " in answer.partition(b"\r\n")[0]
    assert not [record for record in caplog.records if record.exc_info]


def _damaged(draw: random.Random) -> bytes:
    damaged = bytearray(GOOD)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(damaged))
        change = draw.choice(["set", "cut", "double", "insert"])
        if change == "set":
            damaged[place] = draw.randrange(256)
        elif change == "cut":
            del damaged[place : place + draw.randint(1, 20)]
        elif change == "double":
            damaged[place:place] = damaged[place : place + draw.randint(1, 40)]
        else:
            damaged[place:place] = draw.randbytes(3)
    return bytes(damaged)


async def _sends(api: Api, sent: bytes) -> tuple[bytes, bytes]:
    """Return what was sent, and what came back until the server closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.client.base_url.port)
    writer.write(sent)
    async with asyncio.timeout(60):
        (answer,) = await asyncio.gather(reader.read(), return_exceptions=True)
    writer.transport.abort()
    return sent, answer if isinstance(answer, bytes) else b""
