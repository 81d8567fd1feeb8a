"""Formulas that libraries had wrong: what they gave, what is given here, and why that is right.

Each naive formula is written out in floats, as it was reported, so that the difference is seen.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from math import sqrt
from statistics import fmean, stdev

from tests.unit.test_figures_of_a_file import deposit, figures, line, mark, trade

from psm.analytics.lots import LotBook
from psm.analytics.performance import performance, returns_of
from psm.analytics.trades import Trade, trade_metrics

DAYS = 365
WALK = ["0.95", "0.97", "0.96", "1.01", "1.03", "1", "1.04", "1.02"]
"""Closes of a unit that starts at 1 and loses 5 % on its first day."""


def floats(texts: list[str]) -> list[float]:
    return [float(text) for text in texts]


def changes(levels: list[float]) -> list[float]:
    return [after / before - 1 for before, after in pairwise(levels)]


def drawdown(levels: list[float]) -> float:
    peak, lowest = levels[0], 0.0
    for level in levels:
        peak = max(peak, level)
        lowest = min(lowest, level / peak - 1)
    return lowest


def near(found: Decimal | None, expected: float) -> bool:
    return found is not None and abs(float(found) - expected) < 1e-9


def test_the_first_days_loss_is_dropped() -> None:
    """`pct_change` of closes alone has no first day's return (quantstats 438, pyfolio 179)."""
    closes, found = floats(WALK), performance([Decimal(text) for text in WALK], DAYS)
    assert near(found.max_drawdown, drawdown([1.0, *closes]))
    assert drawdown(closes) > -0.04 > float(found.max_drawdown or 0)
    assert found.n == len(changes(closes)) + 1
    dropped = changes(closes)
    assert not near(found.sharpe, fmean(dropped) / stdev(dropped) * sqrt(DAYS))


def test_a_base_that_nobody_gave() -> None:
    """A phantom base before a series of prices invents a fall (quantstats 541); units start at 1.

    Here a series is one of units by type, so that nothing is put before prices, or guessed.
    """
    prices = [20.0, 21.0, 20.5]
    assert drawdown([400.0, *prices]) < -0.94
    units = [str(price / 20) for price in prices]
    assert near(performance([Decimal(text) for text in units], DAYS).max_drawdown, -0.5 / 21)


def test_levels_and_returns_are_not_guessed() -> None:
    """Closes that look like returns, or the other way round, are what they are said to be."""
    small = [Decimal("0.01"), Decimal("0.02")]
    assert returns_of(small) == [Decimal("-0.99"), Decimal(1)]


def test_growth_in_years_of_another_unit() -> None:
    """Calendar years, or 252 days where markets never rest, mix units (quantstats 1, 3, 302)."""
    closes = [Decimal(1) + Decimal(n) / 1000 for n in range(1, 101)]
    found = performance(closes, DAYS)
    end = float(closes[-1])
    assert near(found.cagr, end ** (DAYS / 100) - 1)
    assert not near(found.cagr, end ** (252 / 100) - 1)
    assert not near(found.cagr, end ** (1 / (99 / 365.25)) - 1)  # days between the dates


def test_ruin_is_no_profit() -> None:
    """abs() of what is left turned a loss of more than everything into growth."""
    found = performance([Decimal("0.5"), Decimal("-1.5")], DAYS)
    assert abs(-1.5) ** (DAYS / 2) - 1 > 0
    assert found.ruined
    assert found.cagr is None
    assert found.total_return == Decimal("-2.5")


def test_annual_by_the_window() -> None:
    """A rolling ratio times the root of its window is of no period (quantstats 78, 142)."""
    last = [Decimal(text) for text in WALK[-3:]]
    base = Decimal(WALK[-4])
    found = performance([close / base for close in last], DAYS)
    r = changes(floats(WALK))[-3:]
    assert near(found.sharpe, fmean(r) / stdev(r) * sqrt(DAYS))
    assert not near(found.sharpe, fmean(r) / stdev(r) * sqrt(len(r)))


def test_a_denominator_that_is_not_annual() -> None:
    """Annual growth over the deviation of a day is no Sharpe ratio (portfolio-performance 5918)."""
    found = performance([Decimal(text) for text in WALK], DAYS)
    r = changes([1.0, *floats(WALK)])
    assert near(found.volatility, stdev(r) * sqrt(DAYS))
    assert not near(found.sharpe, float(found.cagr or 0) / stdev(r))


def test_shortfall_says_by_which_way() -> None:
    """One default changed from the sample to a normal distribution; here both have their names."""
    found = performance([Decimal(text) for text in WALK], DAYS)
    assert near(found.es_hist_95, min(changes([1.0, *floats(WALK)])))
    assert found.es_param_95 != found.es_hist_95


def test_downside_over_all_periods() -> None:
    """Gains count as nought in the downside, they are not left out (empyrical 61, ffn 254)."""
    found = performance([Decimal(text) for text in WALK], DAYS)
    r = changes([1.0, *floats(WALK)])
    squares = [change * change for change in r if change < 0]
    assert near(found.sortino, fmean(r) / sqrt(sum(squares) / len(r)) * sqrt(DAYS))
    assert not near(found.sortino, fmean(r) / sqrt(sum(squares) / len(squares)) * sqrt(DAYS))
    losses = [change for change in r if change < 0]
    assert not near(found.sortino, fmean(r) / stdev(losses) * sqrt(DAYS))


def test_days_without_a_trade_count() -> None:
    """A ratio of trading days alone flatters who rests (bytex 57)."""
    still = ["1.01", "1.01", "1.01", "0.99", "0.99", "1.05"]
    found = performance([Decimal(text) for text in still], DAYS)
    moved = [change for change in changes([1.0, *floats(still)]) if change]
    assert found.n == 6
    assert not near(found.sharpe, fmean(moved) / stdev(moved) * sqrt(DAYS))


def test_lots_have_a_multiplier() -> None:
    """A future of 50 a point gains 50 a point (pyfolio 641)."""
    book = LotBook("ES", Decimal(50))
    book.fill(Decimal(2), Decimal(4000), 0)
    (closed,) = book.fill(Decimal(-2), Decimal(4010), 1)
    assert closed.pnl == Decimal(1000) != Decimal(2) * (4010 - 4000)


def test_lots_keep_fractions() -> None:
    """Half a coin is not none: sizes were cut by astype(int) (pyfolio-reloaded 33)."""
    book = LotBook("BTC")
    book.fill(Decimal("0.5"), Decimal(40_000), 0)
    (closed,) = book.fill(Decimal("-0.5"), Decimal(41_000), 1)
    assert (closed.quantity, closed.pnl) == (Decimal("0.5"), Decimal(500))
    assert int(0.5) * 1_000 == 0


def test_closes_are_marked_and_no_balances() -> None:
    """A loss that is not realized is one: a tear sheet of balances saw none (nautilus 3899)."""
    found = figures(
        line("01T00:00:00", "InstrumentDefined", "instruments.X", kind="linear", base="X",
             quote="USDT", settle="USDT", multiplier="1"),
        deposit("01T01:00:00", "1000"),
        trade("01T02:00:00", "buy", "5", "100", "f1"),
        mark("01T03:00:00", "60"),
        mark("02T03:00:00", "61"),
    )  # fmt: skip
    assert found.daily[0].equity == Decimal(800)
    assert found.metrics.max_drawdown == Decimal("-0.2")


def test_trades_that_break_even_are_no_losers() -> None:
    """An average loss over trades that lost nothing is too small (nautilus 1.221: -9.375)."""
    nets = ["5", "-15", "0", "-22.5", "0"]
    made = [
        Trade(
            symbol="A", side="long", currency="USDT", opened=n, closed=n + 1,
            peak_size=Decimal(1), gross=Decimal(net), fees=Decimal(0), funding=Decimal(0),
            net=Decimal(net),
        )
        for n, net in enumerate(nets)
    ]  # fmt: skip
    found = trade_metrics(made)
    assert found.avg_loss == Decimal("-18.75")
    assert found.avg_loss != fmean([-15, 0, -22.5, 0])
    assert found.win_rate == Decimal("0.2")  # of all, as reported; of those decided a third
    assert near(found.win_rate_decided, 1 / 3)


def test_the_same_digits_everywhere() -> None:
    """Statistics that differed between two systems (Lean 4253) are texts here: 34 digits."""
    found = performance([Decimal(text) for text in WALK], DAYS)
    assert str(found.sharpe) == SHARPE
    assert str(found.skew) == SKEW


SHARPE = "1.625696622305249260313992282824043"
SKEW = "-0.07041072517309156361746989808893163"
