"""The doors of analytics on real servers: the digits of the fold, page by page, file by file."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import math
import random
import statistics
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from arro3.io import read_parquet
from tests.integration.test_http import Api, serving
from tests.support import servers
from tests.support.analytics_log import SECOND_NS, TimedLog, commit, pieces
from tests.support.psm_stream import Account
from tests.support.running import psm_here
from tests.support.workbench import until_answer

from psm.adapters import postgres, telemetry
from psm.analytics.formulas import FORMULAS
from psm.contracts.codec import decode_untyped
from psm.projections.analytics import ANALYTICS
from psm.projections.current_state import CURRENT_STATE
from psm.projections.schema.roles import apply_roles
from psm.workers.analytics.figures import FiguresQuestion, figures_of
from psm.workers.analytics.reads import AnalyticsReads
from psm.workers.api.analytics_documents import (
    ExplainDocument,
    LotsPageDocument,
    MetricsDocument,
    PnlPageDocument,
    TradesPageDocument,
)
from psm.workers.cli.analyse.tables import TABLES
from psm.workers.projector.follower import Projector
from psm.workers.projector.lag import view_lag

HOUR = 3_600
NEAR = 1e-9


def days_of_trading() -> TimedLog:
    """Return a fortnight of two accounts, with strategies, quiet days, a deposit and a bust."""
    dice, log = random.Random(11), TimedLog()
    traders = [Account("acc_001"), Account("acc_002")]
    for trader in traders:
        log.say(trader.deposit("10000"))
    for day in range(14):
        for number in range(0 if day in (4, 9) else 4):
            symbol = ("BTC-PERP", "ETH-PERP")[number // 2]
            for trader in traders:
                log.mark(symbol, str(90 + dice.randrange(20)), HOUR)
                log.say(_trade(dice, trader, symbol, day, number), 60)
        if day == 6:
            log.say(traders[0].deposit("5000"))
        log.mark("BTC-PERP", str(90 + dice.randrange(20)), _until_next_day(log.now))
    bust = traders[0].event("TradeBusted", fill_id="fill-acc_001-12-0", reason="venue error")
    log.say(bust, 1)
    log.quiet(300)
    return log


def _trade(
    dice: random.Random, trader: Account, symbol: str, day: int, number: int
) -> tuple[str, bytes]:
    """Return a purchase or the sale that follows it, mostly of as much."""
    strategy = dice.choice(({"strategy_id": "alpha"}, {"strategy_id": "beta"}, {}))
    return trader.event(
        "TradeExecuted",
        symbol=symbol,
        side=("buy", "sell")[number % 2],
        quantity="4" if number % 2 == 0 else dice.choice(("4", "4", "4", "5")),
        price=str(90 + dice.randrange(20)),
        commission="0.25",
        fill_id=f"fill-{trader.stream_id}-{day}-{number}",
        **strategy,
    )


def _until_next_day(now: int) -> float:
    day = 24 * HOUR
    return day - now // SECOND_NS % day


@pytest.fixture(scope="module")
def log() -> TimedLog:
    return days_of_trading()


@pytest.fixture(scope="module")
def views(shared_nats_url: str, shared_postgres_dsn: str, log: TimedLog) -> Iterator[str]:
    """Name of a database whose views have all of the log, to copy from: no test waits for them."""
    name = servers.run(servers.make_template(shared_postgres_dsn))
    servers.run(_follow(shared_nats_url, servers.database_dsn(shared_postgres_dsn, name), log))
    yield name
    servers.run(servers.drop_database(shared_postgres_dsn, name))


async def _follow(nats_url: str, dsn: str, log: TimedLog) -> None:
    await servers.delete_streams(nats_url)
    async with serving(nats_url, dsn, ingest=False) as api:
        for piece in pieces(log.inputs, random.Random(5)):
            await commit(api.nc, piece)
        views = [CURRENT_STATE, ANALYTICS]
        projector = Projector(api.nc, api.pool, views, [0], telemetry.quiet().metrics)
        task = asyncio.create_task(projector.run())
        await until_answer(lambda: _behind(api), lambda found: found == 0, "the views have it")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def postgres_dsn(shared_postgres_dsn: str, views: str) -> AsyncIterator[str]:
    """A database of the test's own."""
    async with servers.fresh_database(shared_postgres_dsn, views) as dsn:
        yield dsn


@pytest.fixture
async def api(
    nats_url: str, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Api]:
    """A service of these views."""
    monkeypatch.setenv("POSTGRES_DSN", postgres_dsn)
    async with serving(nats_url, postgres_dsn, ingest=False) as api:
        yield api


async def _behind(api: Api) -> int:
    """Return what the views lack: messages, and minutes that are not told yet."""
    lags = [
        lag
        for view in (CURRENT_STATE, ANALYTICS)
        for lag in await view_lag(api.nc, api.pool, view)
        if lag.partition == 0
    ]
    async with postgres.acquired(api.pool) as connection:
        untold = await connection.fetchval(
            "SELECT count(*) FROM analytics_progress WHERE reached IS DISTINCT FROM closed_through"
        )
    return sum(lag.lag_events for lag in lags) + int(untold)


async def get(api: Api, path: str, struct: type[msgspec.Struct], **query: Any) -> dict[str, Any]:
    """Return a document, which must be as its description says."""
    answer = await api.client.get(f"/psm/analytics/{path}", params=query)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    msgspec.convert(document, struct)
    assert answer.headers["cache-control"] == "no-store"
    return document


async def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Return what a command prints as JSON."""
    assert await psm_here(*arguments, "-o", "json") == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


async def folded(
    log: TimedLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """Return what `psm fold --metrics` says of the same log, by account."""
    file = tmp_path / "log.jsonl"
    with file.open("wb") as out:
        for number, entry in sorted(log._history.items()):
            subject = entry.subject if entry.stream_id is None else f"trades.{entry.stream_id}"
            line = {
                "subject": subject,
                "time": entry.time,
                "log_sequence": number,
                "data": decode_untyped(entry.data),
            }
            out.write(msgspec.json.encode(line) + b"\n")
    assert await psm_here("fold", str(file), "--metrics") == 0
    lines = capsys.readouterr().out.splitlines()
    return {one["account_id"]: one for one in map(json.loads, lines)}


async def test_figures_are_those_of_the_fold(
    api: Api, log: TimedLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Digit by digit: closes, figures, trades, and what is made of trades; over HTTP too."""
    offline = await folded(log, tmp_path, capsys)
    for account in ("acc_001", "acc_002"):
        live = await said(capsys, "stats", account)
        expected = offline[account]
        for name in ("metrics", "trades", "trade_metrics", "periods_per_year", "epochs", "ruined"):
            assert live[name] == expected[name], name
        complete = [day for day in expected["daily"] if day["complete"]]
        assert [day for day in live["daily"] if day["complete"]] == complete
        assert live["metrics"]["n"] == len(complete) >= 13
        assert live["trade_metrics"]["n"] > 3
        over_http = await get(api, f"{account}/metrics", MetricsDocument)
        assert over_http.items() <= live.items()


async def test_pages_are_the_whole(api: Api) -> None:
    """Each page goes on where the one before ended; nothing twice, nothing left out."""
    for kind, struct in (
        ("pnl", PnlPageDocument), ("trades", TradesPageDocument), ("lots", LotsPageDocument),
    ):  # fmt: skip
        more = {"by": "symbol", "timeframe": "1h"} if kind == "pnl" else {}
        whole = await get(api, f"acc_001/{kind}", struct, limit=1000, **more)
        rows: list[Any] = []
        after: dict[str, Any] = {}
        while True:
            page = await get(api, f"acc_001/{kind}", struct, limit=3, **more, **after)
            rows += page["rows"]
            assert len(page["rows"]) <= 3
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        assert rows == whole["rows"]
        assert len(rows) > 5
    linked = await api.client.get("/psm/analytics/acc_001/trades", params={"limit": 1})
    assert 'rel="next"' in linked.headers["link"]


async def test_symbols_and_strategies_add_up(api: Api) -> None:
    """To the whole of each bucket, exactly."""
    for timeframe in ("1d", "1h", "1w"):
        ask = {"timeframe": timeframe, "limit": 1000}
        whole = await get(api, "acc_001/pnl", PnlPageDocument, **ask)
        assert whole["rows"]
        for by in ("symbol", "strategy"):
            parts = await get(api, "acc_001/pnl", PnlPageDocument, by=by, **ask)
            sums: dict[str, Decimal] = {}
            for row in parts["rows"]:
                known = sums.get(row["bucket"], Decimal(0))
                sums[row["bucket"]] = known + Decimal(row["realized"])
            for row in whole["rows"]:
                assert sums.get(row["bucket"], Decimal(0)) == Decimal(row["realized"]), by


async def test_a_figure_is_explained_by_its_inputs(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever has the inputs gets the figure again."""
    found = await get(api, "acc_001/metrics", ExplainDocument, explain="sharpe")
    returns = [float(one["ret"]) for one in found["inputs"]]
    assert found["n"] == len(returns) >= 13
    assert found["first"] < found["last"]
    again = statistics.mean(returns) / statistics.stdev(returns) * math.sqrt(365)
    assert math.isclose(again, float(found["value"]), rel_tol=NEAR)
    told = await said(capsys, "stats", "acc_001", "--explain", "sharpe")
    assert told == found
    trades = await get(api, "acc_001/metrics", ExplainDocument, explain="expectancy")
    nets = [Decimal(one["net"]) for one in trades["inputs"]]
    assert math.isclose(sum(nets) / len(nets), Decimal(trades["value"]), rel_tol=NEAR)
    for name in FORMULAS:
        await get(api, "acc_002/metrics", ExplainDocument, explain=name)
    figures = (await get(api, "acc_001/metrics", MetricsDocument))["metrics"]
    money = await get(api, "acc_001/metrics", ExplainDocument, explain="es_hist_95_money")
    lost = -Decimal(figures["es_hist_95"]) * Decimal(money["inputs"][-1]["equity"])
    assert math.isclose(lost, Decimal(money["value"]), rel_tol=NEAR)
    fall = await get(api, "acc_001/metrics", ExplainDocument, explain="max_drawdown_intraday")
    assert Decimal(fall["value"]) == -Decimal(fall["inputs"][-1]["max_drawdown"]) < 0


async def test_a_range_counts_its_own_buckets(api: Api) -> None:
    """From the close before it on; the whole range is the same as none."""
    whole = await get(api, "acc_001/metrics", MetricsDocument)
    wide = {"from": "2020-01-01T00:00:00Z", "to": "2030-01-01T00:00:00Z"}
    assert (await get(api, "acc_001/metrics", MetricsDocument, **wide))["metrics"] == whole[
        "metrics"
    ]
    later = await get(api, "acc_001/metrics", MetricsDocument, **{"from": "2025-12-19T00:00:00Z"})
    assert 0 < later["metrics"]["n"] < whole["metrics"]["n"]
    shown = await get(api, "acc_001/pnl", PnlPageDocument, **{"from": "2025-12-19T00:00:00Z"})
    assert {row["bucket"] >= "2025-12-19" for row in shown["rows"]} == {True}
    recent = await get(api, "acc_001/metrics", MetricsDocument, window="30d")
    assert recent["metrics"] == whole["metrics"]
    hourly = await get(api, "acc_001/metrics", MetricsDocument, timeframe="1h")
    assert hourly["periods_per_year"] == 8760
    assert math.isclose(
        float(hourly["metrics"]["total_return"]),
        float(whole["metrics"]["total_return"]),
        abs_tol=0.2,
    )


async def test_what_was_known_before_a_bust_is_kept(api: Api, log: TimedLog) -> None:
    """Trades that it took away are read as of a place before it, and are gone now."""
    bust = next(
        one.log_sequence
        for one in log.inputs
        if any(b"TradeBusted" in update.data for update in one.updates)
    )
    now = await get(api, "acc_001/trades", TradesPageDocument, limit=1000)
    then = await get(api, "acc_001/trades", TradesPageDocument, limit=1000, known_at=bust - 1)
    at_it = await get(api, "acc_001/trades", TradesPageDocument, limit=1000, known_at=bust)
    assert at_it["rows"] == now["rows"]
    taken = [row for row in then["rows"] if row not in now["rows"]]
    assert {row["symbol"] for row in taken} == {"BTC-PERP"}
    assert {row["closed"] >= "2025-12-2" for row in taken} == {True}
    assert not any(row["revised_at"] for row in then["rows"])


async def test_several_accounts_are_one(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    """By a list, and by a group of the rulebook with the groups below it."""
    async with postgres.acquired(api.pool) as connection:
        await connection.execute(
            "INSERT INTO risk_groups VALUES ('house', '{}', 'USDT', NULL, 1, now()),"
            "('desk', '{acc_001}', 'USDT', 'house', 1, now()),"
            "('other', '{acc_002}', 'USDT', 'house', 1, now())"
        )
    house = await said(capsys, "stats", "group:house")
    assert house["members"] == ["acc_001", "acc_002"]
    listed = await said(capsys, "stats", "acc_002,acc_001")
    assert listed["metrics"] == house["metrics"]
    one, other = [await said(capsys, "stats", name) for name in house["members"]]
    for both, first, second in zip(house["daily"], one["daily"], other["daily"], strict=True):
        assert Decimal(both["equity"]) == Decimal(first["equity"]) + Decimal(second["equity"])
    assert house["trade_metrics"]["n"] == one["trade_metrics"]["n"] + other["trade_metrics"]["n"]
    desk, alone = await said(capsys, "stats", "group:desk"), one
    assert desk["trade_metrics"] == alone["trade_metrics"]
    assert (await get(api, "group:house/metrics", MetricsDocument))["group_id"] == "house"
    await api.problem("/psm/analytics/group:nobody/metrics", 404)


REFUSED = {
    "acc_404/metrics": 404,
    "acc_404/pnl": 404,
    "group:desk/pnl": 400,
    "acc%20001/metrics": 400,
    "acc_001/metrics?explain=sharp": 400,
    "acc_001/metrics?risk_free=NaN": 400,
    "acc_001/metrics?periods=0": 400,
    "acc_001/pnl?timeframe=2d": 400,
    "acc_001/pnl?after=nowhere": 400,
    "acc_001/trades?after=1,net,1": 400,
    "acc_001/lots?limit=1001": 400,
    "acc_001/lots?strategy=alpha": 400,
    "acc_001/lots?holding_days=36501": 400,
    "acc_001/metrics?strategy=nobody": 404,
    "acc_001/metrics?symbol=BTC": 404,
    "acc_001,acc_002/metrics?symbol=BTC-PERP": 404,
    "acc_001/pnl?by=symbol&symbol=BTC-PERP": 400,
    "acc_001/pnl?after=999999999999999999,*": 400,
    "acc_001/trades?after=999999999999999999,net,1,BTC-PERP": 400,
    "acc_001/trades?known_at=9223372036854775808": 400,
    "acc_001/trades?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z": 400,
}


async def test_what_means_nothing_is_refused(api: Api) -> None:
    for path, status in REFUSED.items():
        await api.problem(f"/psm/analytics/{path}", status)


async def test_ranges_without_a_bucket_have_no_figure(
    api: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the log, beyond it, and in the year 1: null, no error; a page says so."""
    for span in (
        {"to": "1960-01-01T00:00:00Z"},
        {"from": "2199-01-01T00:00:00Z"},
        {"from": "0001-01-01T00:00:00Z", "to": "0002-01-01T00:00:00Z", "window": "30d"},
        {"to": "9999-12-31T23:59:59Z", "window": "365d"},
    ):
        found = await get(api, "acc_001/metrics", MetricsDocument, **span)
        assert (found["metrics"]["n"], found["metrics"]["sharpe"]) == (0, None)
    assert (await said(capsys, "stats", "acc_001,acc_002", "--to", "1960-01-01"))["daily"] == []
    file = tmp_path / "none.html"
    await said(capsys, "report", "acc_001", "--from", "2199-01-01", "--html", str(file))
    assert "No bucket of this range is complete" in file.read_text("utf-8")


async def test_the_service_answers_others_while_it_computes(api: Api) -> None:
    """Figures of 20 000 buckets take a processor for a while, not the event loop."""
    async with postgres.acquired(api.pool) as connection:
        await connection.execute(
            "INSERT INTO pnl_timeseries SELECT account_id, strategy_id, symbol, '1m', bucket - n * "
            "interval '1 minute', epoch, equity, 1 + n % 7 * 0.01, ret, realized, "
            "unrealized_change, fees, funding, other, pnl, pnl_corrected, flows, turnover, fills, "
            "peak_gross, contribution, return_on_gross, through_log_sequence, through_bucket, "
            "rules FROM (SELECT * FROM pnl_timeseries WHERE account_id = 'acc_002' AND timeframe = "
            "'1d' AND strategy_id = '*' AND symbol = '*' ORDER BY bucket LIMIT 1) first, "
            "generate_series(1, 18000) n"
        )
        first = await connection.fetchval(
            "SELECT min(bucket) FROM pnl_timeseries WHERE account_id = 'acc_002' "
            "AND timeframe = '1m'"
        )
    last = first + timedelta(minutes=18_000)
    span = {"from": f"{first.isoformat()[:19]}Z", "to": f"{last.isoformat()[:19]}Z"}
    asking = asyncio.create_task(
        get(api, "acc_002/metrics", MetricsDocument, timeframe="1m", **span)
    )
    answered = 0
    while not asking.done():
        assert (await api.client.get("/health/live")).status_code == 200
        answered += 1
    assert (await asking)["metrics"]["n"] == 18_000
    assert answered > 5


async def test_files_that_cannot_be_written(
    api: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A word about the file, none about PostgreSQL, and nothing left behind."""
    for out in (tmp_path / "none" / "x", tmp_path, Path("/dev/full")):
        for command in (
            ("export", "pnl", "--format", "csv", "--out", str(out)),
            ("export", "lots", "--format", "parquet", "--out", str(out)),
            ("report", "acc_001", "--html", str(out)),
        ):
            assert await psm_here(*command) == 2
            told = capsys.readouterr().err
            assert str(out) in told
            assert "PostgreSQL" not in told
    assert list(tmp_path.iterdir()) == []


async def test_tables_to_take_away_give_the_figures_again(
    api: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a notebook would: floats, of the CSV alone."""
    live = await said(capsys, "stats", "acc_001")
    file = tmp_path / "pnl.csv"
    await said(capsys, "export", "pnl", "--format", "csv", "--out", str(file))
    rows = [
        row
        for row in csv.DictReader(io.StringIO(file.read_text("utf-8")))
        if (row["account_id"], row["strategy_id"], row["symbol"]) == ("acc_001", "*", "*")
    ]
    navs, returns = _filled({row["bucket"][:10]: row for row in rows}, live["daily"])
    found = live["metrics"]
    deviation = statistics.stdev(returns)
    down = math.sqrt(sum(min(value, 0) ** 2 for value in returns) / len(returns))
    peaks = [max([1.0, *navs[: number + 1]]) for number in range(len(navs))]
    again = {
        "total_return": navs[-1] - 1,
        "volatility": deviation * math.sqrt(365),
        "sharpe": statistics.mean(returns) / deviation * math.sqrt(365),
        "sortino": statistics.mean(returns) / down * math.sqrt(365),
        "max_drawdown": min(nav / peak - 1 for nav, peak in zip(navs, peaks, strict=True)),
        "cagr": navs[-1] ** (365 / len(navs)) - 1,
    }
    for name, value in again.items():
        assert math.isclose(value, float(found[name]), rel_tol=NEAR), name
    assert await psm_here("export", "trades", "--format", "csv", "--account", "acc_001") == 0
    trades = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    nets = [float(row["net"]) for row in trades if row["strategy_id"] == "*"]
    assert len(nets) == live["trade_metrics"]["n"]
    assert math.isclose(statistics.mean(nets), float(live["trade_metrics"]["expectancy"]))


def _filled(
    rows: dict[str, dict[str, str]], days: list[dict[str, Any]]
) -> tuple[list[float], list[float]]:
    """Return navs and returns of complete days; a day without a row ended as the one before."""
    navs: list[float] = []
    for day in days:
        row = rows.get(day["bucket"])
        if row is not None and row["complete"] == "false":
            break
        if row is not None or day["complete"]:
            navs.append(float(row["nav"]) if row is not None else navs[-1])
    before = [1.0, *navs]
    return navs, [nav / last - 1 for nav, last in zip(navs, before, strict=False)]


async def test_parquet_and_csv_say_the_same(
    api: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cell by cell; amounts are texts in both, whole numbers, flags and times have their types."""
    for table in TABLES:
        await _assert_same_table(table, tmp_path, capsys)


async def _assert_same_table(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {form: tmp_path / f"{table}.{form}" for form in ("csv", "parquet")}
    for form, file in files.items():
        told = await said(capsys, "export", table, "--format", form, "--out", str(file))
        assert told["rows"] > 1
    with files["csv"].open(encoding="utf-8", newline="") as text:
        expected = list(csv.DictReader(text))
    found: list[dict[str, str]] = []
    for batch in read_parquet(str(files["parquet"])):
        names = batch.schema.names
        columns = [column.to_pylist() for column in batch.columns]
        found += [
            dict(zip(names, map(_text, row), strict=True)) for row in zip(*columns, strict=True)
        ]
    assert found == expected
    assert await psm_here("export", table, "--format", "csv", "--out", str(files["csv"])) == 2
    assert "exists" in capsys.readouterr().err


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or isinstance(value, str | int):
        return "" if value is None else str(value)
    return str(value.isoformat(timespec="microseconds").replace("+00:00", "Z"))


async def test_a_tear_sheet_is_written(
    api: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of days where there are enough, else of shorter buckets; of a part, of several accounts."""
    for number, more in enumerate(
        (
            ("acc_001",),
            ("acc_001", "--timeframe", "1d"),
            ("acc_001", "--strategy", "alpha"),
            ("acc_001,acc_002", "--timeframe", "1h"),
        )
    ):
        file = tmp_path / f"{number}.html"
        told = await said(capsys, "report", *more, "--html", str(file))
        assert told["n"] > 10
        text = file.read_text("utf-8")
        assert text.endswith("</html>\n")
        assert text.count("<svg") >= 5


async def test_commands_show_tables(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    for command, word in (
        (("stats", "acc_001"), "sharpe"),
        (("stats", "acc_001", "--explain", "win_rate"), "wins/n"),
        (("pnl", "acc_001", "--by", "strategy"), "alpha"),
        (("trades", "acc_001"), "BTC-PERP"),
        (("lots", "--account", "acc_001", "--holding-days", "1"), "long"),
    ):
        assert await psm_here(*command) == 0
        assert word in capsys.readouterr().out
    lots = await said(capsys, "lots", "--account", "acc_001", "--holding-days", "0")
    assert {row["term"] for row in lots} == {"long", "short"}
    for row in lots:
        assert (row["term"] == "long") == (row["days_held"] > 0)
    for wrong in (
        ("stats", "acc_404"),
        ("stats", "acc_001", "--since", "1h"),
        ("stats", "--explain", "sharpe"),
        ("export", "nothing", "--format", "csv"),
        ("export", "pnl", "--format", "parquet"),
        ("export", "accounts", "--format", "csv", "--from", "-1d"),
        ("export", "acc_001"),
        ("export", "trades", "--format", "csv", "--timeframe", "1m"),
        ("stats", "group:"),
        ("stats", "acc_001", "--strategy", "nobody"),
        ("pnl", "acc_001", "--by", "strategy", "--strategy", "alpha"),
        ("trades", "acc_001", "--known-at", "99999999999999999999"),
        ("lots", "--account", "acc_001", "--holding-days", "36501"),
        ("lots", "-", "--account", "acc_001"),
    ):
        assert await psm_here(*wrong) in (1, 2), wrong
        assert capsys.readouterr().err


async def test_a_reader_of_the_views_may_ask_all_of_it(api: Api, postgres_dsn: str) -> None:
    """With the rights of `psm_views_reader` and no others."""
    await apply_roles(postgres_dsn, {})
    pool = await postgres.open_pool(postgres_dsn, name="test", size_max=1)
    async with postgres.acquired(pool) as connection:
        await connection.execute("SET ROLE psm_views_reader")
    reads = AnalyticsReads(pool)
    figures = await figures_of(reads, FiguresQuestion(subject="acc_001"))
    assert figures.metrics.n > 10
    assert (await reads.lots("acc_001")).rows
    pool.terminate()
