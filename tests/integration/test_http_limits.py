"""What a client can make the HTTP API wait for, and for how long."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from tests.integration.test_http import Api, serving
from tests.support.events import deposit
from tests.support.feed import publish
from tests.support.workbench import WAIT_S, until_answer

from psm.contracts.errors import TransientError
from psm.workers.api import history_http
from psm.workers.api.fold_turns import FOLDS_AT_ONCE, FOLDS_WAITING_MAX, REPLAYS_OPEN_MAX
from psm.workers.api.server import ServerLimits
from psm.workers.replay.account import Step

HALF = b"POST /psm/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
LIMITS = ServerLimits(connections_per_address=50, receive_s=0.5, send_s=0.5)
EVENTS = 1000


@pytest.fixture
async def api(nats_url: str, postgres_dsn: str) -> AsyncIterator[Api]:
    async with serving(nats_url, postgres_dsn, ingest=True, limits=LIMITS) as api:
        yield api


class Caller:
    """A connection of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[str, dict[str, Any]]:
        """Return status line and problem, once the server has closed."""
        async with asyncio.timeout(WAIT_S):
            head, _, body = (await self.reader.read()).partition(b"\r\n\r\n")
        return head.decode().split("\r\n")[0], json.loads(body)


@asynccontextmanager
async def calling(api: Api) -> AsyncIterator[Caller]:
    """Connect; this side of the connection takes a few kilobytes and then waits to be read."""
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    connection.setblocking(False)
    await loop.sock_connect(connection, ("127.0.0.1", api.client.base_url.port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
    try:
        yield Caller(reader, writer)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (b"GET /psm/state/a HT", "head"),
        (HALF, "head"),
        (HALF + b"Content-Length: 10\r\n\r\n{", "body"),
        (HALF + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{", "body"),
    ],
    ids=["line", "head", "body", "chunk"],
)
async def test_half_a_request_is_closed(api: Api, sent: bytes, what: str) -> None:
    """With a problem document, on any connection: the first request or a later one."""
    whole = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for before in (b"", whole):
        async with calling(api) as caller:
            caller.writer.write(before)
            if before:
                await caller.reader.readuntil(b'{"status":"alive"}')
            caller.writer.write(sent)
            status, problem = await caller.answer()
        assert status == "HTTP/1.1 408 Request Timeout"
        assert problem["type"] == "urn:psm:problem:request-timeout"
        assert f"the {what} of the request" in problem["detail"]


async def test_idle_connection_is_closed_without_a_word(api: Api) -> None:
    """What nobody asked for would be taken for the answer to the next question."""
    async with calling(api) as caller, asyncio.timeout(WAIT_S):
        assert await caller.reader.read() == b""


async def test_dripping_does_not_extend_the_time(api: Api) -> None:
    """A byte now and then is no reason to wait longer."""

    async def drip(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b" ")
            await asyncio.sleep(0.05)

    async with calling(api) as caller:
        caller.writer.write(HALF + b"Content-Length: 60000\r\n\r\n")
        dripping = asyncio.create_task(drip(caller.writer))
        try:
            async with asyncio.timeout(WAIT_S):
                assert b"408" in await caller.reader.readline()
        finally:
            dripping.cancel()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\r\n\r\n",
        b"GET /\x80 HTTP/1.1\r\n\r\n",
        HALF + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HALF,
    ],
)
async def test_what_is_no_http_is_a_problem(api: Api, sent: bytes) -> None:
    """And nothing behind it is answered: a proxy may see another end of it than this service."""
    async with calling(api) as caller:
        caller.writer.write(sent)
        status, problem = await caller.answer()
    assert "400" in status
    assert problem["type"] == "urn:psm:problem:malformed-request"


async def test_thousands_of_half_requests_leave_room(nats_url: str, postgres_dsn: str) -> None:
    """1 500 connections that send half a request: few are kept, for a short time, and all go."""
    limits = ServerLimits(receive_s=3, connections_per_address=100)
    async with (
        serving(nats_url, postgres_dsn, ingest=True, limits=limits) as api,
        AsyncExitStack() as stack,
    ):
        ends, began = [], time.monotonic()
        for _ in range(1500):
            caller = await stack.enter_async_context(calling(api))
            caller.writer.write(HALF)
            ends.append(asyncio.create_task(caller.reader.read()))
        async with asyncio.timeout(WAIT_S):
            read = await asyncio.gather(*ends, return_exceptions=True)
        rounds = 1 + (time.monotonic() - began) // limits.receive_s
        told = [end for end in read if isinstance(end, bytes) and b"408" in end]
        assert 0 < len(told) <= 100 * rounds
        await until_answer(
            lambda: _status(api), lambda status: status == 200, "there is room again"
        )


async def _status(api: Api) -> int:
    try:
        return (await api.client.get("/health/live")).status_code
    except httpx.TransportError:
        return 0


async def ask_and_not_read(caller: Caller, path: str) -> None:
    caller.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    async with asyncio.timeout(WAIT_S):
        assert b"200" in await caller.reader.readline()


async def long_account(api: Api) -> None:
    """An account whose replay is more than the buffers between here and there can hold."""
    await publish(api.nc, [deposit(number, "1") for number in range(1, EVENTS + 1)])


async def test_clients_that_do_not_read_hold_up_nobody(nats_url: str, postgres_dsn: str) -> None:
    """However many replays are not read, others are told the past."""
    async with serving(nats_url, postgres_dsn, ingest=False) as api:
        await long_account(api)
        async with AsyncExitStack() as stack:
            for _ in range(REPLAYS_OPEN_MAX):
                caller = await stack.enter_async_context(calling(api))
                await ask_and_not_read(caller, "/psm/replay/acc_001")
            async with asyncio.timeout(WAIT_S):
                answer = await api.client.get("/psm/state/acc_001?at_sequence=3")
            assert answer.json()["cash"] == {"USDT": "3"}
            refused = await api.client.get("/psm/replay/acc_001")
            assert refused.status_code == 429
            assert "8 replays are open" in refused.json()["detail"]
        again = await until_answer(
            lambda: api.client.get(f"/psm/replay/acc_001?from_sequence={EVENTS - 1}"),
            lambda a: a.status_code == 200,
            "those who did not read have left",
        )
        assert len(again.text.splitlines()) == 2


async def test_client_that_does_not_read_is_closed(api: Api) -> None:
    """And the place of its replay is free again."""
    await long_account(api)
    async with AsyncExitStack() as stack:
        for _ in range(REPLAYS_OPEN_MAX):
            caller = await stack.enter_async_context(calling(api))
            await ask_and_not_read(caller, "/psm/replay/acc_001")
        answer = await until_answer(
            lambda: api.client.get("/psm/replay/acc_001"),
            lambda a: a.status_code == 200,
            "those who do not read are closed",
        )
        steps = answer.text.splitlines()
        assert [json.loads(step)["sequence_number"] for step in steps] == [*range(1, EVENTS + 1)]


async def test_who_left_keeps_no_place(nats_url: str, postgres_dsn: str) -> None:
    """A question about the past ends when nobody waits for its answer any more."""
    async with serving(nats_url, postgres_dsn, ingest=False) as api:
        await long_account(api)
        path = f"/psm/state/acc_001?at_sequence={EVENTS}"
        async with AsyncExitStack() as stack:
            for _ in range(FOLDS_AT_ONCE + FOLDS_WAITING_MAX):
                caller = await stack.enter_async_context(calling(api))
                caller.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                await caller.writer.drain()
            await until_answer(
                lambda: api.client.get(path), lambda a: a.status_code == 429, "all places are taken"
            )
        gone = 'count{route="/psm/state/{account_id}",status="400"} '

        def several_left(answer: httpx.Response) -> bool:
            _, found, rest = answer.text.partition(gone)
            return bool(found) and float(rest.split()[0]) > 1

        await until_answer(lambda: api.client.get("/metrics"), several_left, "their questions end")
        assert (await api.client.get(path)).status_code == 200


async def test_connections_are_counted(nats_url: str, postgres_dsn: str) -> None:
    """Beyond all connections a request is told so; beyond an address's nobody is answered."""
    limits = ServerLimits(connections=3)
    async with (
        serving(nats_url, postgres_dsn, ingest=False, limits=limits) as api,
        calling(api),
        calling(api),
        calling(api) as third,
    ):
        third.writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(WAIT_S):
            assert b"503" in await third.reader.readline()
    limits = ServerLimits(connections_per_address=1)
    async with (
        serving(nats_url, postgres_dsn, ingest=False, limits=limits) as api,
        calling(api),
        calling(api) as second,
    ):
        second.writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(WAIT_S):
            (read,) = await asyncio.gather(second.reader.read(), return_exceptions=True)
        assert read == b"" or isinstance(read, ConnectionError)


async def test_trusted_proxy_speaks_for_many(nats_url: str, postgres_dsn: str) -> None:
    """Its connections are those of its clients, so they are not counted as one caller's."""
    limits = ServerLimits(connections_per_address=1)
    async with (
        serving(
            nats_url, postgres_dsn, ingest=False, limits=limits, proxies=("127.0.0.0/8",)
        ) as api,
        calling(api),
        calling(api) as second,
    ):
        second.writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(WAIT_S):
            assert b"200" in await second.reader.readline()


async def test_replay_that_breaks_off_is_not_taken_for_whole(
    nats_url: str,
    postgres_dsn: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When the log goes away in the middle, the client sees a broken answer; nobody a traceback."""
    chunk, calls = history_http._chunk, 0

    async def fails_later(steps: AsyncIterator[Step]) -> bytes:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise TransientError("the broker is away")
        return await chunk(steps)

    monkeypatch.setattr(history_http, "_chunk", fails_later)
    async with serving(nats_url, postgres_dsn, ingest=False) as api:
        await long_account(api)
        with pytest.raises(httpx.RemoteProtocolError):
            await api.client.get("/psm/replay/acc_001")
        assert (await api.client.get("/health/live")).status_code == 200
    assert not [record for record in caplog.records if record.exc_info]


async def test_questions_about_the_past_are_bounded(nats_url: str, postgres_dsn: str) -> None:
    """Two are answered and eight wait, and get answers; the rest is told to come again."""
    async with serving(nats_url, postgres_dsn, ingest=False) as api:
        await long_account(api)
        room = FOLDS_AT_ONCE + FOLDS_WAITING_MAX
        path = f"/psm/state/acc_001?at_sequence={EVENTS}"
        asked = [asyncio.create_task(api.client.get(path)) for _ in range(3 * room)]
        answers = await asyncio.gather(*asked)
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 429}
        assert statuses.count(200) >= room
        refused = next(a for a in answers if a.status_code == 429)
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["type"] == "urn:psm:problem:too-many-folds"
        assert "this replica" in refused.json()["detail"]
        assert (await api.client.get("/psm/state/acc_001?at_sequence=1")).status_code == 200
