"""The event archive against real NATS and PostgreSQL: what gets in, and that it stays."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from tests.support import archiving as arch
from tests.support.archiving import archiving, event, fetch, publish, value
from tests.support.events import deposit as deposited
from tests.support.events import dismissed, trade, unknown, voided
from tests.support.events import event as fact
from tests.support.log import deposit, empty_log
from tests.support.running import psm, started
from tests.support.workbench import open_bench, until

from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.errors import FencedError
from psm.projections.archive.writer import Batch, write
from psm.workers.archive.archiver import readiness
from psm.workers.archive.lag import RETENTION_ALERT
from psm.workers.cli import main
from psm.workers.process.settings import Settings

TABLES = ("events", "event_chain", "event_refusals", "event_keys", "archive_incidents")
AGE_S = 16
# Junk of every kind: no JSON, no object, JSON that JSONB cannot hold, nonsense in every field.
JUNK = (
    b"\xff\x00",
    b"",
    b"[1]",
    b'{"payload":{"x":"\\u0000"}}',
    b'{"event_type":"a\\u0000b"}',
    b'{"event_id":"11111111-2222-4333-8444-555555555555","payload":{"x":1e999999}}',
    b'{"payload":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    b'{"payload":{"x":"\xff"}}',
    json.dumps(
        {"event_id": 1, "stream_id": [], "sequence_number": True, "timestamp": "x"}
    ).encode(),
    json.dumps({"correlation_id": "c" * 5000, "event_type": "t" * 5000, "payload": 1}).encode(),
)


async def test_every_stream_is_archived_as_it_was_stored(nats_url: str, postgres_dsn: str) -> None:
    """Columns, JSON, headers and bytes; junk too, with nulls where nothing can be said."""
    async with empty_log(nats_url) as nc, archiving(nc, postgres_dsn) as archiver:
        for subject in (
            "marketdata.ticker.BTCUSDT",
            "signals.strategy.s.BTCUSDT",
            "risk.decision.acc_001",
            "orders.command.acc_001",
            "fills.internal.o1",
            "rulebook.account.acc_001",
            "marks.BTCUSDT",
        ):
            await publish(nc, subject, event("something", stream_id="acc_001"))
        whole = event(
            "risk_decision",
            event_id="0199AAAA-0000-7000-8000-00000000000A",
            sequence_number=7,
            causation_id="0199AAAA-0000-7000-8000-00000000000B",
            correlation_id="session-1",
            metadata={"env": "test"},
            payload={"price": 1.50},
        )
        headers = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
        body = json.dumps(whole).replace("1.5}", "1.50}").encode()
        await nc.jetstream().publish("risk.decision.acc_002", body, headers=headers)
        for junk in JUNK:
            await publish(nc, "signals.strategy.junk.X", junk)
        total = await arch.assert_archive_equals_streams(nc, postgres_dsn)
        assert total == 7 + 1 + len(JUNK)
        (row,) = await fetch(postgres_dsn, "SELECT * FROM events WHERE sequence_number = 7")
        assert row["event_id"] == "0199aaaa-0000-7000-8000-00000000000a"
        assert row["causation_id"] == "0199aaaa-0000-7000-8000-00000000000b"
        assert (row["correlation_id"], row["source_service"]) == ("session-1", "test")
        assert row["timestamp"].isoformat() == "2026-02-14T13:05:00+00:00"
        assert (json.loads(row["metadata"]), row["payload"]) == ({"env": "test"}, '{"price": 1.50}')
        assert json.loads(row["headers"]) == headers
        assert (row["js_stream"], row["log_sequence"]) == ("RISK", None)
        assert await value(postgres_dsn, "SELECT log_sequence FROM events WHERE subject ~ '^marks'")
        kinds = await fetch(
            postgres_dsn,
            "SELECT kind, js_sequence FROM archive_incidents"
            " JOIN events USING (archive_sequence) ORDER BY js_sequence",
        )
        stored_with_less = [4, 5, 6, 8, 10]  # positions in JUNK of what no column can hold
        assert [tuple(r) for r in kinds] == [("body_not_storable", 1 + n) for n in stored_with_less]
        kept = "SELECT event_id FROM events WHERE js_stream = 'SIGNALS' AND js_sequence = 7"
        assert await value(postgres_dsn, kept) == "11111111-2222-4333-8444-555555555555"
        await until(lambda: readiness(archiver)[0], "every stream is archived in time")


async def test_market_data_can_be_sampled(nats_url: str, postgres_dsn: str) -> None:
    """One message per subject and interval; the others are read, and left out for good."""
    async with empty_log(nats_url) as nc:
        for number in range(5):
            for symbol in ("BTC", "ETH"):
                await publish(nc, f"marketdata.ticker.{symbol}", event("m", payload={"n": number}))
        await publish(nc, "signals.strategy.s.BTC", event("s"))
        async with archiving(nc, postgres_dsn, sample_interval_ms=60_000):
            await arch.archived(postgres_dsn, 3)
            done = (
                "SELECT coalesce(max(js_sequence), 0) FROM archive_checkpoints WHERE js_stream = "
            )
            await arch.at_least(postgres_dsn, done + "'MARKETDATA'", 10)
        rows = await fetch(postgres_dsn, "SELECT subject, payload FROM events ORDER BY subject")
    assert [tuple(row) for row in rows] == [
        ("marketdata.ticker.BTC", '{"n": 0}'),
        ("marketdata.ticker.ETH", '{"n": 0}'),
        ("signals.strategy.s.BTC", "{}"),
    ]


async def test_two_archivers_write_everything_once(nats_url: str, postgres_dsn: str) -> None:
    """The head lets one transaction through; the refused one reads again and goes on."""
    async with empty_log(nats_url) as nc:
        async with archiving(nc, postgres_dsn), archiving(nc, postgres_dsn):
            for number in range(300):
                await publish(nc, f"orders.command.a{number % 3}", event("order_request"))
                await publish(nc, "signals.strategy.s.X", event("signal_generated"))
            assert await arch.assert_archive_equals_streams(nc, postgres_dsn) == 600
        connection = await asyncpg.connect(postgres_dsn)
        late = Batch(rows=[], chained=[], refusals=[], incidents=[], moves=[])
        with pytest.raises(FencedError):
            await write(connection, late, head=599)
        await connection.close()
        assert await value(postgres_dsn, "SELECT count(*) FROM archive_incidents") == 0


async def test_archived_events_are_immutable(nats_url: str, postgres_dsn: str) -> None:
    """Update, delete and truncate are refused to the owner, whatever rows they would touch."""
    async with empty_log(nats_url) as nc, archiving(nc, postgres_dsn):
        await publish(nc, "signals.strategy.s.X", event("signal_generated"))
        await arch.archived(postgres_dsn, 1)
    connection = await asyncpg.connect(postgres_dsn)
    columns = {
        "events": "raw = ''",
        "event_chain": "chain_hash = ''",
        "event_refusals": "reason = ''",
        "event_keys": "key = ''",
        "archive_incidents": "detail = ''",
    }
    for table in TABLES:
        for statement in (
            f"UPDATE {table} SET {columns[table]}",
            f"UPDATE {table} SET {columns[table]} WHERE false",
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
        ):
            with pytest.raises(asyncpg.RestrictViolationError, match="events are immutable"):
                await connection.execute(statement)
    # Nor for a session that claims to be a replica.
    await connection.execute("SET session_replication_role = replica")
    with pytest.raises(asyncpg.RestrictViolationError, match="events are immutable"):
        await connection.execute("DELETE FROM events")
    await connection.close()
    assert await value(postgres_dsn, "SELECT count(*) FROM events") == 1


async def test_roles_allow_adding_and_reading_only(nats_url: str, postgres_dsn: str) -> None:
    """The archiver works with its role; no role may change, delete or undo the triggers."""
    suffix = uuid.uuid4().hex[:8]
    owner = await asyncpg.connect(postgres_dsn)
    await owner.execute(psm("migrate", "roles").stdout)
    await owner.execute(psm("migrate", "roles").stdout)  # a second time changes nothing
    names = {role: f"{role}_{suffix}" for role in ("writer", "reader")}
    for role, name in names.items():
        await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x' IN ROLE psm_archive_{role}")
    try:
        writer, reader = (_as(postgres_dsn, name) for name in names.values())
        async with empty_log(nats_url) as nc, archiving(nc, writer):
            await publish(nc, "signals.strategy.s.X", event("signal_generated"))
            await publish(nc, "signals.strategy.s.X", JUNK[3])
            await arch.assert_archive_equals_streams(nc, reader)
        for dsn in (writer, reader):
            connection = await asyncpg.connect(dsn)
            for statement in (
                *(f"DELETE FROM {table}" for table in TABLES),
                "UPDATE events SET raw = ''",
                "TRUNCATE events",
                "ALTER TABLE events DISABLE TRIGGER immutable",
                "DROP TABLE event_keys",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
            await connection.close()
        assert (
            psm("events", "-o", "jsonl", environment={"POSTGRES_DSN": reader}).stdout.count("\n")
            == 2
        )
    finally:
        for name in names.values():
            await owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
        await owner.close()


async def test_keys_of_every_kind_are_archived(nats_url: str, postgres_dsn: str) -> None:
    """Fills, transfers and references, each with its place in the table of events."""
    facts = [
        deposited(1, reference="tx-1", currency="USDT"),
        trade(2, "buy", "1", "100", fill_id="f1", order_id="o1"),
        fact("TransferredIn", {"transfer_id": "t1", "amount": "1"}, 3),
    ]
    async with empty_log(nats_url) as nc, archiving(nc, postgres_dsn):
        for sent in facts:
            await nc.request(sent.subject, sent.data, timeout=5)
        assert await arch.assert_archive_equals_streams(nc, postgres_dsn) == len(facts)
    rows = await fetch(
        postgres_dsn, "SELECT key_kind, key, key_symbol FROM events ORDER BY js_sequence"
    )
    assert [tuple(row) for row in rows] == [
        ("reference", "CashDeposited tx-1", "USDT"),
        ("fill", "f1 buy o1", "BTC-PERP"),
        ("transfer", "t1", ""),
    ]


async def test_a_key_applied_twice_is_an_incident(
    nats_url: str, postgres_dsn: str, tmp_path: Path
) -> None:
    """A fill repeated beyond the fold's memory is booked, and found; a refused one is not."""
    environment = {"NATS_URL": nats_url, "POSTGRES_DSN": postgres_dsn, "PSM_PARTITIONS": "4"}
    async with empty_log(nats_url) as nc, archiving(nc, postgres_dsn):
        with started(tmp_path, "worker", environment=environment):
            fills = [f"f{n}" for n in range(260)]
            # `f259` is remembered and refused, `f0` is forgotten and booked again.
            for number, fill in enumerate([*fills, "f259", "f0"], 1):
                await nc.publish("trades.acc_001", json.dumps(_trade(number, fill)).encode())
            again = event("signal_generated")
            await publish(nc, "signals.strategy.s.X", again)
            await publish(nc, "signals.strategy.s.X", again)  # the same bytes: a redelivery
            await publish(nc, "signals.strategy.s.X", {**again, "payload": {"other": 1}})
            await publish(nc, "trades.acc_001", b"no json")
            assert await arch.assert_archive_equals_streams(nc, postgres_dsn) == 262 + 4
            await arch.at_least(postgres_dsn, "SELECT count(*) FROM event_chain", 262)
            assert await arch.assert_chain_equals_updates(nc, postgres_dsn) == 262
            await arch.at_least(postgres_dsn, "SELECT count(*) FROM event_refusals", 2)
    rows = await fetch(postgres_dsn, "SELECT * FROM archive_incidents ORDER BY kind")
    assert [row["kind"] for row in rows] == ["duplicate_fill", "event_id_reused"]
    assert (rows[0]["js_stream"], rows[0]["first_sequence"]) == ("TRADES", 262)
    assert "fill_id f0 buy in BTC-PERP of TRADES message 262 was first that of" in rows[0]["detail"]
    assert (rows[1]["js_stream"], rows[1]["first_sequence"]) == ("SIGNALS", 3)
    outcomes = await fetch(
        postgres_dsn,
        "SELECT outcome, refusal_reason, count(*) FROM archived_events WHERE js_stream = 'TRADES'"
        " GROUP BY 1, 2 ORDER BY 1",
    )
    assert [tuple(row) for row in outcomes] == [
        ("applied", None, 261),
        ("refused", "duplicate_fill", 1),
        ("rejected", "invalid_json", 1),
    ]
    done = psm("archive", "incidents", environment={"POSTGRES_DSN": postgres_dsn}, check=False)
    assert done.returncode == 1
    assert "duplicate_fill" in done.stdout


async def test_operators_event_was_applied_when_it_released_something(
    nats_url: str, postgres_dsn: str
) -> None:
    """It takes no place of its own; what it did is seen by what was folded with it."""
    async with open_bench(nats_url) as bench, archiving(bench.nc, postgres_dsn), bench.worker():
        await bench.publish([deposited(1), unknown(2), deposited(3), dismissed(9)])
        last = await bench.publish([dismissed(2), deposited(5), voided(4, 4), dismissed(2)])
        await arch.archived(postgres_dsn, last)
        await arch.at_least(postgres_dsn, "SELECT count(*) FROM event_chain", 6)
    rows = await fetch(
        postgres_dsn,
        "SELECT event_type, outcome, refusal_reason FROM archived_events ORDER BY log_sequence",
    )
    assert [tuple(row) for row in rows] == [
        ("CashDeposited", "applied", None),
        ("MoonPhaseChanged", "refused", "dismissed"),
        ("CashDeposited", "applied", None),
        ("EventDismissed", "refused", "not_blocking"),
        ("EventDismissed", "applied", None),
        ("CashDeposited", "applied", None),
        ("SequenceVoided", "applied", None),
        ("EventDismissed", None, None),  # a repeat
    ]


async def test_what_expired_unread_is_said_and_recorded(nats_url: str, postgres_dsn: str) -> None:
    """Behind the retention the archive goes on with what is there; the hole is on record."""
    async with empty_log(nats_url) as nc:
        async with archiving(nc, postgres_dsn):
            await publish(nc, "signals.strategy.s.X", event("signal_generated"))
            await arch.archived(postgres_dsn, 1)
        for _ in range(9):
            await publish(nc, "signals.strategy.s.X", event("signal_generated"))
        js = nc.jetstream()
        config = (await js.stream_info("SIGNALS")).config
        await js.update_stream(config, max_msgs=2)
        environment = {"NATS_URL": nats_url, "POSTGRES_DSN": postgres_dsn}
        lines = psm("archive", "status", "-o", "jsonl", environment=environment).stdout.splitlines()
        (lag,) = [line for line in map(json.loads, lines) if line["js_stream"] == "SIGNALS"]
        assert (lag["checkpoint"], lag["lag_events"], lag["lost"]) == (1, 9, 7)
        async with archiving(nc, postgres_dsn) as archiver:
            await arch.archived(postgres_dsn, 3)
            await until(archiver.is_ready, "every stream is archived")
    (row,) = await fetch(postgres_dsn, "SELECT * FROM archive_incidents")
    assert (row["kind"], row["js_stream"]) == ("behind_retention", "SIGNALS")
    assert (row["first_sequence"], row["last_sequence"]) == (2, 8)
    found = await fetch(postgres_dsn, "SELECT js_sequence FROM events ORDER BY archive_sequence")
    assert [r["js_sequence"] for r in found] == [1, 9, 10]


async def test_being_late_for_the_retention_is_told(
    nats_url: str, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before messages expire unread, readiness and `psm archive status` say so."""
    monkeypatch.setenv("NATS_URL", nats_url)
    monkeypatch.setenv("POSTGRES_DSN", postgres_dsn)
    async with empty_log(nats_url) as nc:
        js = nc.jetstream()
        config = (await js.stream_info("SIGNALS")).config
        await js.update_stream(config, max_age=AGE_S, duplicate_window=1)
        blocker = await asyncpg.connect(postgres_dsn)
        async with archiving(nc, postgres_dsn) as archiver:
            async with blocker.transaction():
                await blocker.execute("SELECT FROM archive_head FOR UPDATE")
                await publish(nc, "signals.strategy.s.X", event("signal_generated"))
                await asyncio.sleep(AGE_S * RETENTION_ALERT)
                await until(lambda: not readiness(archiver)[0], "it is late")
                assert RETENTION_ALERT <= readiness(archiver)[1]["late"]["SIGNALS"] < 1
                assert await asyncio.to_thread(main, ["archive", "status"]) == 1
            await blocker.close()
            await arch.archived(postgres_dsn, 1)
            await until(lambda: readiness(archiver)[0], "it is in time again")
            assert await asyncio.to_thread(main, ["archive", "status"]) == 0


async def test_another_log_is_not_archived_over_this_one(nats_url: str, postgres_dsn: str) -> None:
    """A log made anew stops its own archive with the reason; other streams go on."""
    async with empty_log(nats_url) as nc:
        async with archiving(nc, postgres_dsn):
            for number in range(1, 4):
                await publish(nc, "trades.acc_001", deposit("acc_001", number))
            await arch.archived(postgres_dsn, 3)
        await nc.jetstream().delete_stream("TRADES")
        await apply(nc, Settings(partitions=4))
        for number in range(1, 6):
            await publish(nc, "trades.acc_001", deposit("acc_001", number))
        async with archiving(nc, postgres_dsn) as archiver:
            await publish(nc, "signals.strategy.s.X", event("signal_generated"))
            await arch.archived(postgres_dsn, 4)
            # Which stream is read first is chance.
            await until(lambda: "TRADES" in readiness(archiver)[1]["waiting"], "it has stopped")
            ready, detail = readiness(archiver)
            assert not ready
            assert (
                "is not the stream that was archived up to message 3" in detail["waiting"]["TRADES"]
            )
    assert await value(postgres_dsn, "SELECT count(*) FROM events WHERE js_stream = 'TRADES'") == 3


def _trade(number: int, fill_id: str) -> dict[str, object]:
    payload = {
        "symbol": "BTC-PERP",
        "side": "buy",
        "quantity": "1",
        "price": "100",
        "fill_id": fill_id,
    }
    return event("TradeExecuted", stream_id="acc_001", sequence_number=number, payload=payload)


def _as(dsn: str, user: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{user}:x@{parts.hostname}:{parts.port}"))
