"""Figures of libraries for the tests of analytics, as JSON.

Run it in an environment of its own, for nothing of it is a dependency of PSM:

    pip install empyrical-reloaded quantstats ffn pyfolio-reloaded scipy pandas numpy
    python scripts/make_analytics_vectors.py > tests/differential/analytics_vectors.json

Closes of a unit that starts at 1 are texts, so that both sides read the same digits.
"""

from __future__ import annotations

import json
import random
import sys
import warnings
from typing import Any

import empyrical
import ffn
import numpy as np
import pandas as pd
import quantstats
from pyfolio import timeseries
from scipy import stats

PERIODS = 365


def walks() -> dict[str, list[str]]:
    """Return closes by name: random ones, and the ones that formulas stumble over."""
    draw = random.Random(20_261_129)  # noqa: S311 - reproducible on purpose
    made: dict[str, list[str]] = {}
    for name, days, drift, noise in (
        ("calm", 30, 0.001, 0.004), ("wild", 250, -0.001, 0.05), ("long", 800, 0.0005, 0.01),
    ):  # fmt: skip
        close, closes = 1.0, []
        for _ in range(days):
            close *= 1 + draw.gauss(drift, noise)
            closes.append(f"{close:.9f}")
        made[name] = closes
    made["first day's loss"] = ["0.9", "0.95", "0.97", "1.02", "1.01"]
    made["only gains"] = ["1.01", "1.03", "1.04", "1.09", "1.1"]
    made["never recovers"] = ["1.2", "1.1", "1.05", "1.15", "0.9", "0.95"]
    made["empty days"] = ["1.01", "1.01", "1.01", "0.99", "0.99", "1.05"]
    return made


def figures(closes: list[str]) -> dict[str, float]:
    """Return what the libraries make of the closes."""
    r = _levels(closes).pct_change().dropna()
    found: dict[str, Any] = {
        "mean": r.mean(),
        "volatility": empyrical.annual_volatility(r, annualization=PERIODS),
        "sharpe": empyrical.sharpe_ratio(r, annualization=PERIODS),
        "sortino": empyrical.sortino_ratio(r, annualization=PERIODS),
        "cagr": empyrical.annual_return(r, annualization=PERIODS),
        "total_return": empyrical.cum_returns_final(r),
        "max_drawdown": empyrical.max_drawdown(r),
        "calmar": empyrical.calmar_ratio(r, annualization=PERIODS),
        "var_hist_95": empyrical.value_at_risk(r, 0.05),
        "var_hist_99": np.percentile(r, 1),
        "es_hist_95": empyrical.conditional_value_at_risk(r, 0.05),
        "var_param_95": quantstats.stats.value_at_risk(r, confidence=0.95, prepare_returns=False),
        "var_param_99": quantstats.stats.value_at_risk(r, confidence=0.99, prepare_returns=False),
        "es_param_95": r.mean() - r.std() * stats.norm.pdf(stats.norm.ppf(0.95)) / 0.05,
        "es_param_99": r.mean() - r.std() * stats.norm.pdf(stats.norm.ppf(0.99)) / 0.01,
        "ewma_vol_daily": np.sqrt((r**2).ewm(alpha=0.06, adjust=True).mean().iloc[-1]),
        "skew": stats.skew(r, bias=False),
        "kurtosis_excess": stats.kurtosis(r, bias=False),
    }
    return {k: float(v) for k, v in found.items() if np.isfinite(v)}


def _levels(closes: list[str]) -> pd.Series:
    days = pd.date_range("2026-01-01", periods=len(closes) + 1)
    return pd.Series([1.0, *map(float, closes)], days)


def of_ffn(closes: list[str]) -> dict[str, Any]:
    """Return what ffn makes of the closes; `falls` are the lengths of its drawdowns."""
    levels = _levels(closes)
    r = levels.pct_change().dropna()
    details = ffn.drawdown_details(ffn.to_drawdown_series(levels))
    found = {
        "sharpe": ffn.calc_sharpe(r, nperiods=PERIODS),
        "sortino": ffn.calc_sortino_ratio(r, nperiods=PERIODS),
        "total_return": ffn.calc_total_return(levels),
        "max_drawdown": ffn.calc_max_drawdown(levels),
    }
    falls = [] if details is None else [int(length) for length in details["Length"]]
    return {**{k: float(v) for k, v in found.items() if np.isfinite(v)}, "falls": falls}


def of_pyfolio(closes: list[str]) -> dict[str, float]:
    """Return what pyfolio makes of the closes, of 252 days a year."""
    r = _levels(closes).pct_change().dropna()
    found = {
        "volatility": timeseries.annual_volatility(r),
        "sharpe": timeseries.sharpe_ratio(r),
        "sortino": timeseries.sortino_ratio(r),
        "cagr": timeseries.annual_return(r),
        "max_drawdown": timeseries.max_drawdown(r),
        "calmar": timeseries.calmar_ratio(r),
    }
    return {k: float(v) for k, v in found.items() if np.isfinite(v)}


def trades() -> list[dict[str, Any]]:
    """Return lists of net results and what quantstats makes of them."""
    draw = random.Random(7)  # noqa: S311 - reproducible on purpose
    made = []
    for count in (5, 40, 200):
        nets = [round(draw.gauss(1, 30), 2) for _ in range(count)]
        series = pd.Series(nets)
        made.append(
            {
                "nets": [str(net) for net in nets],
                "profit_factor": float(series[series > 0].sum() / -series[series < 0].sum()),
                "payoff": float(quantstats.stats.payoff_ratio(series, prepare_returns=False)),
                "avg_win": float(quantstats.stats.avg_win(series, prepare_returns=False)),
                "avg_loss": float(quantstats.stats.avg_loss(series, prepare_returns=False)),
                "kelly": float(quantstats.stats.kelly_criterion(series, prepare_returns=False)),
                "expectancy": float(series.mean()),
            }
        )
    return made


def main() -> None:
    """Print the vectors."""
    warnings.simplefilter("ignore")
    series = {name: {"closes": c, **figures(c)} for name, c in walks().items()}
    document = {
        "periods": PERIODS,
        "series": series,
        "ffn": {name: of_ffn(closes) for name, closes in walks().items()},
        "pyfolio": {name: of_pyfolio(closes) for name, closes in walks().items()},
        "trades": trades(),
    }
    json.dump(document, sys.stdout, indent=0)


if __name__ == "__main__":
    main()
