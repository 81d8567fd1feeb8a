"""Histograms as processes record them: cumulative counts below bounds, added up and subtracted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

INFINITE = float("inf")


class Histogram(msgspec.Struct, frozen=True):
    """How many measurements were at most so large.

    Attributes:
        below: count by upper bound, ascending, the last one infinite; empty without measurements.
    """

    below: dict[float, float]

    @property
    def count(self) -> float:
        """How many there are."""
        return self.below.get(INFINITE, 0.0)

    def within(self, limit: float) -> float | None:
        """Return the share that is at most `limit`; between two bounds it is a guess."""
        if self.count == 0:
            return None
        under, at_under = 0.0, 0.0
        for bound, count in self.below.items():
            if bound >= limit:
                if bound in (limit, INFINITE):
                    part = count if bound == limit else at_under
                else:
                    part = at_under + (count - at_under) * (limit - under) / (bound - under)
                return part / self.count
            under, at_under = bound, count
        return None

    def quantile(self, share: float) -> float | None:
        """Return the value below which a share is, as Prometheus counts it.

        None where there are too few to tell; what is beyond the last bound is that bound.
        """
        if self.count * (1 - share) < 1:
            return None
        wanted = self.count * share
        under, at_under = 0.0, 0.0
        for bound, count in self.below.items():
            if count >= wanted:
                if bound == INFINITE:
                    return under
                inside = count - at_under
                return under + (bound - under) * ((wanted - at_under) / inside if inside else 0.0)
            under, at_under = bound, count
        return under

    def since(self, before: Histogram) -> Histogram:
        """Return what was measured since `before`; a process that began anew counts as a whole."""
        if self.count < before.count:
            return self
        return Histogram({bound: n - before.below.get(bound, 0) for bound, n in self.below.items()})


def summed(histograms: Sequence[Histogram]) -> Histogram:
    """Return the measurements of all of them together."""
    total: dict[float, float] = {}
    for one in histograms:
        for bound, count in one.below.items():
            total[bound] = total.get(bound, 0.0) + count
    return of_bounds(total)


def of_bounds(counts: Mapping[float, float]) -> Histogram:
    """Return the histogram of counts by upper bound, in any order."""
    return Histogram(dict(sorted(counts.items())))
