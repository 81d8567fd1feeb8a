"""The publisher against a real log: nothing lost, doubled or skipped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from nats.aio.client import Client
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from tests.support.log import LogSize, deposit, empty_log

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import StoredMessage, connect, get, last_for, read_range, stream_info
from psm.contracts.codec import decode_envelope
from psm.contracts.envelope import event_hash
from psm.contracts.errors import ConfigError, ConflictError, ContractError, TransientError
from psm.contracts.producer import log_client
from psm.contracts.producer.tail import MARK
from psm.contracts.publisher import Publisher
from psm.contracts.subjects import repair

SIZE = LogSize()
REPAIR = repair("acc", SIZE.partitions)


@pytest.fixture
async def nc(nats_url: str) -> AsyncIterator[Client]:
    async with empty_log(nats_url) as connection:
        yield connection


async def stored(nc: Client, subject: str = "trades.*.acc") -> list[StoredMessage]:
    return [m async for batch in read_range(nc, "TRADES", [subject], 1, 2**62) for m in batch]


def numbers(messages: list[StoredMessage]) -> list[int | None]:
    return [decode_envelope(message.data).sequence_number for message in messages]


async def raw(nc: Client, body: bytes | dict[str, Any], subject: str = "trades.acc") -> None:
    """Publish as a producer without our publisher would."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    await nc.request(subject, data, timeout=5)


async def test_numbers_are_assigned(nc: Client) -> None:
    """Events without a number get 1, 2, 3; the stored bytes carry it, and their hash."""
    port = Publisher(nc, assume_new=True)
    for number in (1, 2, 3):
        appended = await port.append(deposit("acc"))
        assert (appended.sequence_number, appended.log_sequence) == (number, number)
        assert not appended.duplicate
    messages = await stored(nc)
    assert numbers(messages) == [1, 2, 3]
    for message in messages:
        hashed = event_hash(message.data).hex()
        assert message.header("Psm-Event-Hash") == hashed
        assert message.header("Nats-Msg-Id") == f"acc:{hashed}"


async def test_idempotent_append(nc: Client) -> None:
    """The same event appended again, by whomever, is there once and found where it is."""
    event = deposit("acc")
    port = Publisher(nc, assume_new=True)
    first = await port.append(event)
    await port.append(deposit("acc"))
    again = await port.append(event)
    other = await Publisher(nc, assume_new=True).append(event)
    for repeat in (again, other):
        assert repeat.duplicate
        assert (repeat.sequence_number, repeat.log_sequence) == (1, first.log_sequence)
        assert repeat.event_hash == first.event_hash
    assert numbers(await stored(nc)) == [1, 2]


async def test_event_id_of_another_event_is_a_conflict(nc: Client) -> None:
    """An event id is an identity: other content under it is refused."""
    event = deposit("acc")
    port = Publisher(nc, assume_new=True)
    await port.append(event)
    with pytest.raises(ConflictError, match="belongs to another event"):
        await port.append({**event, "payload": {"amount": "11"}})
    assert len(await stored(nc)) == 1


async def test_given_numbers(nc: Client) -> None:
    """A given number must be the next one; a repeat of the same bytes is a duplicate."""
    port = Publisher(nc, assume_new=True)
    body = json.dumps(deposit("acc", 1)).encode()
    assert (await port.append(body)).sequence_number == 1
    assert (await stored(nc))[0].data == body
    assert (await port.append(body)).duplicate
    assert (await port.append(deposit("acc"), sequence_number=2)).sequence_number == 2
    with pytest.raises(ConflictError, match="next is 3"):
        await port.append(deposit("acc", 2))
    with pytest.raises(ConflictError, match="gap"):
        await port.append(deposit("acc", 4))
    with pytest.raises(ContractError, match="not 9"):
        await port.append(deposit("acc", 3), sequence_number=9)
    gaps = Publisher(nc, assume_new=True, allow_gaps=True)
    assert (await gaps.append(deposit("acc", 4))).sequence_number == 4
    assert (await port.append(deposit("acc"))).sequence_number == 5
    assert (await gaps.append(deposit("acc", 3))).sequence_number == 3
    assert (await port.append(deposit("acc"))).sequence_number == 6


async def test_junk_and_operator_events_take_no_number(nc: Client) -> None:
    """Whatever lies on the subject, the next number is the one that the fold expects."""
    port = Publisher(nc, partitions=SIZE.partitions, assume_new=True)
    first = deposit("acc")
    await port.append(first)
    for junk in (
        b"junk",
        b"",
        deposit("other", 2),
        deposit("acc"),
        deposit("acc", 200_000),
        {**first, "sequence_number": 1},
        {**first, "sequence_number": 2},
        deposit("acc", 1),
    ):
        await raw(nc, junk)
    dismissed = deposit(
        "acc",
        event_type="EventDismissed",
        payload={"log_sequence": 2, "actor": "ops", "reason": "x"},
    )
    appended = await port.append(dismissed)
    assert appended.sequence_number is None
    assert (await port.append(dismissed)).duplicate
    assert (await port.append(deposit("acc"))).sequence_number == 2
    assert (await Publisher(nc, assume_new=True).append(deposit("acc"))).sequence_number == 3
    payload = {"from": 4, "to": 6, "actor": "op", "reason": "lost"}
    void = deposit("acc", event_type="SequenceVoided", payload=payload)
    await raw(nc, deposit("acc", 7))
    await raw(nc, void)  # through the producers' door it is nothing
    await raw(nc, deposit("acc", 8), REPAIR)
    await raw(nc, void, REPAIR)
    for any_port in (port, Publisher(nc, assume_new=True)):
        await raw(nc, b"junk")
        await any_port.append(deposit("acc"))
    assert numbers((await stored(nc))[-1:]) == [9]


async def test_repair_that_nobody_saw_takes_no_number(nc: Client) -> None:
    """What an operator voids lies before what waits, and what is assigned lies behind it."""
    port = Publisher(nc, assume_new=True)
    await port.append(deposit("acc"))
    await raw(nc, deposit("acc", 4))
    assert (await port.append(deposit("acc"))).sequence_number == 5
    payload = {"from": 2, "to": 3, "actor": "op", "reason": "lost"}
    void = deposit("acc", event_type="SequenceVoided", payload=payload)
    await Publisher(nc, partitions=SIZE.partitions).append(void)
    assert (await port.append(deposit("acc"))).sequence_number == 6
    assert (await Publisher(nc).append(deposit("acc"))).sequence_number == 7


async def test_gap_that_an_operator_closed_is_closed_for_who_numbers(nc: Client) -> None:
    """A producer that saw the gap reads the repair before its next event, number given or not."""
    port = Publisher(nc, assume_new=True)
    await port.append(deposit("acc"))
    await raw(nc, deposit("acc", 4))
    assert (await port.append(deposit("acc"))).sequence_number == 5
    payload = {"from": 2, "to": 3, "actor": "op", "reason": "lost"}
    await raw(nc, deposit("acc", event_type="SequenceVoided", payload=payload), REPAIR)
    assert (await port.append(deposit("acc", 6))).sequence_number == 6


async def test_operators_event_needs_the_operators_port(nc: Client) -> None:
    """A producer's port refuses it before anything is sent."""
    with pytest.raises(ContractError, match="operators_only"):
        await Publisher(nc).append(deposit("acc", event_type="StreamRetried", payload={}))


async def test_late_events_of_others_keep_their_number(nc: Client) -> None:
    """A gap is not filled by an assigned number: its event may only be late."""
    await raw(nc, deposit("acc", 1))
    await raw(nc, deposit("acc", 3))
    assert (await Publisher(nc, assume_new=True).append(deposit("acc"))).sequence_number == 4
    await raw(nc, deposit("acc", 2))
    assert (await Publisher(nc, assume_new=True).append(deposit("acc"))).sequence_number == 5


async def test_many_publishers_share_an_account(nc: Client, nats_url: str) -> None:
    """Eight publishers, three connections, one account: contiguous, nothing lost or doubled."""
    others = [await connect(nats_url, name=f"other{number}") for number in range(2)]
    ports = [Publisher(connection, assume_new=True) for connection in [nc, *others] * 3][:8]
    events = [[deposit("acc") for _ in range(15)] for _ in ports]

    async def produce(port: Publisher, own: list[dict[str, Any]]) -> list[int | None]:
        return [(await port.append(event)).sequence_number for event in own]

    results = await asyncio.gather(*map(produce, ports, events))
    assert sorted(n for result in results for n in result if n) == list(range(1, 121))
    messages = await stored(nc)
    assert numbers(messages) == list(range(1, 121))
    ids = {decode_envelope(message.data).event_id for message in messages}
    assert ids == {event["event_id"] for own in events for event in own}
    for other in others:
        await other.close()


async def test_same_event_from_many_publishers_at_once(nc: Client) -> None:
    """A retry that overtakes its first attempt does not double the event."""
    event = deposit("acc")
    results = await asyncio.gather(
        *(Publisher(nc, assume_new=True).append(event) for _ in range(10))
    )
    assert [result.duplicate for result in results].count(False) == 1
    assert {(r.sequence_number, r.log_sequence) for r in results} == {(1, 1)}
    assert len(await stored(nc)) == 1


async def test_streams_are_independent(nc: Client) -> None:
    """One publisher appends to many streams at once, each with its own numbers."""
    port = Publisher(nc, assume_new=True)
    results = await asyncio.gather(
        *(port.append(deposit(f"acc{number % 20}")) for number in range(200))
    )
    for account in range(20):
        own = [r.sequence_number for r in results if r.stream_id == f"acc{account}"]
        assert own == list(range(1, 11))


async def test_long_stream_is_read_from_its_end_only(
    nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fresh publisher reads back to a message that knew everything, not to the beginning."""
    port = Publisher(nc, assume_new=True)
    for _ in range(300):
        await port.append(deposit("acc"))
    other = Publisher(nc, assume_new=True, validate=False)
    for _ in range(10):
        await asyncio.gather(*(other.append(deposit(f"x{n}")) for n in range(200)))
    event = deposit("acc")
    for _ in range(300):
        await port.append(deposit("acc"))
    await port.append(event)
    await raw(nc, b"junk")
    await raw(nc, deposit("acc", 602))
    starts = []
    page = log_client.page

    async def counted(nc: Client, matching: str, start: int, timeout_s: float) -> Any:
        starts.append(start)
        return await page(nc, matching, start, timeout_s)

    monkeypatch.setattr(log_client, "page", counted)
    fresh = Publisher(nc, assume_new=True)
    appended = await fresh.append(deposit("acc"))
    assert appended.sequence_number == 603
    assert min(starts) > 1000
    repeat = await fresh.append(event)
    assert (repeat.duplicate, repeat.sequence_number) == (True, 601)
    newest = await last_for(nc, "TRADES", "trades.*.acc")
    assert newest is not None
    assert newest.header(MARK) == "603"
    deep = Publisher(nc, assume_new=True, remember=10_000)
    first = decode_envelope((await stored(nc))[0].data)
    assert (await deep.append(_again(first.event_id))).duplicate


def _again(event_id: str) -> dict[str, Any]:
    return {**deposit("acc"), "event_id": event_id}


async def test_marks_and_instruments_have_their_own_numbers(nc: Client) -> None:
    """Marks need only rise: a given number is taken as it is, else the last plus one."""
    port = Publisher(nc, assume_new=True)

    def mark(number: int | None = None) -> dict[str, Any]:
        payload = {"symbol": "BTC-PERP", "price": "42000.5"}
        return deposit("BTC-PERP", number, event_type="MarkPriceUpdated", payload=payload)

    assert (await port.append(mark())).sequence_number == 1
    assert (await port.append(mark(1000))).sequence_number == 1000
    assert (await Publisher(nc, assume_new=True).append(mark())).sequence_number == 1001
    messages = await stored(nc, "marks.BTC-PERP")
    assert numbers(messages) == [1, 1000, 1001]
    payload = {
        "symbol": "BRK.B",
        "kind": "equity",
        "base": "BRK.B",
        "quote": "USD",
        "settle": "USD",
    }
    event = deposit("BRK%2EB", event_type="InstrumentDefined", payload=payload)
    assert (await port.append(event)).sequence_number == 1
    assert len(await stored(nc, "instruments.BRK%2EB")) == 1


async def test_flat_draft_becomes_an_event(nc: Client) -> None:
    """The old flat shape enters as a 1.x event with the same id; numbers keep their digits."""
    draft = (
        b'{"event_id":"7f0c2a34-3f5e-4f27-9d5e-111111111111","event_type":"TradeExecuted",'
        b'"timestamp":"2025-12-12T10:30:00.123456Z","account_id":"acc","symbol":"BTC-PERP",'
        b'"side":"long","quantity":0.5,"price":42000.00,"commission":0.1234567890123456789e1}'
    )
    port = Publisher(nc, assume_new=True, validate=False)
    appended = await port.append(draft)
    assert appended.sequence_number == 1
    (message,) = await stored(nc)
    body = json.loads(message.data)
    assert body["payload"]["quantity"] == "0.5"
    assert body["payload"]["price"] == "42000.00"
    assert body["payload"]["commission"] == "0.1234567890123456789e1"
    assert body["payload"]["side"] == "buy"
    assert body["event_id"] == "7f0c2a34-3f5e-4f27-9d5e-111111111111"
    assert (await port.append(draft)).duplicate


async def test_bare_numbers_keep_their_text(nc: Client) -> None:
    """A number is inserted without touching another byte; binary floats are refused."""
    event = deposit("acc")
    body = json.dumps(event).replace('"10"', "10.1000000000000000055511").encode()
    with pytest.raises(ContractError, match="amount"):
        await Publisher(nc, assume_new=True).append(body)
    await Publisher(nc, assume_new=True, validate=False).append(body)
    (message,) = await stored(nc)
    assert b"10.1000000000000000055511" in message.data
    assert message.data == b'{"sequence_number":1,' + body[1:]
    with pytest.raises(ContractError, match=r"payload\.amount is a binary float"):
        await Publisher(nc, assume_new=True).append(deposit("acc", payload={"amount": 0.1}))
    await Publisher(nc, assume_new=True).append(deposit("acc", payload={"amount": Decimal("0.1")}))
    assert numbers(await stored(nc)) == [1, 2]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"payload": {"amount": "-1"}}, "payload.amount"),
        ({"event_id": "x"}, "event_id"),
        ({"stream_id": "a.b"}, "stream_id"),
        ({"event_type": "NothingKnown"}, "event_type"),
        ({"schema_version": "9.0.0"}, "schema_version"),
        ({"sequence_number": 0}, "sequence_number"),
    ],
)
async def test_invalid_events_are_refused_at_the_door(
    nc: Client, fields: dict[str, Any], field: str
) -> None:
    """What the fold would refuse, reject or block on does not enter; the field is named."""
    with pytest.raises(ContractError) as refused:
        await Publisher(nc, assume_new=True).append({**deposit("acc"), **fields})
    assert refused.value.field == field
    assert (await stream_info(nc, "TRADES")).messages == 0


async def test_trace_context_is_carried(nc: Client) -> None:
    """An append inside a span carries its trace."""
    tracer = TracerProvider().get_tracer("test")
    with trace.use_span(tracer.start_span("request")) as span:
        appended = await Publisher(nc, assume_new=True).append(deposit("acc"))
    message = await get(nc, "TRADES", appended.log_sequence)
    assert message is not None
    assert f"{span.get_span_context().trace_id:032x}" in (message.header("traceparent") or "")


async def test_recorded_subjects(nc: Client) -> None:
    """Recorded subjects take the bytes as they are."""
    body = json.dumps(deposit("acc")).encode()
    assert await Publisher(nc, assume_new=True).record("signals.strategy.s1.BTC", body) == 1
    message = await get(nc, "SIGNALS", 1)
    assert message is not None
    assert message.data == body


async def test_lost_answers_are_settled_by_reading(
    nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that was stored although no answer came is found, not appended twice."""
    append = log_client.append
    lost = 0

    async def lossy(*arguments: Any) -> tuple[int, bool]:
        nonlocal lost
        answer = await append(*arguments)
        if lost < 3:
            lost += 1
            raise TransientError("the answer was lost")
        return answer

    monkeypatch.setattr(log_client, "append", lossy)
    port = Publisher(nc, assume_new=True)
    results = [await port.append(deposit("acc")) for _ in range(5)]
    assert [r.sequence_number for r in results] == [1, 2, 3, 4, 5]
    assert [r.duplicate for r in results] == [True, True, True, False, False]
    assert lost == 3


async def test_append_survives_a_frozen_and_a_killed_server(nats_server: EmbeddedNats) -> None:
    """Appends wait for the server and are stored once, in order."""
    async with empty_log(nats_server.url, LogSize()) as nc:
        port = Publisher(nc, assume_new=True, request_timeout_s=0.3, give_up_s=60)
        events = [deposit("acc") for _ in range(30)]

        async def produce() -> None:
            for event in events:
                await port.append(event)

        task = asyncio.create_task(produce())
        await asyncio.sleep(0.03)
        os.kill(nats_server.pid, signal.SIGSTOP)
        await asyncio.sleep(0.7)
        os.kill(nats_server.pid, signal.SIGCONT)
        await asyncio.sleep(0.03)
        await nats_server.kill()
        await asyncio.sleep(0.5)
        await nats_server.start()
        async with asyncio.timeout(60):
            await task
        messages = await stored(nc)
        assert numbers(messages) == list(range(1, 31))
        ids = [decode_envelope(message.data).event_id for message in messages]
        assert ids == [event["event_id"] for event in events]


async def test_give_up(nats_server: EmbeddedNats) -> None:
    """A log that stays away is told in bounded time; the same event may be appended later."""
    async with empty_log(nats_server.url) as nc:
        port = Publisher(nc, assume_new=True, request_timeout_s=0.2, give_up_s=0.5)
        event = deposit("acc")
        os.kill(nats_server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(TransientError):
                await port.append(event)
        finally:
            os.kill(nats_server.pid, signal.SIGCONT)
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(TransientError):  # half a second may be too short again
                    assert (await port.append(event)).sequence_number == 1
                    break
        assert len(await stored(nc)) == 1


async def test_missing_log_is_told(nc: Client) -> None:
    """Without the log nothing is appended anywhere."""
    await nc.request("$JS.API.STREAM.DELETE.TRADES", b"", timeout=5)
    config = {"name": "OTHER", "subjects": ["trades.*"], "storage": "file"}
    await nc.request("$JS.API.STREAM.CREATE.OTHER", json.dumps(config).encode(), timeout=5)
    with pytest.raises(TransientError, match=r"DIRECT\.GET\.TRADES"):
        await Publisher(nc, assume_new=True, give_up_s=0.1).append(deposit("acc"))
    assert (await stream_info(nc, "OTHER")).messages == 0


async def test_refusal_for_good_is_not_retried(nc: Client) -> None:
    """A full log is told at once, not tried for a minute."""
    config = {**(await stream_info(nc, "TRADES")).config, "max_msgs": 1}
    await nc.request("$JS.API.STREAM.UPDATE.TRADES", json.dumps(config).encode(), timeout=5)
    port = Publisher(nc, assume_new=True)
    await port.append(deposit("acc"))
    async with asyncio.timeout(30):
        with pytest.raises(ConfigError, match="maximum messages exceeded"):
            await port.append(deposit("acc"))
