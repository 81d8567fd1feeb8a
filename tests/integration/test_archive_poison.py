"""What PostgreSQL cannot hold as text or JSON is archived all the same, and stops nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.support import archiving as arch
from tests.support.archiving import archiving, event, fetch, publish
from tests.support.log import empty_log
from tests.support.running import psm, started
from tests.support.workbench import until

from psm.adapters import postgres
from psm.projections.archive.rows import RecordedRow, row
from psm.projections.archive.writer import Batch, read_head, write
from psm.projections.witness.remembered import archived_messages
from psm.workers.archive import source
from psm.workers.archive.archiver import readiness
from psm.workers.archive.reads import ArchiveReads, Filter

HUGE = b'{"event_id":"11111111-2222-4333-8444-555555555555","payload":{"x":[%s]}}'
KB = 1024


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


async def _archive(connection: asyncpg.Connection, *messages: RecordedRow) -> int:
    async with connection.transaction():
        head = await read_head(connection)
        batch = Batch(rows=[*map(row, messages)], chained=[], refusals=[], incidents=[], moves=[])
        return await write(connection, batch, head)


async def test_a_fill_with_a_nul_beside_it_is_found_when_it_is_booked_again(
    nats_url: str, postgres_dsn: str, tmp_path: Path
) -> None:
    """The key is taken from the bytes: an unknown field that JSONB refuses hides no fill."""
    environment = {"NATS_URL": nats_url, "POSTGRES_DSN": postgres_dsn, "PSM_PARTITIONS": "4"}
    async with empty_log(nats_url) as nc, archiving(nc, postgres_dsn):
        with started(tmp_path, "worker", environment=environment):
            fills = [f"f{n}" for n in range(1, 302)]
            for number, fill in enumerate([*fills, "f1"], 1):
                note = {"note": "\0"} if number == 1 else {}
                await nc.publish("trades.acc_001", _trade(number, fill, **note))
            await arch.at_least(postgres_dsn, "SELECT count(*) FROM event_chain", 302)
    rows = await fetch(
        postgres_dsn, "SELECT kind, first_sequence, detail FROM archive_incidents ORDER BY kind"
    )
    assert [(r["kind"], r["first_sequence"]) for r in rows] == [
        ("body_not_storable", 1),
        ("duplicate_fill", 302),
    ]
    assert "fill_id f1 buy in BTC-PERP of TRADES message 302 was first that of" in rows[1]["detail"]
    (first,) = await fetch(postgres_dsn, "SELECT * FROM events WHERE js_sequence = 1")
    assert (first["payload"], first["left_out"]) == (None, ["payload"])
    assert first["event_id"] is not None
    audited = psm("audit", "--no-views", environment=environment, check=False)
    assert "duplicate_fill" in audited.stderr


async def test_a_subject_with_a_nul_stops_no_stream(nats_url: str, postgres_dsn: str) -> None:
    """It is archived under a name that can be read, and under its bytes."""
    odd = f"signals.strategy.{'a' * 60}\0b.X"
    async with empty_log(nats_url) as nc, archiving(nc, postgres_dsn) as archiver:
        await publish(nc, odd, event("signal_generated"))
        await publish(nc, "signals.strategy.s.X", event("signal_generated"))
        await publish(nc, "orders.command.acc_001", event("order_request"))
        await arch.assert_archive_equals_streams(nc, postgres_dsn)
        await until(archiver.is_ready, "every stream is archived")
    rows = await fetch(
        postgres_dsn,
        "SELECT subject, subject_bytes, left_out, event_id FROM events WHERE js_stream = 'SIGNALS'"
        " ORDER BY js_sequence",
    )
    assert [tuple(r)[:3] for r in rows] == [
        (odd.replace("\0", r"\u{0}"), odd.encode(), ["subject"]),
        ("signals.strategy.s.X", None, []),
    ]
    pool = await postgres.open_pool(postgres_dsn, name="test", size_max=1)
    try:
        document = json.loads(await ArchiveReads(pool).event(rows[0]["event_id"]))
    finally:
        pool.terminate()
    assert document["subject_base64"] == base64.b64encode(odd.encode()).decode()


async def test_one_streams_trouble_stops_no_other(
    nats_url: str, postgres_dsn: str, database: asyncpg.Connection
) -> None:
    """A table that refuses the rows of one stream keeps that one waiting, and says so."""
    refuse = "ALTER TABLE events ADD CONSTRAINT odd CHECK (js_stream <> 'SIGNALS')"
    async with empty_log(nats_url) as nc, archiving(nc, postgres_dsn) as archiver:
        await database.execute(refuse)
        await publish(nc, "signals.strategy.s.X", event("signal_generated"))
        await publish(nc, "orders.command.acc_001", event("order_request"))
        await arch.archived(postgres_dsn, 1)
        await until(lambda: list(readiness(archiver)[1]["waiting"]) == ["SIGNALS"], "it waits")
        await database.execute("ALTER TABLE events DROP CONSTRAINT odd")
        assert await arch.assert_archive_equals_streams(nc, postgres_dsn) == 2
        await until(archiver.is_ready, "every stream is archived")


async def test_a_transaction_is_bounded_in_bytes(
    nats_url: str, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large messages are archived a few at a time, each once."""
    monkeypatch.setattr(source, "BATCH_BYTES", 2500)
    async with empty_log(nats_url) as nc:
        for number in range(8):
            body = event("order_request", payload={"n": number, "x": "x" * 400 * number})
            await publish(nc, "orders.command.acc_001", body)
            await publish(nc, "signals.strategy.s.X", event("s"))
        async with archiving(nc, postgres_dsn):
            assert await arch.assert_archive_equals_streams(nc, postgres_dsn) == 16


async def test_every_odd_message_is_a_row_with_what_it_says(database: asyncpg.Connection) -> None:
    """A column that cannot be held is null and named; its neighbours are there."""
    identity = "11111111-2222-4333-8444-55555555555"
    odd: dict[str, tuple[bytes, list[str]]] = {
        "0": (b'"correlation_id":"\\u0000"', ["correlation_id"]),
        "1": (b'"user_id":"\\ud800"', ["user_id"]),
        "2": (b'"payload":{"a":"\\ud800"}', ["payload"]),
        "3": (b'"payload":{"a":"\xff"}', ["payload"]),
        "4": (b'"payload":{"a":1e131071}', ["payload"]),
        "5": (b'"payload":{"a":1e-16383}', ["payload"]),
        "6": (b'"payload":{"a":1e999999}', ["payload"]),
        "7": (b'"timestamp":1e999', []),
        "8": (b'"metadata":{"\\\\u0000":"\\\\u0000"}', []),
        "9": (b'"metadata":{"\\\\\\u0000":1}', ["metadata"]),
        "a": (b'"user_id":"' + b"u" * 513 + b'"', ["user_id"]),
        "b": (b'"payload":{"a":' + b"[" * 900 + b"]" * 900 + b"}", []),
        "c": (b'"payload":{"a":[' + b",".join([b"1e90"] * 4000) + b"]}", ["payload"]),
        "e": (b'"payload":{"a":' + b"7" * 5000 + b"}", ["payload"]),
        "d": (b'"payload":{"a":"x1e999999","b":1e30}', []),
    }
    messages = [
        RecordedRow(
            js_stream="SIGNALS",
            sequence=number,
            subject="signals.\udcff\0",
            time_ns=1,
            data=b'{"event_id":"%s%s",%s}' % (identity.encode(), name.encode(), more),
            headers={"ok": "1", "odd": "\udcff" if number == 1 else "\0"} if number < 3 else None,
        )
        for number, (name, (more, _)) in enumerate(odd.items(), 1)
    ]
    await _archive(database, *messages)
    rows = await database.fetch("SELECT * FROM events ORDER BY archive_sequence")
    assert [bytes(r["raw"]) for r in rows] == [m.data for m in messages]
    assert [r["event_id"] for r in rows] == [identity + name for name in odd]
    for found, (name, (_, left_out)) in zip(rows, odd.items(), strict=True):
        headers = ["headers"] if found["js_sequence"] < 3 else []
        assert sorted(found["left_out"]) == sorted(["subject", *headers, *left_out]), name
        assert (found["subject"], found["subject_bytes"]) == (
            r"signals.\u{dcff}\u{0}",
            b"signals.\xff\0",
        )


async def test_a_log_is_given_back_with_its_subjects(database: asyncpg.Connection) -> None:
    """What restores a log from the archive gets each subject as it was, odd ones too."""
    subjects = ["trades.1.a", "trades.1.a\0b", "trades.1.\udcff", r"trades.1.\u{0}"]
    messages = [
        RecordedRow(js_stream="TRADES", sequence=number, subject=subject, time_ns=1, data=b"{}")
        for number, subject in enumerate(subjects, 1)
    ]
    await _archive(database, *messages)
    found = await archived_messages(database, 1, len(subjects))
    assert [message.subject for message in found] == subjects


async def test_what_only_the_database_refuses_is_found_and_kept_as_bytes(
    database: asyncpg.Connection,
) -> None:
    """JSON that no rule of ours names: here a number is not beyond the document, but JSONB."""
    good = RecordedRow(js_stream="SIGNALS", sequence=1, subject="a", time_ns=1, data=b"{}")
    body = b'{"event_id":"x","payload":{"a":"%s","b":1e140000}}' % (b"x" * 150_000)
    bad = RecordedRow(js_stream="SIGNALS", sequence=2, subject="a", time_ns=1, data=body)
    assert await _archive(database, good, bad) == 1
    (kept,) = await database.fetch("SELECT * FROM events WHERE js_sequence = 2")
    assert (bytes(kept["raw"]), kept["event_id"]) == (body, "x")
    assert (kept["payload"], kept["left_out"]) == (None, ["payload"])


async def test_answers_are_bounded_whatever_was_archived(
    nats_url: str, postgres_dsn: str, tmp_path: Path
) -> None:
    """Numbers do not expand, lists end early, and the exact bytes can be had in pieces."""
    environment = {"NATS_URL": nats_url, "POSTGRES_DSN": postgres_dsn, "PSM_PARTITIONS": "4"}
    huge = HUGE % b",".join([b"1e131071"] * 2000)
    large = [
        json.dumps(event("s", correlation_id="c", payload={"x": "x" * 200 * KB})).encode()
        for _ in range(12)
    ]
    digits = b'{"event_id":"d","payload":{"x":' + b"7" * 5000 + b"}}"
    async with empty_log(nats_url) as nc, archiving(nc, postgres_dsn):
        for body in (huge, *large, digits):
            await publish(nc, "signals.strategy.s.X", body)
        await arch.archived(postgres_dsn, 14)
    one = psm("archive", "bytes", "1", environment=environment)
    assert one.stdout.encode() == huge
    trade = json.loads(large[0])["event_id"]
    for command in (["events"], ["trace", "c"], ["explain", trade], ["events", "-o", "json"]):
        done = psm(*command, environment=environment)
        assert len(done.stdout) < 8 * KB * KB, command
        assert "Traceback" not in done.stderr
    pool = await postgres.open_pool(postgres_dsn, name="test", size_max=1)
    try:
        reads = ArchiveReads(pool)
        document: dict[str, Any] = json.loads(await reads.event("1"))
        assert document["payload"] is None
        assert document["left_out"] == ["payload"]
        assert base64.b64decode(document["raw_base64"]) == huge
        seen: list[int] = []
        start: int | None = 1
        pages = 0
        while start is not None:
            page = await reads.events(Filter(from_sequence=start, limit=1000))
            assert sum(map(len, page.events)) < 8 * KB * KB
            seen += [json.loads(bytes(e))["archive_sequence"] for e in page.events]
            start = page.next_sequence
            pages += 1
        assert (seen, pages > 1) == (list(range(1, 15)), True)
        correlation = json.loads(await reads.correlation("c"))
        left = [e["event"]["left_out"] for e in correlation["events"]]
        assert [] in left
        assert ["payload"] in left
    finally:
        pool.terminate()


def _trade(number: int, fill_id: str, **more: Any) -> bytes:
    payload = {
        "symbol": "BTC-PERP",
        "side": "buy",
        "quantity": "1",
        "price": "100",
        "fill_id": fill_id,
        **more,
    }
    fields = {"stream_id": "acc_001", "sequence_number": number, "payload": payload}
    return json.dumps(event("TradeExecuted", **fields)).encode()
