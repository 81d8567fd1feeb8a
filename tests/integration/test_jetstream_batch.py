"""Atomic batches, expected writes and leader reads against a real broker."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from tests.support.guarded import publish_guarded
from tests.support.log import empty_log
from tests.support.workbench import WAIT_S, until

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import (
    ApiConfigError,
    ApiConflictError,
    ApiTransientError,
    ConnectionCounters,
    Outgoing,
    StreamNotFoundError,
    UnknownOutcomeError,
    UnsendableError,
    connect,
    direct_get,
    direct_last_for,
    direct_next_for,
    get,
    last_for,
    next_for,
    publish_atomic,
    publish_expected,
    stream_info,
)
from psm.adapters.jetstream.api import ask, call, decoded
from psm.contracts.errors import ConfigError, ConflictError, TransientError

CURSOR = "_psm.cursor.3"


@pytest.fixture
async def nc(nats_url: str) -> AsyncIterator[Client]:
    async with empty_log(nats_url) as connection:
        yield connection


def batch(count: int, who: str = "a") -> list[Outgoing]:
    """A cursor and `count` updates."""
    updates = [
        Outgoing(f"_psm.position.updated.3.acc{number}", b'{"n":%d}' % number)
        for number in range(count)
    ]
    return [Outgoing(CURSOR, who.encode(), {"Psm-Batch-Id": who}), *updates]


async def test_batch_is_stored_as_one_range(nc: Client) -> None:
    """A committed batch lies in one piece, under the stored subjects, with its own headers."""
    ack = await publish_guarded(nc, "PSM", batch(3), expected=0, batch_id="b1")
    assert (ack.first, ack.last) == (1, 4)
    cursor = await get(nc, "PSM", 1)
    assert cursor is not None
    assert (cursor.subject, cursor.data) == ("psm.cursor.3", b"a")
    assert cursor.header("Psm-Batch-Id") == "a"
    assert cursor.header("Nats-Batch-Id") == "b1"
    stored = [await get(nc, "PSM", sequence) for sequence in range(2, 5)]
    assert [m.data for m in stored if m] == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
    assert [m.header("Nats-Batch-Sequence") for m in stored if m] == ["2", "3", "4"]


async def test_headers_of_a_producer_cannot_break_a_batch(nc: Client) -> None:
    """Line ends in a header become blanks; bytes that are no UTF-8 are read as any reader does."""
    trace = {"traceparent": "00-a\r\nNats-Batch-Commit: 1\n\udcff"}
    messages = batch(2)
    messages[1] = Outgoing(messages[1].subject, b"traced", trace)
    ack = await publish_guarded(nc, "PSM", messages, expected=0, batch_id="b1")
    assert (ack.first, ack.last) == (1, 3)
    stored = await get(nc, "PSM", 2)
    assert stored is not None
    assert stored.header("traceparent") == "00-a  Nats-Batch-Commit: 1 \ufffd"


@pytest.mark.parametrize(
    "wrong",
    [
        Outgoing("_psm.position.updated.3.a b", b""),
        Outgoing("", b""),
        Outgoing("_psm.position.updated.3.a", b"", {"a:b": "c"}),
        Outgoing("_psm.position.updated.3.a", bytes(2_000_000)),
        Outgoing("_psm.position.updated.3.a", bytes(1_048_000), {"a": "b" * 1000}),
        Outgoing(f"_psm.position.updated.3.{'a' * 4_060}", b""),
        Outgoing("_psm.position.updated.3.\udcff", b""),
    ],
    ids=["blank", "no-subject", "header", "size", "size-with-headers", "long", "no-text"],
)
async def test_batch_with_a_message_that_cannot_be_sent_leaves_nothing(
    nc: Client, wrong: Outgoing
) -> None:
    """The batch is refused before anything of it is sent, and the connection goes on."""
    with pytest.raises(UnsendableError):
        await publish_guarded(
            nc, "PSM", [*batch(1), wrong, *batch(1)[1:]], expected=0, batch_id="b"
        )
    with pytest.raises(UnsendableError):
        await publish_expected(
            nc, "PSM", wrong.subject, wrong.data, expected=None, headers=wrong.headers
        )
    ack = await publish_guarded(nc, "PSM", batch(1), expected=0, batch_id="c")
    assert (ack.first, ack.last) == (1, 2)
    assert nc.stats["reconnects"] == 0


async def test_stale_expectation_stores_nothing(nc: Client) -> None:
    """The check is made against the stored subject; a refused batch leaves no message."""
    first = await publish_guarded(nc, "PSM", batch(2), expected=0, batch_id="b1")
    await publish_guarded(nc, "PSM", batch(2), expected=first.first, batch_id="b2")
    for wrong in (0, first.first):
        with pytest.raises(ApiConflictError) as refused:
            await publish_guarded(nc, "PSM", batch(2), expected=wrong, batch_id=f"w{wrong}")
        assert refused.value.err_code == 10071
        assert isinstance(refused.value, ConflictError)
    assert (await stream_info(nc, "PSM")).messages == 6


async def test_two_writers_one_wins(nc: Client, nats_url: str) -> None:
    """Of two writers that expect the same cursor exactly one is stored, fifty times over."""
    other = await connect(nats_url, name="other")
    expected = 0
    for turn in range(50):
        results = await asyncio.gather(
            publish_guarded(nc, "PSM", batch(5, "a"), expected=expected, batch_id=f"a{turn}"),
            publish_guarded(other, "PSM", batch(5, "b"), expected=expected, batch_id=f"b{turn}"),
            return_exceptions=True,
        )
        won = [result for result in results if not isinstance(result, BaseException)]
        lost = [result for result in results if isinstance(result, ApiConflictError)]
        assert (len(won), len(lost)) == (1, 1), results
        assert lost[0].err_code in {10071, 10164}
        expected = won[0].first
        cursor = await last_for(nc, "PSM", "psm.cursor.3")
        assert cursor is not None
        assert cursor.sequence == expected
    assert (await stream_info(nc, "PSM")).messages == 50 * 6
    await other.close()


async def test_largest_batch(nc: Client) -> None:
    """1 000 messages are one batch; one more is never sent."""
    ack = await publish_guarded(nc, "PSM", batch(999), expected=0, batch_id="big")
    assert (ack.first, ack.last) == (1, 1000)
    with pytest.raises(AssertionError, match="1001 messages"):
        await publish_guarded(nc, "PSM", batch(1000), expected=1, batch_id="bigger")


async def test_single_message_is_a_plain_publish(nc: Client) -> None:
    """A cursor alone needs no batch, but the same fence."""
    ack = await publish_guarded(nc, "PSM", batch(0), expected=0, batch_id="x")
    assert (ack.first, ack.last) == (1, 1)
    with pytest.raises(ApiConflictError):
        await publish_guarded(nc, "PSM", batch(0), expected=0, batch_id="y")


async def test_updates_are_republished_after_the_commit(nc: Client) -> None:
    """Core subscribers see the three-token subject, with what they need to find gaps."""
    heard: list[Msg] = []

    async def hear(message: Msg) -> None:
        heard.append(message)

    await nc.subscribe("psm.>", cb=hear)
    await publish_guarded(nc, "PSM", batch(2), expected=0, batch_id="b1")
    with pytest.raises(ApiConflictError):
        await publish_guarded(nc, "PSM", batch(2), expected=0, batch_id="b2")
    await publish_guarded(nc, "PSM", batch(1), expected=1, batch_id="b3")
    await until(lambda: len(heard) >= 3, "they are heard")
    assert [message.subject for message in heard] == ["psm.position.updated"] * 3
    assert [(m.headers or {})["Nats-Subject"] for m in heard] == [
        "psm.position.updated.3.acc0",
        "psm.position.updated.3.acc1",
        "psm.position.updated.3.acc0",
    ]
    assert [(m.headers or {})["Nats-Last-Sequence"] for m in heard] == ["0", "0", "2"]


@pytest.mark.parametrize(
    ("headers", "err_code"),
    [
        ({"Nats-Expected-Last-Msg-Id": "x"}, 10177),
        ({"Nats-Batch-Id": "x" * 65}, 10179),
        ({"Nats-Batch-Sequence": "zero"}, 10175),
    ],
)
async def test_malformed_batches_are_refused(
    nc: Client, headers: dict[str, str], err_code: int
) -> None:
    """What PSM never sends is refused with a code of its own."""
    own = {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1", "Nats-Batch-Commit": "1", **headers}
    answer = await ask(nc, CURSOR, b"", headers=own)
    with pytest.raises(Exception, match=str(err_code)):
        decoded(answer.data, "test")


async def test_commit_without_its_beginning_is_transient(nc: Client) -> None:
    """A batch whose first messages the leader does not have is refused whole: 10176."""
    headers = {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "3", "Nats-Batch-Commit": "1"}
    answer = await ask(nc, CURSOR, b"", headers=headers)
    with pytest.raises(ApiTransientError) as refused:
        decoded(answer.data, "test")
    assert refused.value.err_code == 10176


async def test_known_message_id_refuses_the_batch(nc: Client) -> None:
    """A duplicate id inside a batch refuses all of it: 10201."""
    messages = [
        Outgoing("snapshots.1", b"1", {"Nats-Msg-Id": "same"}),
        Outgoing("snapshots.2", b"2", {"Nats-Msg-Id": "same"}),
    ]
    with pytest.raises(ApiConflictError) as refused:
        await publish_atomic(nc, "SNAPSHOTS", messages, batch_id="b")
    assert refused.value.err_code == 10201
    assert (await stream_info(nc, "SNAPSHOTS")).messages == 0


async def test_too_many_open_batches_are_transient(nc: Client) -> None:
    """The 51st open batch of a stream is refused: 10210."""
    for number in range(51):
        headers = {"Nats-Batch-Id": f"open{number}", "Nats-Batch-Sequence": "1"}
        await nc.publish(f"_psm.cursor.{number}", b"", headers=headers)
    headers = {"Nats-Batch-Id": "late", "Nats-Batch-Sequence": "1"}
    answer = await ask(nc, CURSOR, b"", headers=headers)
    with pytest.raises(ApiTransientError) as refused:
        decoded(answer.data, "test")
    assert refused.value.err_code == 10210


async def test_stream_without_batches_is_a_configuration_error(nc: Client) -> None:
    """10174: the stream does not take atomic batches."""
    messages = [Outgoing("fills.internal.1", b"1"), Outgoing("fills.internal.2", b"2")]
    with pytest.raises(ApiConfigError) as refused:
        await publish_atomic(nc, "FILLS", messages, batch_id="b")
    assert refused.value.err_code == 10174


async def test_repeated_check_in_a_batch_is_a_conflict(nc: Client) -> None:
    """Two checks of one subject in a batch can never both hold: 10164 or 10071."""
    check = {"Nats-Expected-Last-Subject-Sequence": "0"}
    messages = [Outgoing(CURSOR, b"1"), Outgoing(CURSOR, b"2", check)]
    with pytest.raises(ApiConflictError) as refused:
        await publish_guarded(nc, "PSM", messages, expected=0, batch_id="b")
    assert refused.value.err_code in {10071, 10164}


async def test_wrong_stream_is_refused(nc: Client) -> None:
    """A subject that another stream took over is not written to: 10060."""
    with pytest.raises(ApiConfigError) as refused:
        await publish_expected(nc, "TRADES", "_psm.cursor.1", b"", expected=None)
    assert refused.value.err_code == 10060


async def test_expected_publish_is_fenced_and_deduplicated(nc: Client) -> None:
    """On the log the check holds for the stored subject; the id is known after a repeat."""
    first = await publish_expected(nc, "TRADES", "trades.acc", b"1", expected=0)
    assert not first.duplicate
    with pytest.raises(ApiConflictError) as refused:
        await publish_expected(nc, "TRADES", "trades.acc", b"2", expected=0)
    assert refused.value.err_code == 10071
    headers = {"Nats-Msg-Id": "acc:1"}
    second = await publish_expected(
        nc, "TRADES", "trades.acc", b"2", expected=first.sequence, headers=headers
    )
    again = await publish_expected(nc, "TRADES", "trades.acc", b"2", expected=None, headers=headers)
    assert again.duplicate
    assert again.sequence == second.sequence
    stored = await last_for(nc, "TRADES", "trades.*.acc")
    assert stored is not None
    assert stored.subject.startswith("trades.")
    assert stored.subject.count(".") == 2


async def test_unknown_subject_is_an_unknown_outcome(nc: Client) -> None:
    """Where nobody answers the caller cannot know whether somebody stored it."""
    with pytest.raises(UnknownOutcomeError, match="nobody answers"):
        await publish_expected(nc, "PSM", "nowhere.at.all", b"", expected=None)


async def test_reads_agree_from_leader_and_direct(nc: Client) -> None:
    """By sequence, newest of a subject, next of a subject; None where there is none."""
    await publish_guarded(nc, "PSM", batch(2), expected=0, batch_id="b1")
    await publish_guarded(nc, "PSM", batch(2, "z"), expected=1, batch_id="b2")
    newest = await last_for(nc, "PSM", "psm.cursor.3")
    assert newest is not None
    assert (newest.sequence, newest.data) == (4, b"z")
    assert await get(nc, "PSM", 4) == newest
    assert await direct_get(nc, "PSM", 4) == newest
    assert await direct_last_for(nc, "PSM", "psm.cursor.3") == newest
    assert await next_for(nc, "PSM", "psm.cursor.*", 2) == newest
    assert await direct_next_for(nc, "PSM", "psm.cursor.*", 2) == newest
    assert await get(nc, "PSM", 99) is None
    assert await last_for(nc, "PSM", "psm.none") is None
    assert await next_for(nc, "PSM", "psm.cursor.*", 5) is None
    assert await direct_get(nc, "PSM", 99) is None
    assert await direct_last_for(nc, "PSM", "psm.none") is None
    with pytest.raises(StreamNotFoundError):
        await get(nc, "NOTHING", 1)
    info = await stream_info(nc, "PSM", subjects_filter="psm.cursor.*")
    assert (info.first_sequence, info.last_sequence, info.deleted) == (1, 6, 0)
    assert info.subjects == {"psm.cursor.3": 2}


async def test_frozen_server_is_an_unknown_outcome(nats_server: EmbeddedNats) -> None:
    """No answer in time: the batch may be stored, and here it is, once the server goes on."""
    async with empty_log(nats_server.url) as nc:
        os.kill(nats_server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(UnknownOutcomeError, match="no answer"):
                await publish_guarded(nc, "PSM", batch(2), expected=0, batch_id="b1", timeout_s=0.3)
        finally:
            os.kill(nats_server.pid, signal.SIGCONT)
        # A read may overtake the batch: only a later write that is refused settles the question.
        async with asyncio.timeout(WAIT_S):
            while (cursor := await last_for(nc, "PSM", "psm.cursor.3")) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert cursor.header("Psm-Batch-Id") == "a"
        with pytest.raises(ApiConflictError):
            await publish_guarded(nc, "PSM", batch(2), expected=0, batch_id="b2")


async def test_nothing_is_sent_without_a_connection(nats_server: EmbeddedNats) -> None:
    """While the server is away a batch is not kept to be sent late."""
    async with empty_log(nats_server.url) as nc:
        await nats_server.kill()
        async with asyncio.timeout(WAIT_S):
            while nc.is_connected:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.01)
        with pytest.raises(TransientError, match="not sent"):
            await publish_guarded(nc, "PSM", batch(2), expected=0, batch_id="b1")
        await nats_server.start()
        async with asyncio.timeout(WAIT_S):
            while not nc.is_connected:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.05)
        assert (await stream_info(nc, "PSM")).messages == 0


async def test_first_connection_fails_in_bounded_time() -> None:
    """An address where nobody listens is told, without the password."""
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:1 does not answer") as failed:
        await connect("nats://u:secret@127.0.0.1:1", name="test", connect_timeout_s=0.5)
    assert "secret" not in str(failed.value)


async def test_missing_credentials_file_is_told() -> None:
    """A wrong path is the operator's to fix."""
    with pytest.raises(ConfigError, match=r"nothing\.creds does not exist"):
        await connect("nats://127.0.0.1:1", name="test", user_credentials="/nothing.creds")


async def test_permission_errors_are_counted(nats_url: str) -> None:
    """A refused subscription looks like silence to the caller; the counter shows it."""
    counters = ConnectionCounters()
    nc = await connect(nats_url, name="test", counters=counters)
    await nc.subscribe("_psm.>")
    await nc.flush()
    async with asyncio.timeout(WAIT_S):
        while not counters.permission_errors:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)
    await nc.close()


async def test_api_call_on_nothing(nc: Client) -> None:
    """The broker's own code is kept."""
    with pytest.raises(StreamNotFoundError) as missing:
        await call(nc, "STREAM.INFO.NOTHING")
    assert missing.value.err_code == 10059
