"""`psm.get.head`: what producers number by, from the owner's books, on a real broker."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import nats.errors
import pytest
from nats.aio.client import Client
from tests.support.log import LogSize, deposit, empty_log
from tests.support.owner import owning

from psm.adapters.jetstream import stream_info
from psm.contracts.codec import decode_envelope
from psm.contracts.envelope import event_hash
from psm.contracts.errors import TransientError
from psm.contracts.heads import HEAD_SUBJECT, SubjectHead
from psm.contracts.publisher import Publisher
from psm.contracts.subjects import repair
from psm.workers.fleet.worker import Worker

JUNK = b"junk"
RETRIED = deposit("acc", event_type="StreamRetried", payload={"actor": "op", "reason": "x"})
REPAIR = repair("acc", LogSize().partitions)


@pytest.fixture
async def nc(nats_url: str) -> AsyncIterator[Client]:
    async with empty_log(nats_url) as connection:
        yield connection


@pytest.fixture
async def owner(nc: Client) -> AsyncIterator[Worker]:
    async with owning(nc) as worker:
        yield worker


async def raw(nc: Client, body: bytes | dict[str, Any], subject: str = "trades.acc") -> int:
    """Publish as any client could; return the log sequence."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await nc.request(subject, data, timeout=5)
    return int(json.loads(answer.data)["seq"])


async def head_at(nc: Client, log_sequence: int, subject: str = "trades.acc") -> SubjectHead:
    """Return the head once it is as of a log sequence; blocked streams stop before it."""
    while True:
        answer = await nc.request(HEAD_SUBJECT, subject.encode(), timeout=5)
        head = msgspec.json.decode(answer.data, type=SubjectHead)
        if head.log_sequence >= log_sequence or head.status == "blocked":
            return head


async def admin(nc: Client, verb: str, body: dict[str, Any]) -> None:
    """Do to the log what only an administrator could."""
    answer = await nc.request(f"$JS.API.STREAM.{verb}.TRADES", json.dumps(body).encode(), timeout=5)
    assert "error" not in json.loads(answer.data), answer.data


async def number_of_next(nc: Client, **options: Any) -> int | None:
    return (await Publisher(nc, **options).append(deposit("acc"))).sequence_number


@pytest.mark.usefixtures("owner")
async def test_what_takes_no_place_is_not_numbered_by(nc: Client) -> None:
    """Repeats, conflicts, junk, operator events: the head and the next number stay right."""
    first = deposit("acc", 1)
    await raw(nc, first)
    for behind in (
        json.dumps(first, indent=3).encode(),
        deposit("acc", 1),
        JUNK,
        deposit("other", 7),
        RETRIED,
    ):
        head = await head_at(nc, await raw(nc, behind))
        assert (head.last, head.status, head.parked) == (1, "open", [])
        (event,) = head.events
        assert (event.number, event.event_id) == (1, first["event_id"])
        assert event_hash(json.dumps(first).encode()).hex().startswith(event.event_hash)
    at = await raw(nc, RETRIED, REPAIR)
    head = await head_at(nc, at)
    assert (head.last, head.last_of_subject) == (1, at)
    assert await number_of_next(nc) == 2


@pytest.mark.usefixtures("owner")
async def test_head_of_every_state(nc: Client) -> None:
    """New, refused, in a gap, voided, blocked: what is assigned is never another event's."""
    head = await head_at(nc, 0)
    assert (head.last, head.events, head.next_number) == (0, [], 1)
    at = await raw(nc, deposit("acc", 1, payload={"amount": "-1"}))
    assert [event.refused for event in (await head_at(nc, at)).events] == [True]
    head = await head_at(nc, await raw(nc, deposit("acc", 4)))
    assert (head.last, head.parked, head.status, head.next_number) == (1, [4], "gap", 5)
    assert await number_of_next(nc) == 5
    payload = {"from": 2, "to": 3, "actor": "op", "reason": "lost"}
    at = await raw(nc, deposit("acc", event_type="SequenceVoided", payload=payload), REPAIR)
    head = await head_at(nc, at)
    assert (head.last, head.status) == (5, "open")
    assert [event.number for event in head.events] == [1, 4, 5]
    at = await raw(nc, deposit("acc", 6, event_type="SomethingNew"))
    await raw(nc, deposit("acc", 7))
    head = await head_at(nc, at)
    assert (head.last, head.status) == (5, "blocked")
    assert head.log_sequence < at
    assert await number_of_next(nc) == 8


@pytest.mark.usefixtures("owner")
async def test_repair_behind_the_head_is_read(nc: Client) -> None:
    """A stream that stopped has an old head: what operators did since is on their subject."""
    await raw(nc, deposit("acc", 1))
    at = await raw(nc, deposit("acc", 2, event_type="SomethingNew"))
    await raw(nc, deposit("acc", 5))
    assert (await head_at(nc, at)).status == "blocked"
    payload = {"log_sequence": at, "actor": "op", "reason": "unknown"}
    await raw(nc, deposit("acc", event_type="EventDismissed", payload=payload), REPAIR)
    payload = {"from": 3, "to": 4, "actor": "op", "reason": "lost"}
    void = deposit("acc", event_type="SequenceVoided", payload=payload)
    await raw(nc, void, REPAIR)
    again = Publisher(nc, partitions=LogSize().partitions)
    assert (await again.append(void)).duplicate
    assert (await Publisher(nc).append(deposit("acc", 6))).sequence_number == 6
    assert await number_of_next(nc) == 7


@pytest.mark.usefixtures("owner")
async def test_tables_have_heads_too(nc: Client) -> None:
    """Marks, instruments and rules are numbered by what their last valid message has."""
    mark = {**deposit("BTC", 7), "event_type": "MarkPriceUpdated"}
    mark["payload"] = {"symbol": "BTC", "price": "1"}
    await raw(nc, mark, "marks.BTC")
    head = await head_at(nc, await raw(nc, JUNK, "marks.BTC"), "marks.BTC")
    assert (head.last, head.next_number) == (7, 8)
    again = {**mark, "event_id": str(uuid.uuid4())}
    del again["sequence_number"]
    assert (await Publisher(nc).append(again)).sequence_number == 8
    for subject in ("instruments.BTC", "control.rules"):
        assert (await head_at(nc, 0, subject)).last == 0


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize("subject", ["", "acc", "trades.1.acc", "trades.*", "marks.a b", "psm.x"])
async def test_what_is_no_subject_is_not_answered(nc: Client, subject: str) -> None:
    """A question that no head can answer is left alone."""
    with pytest.raises(nats.errors.TimeoutError):
        await nc.request(HEAD_SUBJECT, subject.encode(), timeout=0.2)


async def test_no_owner_and_no_message_is_no_number(nc: Client) -> None:
    """An empty subject is not a new one: the log may have been trimmed, a worker knows."""
    for body in (None, JUNK):
        if body is not None:
            await raw(nc, body)
        with pytest.raises(TransientError, match="is a worker running"):
            await number_of_next(nc, give_up_s=0.1)
    async with owning(nc):
        assert await number_of_next(nc) == 1
    assert await number_of_next(nc) == 2  # the log has the first event: that is enough


async def test_numbers_go_on_after_the_log_was_trimmed(nc: Client) -> None:
    """What the log no longer has, the owner knows; without it nothing is assigned."""
    config = {**(await stream_info(nc, "TRADES")).config, "deny_purge": False, "deny_delete": False}
    await admin(nc, "DELETE", {})
    await admin(nc, "CREATE", config)
    async with owning(nc):
        publisher = Publisher(nc)
        for _ in range(3):
            await publisher.append(deposit("acc"))
        await head_at(nc, 3)
        await admin(nc, "PURGE", {})
        assert await number_of_next(nc) == 4
        await admin(nc, "PURGE", {"keep": 1})
        assert await number_of_next(nc) == 5
    with pytest.raises(TransientError, match="is a worker running"):
        await number_of_next(nc, give_up_s=0.1)


async def test_evicted_accounts_have_heads(nc: Client) -> None:
    """An account that waits in its snapshot is answered for without bringing it back."""
    async with owning(nc, accounts_in_memory=0, snapshot_interval_s=0.01) as worker:
        at = 0
        for number in range(1, 4):
            at = await raw(nc, deposit("acc", number))
        other = 0
        while worker.readiness()[1]["accounts"] or not other:
            other += 1  # the loop looks at what is idle between batches
            await raw(nc, deposit("other", other), "trades.other")
            if other > 500:
                break
        head = await head_at(nc, at)
        assert (head.last, head.last_of_subject) == (3, at)
        assert [event.number for event in head.events] == [1, 2, 3]


@pytest.mark.usefixtures("owner")
async def test_repeats_are_found_behind_a_head(nc: Client) -> None:
    """A repeated event is found by its id however it was numbered, also after a conflict."""
    first = deposit("acc")
    appended = await Publisher(nc).append(first)
    for _ in range(300):
        await Publisher(nc).append(deposit("acc"))
    await raw(nc, {**deposit("acc", 300), "event_id": str(uuid.uuid4())})
    deep = await Publisher(nc, remember=10_000).append(first)
    assert (deep.duplicate, deep.log_sequence) == (True, appended.log_sequence)
    stored = decode_envelope((await nc.jetstream().get_msg("TRADES", seq=200)).data or b"").event_id
    place = await Publisher(nc).append({**first, "event_id": stored}) if stored else None
    assert place is not None
    assert place.duplicate
