"""`psm risk`: rows in, documents out, and what is said of rows that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.risk_log import RiskLog

from psm.workers.cli import main

STATE = {
    "equity": "10000", "day_open_equity": "10000", "drawdown": "0.02", "mode": "active",
    "marks": {"ETHUSDT": "3000", "BTCUSDT": "50000"}, "positions": {"BTCUSDT": "0.1"},
    "open_orders": [{"order_id": "o1", "symbol": "BTCUSDT", "side": "sell", "open_quantity": "0.02",
                     "price": "51000", "reduce_only": False}],
}  # fmt: skip


def rows_of(tmp_path: Path, *rows: object) -> str:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(file)


def documents(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_an_order_that_is_too_large_is_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """20 010 of 20 000: one lot less, and the reader sees which limit it was."""
    row = {
        "state": STATE,
        "limits": {"exposure_symbol": "2", "max_order_quantity": {"ETHUSDT": "10"}},
        "order": {"order_id": "o7", "symbol": "ETHUSDT", "side": "buy", "quantity": "6.67"},
        "lots": {"ETHUSDT": "0.01"},
        "on_limit": "reduce",
    }
    assert main(["risk", "decide", rows_of(tmp_path, row)]) == 0
    (found,) = documents(capsys.readouterr().out)
    assert (found["decision"], found["approved_quantity"]) == ("reduced", "6.66")
    assert (found["reason"], found["reducing_room"]) == ("exposure_symbol", "0")
    (check,) = [check for check in found["checks"] if check["binding"]]
    assert (check["value"], check["limit"], check["passed"]) == ("20010", "20000", False)


def test_numbers_in_json_are_exact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit written as a number has the digits that stand there."""
    row = json.dumps({"state": STATE, "order": {"symbol": "ETHUSDT", "side": "buy", "quantity": 1}})
    row = row[:-1] + ', "limits": {"max_order_notional": 2999.99999999999999999999}}'
    assert main(["risk", "decide", rows_of(tmp_path, row)]) == 0
    (found,) = documents(capsys.readouterr().out)
    assert found["decision"] == "rejected"
    limits = {check["name"]: check["limit"] for check in found["checks"]}
    assert limits["max_order_notional"] == "2999.99999999999999999999"


def test_counts_may_be_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As amounts are, in limits, states and inputs of a size."""
    row = {
        "state": {**STATE, "loss_streak": "3"},
        "limits": {"open_orders_count": "1", "loss_streak": "4"},
        "order": {"symbol": "ETHUSDT", "side": "buy", "quantity": "1"},
    }
    assert main(["risk", "decide", rows_of(tmp_path, row)]) == 0
    (found,) = documents(capsys.readouterr().out)
    assert found["reason"] == "open_orders_count"
    kelly = {"rule": "kelly_capped", "equity": "10000", "W": "0.55", "avg_win": "120",
             "avg_loss": "-100", "fraction": "0.5", "price": "3000", "lot": "0.01"}  # fmt: skip
    assert main(["risk", "size", rows_of(tmp_path, {**kelly, "n": "30"}, {**kelly, "n": 29})]) == 0
    assert documents(capsys.readouterr().out) == [{"size": "0.29"}, {"size": "0"}]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"limits": {"exposure_simbol": "1"}}, 'did you mean "exposure_symbol"'),
        ({"state": {**STATE, "equity": "NaN"}}, "row.state.equity"),
        ({"state": {**STATE, "equity": "1E+9999"}}, "row.state.equity"),
        ({"order": {"symbol": "A", "side": "buy", "quantity": "0"}}, "order.quantity"),
        ({"order": {"symbol": "A", "side": "up", "quantity": "1"}}, "$.order.side"),
        ({"lots": {"A": "0"}}, "lots.A"),
        ({"restricted": {"A": "sideways"}}, "sideways"),
    ],
)
def test_a_row_that_is_none_is_reported_and_the_others_decided(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], text: str
) -> None:
    """Line, field and what is known; exit code 1."""
    good = {"state": STATE, "order": {"symbol": "ETHUSDT", "side": "buy", "quantity": "1"}}
    assert main(["risk", "decide", rows_of(tmp_path, {**good, **change}, good, "{")]) == 1
    printed = capsys.readouterr()
    (found,) = documents(printed.out)
    assert found["decision"] == "approved"
    first, last = printed.err.splitlines()
    assert first.startswith("psm: line 1: ")
    assert text in first
    assert last.startswith("psm: line 3: invalid_json")


def test_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By our names, and by the letters of the formulas."""
    rows = rows_of(
        tmp_path,
        {"rule": "fixed_fractional", "equity": "10000", "risk": "0.01", "entry": "100",
         "stop": "95", "lot": "0.01"},
        {"rule": "fixed-fractional", "equity": "10000", "r": 0.01, "E": 100, "S": 95, "fee": 0.001,
         "lot": 0.01},
        {"rule": "martingale"},
        {"rule": "atr", "luck": "1"},
    )  # fmt: skip
    assert main(["risk", "size", rows]) == 1
    printed = capsys.readouterr()
    assert documents(printed.out) == [{"size": "20"}, {"size": "19.24"}]
    assert "line 3: malformed_field" in printed.err
    assert 'line 4: malformed_field: "luck"' in printed.err


def test_clusters_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both forms of the table say the same."""
    wide, long = ["date,UP,DOWN"], ["date,symbol,close"]
    for day in range(70):
        at = f"2026-{1 + day // 28:02}-{1 + day % 28:02}"
        up, down = 100 + day % 7, 100 - day % 5
        wide.append(f"{at},{up},{down}")
        long += [f"{at},UP,{up}", f"{at},DOWN,{down}"]
    printed = []
    for name, lines in (("wide", wide), ("long", long)):
        (tmp_path / name).write_text("\n".join(lines))
        assert main(["risk", "clusters", "compute", "--closes", str(tmp_path / name)]) == 0
        printed += documents(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert printed[0]["symbols"] == ["DOWN", "UP"]
    assert printed[0]["correlation"]["UP"]["UP"] == "1"


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("", "no price"),
        ("date,A\n2026-01-01,x", 'line 2: "x" is no number'),
        ("date,A\nyesterday,1", "line 2"),
        ("date,A\n2026-01-01,1,2", "3 cells, the header has 2"),
        ("date,A\n2026-01-01,-1", "no price above zero"),
        ("date,A,A\n2026-01-01,1,2", "line 2: A has two closes of 2026-01-01"),
        ("date,symbol,close\n2026-01-01,A,1\n2026-01-01,A,1", "line 3: A has two closes"),
    ],
)
def test_a_table_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str, text: str
) -> None:
    """The line and what is wrong; exit code 2."""
    (tmp_path / "t.csv").write_text(table)
    assert main(["risk", "clusters", "compute", "--closes", str(tmp_path / "t.csv")]) == 2
    assert text in capsys.readouterr().err


def test_a_whole_log_is_decided_order_by_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Decisions alone unless all is asked for; a line that is none is reported."""
    log = RiskLog({"exposure_symbol": "2", "daily_loss": "0.05"})
    log.order("buy", "250")
    log.trade("buy", "100", "100")
    log.mark("BTC-PERP", "90")
    log.order("buy", "1")
    (tmp_path / "log").write_bytes(b"\n".join([*log.lines, b'{"subject":"orders.command.a"}']))
    assert main(["risk", "fold", str(tmp_path / "log")]) == 1
    printed = capsys.readouterr()
    assert [(d["decision"], d["reason"]) for d in documents(printed.out)] == [
        ("rejected", "exposure_symbol"), ("rejected", "mode"),
    ]  # fmt: skip
    assert f"line {len(log.lines) + 1}: missing_field" in printed.err
    assert main(["risk", "fold", "--all", str(tmp_path / "log")]) == 1
    kinds = [document["kind"] for document in documents(capsys.readouterr().out)]
    assert kinds == [output.kind for output in log.outputs]
    assert "halt" in kinds
