"""The HTTP and NATS reads over real sockets, PostgreSQL and NATS."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
from nats.aio.client import Client
from openapi_spec_validator import validate
from starlette.applications import Starlette
from tests.support.psm_stream import TRACE_ID, TRACEPARENT, Account, OneWorker, read
from tests.support.workbench import WAIT_S, until_answer

from psm.adapters import postgres, telemetry
from psm.adapters.jetstream import connect, get, stream_info
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.publisher import Publisher
from psm.projections.current_state import CURRENT_STATE
from psm.workers.access.bearer import Authenticator
from psm.workers.access.certificates import ClientCertificates
from psm.workers.access.digest import Digests
from psm.workers.access.store import Tokens, TokenTable
from psm.workers.access.vouched import Signer
from psm.workers.analytics.reads import AnalyticsReads
from psm.workers.api.door import Proxies
from psm.workers.api.guard import AccessGuard
from psm.workers.api.health import ServiceHealth
from psm.workers.api.history_http import Past
from psm.workers.api.http import Service, build_app
from psm.workers.api.live_reads import LiveReads
from psm.workers.api.maintenance import Maintenance
from psm.workers.api.market_http import MarketReads
from psm.workers.api.nats_reads import start_nats_reads
from psm.workers.api.reads import Reads
from psm.workers.api.risk_http import risk_check
from psm.workers.api.risk_reads import RiskReads
from psm.workers.api.server import HttpServer, ServerLimits, listen
from psm.workers.archive.reads import ArchiveReads
from psm.workers.fleet import NatsMembers
from psm.workers.fleet.live_reads import Owners
from psm.workers.log.shape import log_shape
from psm.workers.process.canary import Canary
from psm.workers.process.settings import Settings

JSON = {"Content-Type": "application/json"}
EVENT: dict[str, Any] = {
    "event_id": "7b0e0c0e-8a57-4d8c-9c56-0b7f3f0f2a01",
    "event_type": "CashDeposited",
    "stream_id": "acc_001",
    "timestamp": "2025-12-12T10:30:00Z",
    "schema_version": "1.0",
    "payload": {"amount": "10"},
}
FLAT = (
    b'{"event_id":"7b0e0c0e-8a57-4d8c-9c56-0b7f3f0f2a03","event_type":"TradeExecuted",'
    b'"timestamp":"2025-12-12T17:30:00Z","account_id":"acc_001","symbol":"BTC-PERP",'
    b'"side":"short","quantity":0.2,"price":42500.00,"commission":0.85}'
)


class Api:
    """A running service and what is behind it."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        pool: postgres.Pool,
        nc: Client,
        app: Starlette,
        mtls_port: int,
    ) -> None:
        self.client = client
        self.app = app
        self.mtls_port = mtls_port
        self.pool = pool
        self.nc = nc
        self.worker = OneWorker()

    async def write(self, *messages: tuple[str, bytes]) -> None:
        for message in messages:
            updates = self.worker.fold(*message)
            async with postgres.transaction(self.pool) as connection:
                await CURRENT_STATE.writer().apply(connection, read(updates))

    async def problem(self, path: str, status: int, **request: Any) -> dict[str, Any]:
        """Ask for something wrong and return the problem, which must be well-formed."""
        response = await self.client.request(request.pop("method", "GET"), path, **request)
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        body: dict[str, Any] = response.json()
        assert body["status"] == status
        assert body["type"].startswith("urn:psm:problem:")
        assert body["title"]
        assert body["detail"]
        return body


@asynccontextmanager
async def serving(
    nats_url: str,
    dsn: str,
    *,
    ingest: bool,
    hosts: tuple[str, ...] = (),
    proxies: tuple[str, ...] = (),
    limits: ServerLimits | None = None,
    tokens: TokenTable | None = None,
    signer: Signer | None = None,
    digests: Digests | None = None,
    certificates: ClientCertificates | None = None,
    maintenance: Maintenance | None = None,
) -> AsyncIterator[Api]:
    nc = await connect(nats_url, name="test")
    await apply(nc, Settings(partitions=4))
    pool = await postgres.open_pool(dsn, name="psm-serve")
    instruments = telemetry.setup("psm-serve", level="error")
    reads = Reads(pool)
    live = LiveReads(Owners(nc, NatsMembers(nc), 4))
    metrics = instruments.metrics
    canary = Canary(nc, "test", metrics) if ingest else None
    stack = AsyncExitStack()
    listeners = [listen("127.0.0.1", 0), listen("127.0.0.1", 0)]
    port, mtls_port = (one.getsockname()[1] for one in listeners)
    believed = mtls_port if certificates else None
    recognises = Authenticator(tokens, certificates=certificates)
    if canary is not None:
        await stack.enter_async_context(canary)
    health = ServiceHealth(nc, pool, [CURRENT_STATE], metrics, canary, 4)
    await stack.enter_async_context(health)
    app = build_app(
        Service(
            reads=reads,
            archive=ArchiveReads(pool),
            risk_reads=RiskReads(pool),
            market=MarketReads(pool),
            analytics=AnalyticsReads(pool),
            risk=risk_check(nc),
            past=Past(nc, log_shape(Settings(partitions=4))),
            live=live,
            health=health,
            publisher=Publisher(nc, give_up_s=3, assume_new=True) if ingest else None,
            metrics=metrics,
            registry=instruments.registry,
            guard=AccessGuard(recognises, metrics, digests, believed),
            tokens=Tokens(pool) if tokens is not None else None,
            signer=signer,
            hosts=hosts,
            proxies=Proxies(proxies),
            mtls_port=believed,
            maintenance=maintenance or Maintenance(),
        )
    )
    answering = await start_nats_reads(nc, reads, live)
    # A client that does not read is noticed after these bytes, not after megabytes.
    listeners[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    server = HttpServer(app, limits, Proxies(proxies))
    task = asyncio.create_task(server.serve(sockets=listeners))
    base = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=base, timeout=WAIT_S) as client:
        yield Api(client, pool, nc, app, mtls_port)
    server.stop()
    await task
    await answering.stop()
    await stack.aclose()
    pool.terminate()
    await nc.close()
    instruments.shutdown()


@pytest.fixture
async def api(nats_url: str, postgres_dsn: str) -> AsyncIterator[Api]:
    async with serving(nats_url, postgres_dsn, ingest=False) as api:
        yield api


@pytest.fixture
async def ingest(nats_url: str, postgres_dsn: str) -> AsyncIterator[Api]:
    async with serving(nats_url, postgres_dsn, ingest=True) as api:
        yield api


async def test_reads_answer_alike_on_both_paths_and_on_nats(api: Api) -> None:
    """HTTP, its alias and NATS request-reply give the same bytes with the same ETag."""
    account = Account("acc_001")
    await api.write(account.deposit(), account.trade("buy", "0.5", "42000"))
    for name in ("state", "positions", "margin", "orders"):
        response = await api.client.get(f"/psm/{name}/acc_001")
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        alias = await api.client.get(f"/api/psm/{name}/acc_001")
        answer = await api.nc.request(f"psm.get.{name}", b"acc_001", timeout=5)
        assert response.content == alias.content == answer.data
        assert answer.headers is not None
        assert answer.headers["ETag"] == response.headers["etag"]
        assert response.json()["sequence_number"] == 2
    expected = api.worker.document("acc_001")["ledger_hash"]
    assert response.json()["ledger_hash"] == expected


async def test_nats_errors_are_in_the_headers(api: Api) -> None:
    """Unknown and malformed accounts are told by the micro service's error headers."""
    for account, code in ((b"nobody", "404"), (b"a b", "400"), (b"\xff", "400"), (b"", "400")):
        answer = await api.nc.request("psm.get.state", account, timeout=5)
        assert answer.headers is not None
        assert answer.headers["Nats-Service-Error-Code"] == code
        assert answer.headers["Nats-Service-Error"]
    info = await api.nc.request("$SRV.INFO.psm", b"", timeout=5)
    endpoints = {e["subject"] for e in msgspec.json.decode(info.data)["endpoints"]}
    names = ("state", "positions", "margin", "orders", "reconciliation", "live")
    assert endpoints == {f"psm.get.{name}" for name in names}


async def test_what_the_caller_has_is_not_sent_again(api: Api) -> None:
    """A matching If-None-Match gives 304 with the tag; a change gives the document."""
    account = Account("acc_001")
    await api.write(account.deposit())
    first = await api.client.get("/psm/state/acc_001")
    tag = first.headers["etag"]
    assert tag == f'"1-{first.json()["state_hash"]}"'
    for header in (tag, f'"x", {tag}', f"W/{tag}", "*"):
        again = await api.client.get("/psm/state/acc_001", headers={"If-None-Match": header})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    await api.write(account.deposit())
    changed = await api.client.get("/psm/state/acc_001", headers={"If-None-Match": tag})
    assert changed.status_code == 200


async def test_errors_are_problems_that_help(api: Api) -> None:
    """Every error is a problem document that says what is allowed."""
    assert "nobody" in (await api.problem("/psm/state/nobody", 404))["detail"]
    assert "1 to 64" in (await api.problem("/psm/state/a%20b", 400))["detail"]
    assert "1 to 64" in (await api.problem("/psm/state/" + "x" * 65, 400))["detail"]
    assert "/schema" in (await api.problem("/psm/nothing", 404))["detail"]
    assert "/schema" in (await api.problem("/psm/state/", 404))["detail"]
    assert "GET" in (await api.problem("/psm/state/a", 405, method="POST"))["detail"]
    for bad in ("0", "-1", "x", "1.5", "", "9" * 30, "\u0661"):
        found = await api.problem("/psm/state/a", 400, params={"min_sequence": bad})
        assert "min_sequence" in found["detail"]
    for bad in ("-1", "31", "x", "nan", "inf"):
        found = await api.problem("/psm/state/a", 400, params={"timeout_s": bad})
        assert "timeout_s" in found["detail"]


async def test_min_sequence_waits_and_says_what_it_reached(api: Api) -> None:
    """Read-your-writes: the answer comes with the version, or 504 with the one that is there."""
    account = Account("acc_001")
    await api.write(account.deposit())
    found = await api.problem("/psm/state/acc_001?min_sequence=2&timeout_s=0.1", 504)
    assert found["reached_sequence"] == 1
    waiting = asyncio.create_task(api.client.get("/psm/state/acc_001?min_sequence=2"))
    await asyncio.sleep(0.1)
    await api.write(account.deposit())
    assert (await waiting).json()["sequence_number"] == 2


async def test_stale_key_is_told_by_a_flag_and_a_conflict(api: Api) -> None:
    """The account is answered as far as it is; what it cannot have is 409, over NATS too."""
    account = Account("acc_001")
    await api.write(account.deposit(), account.trade("buy", "0.5", "42000"))
    tag = (await api.client.get("/psm/positions/acc_001")).headers["etag"]
    async with postgres.acquired(api.pool) as connection:
        for stream_id in ("acc_001", "acc_002"):
            await connection.execute(
                "INSERT INTO current_state_quarantine VALUES ('positions_view',"
                " ARRAY[$1, 'contract', 'BTC-PERP', 'net'], 0, $1, 2, 2, 2, 'size', '22003')",
                stream_id,
            )
    response = await api.client.get("/psm/positions/acc_001", headers={"If-None-Match": tag})
    assert response.status_code == 200
    assert response.json()["flags"] == ["instrument_undefined", "view_stale"]
    for path in ("/psm/state/acc_001?min_sequence=2&timeout_s=0.1", "/psm/state/acc_002"):
        found = await api.problem(path, 409)
        assert (found["type"], found["reached_sequence"]) == ("urn:psm:problem:view-stale", 1)
    answer = await api.nc.request("psm.get.state", b"acc_002", timeout=5)
    assert answer.headers is not None
    assert answer.headers["Nats-Service-Error-Code"] == "409"


async def test_health_tells_the_truth(api: Api) -> None:
    """Ready while PostgreSQL answers, 503 when it does not; alive in any case."""
    measured = {"current_state": {"lag_events": 0, "lag_s": 0.0, "stale": []}}
    ready = await until_answer(
        lambda: api.client.get("/health/ready"),
        lambda a: a.json()["views"] == measured,
        "the views are measured",
    )
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    await api.pool.close()
    await until_answer(  # an answer may be as old as a second
        lambda: api.client.get("/health/ready"), lambda a: a.status_code == 503, "it is not ready"
    )
    for path in ("/health/ready", "/health"):
        response = await api.client.get(path)
        assert (response.status_code, response.json()["status"]) == (503, "not ready")
    assert (await api.client.get("/health/live")).status_code == 200
    await api.problem("/psm/state/acc_001", 503)


async def test_metrics_count_requests_by_route(api: Api) -> None:
    """Requests are counted under the route's pattern, never under an account."""
    await api.client.get("/psm/state/acc_secret")
    text = (await api.client.get("/metrics")).text
    assert 'psm_http_request_duration_seconds_count{route="/psm/state/{account_id}",st' in text
    assert "acc_secret" not in text


async def test_description_is_valid_openapi(api: Api) -> None:
    """`/schema` is a valid OpenAPI document that names every route."""
    document = (await api.client.get("/schema")).json()
    validate(document)
    assert {"/psm/state/{account_id}", "/psm/events", "/health/ready"} <= set(document["paths"])


async def test_appending_is_off_unless_asked_for(api: Api) -> None:
    """Without ingest an event is refused, and the answer says how to enable it."""
    found = await api.problem("/psm/events", 403, method="POST", json=EVENT)
    assert "--ingest" in found["detail"]


async def test_event_is_appended_once(ingest: Api) -> None:
    """201 with its sequences, 200 for the same event again, with the caller's trace."""
    headers = {"traceparent": TRACEPARENT}
    first = await ingest.client.post("/psm/events", json=EVENT, headers=headers)
    assert first.status_code == 201, first.text
    assert first.json()["sequence_number"] == 1
    again = await ingest.client.post("/psm/events", json=EVENT)
    assert (again.status_code, again.json()["duplicate"]) == (200, True)
    assert again.json()["log_sequence"] == first.json()["log_sequence"]
    flat = await ingest.client.post("/api/psm/events", content=FLAT, headers=JSON)
    assert (flat.status_code, flat.json()["sequence_number"]) == (201, 2)
    stored = await get(ingest.nc, "TRADES", first.json()["log_sequence"])
    assert stored is not None
    assert TRACE_ID in (stored.header("traceparent") or "")


async def test_appending_refuses_with_the_reason(ingest: Api) -> None:
    """Conflicts, fields that are wrong, too much and not JSON are told apart."""
    post = {"method": "POST"}
    assert (await ingest.client.post("/psm/events", json=EVENT)).status_code == 201
    other = EVENT | {"payload": {"amount": "11"}}
    await ingest.problem("/psm/events", 409, json=other, **post)
    wrong = EVENT | {"payload": {"amount": "-1"}, "event_id": EVENT["event_id"][:-1] + "9"}
    found = await ingest.problem("/psm/events", 422, json=wrong, **post)
    assert (found["field"], found["reason"]) == ("payload.amount", "invalid_payload")
    missing = {name: value for name, value in EVENT.items() if name != "timestamp"}
    found = await ingest.problem("/psm/events", 422, json=missing, **post)
    assert found["field"] == "timestamp"
    await ingest.problem("/psm/events", 400, content=b"{", headers=JSON, **post)
    await ingest.problem("/psm/events", 415, content=b"{}", headers={"Content-Type": "a/b"}, **post)
    await ingest.problem("/psm/events", 413, content=b" " * 65_537, headers=JSON, **post)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    await ingest.problem("/psm/events", 413, content=endless(), headers=JSON, **post)


ODD = {
    "type is a list": (b'{"event_type":[]}', "event_id"),
    "side is a list": (FLAT.replace(b'"short"', b"[]"), "side"),
    "quantity is endless": (FLAT.replace(b"0.2,", b"9" * 5000 + b","), "payload.quantity"),
    "correlation is NUL": (json.dumps(EVENT | {"correlation_id": "\0"}).encode(), "correlation_id"),
    "currency is NUL": (
        json.dumps(EVENT | {"payload": {"amount": "1", "currency": "\0"}}).encode(),
        "payload.currency",
    ),
    "nested without end": (b'{"a":' + b"[" * 30_000, None),
}


@pytest.mark.parametrize(("body", "field"), ODD.values(), ids=ODD)
async def test_odd_body_has_a_reason(ingest: Api, body: bytes, field: str | None) -> None:
    """What is no event, or could not be stored, is told by its field, and nothing is appended."""
    answer = await ingest.client.post("/psm/events", content=body, headers=JSON)
    assert answer.status_code in (400, 422), answer.text
    assert answer.json().get("field") == field
    assert (await stream_info(ingest.nc, "TRADES")).last_sequence == 0


async def test_field_that_is_not_read_decides_nothing(ingest: Api) -> None:
    """A fill enters whatever else is said with it, and the bytes are those that were sent."""
    body = json.dumps(EVENT | {"sequence_number": 1, "metadata": ["\0"], "note": "\ud800"}).encode()
    answer = await ingest.client.post("/psm/events", content=body, headers=JSON)
    assert answer.status_code == 201, answer.text
    stored = await get(ingest.nc, "TRADES", 1)
    assert stored is not None
    assert stored.data == body


async def test_operators_events_do_not_enter_over_http(ingest: Api) -> None:
    """What could stop every worker is refused, and the log stays as it was."""
    event = {
        "event_id": "0197c3a0-0000-7000-8000-000000000001",
        "event_type": "RulesEnabled",
        "stream_id": "rules",
        "timestamp": "2025-12-12T10:30:00Z",
        "schema_version": "1.0.0",
        "payload": {"rules_version": 99, "actor": "mallory", "reason": "because"},
    }
    answer = await ingest.client.post("/psm/events", json=event)
    assert answer.status_code == 403
    assert answer.json()["type"] == "urn:psm:problem:operators-only"
