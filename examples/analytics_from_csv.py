"""The figures of one account again, with pandas, from the files that PSM exports.

    pip install pandas scipy
    psm export pnl --format csv --out pnl.csv
    psm export trades --format csv --out trades.csv
    psm stats acc_001 -o json > stats.json
    python examples/analytics_from_csv.py pnl.csv trades.csv stats.json

Of other buckets than days give `--timeframe` to the first and the last command. Exit 1 where a
figure differs by more than 1e-9 of itself. What is exported later may have more rows.
"""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

FREQUENCIES = {"1m": "min", "5m": "5min", "1h": "h", "1d": "D", "1w": "7D"}


def navs(pnl: pd.DataFrame, said: dict) -> pd.Series:
    """Return the complete closes of the account; a bucket without a row ended as the one before."""
    closes = said.get("daily") or said["closes"]
    complete = [close["bucket"] for close in closes if close["complete"]]
    if not complete:
        sys.exit("no bucket is complete yet; --timeframe 1m of both commands has shorter ones")
    last = complete[-1]
    whole = pnl[
        (pnl.account_id == said["account_id"]) & (pnl.strategy_id == "*") & (pnl.symbol == "*")
    ]
    unit = whole[whole.epoch == said["epochs"]].set_index("bucket").nav
    until = pd.Timestamp(last).tz_localize("UTC") if len(last) == 10 else pd.Timestamp(last)
    buckets = pd.date_range(unit.index[0], until, freq=FREQUENCIES[said["timeframe"]])
    return unit.reindex(buckets).ffill()


def figures(nav: pd.Series, periods: int) -> dict[str, float]:
    """Return what pandas, numpy and scipy make of the closes."""
    ret = nav / nav.shift(fill_value=1) - 1
    year = math.sqrt(periods)
    low = ret.clip(upper=0)
    weights = 0.94 ** np.arange(len(ret))[::-1]
    return {
        "n": len(ret),
        "mean": ret.mean(),
        "volatility": ret.std() * year,
        "sharpe": ret.mean() / ret.std() * year,
        "sortino": ret.mean() / math.sqrt((low**2).mean()) * year,
        "total_return": nav.iloc[-1] - 1,
        "cagr": nav.iloc[-1] ** (periods / len(nav)) - 1,
        "max_drawdown": min(0.0, (nav / nav.cummax().clip(lower=1) - 1).min()),
        "var_hist_95": ret.quantile(0.05),
        "var_hist_99": ret.quantile(0.01),
        "var_param_95": ret.mean() + scipy_stats.norm.ppf(0.05) * ret.std(),
        "ewma_vol_daily": math.sqrt((ret**2 * weights).sum() / weights.sum()),
        "skew": ret.skew(),
        "kurtosis_excess": ret.kurt(),
    }


def trade_figures(trades: pd.DataFrame) -> dict[str, float]:
    """Return what pandas makes of the trades."""
    net = trades.net
    won, lost = net[net > 0], net[net < 0]
    return {
        "n": len(net),
        "wins": len(won),
        "losses": len(lost),
        "win_rate": len(won) / len(net),
        "profit_factor": won.sum() / abs(lost.sum()),
        "payoff": won.mean() / abs(lost.mean()),
        "expectancy": net.mean(),
        "best": net.max(),
        "worst": net.min(),
        "holding_mean_s": trades.holding_s.mean(),
        "holding_median_s": trades.holding_s.median(),
    }


def differing(again: dict[str, float], said: dict) -> int:
    """Print both of each figure; return how many differ."""
    count = 0
    for name, value in again.items():
        known = said[name]
        if known is None:
            print(f"{name:18} {value:24.12g} {'not defined':>24}")
            continue
        close = math.isclose(value, float(known), rel_tol=1e-9, abs_tol=1e-15)
        count += not close
        print(f"{name:18} {value:24.12g} {float(known):24.12g} {'' if close else 'DIFFERS'}")
    return count


def main(pnl_file: str, trades_file: str, stats_file: str) -> int:
    """Compare; 1 if a figure differs."""
    with open(stats_file, encoding="utf-8") as file:  # noqa: PTH123 - a script to copy from
        said = json.load(file)
    pnl = pd.read_csv(pnl_file, parse_dates=["bucket"])
    trades = pd.read_csv(trades_file)
    own = trades[(trades.account_id == said["account_id"]) & (trades.strategy_id == "*")]
    if said["trades"]:  # a log that goes on has more by now
        own = own[own.closed <= said["trades"][-1]["closed"]]
    found = differing(figures(navs(pnl, said), said["periods_per_year"]), said["metrics"])
    if len(own) and said["trade_metrics"]["losses"] and said["trade_metrics"]["wins"]:
        found += differing(trade_figures(own), said["trade_metrics"])
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 4 else __doc__)
