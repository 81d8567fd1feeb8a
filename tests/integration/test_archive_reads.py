"""What the archive answers: SQL functions, HTTP and commands, on real servers."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.integration.test_http import Api, serving
from tests.support import archiving as arch
from tests.support.archiving import archiving, event, fetch, publish, value
from tests.support.log import empty_log
from tests.support.running import psm, run, started

from psm.adapters import postgres
from psm.workers.archive import documents
from psm.workers.cli import main
from psm.workers.proof.audit.causes import dangling_notes

ROOT = Path(__file__).parents[2]
CAUSE, EFFECT, LAST = (f"0199aaaa-0000-7000-8000-00000000000{n}" for n in (1, 2, 3))


@pytest.fixture
async def api(nats_url: str, postgres_dsn: str) -> AsyncIterator[Api]:
    async with serving(nats_url, postgres_dsn, ingest=False) as api:
        yield api


# --- the specification's example ------------------------------------------------------------------


async def test_a_trade_is_explained_from_end_to_end(
    nats_url: str,
    postgres_dsn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Six processes publish tick to position for BTCUSDT; explain, trace and stats tell it."""
    environment = {"NATS_URL": nats_url, "POSTGRES_DSN": postgres_dsn, "PSM_PARTITIONS": "4"}
    example = [sys.executable, str(ROOT / "examples/strategy_chain.py"), "--url", nats_url]
    async with empty_log(nats_url) as nc, archiving(nc, postgres_dsn):
        with started(tmp_path, "worker", environment=environment):
            played = await asyncio.to_thread(run, example)
            assert await arch.assert_archive_equals_streams(nc, postgres_dsn) == 7
            await arch.at_least(postgres_dsn, "SELECT count(*) FROM event_chain", 1)

    correlation = played.stdout.strip().rpartition(" ")[2]
    ids = {
        row["event_type"]: row["event_id"]
        for row in await fetch(postgres_dsn, "SELECT event_type, event_id FROM events")
    }
    trade = ids["TradeExecuted"]

    monkeypatch.setenv("POSTGRES_DSN", postgres_dsn)

    async def command(*arguments: str) -> str:
        assert await asyncio.to_thread(main, arguments) in (0, None)
        return capsys.readouterr().out

    told = await command("explain", trade)
    assert "acc_001 bought 0.5 BTCUSDT at 43250.5 (then long 0.5)" in told
    assert "because strategy strategy signalled buy with confidence 0.82 (price broke out" in told
    assert "and risk approved it (within limits)." in told
    assert "BTCUSDT 43250.5 (bid 43250.0, ask 43251.0)" in told
    assert ["max_notional", "21625.25", "50000", "yes"] in [
        line.split() for line in told.splitlines()
    ]
    assert "<- this event" in told
    explained = msgspec.json.decode(
        await command("explain", trade, "-o", "json"), type=documents.Explanation
    )
    assert [step.event.event_type for step in explained.causation_chain] == [
        "market_data", "signal_generated", "risk_decision", "order_request", "order_result",
        "TradeExecuted",
    ]  # fmt: skip
    assert [step.event.event_type for step in explained.effects] == ["position_update"]
    assert explained.signal is not None
    assert explained.signal.event_id == ids["signal_generated"]
    assert explained.event.outcome == "applied"
    assert explained.event.chain_hash
    assert explained.missing_cause is None
    assert set(explained.found_by.values()) == {"causation"}
    # A decision explains itself from both sides.
    from_above = json.loads(await command("explain", ids["market_data"], "-o", "json"))
    assert from_above["decision"]["event_id"] == ids["risk_decision"]
    assert from_above["found_by"]["decision"] == "effect"

    tree = (await command("trace", correlation)).splitlines()
    assert tree[0].startswith("#")
    assert "market_data" in tree[0]
    assert [line.index("#") for line in tree] == [0, 3, 6, 9, 12, 15, 18]
    assert await command("trace", trade) == "\n".join(tree) + "\n"
    lines = (await command("trace", correlation, "-o", "jsonl")).splitlines()
    assert {json.loads(line)["relation"] for line in lines} == {"correlated"}

    counted = json.loads(await command("stats", "-o", "json"))
    assert counted["events"] == 7
    assert {row["event_type"]: row["events"] for row in counted["types"]} == dict.fromkeys(ids, 1)
    assert json.loads(await command("stats", "--since", "1h", "-o", "json"))["events"] == 7
    listed = (await command("events", "--event-type", "TradeExecuted", "-o", "jsonl")).splitlines()
    assert [json.loads(line)["event_id"] for line in listed] == [trade]


async def test_commands_say_what_is_wrong(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown events and correlations, malformed intervals and limits end with a reason."""
    monkeypatch.setenv("POSTGRES_DSN", postgres_dsn)
    for arguments, code, complaint in (
        (("explain", CAUSE), 1, f"event {CAUSE} is not in the archive"),
        (("trace", "nobody"), 1, "no event with correlation_id nobody"),
        (("stats", "--since", "yesterday"), 2, "yesterday: expected a time"),
        (("events", "--limit", "0"), 2, "--limit 0: choose 1 to 1000"),
    ):
        assert await asyncio.to_thread(main, arguments) == code
        printed = capsys.readouterr()
        assert printed.out == ""
        assert complaint in printed.err


# --- functions ------------------------------------------------------------------------------------


async def test_a_cause_may_arrive_after_its_effect(
    nats_url: str,
    postgres_dsn: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Until it does it is dangling and named as missing; then the chain is whole."""
    async with empty_log(nats_url) as nc, archiving(nc, postgres_dsn):
        await publish(
            nc, "orders.command.a", event("order_request", event_id=EFFECT, causation_id=CAUSE)
        )
        await arch.archived(postgres_dsn, 1)
        monkeypatch.setenv("POSTGRES_DSN", postgres_dsn)
        await asyncio.to_thread(main, ["archive", "dangling", "-o", "jsonl"])
        assert json.loads(capsys.readouterr().out)["causation_id"] == CAUSE
        pool = await postgres.open_pool(postgres_dsn, name="test")
        (note,) = await dangling_notes(pool)  # what `psm audit` adds
        await pool.close()
        assert note.startswith(f"archived event #1 (order_request) names the cause {CAUSE}")
        missing = "SELECT explain_decision($1) ->> 'missing_cause'"
        assert await value(postgres_dsn, missing, EFFECT) == CAUSE
        await publish(nc, "risk.decision.a", event("risk_decision", event_id=CAUSE.upper()))
        await arch.archived(postgres_dsn, 2)
    assert await _chain(postgres_dsn, EFFECT) == [(1, CAUSE), (0, EFFECT)]
    assert await value(postgres_dsn, missing, EFFECT) is None
    assert await fetch(postgres_dsn, "SELECT * FROM get_dangling_causations()") == []
    assert await _chain(postgres_dsn, LAST) == []
    assert await value(postgres_dsn, "SELECT explain_decision($1)", LAST) is None


async def test_circles_and_repeats_end(nats_url: str, postgres_dsn: str) -> None:
    """Events that cause each other, or arrive twice, give a chain, a tree and an end."""
    circle = [
        event("a", event_id=CAUSE, causation_id=LAST, correlation_id="c"),
        event("b", event_id=EFFECT, causation_id=CAUSE, correlation_id="c"),
        event("c", event_id=LAST, causation_id=EFFECT, correlation_id="c"),
    ]
    async with empty_log(nats_url) as nc, archiving(nc, postgres_dsn):
        for content in [*circle, *circle]:
            await publish(nc, "signals.strategy.s.X", content)
        await publish(
            nc, "signals.strategy.s.X", event("d", event_id=str(uuid.uuid4()), causation_id=LAST)
        )
        await arch.archived(postgres_dsn, 7)
    assert await _chain(postgres_dsn, LAST) == [(2, CAUSE), (1, EFFECT), (0, LAST)]
    effects = "SELECT depth FROM causation_effects($1)"
    assert [row["depth"] for row in await fetch(postgres_dsn, effects, CAUSE)] == [1, 2, 3]
    related = "SELECT relation FROM trace_correlation('c') ORDER BY archive_sequence"
    assert [row["relation"] for row in await fetch(postgres_dsn, related)] == [
        "correlated", "correlated", "correlated", "effect",
    ]  # fmt: skip
    assert await value(postgres_dsn, "SELECT count(*) FROM get_correlation_events('c')") == 6
    traced = await asyncio.to_thread(psm, "trace", "c", environment={"POSTGRES_DSN": postgres_dsn})
    assert traced.stdout.count("#") == 4


async def test_explain_takes_what_only_the_correlation_links(
    nats_url: str, postgres_dsn: str
) -> None:
    """Without causation the nearest of the correlation is shown, and that is said."""
    async with empty_log(nats_url) as nc, archiving(nc, postgres_dsn):
        for number, subject in enumerate(("signals.strategy.s.X", "signals.strategy.s.X")):
            await publish(
                nc,
                subject,
                event(
                    "signal_generated", correlation_id="c", payload={"n": number, "confidence": [1]}
                ),
            )
        await publish(
            nc,
            "orders.command.a",
            event("order_request", event_id=LAST, correlation_id="c", payload="no object"),
        )
        await arch.archived(postgres_dsn, 3)
    done = await asyncio.to_thread(
        psm, "explain", LAST, "-o", "json", environment={"POSTGRES_DSN": postgres_dsn}
    )
    found = json.loads(done.stdout)
    assert found["found_by"] == {"signal": "correlation"}
    assert found["signal"]["payload"]["n"] == 1
    assert (found["decision"], found["checks"]) == (None, [])
    told = await asyncio.to_thread(psm, "explain", LAST, environment={"POSTGRES_DSN": postgres_dsn})
    assert "(same correlation only)" in told.stdout
    assert "decision    not in the archive" in told.stdout


async def test_stats_count_within_an_interval(nats_url: str, postgres_dsn: str) -> None:
    """Types, services, streams and bytes; nothing is older than a day."""
    async with empty_log(nats_url) as nc, archiving(nc, postgres_dsn):
        for account in ("a", "b", "b"):
            await publish(
                nc, f"orders.command.{account}", event("order_request", stream_id=account)
            )
        await arch.archived(postgres_dsn, 3)
    (row,) = await fetch(postgres_dsn, "SELECT * FROM get_event_stats($1)", timedelta(days=1))
    assert (row["js_stream"], row["event_type"], row["source_service"]) == (
        "ORDERS", "order_request", "test",
    )  # fmt: skip
    assert (row["events"], row["streams"]) == (3, 2)
    assert row["bytes"] == await value(postgres_dsn, "SELECT sum(octet_length(raw)) FROM events")
    assert await fetch(postgres_dsn, "SELECT * FROM get_event_stats('0 seconds')") == []


# --- HTTP -----------------------------------------------------------------------------------------


async def test_pages_follow_each_other_without_a_gap(api: Api, postgres_dsn: str) -> None:
    """Keyset pages cover every event once, also with filters; the link leads on."""
    async with archiving(api.nc, postgres_dsn):
        for number in range(7):
            body = event("even" if number % 2 == 0 else "odd", stream_id=f"s{number % 3}")
            await publish(api.nc, "signals.strategy.s.X", body)
        await arch.archived(postgres_dsn, 7)
    seen, path = [], "/events?limit=3"
    while path:
        response = await api.client.get(path)
        page = msgspec.json.decode(response.content, type=documents.EventPage)
        seen += [found.archive_sequence for found in page.events]
        path = response.links["next"]["url"] if page.next_sequence else ""
    assert seen == list(range(1, 8))
    for query, expected in (
        ("from_sequence=3&to_sequence=5", [3, 4, 5]),
        ("event_type=odd", [2, 4, 6]),
        ("stream_id=s0", [1, 4, 7]),
        ("stream_id=s0&event_type=even&from_sequence=2", [7]),
        ("event_type=none", []),
    ):
        answer = (await api.client.get(f"/events?{query}")).json()
        assert [found["archive_sequence"] for found in answer["events"]] == expected
        assert answer["next_sequence"] is None


async def test_answers_are_bounded_in_bytes(api: Api, postgres_dsn: str) -> None:
    """A page ends when it is long enough; envelopes that would be too long together say so."""
    count, text = 900, "\1" * 512  # six bytes each in JSON
    names = ("schema_version", "source_service", "user_id", "stream_id", "causation_id")
    async with archiving(api.nc, postgres_dsn):
        for _ in range(count):
            said = dict.fromkeys(names, text)
            body = event(text, correlation_id="c", payload={"text": text}, **said)
            await publish(api.nc, "signals.strategy.s.X", body)
        await arch.archived(postgres_dsn, count)
    seen, path, pages = [], "/events?limit=1000", 0
    while path:
        response = await api.client.get(path)
        assert len(response.content) < 2 * 1024 * 1024
        page = msgspec.json.decode(response.content, type=documents.EventPage)
        seen += [found.archive_sequence for found in page.events]
        path = response.links["next"]["url"] if page.next_sequence else ""
        pages += 1
    assert seen == list(range(1, count + 1))
    assert pages > 10
    found = await api.problem("/correlations/c", 422)
    assert found["type"] == "urn:psm:problem:document-too-large"
    assert "GET /events" in found["detail"]


async def test_one_event_its_causes_and_its_bytes(api: Api, postgres_dsn: str) -> None:
    """Documents are those that the service describes; the bytes are the producer's."""
    raw = json.dumps(event("b", event_id=EFFECT, causation_id=CAUSE, correlation_id="c/1")).encode()
    async with archiving(api.nc, postgres_dsn):
        await publish(api.nc, "risk.decision.a", event("risk_decision", event_id=CAUSE))
        await publish(api.nc, "orders.command.a", raw)
        await publish(api.nc, "orders.command.a", b"no json")
        await arch.archived(postgres_dsn, 3)

    async def get(path: str, struct: type[Any]) -> Any:
        response = await api.client.get(path)
        assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
        assert list(response.json()) == list(struct.__struct_fields__), (
            "in the order of the contract"
        )
        return msgspec.json.decode(response.content, type=struct)

    whole = await get(f"/events/{EFFECT.upper()}", documents.WholeEvent)
    assert base64.b64decode(whole.raw_base64) == raw
    assert whole.deliveries == [2]
    junk = await get("/events/3", documents.WholeEvent)
    assert (base64.b64decode(junk.raw_base64), junk.event_id, junk.payload) == (
        b"no json",
        None,
        None,
    )
    piece = await api.client.get(f"/events/{EFFECT}/bytes?offset=7")
    assert (piece.content, piece.headers["psm-total-bytes"]) == (raw[7:], str(len(raw)))
    assert piece.headers["content-type"] == "application/octet-stream"
    assert (await api.client.get(f"/events/{EFFECT}/bytes?offset=0")).content == raw
    assert (await api.client.get(f"/events/{EFFECT}/bytes?offset={2**62}")).content == b""
    causation = await get(f"/events/{EFFECT}/causation", documents.Causation)
    assert [(s.depth, s.event.event_id) for s in causation.chain] == [(1, CAUSE), (0, EFFECT)]
    explained = await get(f"/events/{EFFECT}/explain", documents.Explanation)
    assert explained.decision.event_id == CAUSE
    correlation = await get("/correlations/c%2F1", documents.Correlation)
    assert [(e.relation, e.event.event_id) for e in correlation.events] == [
        ("cause", CAUSE), ("correlated", EFFECT),
    ]  # fmt: skip


async def test_errors_are_problem_details(api: Api) -> None:
    """What is unknown or malformed is answered as such, by every path."""
    for path, status, kind in (
        ("/events/nobody", 404, "unknown-event"),
        ("/events/99", 404, "unknown-event"),
        (f"/events/{CAUSE}/causation", 404, "unknown-event"),
        (f"/events/{CAUSE}/explain", 404, "unknown-event"),
        ("/correlations/nobody", 404, "unknown-correlation"),
        ("/events?limit=1001", 400, "malformed-parameter"),
        ("/events?limit=0", 400, "malformed-parameter"),
        ("/events?from_sequence=x", 400, "malformed-parameter"),
        ("/events?stream=acc_001", 400, "malformed-parameter"),
        ("/events?stream_id=%00", 400, "malformed-parameter"),
        ("/events/%00", 400, "malformed-parameter"),
        ("/events/99/bytes", 404, "unknown-event"),
        ("/events/99/bytes?offset=-1", 400, "malformed-parameter"),
        ("/events/99/bytes?from=1", 400, "malformed-parameter"),
    ):
        body = await api.problem(path, status)
        assert body["type"] == f"urn:psm:problem:{kind}", path


async def _chain(dsn: str, event_id: str) -> list[tuple[int, str]]:
    rows = await fetch(dsn, "SELECT depth, event_id FROM get_causation_chain($1)", event_id)
    return [(row["depth"], row["event_id"]) for row in rows]
