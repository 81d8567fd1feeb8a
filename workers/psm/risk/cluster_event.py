"""What `ClustersDefined` says of a day: made from closes, and recomputed from the same closes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from psm.contracts.codec import canonical_bytes
from psm.domain.money import exact_text, published_text
from psm.risk.clusters import WINDOW, Closes, Clusters, compute, daily_returns
from psm.risk.exposure import UNCLASSIFIED

CODE = "clusters 1.0.0"
"""Rules by which clusters are computed; another text where the same closes give others."""

CLOSES = WINDOW + 1
"""Days of closes that are needed."""

Members = Mapping[str, Sequence[str]]


def clusters_content(
    closes: Closes, version: int, before: Members, benchmark: str | None = None
) -> dict[str, Any]:
    """Return the fields of `ClustersDefined`, but for who says it.

    Args:
        closes: of the last `CLOSES` days, the last one the day that it is as of.
        version: of the clusters.
        before: members by cluster, as the version before has them; names are kept from there.
        benchmark: to which betas are taken; None for the first symbol.
    """
    found = compute(closes, benchmark)
    clusters = {name: list(members) for name, members in renamed(found.clusters, before).items()}
    if found.unclassified:
        clusters[UNCLASSIFIED] = list(found.unclassified)
    return {
        "version": version,
        "as_of_day": closes.days[-1],
        "window": WINDOW,
        "symbols": sorted(closes.prices),
        "clusters": clusters,
        "beta": {name: _published(beta) for name, beta in found.beta.items()},
        "sigma": {name: published_text(sigma) for name, sigma in found.sigma.items()},
        "shrinkage": _published(found.shrinkage),
        "matrix_hash": matrix_hash(found),
        "returns_hash": returns_hash(closes),
        "code": CODE,
    }


def renamed(clusters: Members, before: Members) -> dict[str, tuple[str, ...]]:
    """Return clusters under the names that they had; a new one is named after its first symbol.

    A name stays with the cluster that has at least half of the members it had; of several such
    names with the one of which most stayed, then with the smallest.
    """
    named: dict[str, tuple[str, ...]] = {}
    unnamed: list[tuple[str, ...]] = []
    left = {name: members for name, members in before.items() if name != UNCLASSIFIED}
    for _, members in sorted(clusters.items()):
        stayed = {
            name: len([one for one in old if one in members]) for name, old in sorted(left.items())
        }
        kept = {name: n for name, n in stayed.items() if n and 2 * n >= len(left[name])}
        if kept:
            name = max(kept, key=kept.__getitem__)
            named[name] = tuple(members)
            del left[name]
        else:
            unnamed.append(tuple(members))
    for members in unnamed:
        free = [one for one in members if one not in named]
        named[free[0] if free else f"{members[0]}'"] = members
    return dict(sorted(named.items()))


def matrix_hash(found: Clusters) -> str:
    """Return SHA-256 of the correlations that the clusters are made of."""
    rows = [list(map(exact_text, row)) for row in found.correlation_shrunk]
    return _digest({"symbols": list(found.symbols), "correlation": rows})


def returns_hash(closes: Closes) -> str:
    """Return SHA-256 of the daily returns that it begins with."""
    returns = {
        symbol: [None if one is None else exact_text(one) for one in daily_returns(prices)]
        for symbol, prices in closes.prices.items()
    }
    return _digest({"days": list(closes.days), "returns": returns})


def _published(value: Decimal | None) -> str | None:
    return None if value is None else published_text(value)


def _digest(value: object) -> str:
    return hashlib.sha256(canonical_bytes(value)).hexdigest()
