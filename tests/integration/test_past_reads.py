"""The past as a user asks for it: over HTTP and on the command line, from a real log."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.integration.test_http import Api, serving
from tests.support.events import deposit, mark, trade
from tests.support.feed import publish
from tests.support.running import psm_here


@pytest.fixture
async def api(
    nats_url: str, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Api]:
    """Five messages of an account in the log; no worker and no view: the log alone answers."""
    monkeypatch.setenv("NATS_URL", nats_url)
    monkeypatch.setenv("PSM_PARTITIONS", "4")
    async with serving(nats_url, postgres_dsn, ingest=False) as api:
        await publish(
            api.nc,
            [
                deposit(1, "1000", timestamp="2025-12-01T10:00:00Z"),
                trade(2, "buy", "0.5", "100", timestamp="2025-12-01T11:00:00Z"),
                mark(1, "120"),
                trade(3, "sell", "0.7", "110", timestamp="2025-12-01T12:00:00Z"),
            ],
        )
        yield api


async def test_documents_are_told_as_they_were(api: Api) -> None:
    async def get(path: str, **params: Any) -> dict[str, Any]:
        answer = await api.client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        assert answer.headers["etag"]
        body: dict[str, Any] = answer.json()
        return body

    state = await get("/psm/state/acc_001", at_sequence=2)
    assert (state["sequence_number"], state["cash"]) == (2, {"USDT": "1000"})
    assert state["positions"]["BTC-PERP"]["size"] == "0.5"
    positions = await get("/api/psm/positions/acc_001", at="2025-12-01T11:30:00Z")
    assert positions["positions"]["BTC-PERP"]["unrealized_pnl"] == "10", "at the mark of 120"
    assert positions["state_hash"] != state["state_hash"]
    assert positions["ledger_hash"] == state["ledger_hash"]
    assert (await get("/psm/margin/acc_001", at_sequence=3))["equity"] == "1003"
    assert (await get("/psm/orders/acc_001", at_sequence=3))["orders"] == {}


async def test_moments_that_never_were_are_problems(api: Api) -> None:
    late = await api.problem("/psm/state/acc_001?at_sequence=4", 404)
    assert late["type"].endswith("no-such-state")
    assert late["detail"] == "acc_001 has no event 4: its last one is 3"
    await api.problem("/psm/state/acc_001?at=2025-12-01T09:00:00Z", 404)
    await api.problem("/psm/state/acc_999?at_sequence=1", 404)
    await api.problem("/psm/state/acc_001?at=yesterday", 400)
    await api.problem("/psm/state/acc_001?at_sequence=1&at=2025-12-01T09:00:00Z", 400)
    await api.problem("/psm/state/acc_001?at_sequence=1&min_sequence=1", 400)
    await api.problem("/psm/state/acc_001?at_sequence=0", 400)


async def test_consumer_proves_that_it_agrees(api: Api) -> None:
    """A deviation is an answer, not an error."""
    state = (await api.client.get("/psm/state/acc_001", params={"at_sequence": 2})).json()
    path, own = "/psm/verify/acc_001", state["ledger_hash"]
    agreed = (await api.client.get(path, params={"sequence": 2, "ledger_hash": own})).json()
    assert agreed["agrees"] is True
    assert agreed["chain_hash"] == state["chain_hash"]
    deviating = (await api.client.get(path, params={"sequence": 3, "ledger_hash": own})).json()
    assert deviating["agrees"] is False
    assert (deviating["given"], deviating["ledger_hash"] == own) == (own, False)
    await api.problem(f"{path}?sequence=2&ledger_hash=abc", 400)
    await api.problem(f"{path}?ledger_hash={own}", 400)


async def test_replay_is_streamed_line_by_line(api: Api) -> None:
    answer = await api.client.get("/psm/replay/acc_001", params={"from": "2025-12-01T11:00:00Z"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    steps = [json.loads(line) for line in answer.text.splitlines()]
    assert [(s["sequence_number"], s["outcome"]) for s in steps] == [(2, "applied"), (3, "applied")]
    last = (await api.client.get("/psm/state/acc_001", params={"at_sequence": 3})).json()
    assert steps[-1]["state"]["state_hash"] == last["state_hash"]
    one = await api.client.get("/psm/replay/acc_001", params={"from_sequence": 2, "to_sequence": 2})
    assert len(one.text.splitlines()) == 1
    await api.problem("/psm/replay/acc_001?from=noon", 400)


async def test_commands_tell_the_same(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    assert await psm_here("state", "acc_001", "--at-sequence", "2", "-o", "json") == 0
    state = json.loads(capsys.readouterr().out)
    assert state == (await api.client.get("/psm/state/acc_001?at_sequence=2")).json()
    assert await psm_here("positions", "acc_001", "--at", "2025-12-01T11:30:00Z") == 0
    assert "0.5" in capsys.readouterr().out
    own = ("--ledger-hash", state["ledger_hash"])
    assert await psm_here("verify", "acc_001", "--sequence", "2", *own) == 0
    assert await psm_here("verify", "acc_001", "--sequence", "3", *own) == 1
    capsys.readouterr()
    assert await psm_here("state", "acc_001", "--at-sequence", "9") == 1
    assert capsys.readouterr().err == "psm: acc_001 has no event 9: its last one is 3\n"


async def test_diff_names_every_field(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    assert await psm_here("diff", "acc_001", "2", "3", "-o", "json") == 0
    found = {row["field"]: row for row in json.loads(capsys.readouterr().out)}
    cash = {"field": "cash.USDT", "before": "1000", "after": "1005", "change": "5"}
    assert found["cash.USDT"] == cash
    size = found["positions.BTC-PERP.size"]
    assert (size["before"], size["after"], size["change"]) == ("0.5", "0.2", "-0.3")
    assert found["positions.BTC-PERP.side"]["change"] is None
    assert "deposits" not in found, "what stays the same is not shown"
    assert await psm_here("diff", "acc_001", "3", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == []
    assert await psm_here("diff", "acc_001", "soon") == 2


async def test_explain_prints_the_tree(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    assert await psm_here("explain", "acc_001", "cash.USDT") == 0
    shown = capsys.readouterr().out
    assert "cash.USDT = 1005 = 1000 + 5" in shown
    assert "event 3 TradeExecuted = 5 = (0.5 x 110 - 50)" in shown
    assert await psm_here("explain", "acc_001", "cash.USDT", "--events", "1") == 0
    assert "... 1 earlier; see -o json" in capsys.readouterr().out
    assert await psm_here("explain", "acc_001", "equity", "--at-sequence", "2", "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["published"], found["sequence_number"]) == ("1000", 2)
    assert await psm_here("explain", "acc_001", "luck") == 2
    assert "luck cannot be explained; choose equity" in capsys.readouterr().err
    assert await psm_here("explain", "acc_001", "sharpe") == 2
    assert "psm stats ACCOUNT --explain sharpe" in capsys.readouterr().err
