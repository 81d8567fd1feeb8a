"""`GET /psm/accounts`: who is in trouble?"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.integration.test_http import Api, serving
from tests.support.psm_stream import Account, envelope, mark
from tests.support.running import psm_here

from psm.adapters import postgres
from psm.workers.api.documents import AccountsDocument, StateDocument


@pytest.fixture
async def api(nats_url: str, postgres_dsn: str) -> AsyncIterator[Api]:
    """Accounts that bought for less and less of their money, one that is ruined, one that waits."""
    async with serving(nats_url, postgres_dsn, ingest=False) as api:
        instrument = {
            "symbol": "BTC-PERP", "kind": "linear_perp", "base": "BTC", "quote": "USDT",
            "settle": "USDT",
            "margin_tiers": [{"notional_floor": "0", "maintenance_rate": "0.1"}],
        }  # fmt: skip
        await api.write(
            ("instruments.BTC-PERP", envelope("BTC-PERP", "InstrumentDefined", instrument, 1))
        )
        for name, money in (("a", "1000"), ("b", "300"), ("c", "600"), ("ruined", "50")):
            account = Account(name)
            await api.write(account.deposit(money), account.trade("buy", "1", "200"))
        await api.write(Account("d").deposit("5"))
        late = Account("late")
        late.skip()
        await api.write(late.deposit("1"), mark("BTC-PERP", "100", 1))
        await api.write(mark("BTC-PERP", "100", 2), mark("BTC-PERP", "99", 3))
        yield api


async def names(api: Api, **params: Any) -> list[str]:
    """Return the ids of all pages, each of two, and see that each row is its account's."""
    found, after = [], None
    while True:
        query = {**params, "limit": 2} | ({"after": after} if after else {})
        answer = await api.client.get("/psm/accounts", params=query)
        assert answer.status_code == 200, answer.text
        page = msgspec.json.decode(answer.content, type=AccountsDocument)
        rows = answer.json()["accounts"]
        assert 0 < len(rows) <= 2
        for row in rows:
            state = (await api.client.get(f"/psm/state/{row['account_id']}")).json()
            assert {n: state[n] for n in row if n in state} == {
                n: row[n] for n in row if n in state
            }
        found += [row["account_id"] for row in rows]
        after = page.next  # type: ignore[attr-defined]
        if after is None:
            assert "link" not in answer.headers
            return found
        following = answer.headers["link"].partition(">")[0].removeprefix("<")
        assert (await api.client.get(following)).status_code == 200


async def test_the_most_troubled_come_first(api: Api) -> None:
    """Ratio and drawdown from the greatest, an equity used up before all, the unknown last."""
    assert await names(api) == ["a", "b", "c", "d", "late", "ruined"]
    assert await names(api, sort="account") == await names(api)
    assert await names(api, sort="margin") == ["ruined", "b", "c", "a", "d", "late"]
    assert await names(api, sort="equity") == ["ruined", "d", "b", "c", "a", "late"]
    drawdown = await names(api, sort="drawdown")
    assert drawdown == ["ruined", "b", "c", "a", "d", "late"]


async def test_flags_choose(api: Api) -> None:
    assert await names(api, flag="liquidatable", sort="margin") == ["ruined"]
    answer = await api.client.get("/psm/accounts?flag=overfill")
    assert answer.json() == {"accounts": [], "next": None}
    assert answer.headers["etag"]
    again = {"If-None-Match": answer.headers["etag"]}
    assert (await api.client.get("/psm/accounts?flag=overfill", headers=again)).status_code == 304


async def test_accounts_with_a_stale_key_are_found(api: Api) -> None:
    """By the flag of reads, in every order."""
    async with postgres.acquired(api.pool) as connection:
        await connection.execute(
            "INSERT INTO current_state_quarantine VALUES ('orders_view', ARRAY['b', 'o'], 0, 'b',"
            " 2, 2, 2, 'quantity', '22003')"
        )
    for order in ("account", "margin", "equity", "drawdown"):
        assert await names(api, flag="view_stale", sort=order) == ["b"]
        assert "b" in await names(api, sort=order)
    assert await names(api, flag="liquidatable") == ["ruined"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("flag=liquidateable", "did you mean liquidatable?"),
        ("sort=draw_down", "did you mean drawdown?"),
        ("sort=", "sort must be one of"),
        ("limit=501", "limit must be at most 500"),
        ("after=x", "after must be the `next` of the page before"),
        ("after=1e99,a", "after must be"),
        ("after=%00,a", "after"),
        ("flags=overdraft", "did you mean flag?"),
    ],
)
async def test_questions_that_make_no_sense(api: Api, query: str, told: str) -> None:
    assert told in (await api.problem(f"/psm/accounts?{query}", 400))["detail"]


async def test_fields_stand_in_the_order_of_the_contract(api: Api) -> None:
    """In every document, nested ones too, and symbols ascending."""
    for path in ("/psm/state/a", "/psm/accounts"):
        answer = await api.client.get(path)
        kind: Any = StateDocument if path.startswith("/psm/state") else AccountsDocument
        decoded = msgspec.json.decode(answer.content, type=kind)
        assert list(msgspec.to_builtins(decoded)) == list(answer.json())
        assert msgspec.json.encode(decoded) == answer.content


async def test_command_lists_the_same(
    api: Api, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POSTGRES_DSN", postgres_dsn)
    assert await psm_here("accounts", "--sort", "margin", "-o", "json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed == (await api.client.get("/psm/accounts?sort=margin")).json()["accounts"]
    assert await psm_here("accounts", "--sort", "equity", "--limit", "1") == 0
    told = capsys.readouterr()
    assert "ruined" in told.out
    after = told.err.strip().removeprefix("there are more: ")
    assert await psm_here("accounts", "--sort", "equity", "--limit", "1", after) == 0
    assert capsys.readouterr().out.split()[-1] == "open"
    assert await psm_here("accounts", "--flag", "liquidatable", "-o", "jsonl") == 0
    assert json.loads(capsys.readouterr().out)["account_id"] == "ruined"
    for wrong in (["--flag", "liquidateable"], ["--limit", "0"], ["--after", "x"]):
        assert await psm_here("accounts", *wrong) == 2
    assert "did you mean liquidatable?" in capsys.readouterr().err
