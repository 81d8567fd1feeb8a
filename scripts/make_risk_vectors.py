"""Figures of numpy, scikit-learn, scipy and pandas for the risk tests, as JSON on stdout.

Run it in an environment of its own, for nothing of it is a dependency of PSM:

    pip install numpy==2.* pandas scikit-learn scipy
    python scripts/make_risk_vectors.py > tests/differential/risk_vectors.json

Closes come from a seeded walk, as texts, so both sides read the same digits.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.covariance import LedoitWolf

WINDOW = 90
SHAPES = ((2, 61), (4, 91), (6, 200), (12, 120), (25, 95))


def walk(seed: int, symbols: int, days: int) -> dict[str, list[str]]:
    """Return closes of symbols that share a factor, to a degree of their own."""
    draw = random.Random(seed)  # noqa: S311 - reproducible on purpose
    loads = [draw.uniform(-0.5, 1.5) for _ in range(symbols)]
    noises = [draw.uniform(0.002, 0.03) for _ in range(symbols)]
    prices = [draw.uniform(1, 1000) for _ in range(symbols)]
    closes: dict[str, list[str]] = {f"S{place:02}": [] for place in range(symbols)}
    for _ in range(days):
        factor = draw.gauss(0, 0.02)
        for place, name in enumerate(closes):
            prices[place] *= 1 + loads[place] * factor + draw.gauss(0, noises[place])
            closes[name].append(f"{prices[place]:.6f}")
    return closes


def figures(closes: dict[str, list[str]]) -> dict[str, Any]:
    """Return what the libraries make of the closes."""
    returns = pd.DataFrame(closes).astype(float).pct_change().dropna().iloc[-WINDOW:]
    sample = np.corrcoef(returns.to_numpy().T)
    scores = (returns - returns.mean()) / returns.std(ddof=0)
    shrinkage = float(LedoitWolf(assume_centered=True).fit(scores.to_numpy()).shrinkage_)
    rho = (1 - shrinkage) * sample
    np.fill_diagonal(rho, 1)
    distances = np.sqrt((1 - rho) / 2)
    np.fill_diagonal(distances, 0)
    flat = fcluster(linkage(squareform(distances, checks=False), "average"), 0.5, "distance")
    first = returns.columns[0]
    ewm = returns.ewm(alpha=0.03, adjust=True).cov(bias=True).iloc[-len(returns.columns) :]
    scale = np.sqrt(np.diag(ewm.to_numpy()))
    return {
        "n": len(returns),
        "correlation": sample.tolist(),
        "correlation_ewma": (ewm.to_numpy() / np.outer(scale, scale)).tolist(),
        "shrinkage": shrinkage,
        "clusters": [
            sorted(name for name, c in zip(returns.columns, flat, strict=True) if c == label)
            for label in sorted(set(flat.tolist()))
        ],
        "sigma": returns.std(ddof=1).tolist(),
        "beta": [
            float(np.cov(returns[c], returns[first])[0, 1] / returns[first].var()) for c in returns
        ],
    }


def main() -> None:
    """Print the vectors."""
    cases = []
    for seed, (symbols, days) in enumerate(SHAPES):
        closes = walk(seed, symbols, days)
        cases.append({"closes": closes, **figures(closes)})
    json.dump(
        {"made_with": {"numpy": np.__version__, "pandas": pd.__version__}, "cases": cases},
        sys.stdout,
    )


if __name__ == "__main__":
    main()
