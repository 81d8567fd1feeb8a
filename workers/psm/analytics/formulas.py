"""What each figure means: its formula, what it is made of, and when it is not defined."""

from __future__ import annotations

from typing import Literal

import msgspec


class MetricFormula(msgspec.Struct, frozen=True, kw_only=True):
    """How a figure is made.

    Attributes:
        title: what people call it.
        of: what its inputs are; returns are those of complete buckets of the latest epoch.
        formula: r are the returns, n how many, A buckets a year, nav the closes, N net profits.
        undefined: when it is null.
        shown: how people write it: as per cent, as a ratio, as money, as seconds, as a count.
    """

    title: str
    of: Literal["returns", "trades"]
    formula: str
    undefined: str
    shown: Literal["percent", "ratio", "money", "seconds", "count"]


def _of_returns(
    title: str, formula: str, undefined: str, shown: Literal["percent", "ratio", "money", "count"]
) -> MetricFormula:
    return MetricFormula(
        title=title, of="returns", formula=formula, undefined=undefined, shown=shown
    )


def _of_trades(
    title: str,
    formula: str,
    undefined: str,
    shown: Literal["percent", "ratio", "money", "seconds", "count"],
) -> MetricFormula:
    return MetricFormula(
        title=title, of="trades", formula=formula, undefined=undefined, shown=shown
    )


_TWO = "n < 2, or a nav was not above zero"
_NO_UNIT = "n = 0, or the nav before the range was not above zero"
_FOUR = "n < 4, all returns equal, or a nav was not above zero"
_SPREAD = "n < 2, all returns equal, or a nav was not above zero"
_NO_TRADE = "no trade"
_SEVERAL = "trades of several currencies"

FORMULAS: dict[str, MetricFormula] = {
    "n": _of_returns("Returns", "number of r", "never", "count"),
    "total_return": _of_returns("Total return", "nav_end - 1", _NO_UNIT, "percent"),
    "cagr": _of_returns(
        "Annual growth",
        "nav_end^(A/n) - 1, rounded to 12 digits",
        f"{_TWO}, or it is beyond 10^999",
        "percent",
    ),
    "mean": _of_returns("Mean return", "sum(r)/n", "n = 0, or a nav was not above zero", "percent"),
    "volatility": _of_returns("Volatility", "std(r, n - 1)*sqrt(A)", _TWO, "percent"),
    "sharpe": _of_returns(
        "Sharpe ratio", "(mean(r) - risk_free/A)/std(r, n - 1)*sqrt(A)", _SPREAD, "ratio"
    ),
    "sortino": _of_returns(
        "Sortino ratio",
        "(mean(r) - risk_free/A)/sqrt(sum(min(r, 0)^2)/n)*sqrt(A)",
        "n < 2, no loss, or a nav was not above zero",
        "ratio",
    ),
    "max_drawdown": _of_returns(
        "Max drawdown", "min(nav/max(1, nav so far) - 1)", _NO_UNIT, "percent"
    ),
    "max_drawdown_intraday": _of_returns(
        "Max drawdown, of every mark",
        "min(nav/max(1, nav so far) - 1) at every mark of the epoch",
        "the range begins within the epoch, or it is not of one account",
        "percent",
    ),
    "max_drawdown_days": _of_returns(
        "Longest drawdown", "longest run of buckets below the highest nav so far", "never", "count"
    ),
    "calmar": _of_returns(
        "Calmar ratio", "cagr/abs(max_drawdown)", "cagr is, or max_drawdown = 0", "ratio"
    ),
    "skew": _of_returns(
        "Skew", "third standardised moment of r, corrected for bias", _FOUR, "ratio"
    ),
    "kurtosis_excess": _of_returns(
        "Excess kurtosis", "fourth standardised moment of r - 3, corrected for bias", _FOUR, "ratio"
    ),
    "ewma_vol_daily": _of_returns(
        "EWMA volatility, of a bucket",
        "sqrt(sum(w r^2)/sum(w)), w = 0.94^age",
        "n = 0, or a nav was not above zero",
        "percent",
    ),
    **{
        f"var_hist_{c}": _of_returns(
            f"Value at risk {c} %, historical",
            f"quantile(r, {100 - c} %), linear interpolation",
            _TWO,
            "percent",
        )
        for c in (95, 99)
    },
    **{
        f"es_hist_{c}": _of_returns(
            f"Expected shortfall {c} %, historical",
            f"mean of the worst floor((n - 1)*{100 - c}/100) + 1 of r",
            _TWO,
            "percent",
        )
        for c in (95, 99)
    },
    **{
        f"var_param_{c}": _of_returns(
            f"Value at risk {c} %, normal", f"mean(r) - z{c}*std(r, n - 1)", _SPREAD, "percent"
        )
        for c in (95, 99)
    },
    **{
        f"es_param_{c}": _of_returns(
            f"Expected shortfall {c} %, normal",
            f"mean(r) - std(r, n - 1)*phi(z{c})/(1 - {c} %)",
            _SPREAD,
            "percent",
        )
        for c in (95, 99)
    },
    **{
        f"{name}_{c}_money": _of_returns(
            f"{title} {c} %, {way}, in money",
            f"-{name}_{c}*equity at the last close",
            f"{name}_{c} is, or it is of a part of an account",
            "money",
        )
        for name, title, way in (
            ("var_hist", "Value at risk", "historical"),
            ("es_hist", "Expected shortfall", "historical"),
            ("var_param", "Value at risk", "normal"),
            ("es_param", "Expected shortfall", "normal"),
        )
        for c in (95, 99)
    },
    "wins": _of_trades("Wins", "number of N > 0", "never", "count"),
    "losses": _of_trades("Losses", "number of N < 0", "never", "count"),
    "breakeven": _of_trades("Break-even trades", "number of N = 0", "never", "count"),
    "win_rate": _of_trades("Win rate, of all", "wins/n", _NO_TRADE, "percent"),
    "win_rate_decided": _of_trades(
        "Win rate, of decided", "wins/(wins + losses)", "no win and no loss", "percent"
    ),
    "profit_factor": _of_trades(
        "Profit factor", "sum(N > 0)/abs(sum(N < 0))", f"no loss, or {_SEVERAL}", "ratio"
    ),
    "payoff": _of_trades(
        "Payoff", "avg_win/abs(avg_loss)", f"no win, no loss, or {_SEVERAL}", "ratio"
    ),
    "avg_win": _of_trades("Average win", "mean(N > 0)", f"no win, or {_SEVERAL}", "money"),
    "avg_loss": _of_trades("Average loss", "mean(N < 0)", f"no loss, or {_SEVERAL}", "money"),
    "expectancy": _of_trades("Expectancy", "mean(N)", f"{_NO_TRADE}, or {_SEVERAL}", "money"),
    "longest_win_streak": _of_trades(
        "Longest winning streak", "longest run of N > 0; N = 0 ends it", "never", "count"
    ),
    "longest_loss_streak": _of_trades(
        "Longest losing streak", "longest run of N < 0; N = 0 ends it", "never", "count"
    ),
    "holding_mean_s": _of_trades("Mean holding", "mean(closed - opened)", _NO_TRADE, "seconds"),
    "holding_median_s": _of_trades(
        "Median holding", "median(closed - opened)", _NO_TRADE, "seconds"
    ),
    "best": _of_trades("Best trade", "max(N)", f"{_NO_TRADE}, or {_SEVERAL}", "money"),
    "worst": _of_trades("Worst trade", "min(N)", f"{_NO_TRADE}, or {_SEVERAL}", "money"),
    "net": _of_trades("Net of all trades", "sum(N)", _SEVERAL, "money"),
    "kelly": _of_trades(
        "Kelly fraction",
        "w - (1 - w)/payoff, w = win_rate_decided",
        f"no win, no loss, or {_SEVERAL}",
        "percent",
    ),
}
"""By the name of the figure; `n` is that of returns."""
