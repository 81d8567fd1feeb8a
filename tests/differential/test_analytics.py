"""Figures equal those of empyrical, quantstats, ffn, pyfolio, scipy and pandas."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from psm.analytics.closes import BucketClose, standing_of, units
from psm.analytics.performance import PerformanceFigures, UnitStanding, performance
from psm.analytics.statistics import over
from psm.analytics.trades import Trade, trade_metrics, trade_metrics_by_currency

VECTORS = json.loads((Path(__file__).parent / "analytics_vectors.json").read_text("utf-8"))
SERIES: dict[str, dict[str, Any]] = VECTORS["series"]
RELATIVE = Decimal("1E-9")


def of(*closes: str) -> PerformanceFigures:
    return performance([Decimal(close) for close in closes], VECTORS["periods"])


def trade(net: str, number: int = 0, seconds: int = 1, currency: str = "USDT") -> Trade:
    amount, start = Decimal(net), number * 10**9
    return Trade(
        symbol="A", side="long", currency=currency, opened=start, closed=start + seconds * 10**9,
        peak_size=Decimal(1), gross=amount, fees=Decimal(0), funding=Decimal(0), net=amount,
    )  # fmt: skip


def assert_near(found: Decimal | None, expected: float, name: str) -> None:
    assert found is not None, name
    wanted = Decimal(repr(expected))
    assert abs(found - wanted) <= RELATIVE * max(abs(wanted), Decimal("1E-6")), name


@pytest.mark.parametrize("name", SERIES)
def test_figures_equal_the_libraries(name: str) -> None:
    """To a relative 1e-9; what a library has no number for is null here."""
    expected = dict(SERIES[name])
    found = of(*expected.pop("closes"))
    for figure, value in expected.items():
        assert_near(getattr(found, figure), value, figure)


@pytest.mark.parametrize("name", SERIES)
def test_figures_equal_ffn(name: str) -> None:
    """A drawdown that lasts is a day longer here: ffn ends it at the last close, not behind it."""
    expected = dict(VECTORS["ffn"][name])
    closes, falls = SERIES[name]["closes"], expected.pop("falls")
    found = of(*closes)
    for figure, value in expected.items():
        assert_near(getattr(found, figure), value, figure)
    lasts = Decimal(closes[-1]) < max(map(Decimal, ["1", *closes]))
    if lasts:
        falls[-1] += 1
    assert found.max_drawdown_days == max(falls, default=0)


@pytest.mark.parametrize("name", SERIES)
def test_figures_equal_pyfolio(name: str) -> None:
    """It counts 252 days a year."""
    found = performance([Decimal(close) for close in SERIES[name]["closes"]], 252)
    for figure, value in VECTORS["pyfolio"][name].items():
        assert_near(getattr(found, figure), value, figure)


@pytest.mark.parametrize("case", VECTORS["trades"], ids=lambda case: len(case["nets"]))
def test_trades_equal_the_libraries(case: dict[str, Any]) -> None:
    """The same of trades; a quantity that a library counts otherwise stands apart below."""
    found = trade_metrics([trade(net) for net in case["nets"]])
    for figure in ("profit_factor", "payoff", "avg_win", "avg_loss", "kelly", "expectancy"):
        assert_near(getattr(found, figure), case[figure], figure)


def test_what_is_not_defined_is_null() -> None:
    """No return, one, none that moved, none that lost: never 0, NaN or infinity."""
    assert of().mean is of().max_drawdown is of().total_return is None
    one = of("1.1")
    assert one.volatility is one.sharpe is one.cagr is one.var_hist_95 is one.skew is None
    assert one.ewma_vol_daily is not None
    still = of("1", "1", "1", "1", "1")
    assert still.sharpe is still.sortino is still.calmar is still.var_param_95 is None
    assert still.skew is still.kurtosis_excess is None
    assert still.volatility == 0
    assert still.var_hist_95 == 0
    gains = of("1.1", "1.2", "1.3")
    assert gains.sortino is gains.calmar is None
    assert gains.sharpe is not None


def test_a_first_days_loss_counts() -> None:
    """1 is the first peak: 0.9 is a drawdown of 10 %, and two days below it."""
    found = of("0.9", "0.95", "1.2")
    assert found.max_drawdown == Decimal("-0.1")
    assert found.max_drawdown_days == 2
    assert found.n == 3


def test_a_drawdown_that_lasts() -> None:
    """It counts to the last close."""
    assert of("1.2", "1.1", "1.1", "1.15").max_drawdown_days == 3


def test_growth_beyond_all_numbers_is_null() -> None:
    """A tenth in a minute, every minute of a year: no infinity, and no ratio of one."""
    found = performance([Decimal("1.01"), Decimal("1.1"), Decimal("1.09")], 525_600)
    assert found.cagr is found.calmar is None
    assert found.sharpe is not None
    assert performance([Decimal("0.9"), Decimal("0.8")], 525_600).cagr == -1


def test_ruin_has_no_ratios() -> None:
    """Only what was lost is given, even beyond everything."""
    found = of("1.1", "-0.2", "0.5")
    assert found.ruined
    assert found.total_return == Decimal("-0.5")
    assert (found.max_drawdown or 0) < -1
    assert found.sharpe is found.cagr is found.var_hist_95 is None


def test_trades_that_break_even() -> None:
    """They are no win and no loss, end both streaks, and count in the win rate of all."""
    nets = ["5", "5", "0", "5", "-3", "-3", "0", "-3"]
    found = trade_metrics([trade(net, n, n + 1) for n, net in enumerate(nets)])
    assert (found.n, found.wins, found.losses, found.breakeven) == (8, 3, 3, 2)
    assert (found.win_rate, found.win_rate_decided) == (Decimal("0.375"), Decimal("0.5"))
    assert (found.longest_win_streak, found.longest_loss_streak) == (2, 2)
    assert (found.avg_win, found.avg_loss) == (Decimal(5), Decimal(-3))
    assert (found.holding_mean_s, found.holding_median_s) == (Decimal("4.5"), Decimal("4.5"))
    assert (found.best, found.worst, found.net) == (Decimal(5), Decimal(-3), Decimal(6))


def test_tails_as_money() -> None:
    """A loss as a part of the equity at the last close, above zero; null where none is known."""
    closes = [Decimal(close) for close in SERIES["wild"]["closes"]]
    found = performance(closes, 365, standing=UnitStanding(equity=Decimal(2_000)))
    for tail in ("var_hist_95", "var_hist_99", "es_hist_95", "var_param_99", "es_param_95"):
        assert_near(getattr(found, f"{tail}_money"), -2_000 * SERIES["wild"][tail], tail)
    assert performance(closes, 365).var_hist_95_money is None


def test_the_deepest_fall_of_every_mark_is_of_a_whole_epoch() -> None:
    """As updates tell it, below zero; a range that begins later does not know its own."""
    days = [
        BucketClose(
            bucket=f"2026-01-0{day}", epoch=1, complete=True, equity=Decimal(9), nav=Decimal("0.9"),
            ret=None, flows=Decimal(0), pnl=None, max_drawdown=Decimal("0.25"),
        )
        for day in (1, 2, 3)
    ]  # fmt: skip
    whole = performance(units(days, Decimal(1)), 365, standing=standing_of(days, days))
    assert (whole.max_drawdown, whole.max_drawdown_intraday) == (Decimal("-0.1"), Decimal("-0.25"))
    part = performance(units(days[1:], Decimal(1)), 365, standing=standing_of(days, days[1:]))
    assert part.max_drawdown_intraday is None
    assert standing_of([], []) == UnitStanding()


def test_no_trade_and_no_loss() -> None:
    """Ratios without a denominator are null."""
    none = trade_metrics([])
    assert none.no_losses
    assert not trade_metrics([trade("-1")]).no_losses
    assert (none.n, none.net) == (0, Decimal(0))
    assert none.win_rate is none.expectancy is none.best is none.holding_median_s is None
    won = trade_metrics([trade("1"), trade("2")])
    assert won.profit_factor is won.payoff is won.kelly is won.avg_loss is None
    assert won.win_rate == 1


def test_money_of_several_currencies_is_never_added_up() -> None:
    """Counts, shares, streaks and times are of all trades; money stands per currency, or is null.

    Statistics per trade that were NaN, or sums, of unlike currencies: nautilus 4205.
    """
    dollars, coins = [trade("5"), trade("-3", 1)], [trade("0.5", 2, currency="BTC")]
    found = trade_metrics([*dollars, *coins])
    assert (found.n, found.wins, found.losses, found.longest_win_streak) == (3, 2, 1, 1)
    assert found.win_rate == found.win_rate_decided == over(Decimal(2), Decimal(3))
    assert found.holding_mean_s == 1
    assert found.net is found.best is found.worst is found.expectancy is None
    assert found.currency is None
    assert found.profit_factor is found.payoff is found.kelly is found.avg_win is None
    apart = trade_metrics_by_currency([*dollars, *coins])
    assert apart == {"BTC": trade_metrics(coins), "USDT": trade_metrics(dollars)}
    assert (apart["USDT"].currency, apart["USDT"].net) == ("USDT", Decimal(2))
    assert trade_metrics_by_currency(dollars) == trade_metrics_by_currency([]) == {}
