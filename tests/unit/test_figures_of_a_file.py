"""`psm lots` and the figures of a file: daily closes, trades, lots, and what a bust takes away."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from psm.workers.cli import main
from psm.workers.replay.figures import FigureFolder, FileFigures, account_document

X = {"kind": "linear_perp", "base": "X", "quote": "USDT", "settle": "USDT", "multiplier": "1"}


def line(time: str, event_type: str, stream: str = "trades.a", /, **payload: Any) -> bytes:
    data = {"event_type": event_type, "stream_id": stream.partition(".")[2], "payload": payload}
    data["schema_version"] = "1.0.0"
    return json.dumps({"subject": stream, "time": f"2026-01-{time}Z", "data": data}).encode()


def mark(time: str, price: str) -> bytes:
    return line(time, "MarkPriceUpdated", "marks.X", symbol="X", price=price)


def deposit(time: str, amount: str) -> bytes:
    return line(time, "CashDeposited", currency="USDT", amount=amount)


def trade(
    time: str, side: str, quantity: str, price: str, fill: str, fee: str = "0", symbol: str = "X"
) -> bytes:
    return line(
        time, "TradeExecuted", symbol=symbol, side=side, quantity=quantity, price=price,
        commission=fee, fill_id=fill,
    )  # fmt: skip


START = [
    line("01T00:00:00", "InstrumentDefined", "instruments.X", symbol="X", **X),
    deposit("01T01:00:00", "1000"),
]
STORY = [
    *START,
    trade("01T02:00:00", "buy", "2", "100", "f1", "1"),
    mark("01T03:00:00", "90"),
    mark("02T03:00:00", "120"),
    deposit("02T04:00:00", "500"),
    trade("04T02:00:00", "sell", "3", "130", "f2", "1.5"),
]


def figures(*lines: bytes) -> FileFigures:
    folder = FigureFolder(periods=365, partitions=16)
    for one in lines:
        folder.take(one)
    (found,) = folder.accounts()
    return found


def test_daily_closes_carry_forward_and_flows_are_no_gain() -> None:
    """979, 1 539 with 500 of it paid in, the same on a day without events; the last is not over."""
    daily = figures(*STORY).daily
    assert [row.bucket[-2:] for row in daily] == ["01", "02", "03", "04"]
    assert [row.equity for row in daily][:3] == [Decimal(979), Decimal(1539), Decimal(1539)]
    assert [row.complete for row in daily] == [True, True, True, False]
    assert [row.nav for row in daily][:3] == [Decimal("0.979"), Decimal("1.039"), Decimal("1.039")]
    assert (daily[1].flows, daily[1].pnl, daily[2].ret) == (Decimal(500), Decimal(60), Decimal(0))
    assert daily[0].ret == Decimal("-0.021")


def test_statistics_are_of_complete_days() -> None:
    """Three of four; the drawdown is the first day's."""
    found = figures(*STORY)
    assert (found.metrics.n, found.epochs) == (3, 1)
    assert found.metrics.max_drawdown == Decimal("-0.021")


def test_a_flip_closes_a_trade_and_opens_one() -> None:
    """Fees pro rata; the worst and the best that marks showed on the way."""
    (closed,) = figures(*STORY).trades
    assert (closed.side, closed.peak_size, closed.gross) == ("long", Decimal(2), Decimal(60))
    assert (closed.fees, closed.net) == (Decimal(2), Decimal(58))
    assert (closed.mae, closed.mfe) == (Decimal(-20), Decimal(60))
    assert closed.holding_s == 3 * 86_400


def test_a_bust_leaves_trades_as_if_the_fill_never_was() -> None:
    """The log with a fill and its bust, and the log without both: the same trades and figures."""
    busted = [
        trade("04T03:00:00", "buy", "1", "140", "f3", "1"),
        mark("04T04:00:00", "150"),
        line("05T01:00:00", "TradeBusted", fill_id="f3", reason="venue"),
        trade("05T02:00:00", "buy", "1", "120", "f4"),
    ]
    without = [busted[1], busted[3]]
    one, other = figures(*STORY, *busted), figures(*STORY, *without)
    first, changed = one.trades
    assert first == other.trades[0]
    assert changed == other.trades[1]
    assert one.trade_metrics == other.trade_metrics
    assert len(one.trades) == 2
    assert [row.bucket for row in one.daily] == [row.bucket for row in other.daily]


def test_an_amendment_counts_as_amended() -> None:
    """A fill at 130 that was one at 110: the trade gained 20."""
    amended = line("05T01:00:00", "TradeAmended", fill_id="f2", price="110", reason="venue")
    (closed,) = figures(*STORY, amended).trades
    assert closed.gross == Decimal(20)


def test_a_day_on_which_all_is_taken_out_ends_at_its_last_unit() -> None:
    """Half is lost, the rest withdrawn: the day lost half; those behind it have no units."""
    found = figures(
        *START,
        trade("02T00:00:00", "buy", "10", "100", "f1"),
        trade("02T01:00:00", "sell", "10", "50", "f2"),
        line("02T02:00:00", "CashWithdrawn", currency="USDT", amount="500"),
        mark("05T02:00:00", "50"),
    )
    half = Decimal("0.5")
    assert [row.nav for row in found.daily] == [Decimal(1), half, None, None, None]
    assert [row.ret for row in found.daily] == [Decimal(0), -half, None, None, None]
    assert (found.metrics.n, found.metrics.total_return) == (2, -half)
    assert (found.metrics.max_drawdown, found.metrics.max_drawdown_intraday) == (-half, -half)


def test_lots_gain_what_shares_did_through_corporate_actions() -> None:
    """Capital paid back, a fraction paid out and a spin-off: each lot costs what the law says.

    11 shares at 100 less 55 are 95 each; of 5.5 new ones half a share goes for 60, which cost 95; a
    fifth of 190 each goes with the spin-off.
    """
    shares = {"kind": "equity", "quote": "USD", "settle": "USD", "multiplier": "1"}
    lines = [
        line("01T00:00:00", "InstrumentDefined", "instruments.X", symbol="X", base="X", **shares),
        line("01T00:00:00", "InstrumentDefined", "instruments.Y", symbol="Y", base="Y", **shares),
        line("01T01:00:00", "CashDeposited", currency="USD", amount="10000"),
        trade("02T00:00:00", "buy", "10", "100", "f1"),
        trade("02T01:00:00", "buy", "1", "100", "f2"),
        trade("02T02:00:00", "buy", "3", "40", "g1", symbol="Y"),
        line("03T00:00:00", "ReturnOfCapital", symbol="X", amount="55", currency="USD"),
        line(
            "04T00:00:00", "SplitApplied", symbol="X", numerator="1", denominator="2",
            quantity_after="5", cash_in_lieu="60", currency="USD",
        ),
        line(
            "05T00:00:00", "SpinOff", symbol="X", new_symbol="Y", numerator="1", denominator="1",
            cost_share="0.2",
        ),
        trade("06T00:00:00", "sell", "5", "210", "f3"),
        trade("07T00:00:00", "sell", "8", "50", "f4", symbol="Y"),
    ]  # fmt: skip
    folder = FigureFolder(periods=365, partitions=16)
    for one in lines:
        folder.take(one)
    lots = [(lot.symbol, lot.quantity, lot.open_price, lot.pnl) for _, lot in folder.lots()]
    half = Decimal("0.5")
    assert lots == [
        ("X", half, Decimal(190), Decimal(-35)),
        ("X", Decimal("4.5"), Decimal(152), Decimal(261)),
        ("X", half, Decimal(152), Decimal(29)),
        ("Y", Decimal(3), Decimal(40), Decimal(30)),
        ("Y", Decimal(5), Decimal(38), Decimal(60)),
    ]
    (found,) = (one for one in folder.accounts() if one.account_id == "a")
    assert [one.gross for one in found.trades] == [Decimal(255), Decimal(90)]


def test_what_did_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures without the events that were refused or wait say so, as text and as JSON lines."""
    path = tmp_path / "events.jsonl"
    waiting = json.loads(deposit("03T00:00:00", "5"))
    waiting["data"]["sequence_number"] = 9
    lines = [*START, trade("02T00:00:00", "buy", "-1", "3", "f1"), json.dumps(waiting).encode()]
    path.write_bytes(b"\n".join(lines))
    assert main(["fold", str(path), "--metrics"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "psm: without effect: refused (invalid_payload), log sequence 3",
        "psm: without effect: waiting for number 3 of a, log sequence 4",
    ]
    assert main(["lots", str(path), "-o", "json"]) == 0
    told = [json.loads(one) for one in capsys.readouterr().err.splitlines()]
    assert [one["log_sequences"] for one in told] == [[3], [4]]


def test_documents_are_exact_texts() -> None:
    """What is not defined is null; times are RFC 3339."""
    document = account_document(figures(*START))
    assert document["metrics"]["sharpe"] is None
    assert document["trade_metrics"]["win_rate"] is None
    assert document["periods_per_year"] == 365
    (row,) = account_document(figures(*STORY))["trades"]
    assert row["opened"] == "2026-01-01T02:00:00.000000Z"
    assert row["net"] == "58"


def test_fold_prints_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`psm fold --metrics`: one document an account; a year may have 252 days."""
    file = tmp_path / "log.jsonl"
    file.write_bytes(b"\n".join(STORY))
    assert main(["fold", str(file), "--metrics", "--periods", "252"]) == 0
    (document,) = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert (document["account_id"], document["periods_per_year"]) == ("a", 252)
    assert document["daily"][0]["nav"] == "0.979"
    assert len(document["trades"]) == document["trade_metrics"]["n"] == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("fold", "--metrics", "--periods", "1000001"), "--periods must be 1 to 1000000"),
        (("fold", "--metrics", "--final"), "--final"),
        (("fold", "--periods", "252"), "--periods is for --metrics"),
        (("lots", "--holding-days", "5"), "need --account"),
        (("lots", "--partitions", "0"), "--partitions must be 1 or more"),
        (("lots", "acc_001"), "no file acc_001; of an account give --account acc_001"),
        (("lots", "--account", "acc_001", "--partitions", "4"), "--partitions"),
        (("book", "kraken", "BTC", "--profile", "kraken"), "PSM_MARKET_VENUES"),
    ],
)
def test_options_without_effect_are_refused(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert told in capsys.readouterr().err


def test_lots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a closed lot; a line that is none is named, and exit code 1."""
    file = tmp_path / "log.jsonl"
    more = trade("05T02:00:00", "buy", "1", "120", "f4")
    file.write_bytes(b"\n".join([*STORY, more, b"{"]))
    assert main(["lots", str(file)]) == 1
    printed = capsys.readouterr()
    found = [json.loads(row) for row in printed.out.splitlines()]
    assert [(row["side"], row["quantity"], row["pnl"]) for row in found] == [
        ("long", "2", "60"),
        ("short", "1", "10"),
    ]
    assert found[0]["days_held"] == 3
    assert "line 9" in printed.err
    assert main(["lots", str(file), "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().err)["line"] == 9


def test_legs_have_lots_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A close of the short leg closes no lot of the long one."""
    fills = [
        ("buy", "2", "100", "long"),
        ("sell", "1", "120", "short"),
        ("buy", "1", "110", "short"),
    ]
    legs = [
        line(
            f"02T0{n}:00:00", "TradeExecuted", symbol="X", side=side, quantity=quantity,
            price=price, position_side=leg,
        )
        for n, (side, quantity, price, leg) in enumerate(fills)
    ]  # fmt: skip
    hedged = line("01T02:00:00", "PositionModeChanged", mode="hedge")
    file = tmp_path / "log.jsonl"
    file.write_bytes(b"\n".join([*START, hedged, *legs]))
    assert main(["lots", str(file)]) == 0
    (found,) = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert (found["side"], found["quantity"], found["pnl"]) == ("short", "1", "10")
