"""Decisions, limits and what holds, over HTTP and at the command line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
from tests.integration.test_http import Api, serving
from tests.support.risk_log import GROUP
from tests.support.risk_views import LIMITS, sha256, stored, traded, updates
from tests.support.running import psm_here

from psm.adapters import postgres
from psm.projections.risk import RISK, RULEBOOK
from psm.workers.api.openapi import openapi
from psm.workers.ops.keys import made_signature
from psm.workers.projector.rules import RulebookEntries

LOG = traded()
RECORDS = stored(LOG.outputs)
DECISIONS = [one for one in RECORDS if one.kind == "decision"]


@pytest.fixture
async def api(nats_url: str, postgres_dsn: str) -> AsyncIterator[Api]:
    async with serving(nats_url, postgres_dsn, ingest=False) as opened:
        entries = RulebookEntries(made_signature)
        said = [update for one in LOG.rules.log for update in entries.take(one)]
        async with postgres.transaction(opened.pool) as connection:
            await RISK.writer().apply(connection, updates(RECORDS))
            await RULEBOOK.writer().apply(connection, said)
        yield opened


async def pages(api: Api, path: str, name: str) -> list[dict[str, Any]]:
    """Return the rows of all pages, following the links."""
    found: list[dict[str, Any]] = []
    following: str | None = path
    while following is not None:
        response = await api.client.get(following)
        assert response.status_code == 200, response.text
        found += response.json()[name]
        link = response.links.get("next")
        following = None if link is None else str(link["url"])
    return found


def payloads() -> list[dict[str, Any]]:
    """Return what was decided, the newest first."""
    return [json.loads(one.data)["payload"] for one in reversed(DECISIONS)]


# --- decisions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_decisions_are_listed_the_newest_first(api: Api, limit: int) -> None:
    """Every one once, whatever a page holds."""
    found = await pages(api, f"/psm/risk/decisions?limit={limit}", "decisions")
    assert [row["n"] for row in found] == [payload["n"] for payload in payloads()]
    for row, payload in zip(found, payloads(), strict=True):
        for name in ("account_id", "order_id", "decision", "reason", "group", "approved_quantity"):
            assert row[name] == payload[name], name
        clock = datetime.fromisoformat(payload["clock"])
        assert datetime.fromisoformat(row["decided_at"]) == clock


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("decision=rejected", lambda row: row["decision"] == "rejected"),
        ("check=mode", lambda row: "mode" in failed(row)),
        ("check=max_order_quantity&decision=reduced", lambda row: row["decision"] == "reduced"),
        ("account=acc_1", lambda row: True),
        ("account=acc_2", lambda row: False),
        ("symbol=BTC-PERP&strategy_id=s", lambda row: False),
        ("since=2026-12-02T00:00:00Z", lambda row: row["clock"] >= "2026-12-02"),
        (f"order_id={payloads()[2]['order_id']}", lambda row: row == payloads()[2]),
    ],
)
async def test_filters_of_decisions(api: Api, query: str, wanted: Any) -> None:
    """Each alone and together."""
    found = await pages(api, f"/psm/risk/decisions?limit=2&{query}", "decisions")
    assert [row["n"] for row in found] == [row["n"] for row in payloads() if wanted(row)]


def failed(payload: dict[str, Any]) -> list[str]:
    return [check["name"] for check in payload["checks"] if not check["passed"]]


async def test_decision_is_the_record_byte_for_byte(api: Api) -> None:
    """So whoever has the hash can check the bytes."""
    for output in DECISIONS:
        hashed = sha256(output.data)
        response = await api.client.get(f"/psm/risk/decisions/{hashed}")
        body = response.content
        begin = body.index(b'"record":') + len(b'"record":')
        assert hashlib.sha256(body[begin:-1]).hexdigest() == hashed
        assert response.json()["decision_hash"] == hashed
    upper = await api.client.get(f"/psm/risk/decisions/{hashed.upper()}")
    assert upper.content == body


async def test_questions_that_make_no_sense_are_problems(api: Api) -> None:
    """An unknown decision, check or outcome is no empty list."""
    await api.problem(f"/psm/risk/decisions/{'0' * 64}", 404)
    await api.problem("/psm/risk/decisions/x", 404)
    for query in ("check=exposure", "decision=approve", "limit=1001", "before=x", "acount=a"):
        found = await api.problem(f"/psm/risk/decisions?{query}", 400)
        assert found["type"] == "urn:psm:problem:malformed-parameter"
    await api.problem("/psm/risk/limits?after=firm", 400)
    await api.problem("/psm/risk/state?kind=halts", 400)


# --- limits and state -----------------------------------------------------------------------------


async def test_limits_say_which_version_holds(api: Api) -> None:
    """And who said so."""
    found = await pages(api, "/psm/risk/limits?limit=1", "limits")
    assert [(row["scope"], row["version"], row["in_force"]) for row in found] == [
        (f"group:{GROUP}", 1, False),
        (f"group:{GROUP}", 2, True),
    ]
    assert found[0]["limits"] == LIMITS
    (holds,) = await pages(api, "/psm/risk/limits?in_force=true", "limits")
    assert holds == found[1]
    assert await pages(api, "/psm/risk/limits?status=proposed", "limits") == []
    assert await pages(api, "/psm/risk/limits?scope=firm", "limits") == []


async def test_state_has_what_holds_and_halts_of_persons(api: Api) -> None:
    """A halt that was lifted holds no more."""
    found = await pages(api, "/psm/risk/state?limit=1", "state")
    assert [row["entry"] for row in found] == sorted(row["entry"] for row in found)
    (halt,) = [row for row in found if row["kind"] == "halt"]
    assert (halt["scope"], halt["mode"], halt["set_by"]) == ("account:acc_1", "reducing", "bob")
    assert await pages(api, "/psm/risk/state?kind=halt", "state") == [halt]
    own = await pages(api, "/psm/risk/state?scope=account:acc_1", "state")
    assert {row["kind"] for row in own} == {"halt", "figures"}
    (figures,) = [row["figures"] for row in own if row["figures"]]
    assert figures == {
        name: text
        for name, text in payloads()[0]["figures"].items()
        if not name.startswith("group_")
    }


async def test_description_has_every_path_and_answer(api: Api) -> None:
    """The parameters that are read are those that are told."""
    paths = json.loads(openapi())["paths"]
    for name in ("decisions", "limits", "state"):
        get = paths[f"/psm/risk/{name}"]["get"]
        assert {"200", "400", "503"} <= get["responses"].keys()
        query = "&".join(f"{one['name']}=" for one in get["parameters"])
        response = await api.client.get(f"/psm/risk/{name}?{query}&else=1")
        assert "else" in response.json()["detail"]
    assert "/psm/risk/decisions/{decision_hash}" in paths


# --- the command line -----------------------------------------------------------------------------


async def test_commands_show_the_same(
    api: Api,
    postgres_dsn: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As lines for programs, as tables for people."""
    monkeypatch.setenv("POSTGRES_DSN", postgres_dsn)

    async def lines(*arguments: str) -> list[dict[str, Any]]:
        assert await psm_here("risk", *arguments, "-o", "jsonl") == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    listed = await pages(api, "/psm/risk/decisions?decision=rejected", "decisions")
    assert await lines("decisions", "--decision", "rejected") == listed
    assert await lines("state") == await pages(api, "/psm/risk/state", "state")
    assert await psm_here("risk", "decisions", "acc_1", "--limit", "2") == 0
    shown = capsys.readouterr()
    assert payloads()[0]["order_id"] in shown.out
    assert f"--before {listed_at(2)}" in shown.err
    assert await psm_here("risk", "state", "account:acc_1", "--kind", "halt") == 0
    assert "reducing" in capsys.readouterr().out
    assert await psm_here("risk", "decisions", "--check", "exposure_symbl") == 2
    assert "did you mean exposure_symbol?" in capsys.readouterr().err


def listed_at(place: int) -> int:
    """Return the RISK sequence of the decision at a place of the list."""
    return RECORDS.index(DECISIONS[-place]) + 1
