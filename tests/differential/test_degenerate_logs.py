"""Logs that formulas stumble over, through the whole door: `psm fold --metrics`."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from math import sqrt
from statistics import fmean, stdev

from tests.unit.test_figures_of_a_file import START, deposit, figures, line, mark, trade

from psm.workers.replay.figures import FileFigures


def navs(found: FileFigures) -> list[Decimal | None]:
    """Return the navs of complete days."""
    return [close.nav for close in found.daily if close.complete]


def test_no_trade() -> None:
    """Constant equity: returns of nought, no ratio, no trade."""
    found = figures(*START, mark("04T01:00:00", "100"))
    assert navs(found) == [1, 1, 1]
    assert found.metrics.n == 3
    assert found.metrics.volatility == found.metrics.max_drawdown == 0
    assert found.metrics.sharpe is found.metrics.sortino is found.metrics.calmar is None
    assert (found.trade_metrics.n, found.trade_metrics.win_rate) == (0, None)


def test_one_trade() -> None:
    """One of everything; what needs two is null."""
    found = figures(
        *START,
        trade("01T02:00:00", "buy", "1", "100", "f1", "1"),
        trade("01T03:00:00", "sell", "1", "120", "f2", "1"),
        mark("02T01:00:00", "100"),
    )
    assert navs(found) == [Decimal("1.018")]
    assert found.metrics.volatility is found.metrics.cagr is None
    metrics = found.trade_metrics
    assert metrics.n == metrics.win_rate == 1
    assert metrics.net == 18
    assert metrics.profit_factor is metrics.payoff is metrics.kelly is None
    assert metrics.holding_mean_s == metrics.holding_median_s == 3_600


def test_a_loss_on_the_first_day() -> None:
    """It is measured against the unit's 1."""
    found = figures(
        *START,
        trade("01T02:00:00", "buy", "10", "100", "f1"),
        mark("01T03:00:00", "90"),
        mark("02T03:00:00", "95"),
        mark("03T03:00:00", "95"),
    )
    assert navs(found) == [Decimal("0.9"), Decimal("0.95")]
    assert found.metrics.max_drawdown == Decimal("-0.1")
    assert found.metrics.max_drawdown_days == 2


def test_deposits_inside_a_drawdown() -> None:
    """Units fall with the market; equity, which rises with each deposit, would tell of gains."""
    lines = [*START, trade("01T02:00:00", "buy", "10", "100", "f1"), mark("01T03:00:00", "100")]
    for day, price in ((2, "95"), (3, "90"), (4, "88"), (5, "86")):
        lines.append(mark(f"0{day}T03:00:00", price))
        lines.append(deposit(f"0{day}T04:00:00", "300"))
    found = figures(*lines, mark("06T03:00:00", "86"))
    metrics = found.metrics
    assert metrics.sharpe is not None
    assert metrics.sharpe < 0
    assert metrics.max_drawdown is not None
    assert metrics.max_drawdown < Decimal("-0.1")
    equity = [float(close.equity or 0) for close in found.daily if close.complete]
    naive = [after / before - 1 for before, after in pairwise(equity)]
    assert fmean(naive) / stdev(naive) * sqrt(365) > 0
    assert sum(close.flows for close in found.daily) == 2_200
    assert sum(close.pnl or 0 for close in found.daily) == -140


def test_ruin_and_a_new_start() -> None:
    """A loss of more than everything ends the epoch when money comes; statistics are of the new."""
    ruin = [
        *START,
        trade("01T02:00:00", "buy", "20", "100", "f1"),
        mark("01T03:00:00", "40"),
        mark("02T01:00:00", "40"),
    ]
    ruined = figures(*ruin)
    assert ruined.ruined
    assert ruined.metrics.total_return == Decimal("-1.2")
    assert ruined.metrics.sharpe is ruined.metrics.cagr is None
    again = figures(
        *ruin,
        trade("02T02:00:00", "sell", "20", "40", "f2"),
        deposit("02T03:00:00", "1200"),
        mark("03T03:00:00", "40"),
        mark("04T03:00:00", "40"),
    )
    assert again.epochs == 2
    assert not again.ruined
    assert [close.epoch for close in again.daily] == [1, 2, 2, 2]
    assert navs(again)[1:] == [1, 1]
    assert again.metrics.n == 2


def test_a_day_after_ruin_has_no_return() -> None:
    """What goes from -200 to -400 did not gain: nothing is measured against less than nothing."""
    found = figures(
        *START,
        trade("01T02:00:00", "buy", "20", "100", "f1"),
        mark("01T03:00:00", "40"),
        mark("02T01:00:00", "30"),
        mark("03T01:00:00", "50"),
        mark("04T01:00:00", "120"),
    )
    assert navs(found) == [Decimal("-0.2"), Decimal("-0.4"), 0]
    assert [close.ret for close in found.daily] == [Decimal("-1.2"), None, None, None]
    assert found.metrics.total_return == -1
    assert found.ruined


def test_only_gains() -> None:
    """No loss: what has one below its line is null."""
    lines = [*START, trade("01T02:00:00", "buy", "1", "100", "f1"), mark("01T03:00:00", "101")]
    lines += [mark(f"0{day}T03:00:00", str(100 + day * day)) for day in range(2, 6)]
    found = figures(*lines, trade("06T01:00:00", "sell", "1", "130", "f2"))
    assert found.metrics.max_drawdown == 0
    assert found.metrics.sortino is found.metrics.calmar is None
    assert found.metrics.sharpe is not None
    assert found.trade_metrics.profit_factor is None


def test_streaks_that_break_even() -> None:
    """Trades of nought between wins and losses end both streaks."""
    lines, prices = [*START], ("110", "110", "100", "110", "90", "90", "100", "90")
    for n, price in enumerate(prices):
        lines.append(trade(f"01T{n + 2:02}:00:00", "buy", "1", "100", f"a{n}"))
        lines.append(trade(f"01T{n + 2:02}:30:00", "sell", "1", price, f"b{n}"))
    metrics = figures(*lines).trade_metrics
    assert (metrics.n, metrics.wins, metrics.losses, metrics.breakeven) == (8, 3, 3, 2)
    assert (metrics.longest_win_streak, metrics.longest_loss_streak) == (2, 2)
    assert metrics.expectancy == 0
    assert metrics.profit_factor == 1


def test_empty_days() -> None:
    """A week without a message has seven days, each of a return of nought."""
    found = figures(
        *START,
        trade("01T02:00:00", "buy", "1", "100", "f1"),
        mark("01T03:00:00", "110"),
        mark("09T03:00:00", "120"),
    )
    assert [close.bucket[-2:] for close in found.daily] == [f"{day:02}" for day in range(1, 10)]
    assert navs(found) == [Decimal("1.01")] * 8
    assert [close.ret for close in found.daily][1:8] == [0] * 7
    assert found.metrics.n == 8
    assert all(close.pnl == 0 and close.flows == 0 for close in found.daily[1:8])


def test_an_account_that_only_was_named() -> None:
    """No equity, no epoch, no day."""
    found = figures(line("01T01:00:00", "AccountOpened", currency="USDT"))
    assert (found.daily, found.epochs, found.metrics.n) == ([], 0, 0)
