"""The corpus of odd inputs against real servers: each harms at most the stream it is on."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from typing import Any
from urllib.parse import quote

import pytest
from tests.support import archiving
from tests.support.fuzzing import corpus
from tests.support.fuzzing.stage import Stage, hung_up
from tests.support.fuzzing.wire import Odd
from tests.support.running import psm

LONG = os.environ.get("PSM_TEST_FUZZ") == "long"
FILLS = 6000
"""Events of one account whose replay is larger than what sockets hold, in megabytes."""
CHUNK = 50 if LONG else 400
OPERATORS_ONLY = ("what only PSM writes", "rules of tomorrow")


@pytest.mark.parametrize("group", corpus.GROUPS)
async def test_odd_messages_harm_nobody_else(stage: Stage, group: str) -> None:
    """Neighbours move and are exact, nothing stops, the archive is whole, the audit clean."""
    messages = [*corpus.GROUPS[group]()]
    if LONG and group == "many assets":
        messages = [*corpus.many_assets(5600)]
    for start in range(0, len(messages), CHUNK):
        part = messages[start : start + CHUNK]
        complaints = await stage.feed(part)
        assert not any("Parser" in text for text in complaints), complaints
        await stage.check()
    if LONG:  # else once for all groups, below: it judges the whole log each time
        await stage.check_all()


async def test_a_fill_is_known_again_whatever_stands_beside_it(stage: Stage) -> None:
    """The archive takes keys from the bytes: a fill booked twice is an incident."""
    messages = [*corpus.repeated_fill()]
    await stage.feed(messages)
    await stage.check()
    booked = (
        "SELECT count(*) FROM archive_incidents i JOIN events e USING (archive_sequence) "
        f"WHERE i.kind = 'duplicate_fill' AND e.subject LIKE '%{messages[0].subject.decode()[7:]}'"
    )
    await archiving.at_least(stage.running.postgres_dsn, booked, 1)


async def test_odd_messages_are_found(stage: Stage) -> None:
    """Lists and single events answer for what was archived, within bounds, without a traceback."""
    digits = b",".join([b"1e131071"] * 2000)
    event_id = str(uuid.uuid4())
    body = b'{"event_id":"%b","event_type":"signal","payload":{"x":[%b]}}' % (
        event_id.encode(),
        digits,
    )
    await stage.feed([Odd(name="huge", subject=b"signals.strategy.s.X", body=body)])
    await stage.check()
    async with asyncio.timeout(60):
        while True:
            answer = await stage.http(_get(f"/events/{event_id}"))
            if not answer.startswith(b"HTTP/1.1 404"):
                break
            await asyncio.sleep(0.05)
    assert answer.startswith(b"HTTP/1.1 200"), answer[:300]
    assert len(answer) < 1_000_000
    for command in (("events", "--limit", "1000"), ("dlq", "list"), ("stats",)):
        for form in ("table", "json"):
            done = await asyncio.to_thread(
                psm, *command, "-o", form, environment=stage.environment, check=False
            )
            assert "Traceback" not in done.stderr, done.stderr[-2000:]
            assert "\x1b[31mred" not in done.stdout
    await stage.check()


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()


def _post(body: bytes, path: str = "/psm/events", **headers: str) -> bytes:
    named = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name}: {text}\r\n" for name, text in named.items())
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{lines}\r\n"
    return head.encode() + body


LATE_DIGITS = "0" * 19 + "1" + "0" * 4980
"""Small as far as its first digits say, and too long for `int`."""


def is_broken(answer: bytes) -> bool:
    """Return whether a service failed; 504 says that a version did not come in time."""
    return answer.startswith(b"HTTP/1.1 5") and not answer.startswith(b"HTTP/1.1 504")


def http_requests() -> list[bytes]:
    """Return odd requests; every answer must be one below 500."""
    flat: dict[str, Any] = {
        "event_id": str(uuid.uuid4()), "event_type": "TradeExecuted", "account_id": "flat",
        "timestamp": "2026-01-02T03:04:05Z", "symbol": "BTC-PERP", "side": "long", "quantity": 1,
        "price": 1,
    }  # fmt: skip
    bodies = [*corpus.RAW_BODIES.values()]
    bodies += [corpus.encoded({"event_type": value}) for value in corpus.VALUES]
    for field in flat:
        changed = {**flat, "event_id": str(uuid.uuid4()), "account_id": corpus.account()}
        bodies += [corpus.encoded({**changed, field: value}) for value in corpus.VALUES]
    events = (*corpus.odd_envelopes(), *corpus.odd_payloads(), *corpus.operators_on_trades())
    bodies += [odd.body for odd in (events if LONG else events[::7])]
    requests = [_post(body) for body in bodies]
    for token in corpus.TOKENS.values():
        for path in ("/psm/state/", "/psm/replay/", "/events/", "/correlations/", "/psm/refusals/"):
            requests.append(_get(path + quote(token[:2000])))
            requests.append(b"GET %b%b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % (
                path.encode(), token[:2000]))  # fmt: skip
    names = ("at_sequence", "min_sequence", "at", "limit", "from_sequence", "since", "before")
    for name in names:
        for text in (*corpus.NUMBERS[:12], *corpus.TIMES[:4], "9" * 5000, LATE_DIGITS, "\0", "é"):
            for path in ("/psm/state/neighbour_0", "/events", "/psm/refusals"):
                requests.append(_get(f"{path}?{name}={quote(text[:5000])}"))
    requests += [
        b"\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"BREW /psm/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /psm/state/a HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"POST /psm/events HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /psm/events HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        _post(b"{}", **{"Content-Type": "text/plain"}),
        _post(b"{}", **{"X-Forwarded-For": "8.8.8.8", "Origin": "http://evil.example"}),
    ]
    return requests


async def test_odd_requests_are_answered(stage: Stage) -> None:
    """No answer is 5xx; all that was appended, by the tests above too, harms nobody else."""
    slots = asyncio.Semaphore(16)

    async def ask(request: bytes) -> tuple[bytes, bytes]:
        async with slots:
            return request, await stage.http(request)

    for request, answer in await asyncio.gather(*map(ask, http_requests())):
        assert not is_broken(answer), (request[:300], answer[:600])
    await stage.check()
    await stage.check_all()


async def test_clients_that_leave_in_the_middle_harm_nobody(stage: Stage) -> None:
    """A body that ends before its length, a head that never ends, answers that nobody reads."""
    whole = _post(b'{"event_type":"TradeExecuted"}')
    for end in (10, 40, len(whole) - 5):
        for _ in range(20):
            await stage.http(whole[:end], wait=False)
    await stage.check()


async def test_clients_that_do_not_read_stop_no_question(stage: Stage) -> None:
    """Two replays that nobody reads; the past of everybody is answered meanwhile."""
    stream = corpus.account()
    await stage.feed([_bought(stream, number) for number in range(1, FILLS + 1)])
    await stage.check()
    await stage.get(f"/psm/state/{stream}?min_sequence={FILLS}&timeout_s=30")
    async with hung_up(stage.running.http_url, _get(f"/psm/replay/{stream}"), 4):
        async with asyncio.timeout(30):
            status, document = await stage.get("/psm/state/neighbour_0?at_sequence=1")
        assert (status, document["sequence_number"]) == (200, 1)
    await stage.check()


def _bought(stream: str, number: int) -> Odd:
    """Return an event after which the account has one position more, up to 50."""
    fill = {"symbol": f"S{number % 50}", "side": "buy", "quantity": "1", "price": "100"}
    body = corpus.encoded(corpus.envelope(stream, sequence_number=number, payload=fill))
    return Odd(name=f"fill {number}", subject=f"trades.{stream}".encode(), body=body)


def test_every_odd_input_has_a_name_of_its_own() -> None:
    """A failure names its input; the corpus stays as large as it is."""
    counts = {group: sum(1 for _ in make()) for group, make in corpus.GROUPS.items()}
    assert sum(counts.values()) > 2500, json.dumps(counts)
    for command in (odd.command() for make in corpus.GROUPS.values() for odd in make()):
        assert command.split(b"\r\n", 1)[0].count(b" ") in (2, 3), command[:80]
