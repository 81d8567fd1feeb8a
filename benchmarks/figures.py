"""What a benchmark returns: figures beside their baselines, and how they are shown."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any, Literal

import msgspec

Better = Literal["at least", "at most"]


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured.

    Attributes:
        scale: of the full numbers; 1 for a real measurement.
        rounds: how often baseline and measured run take turns.
    """

    scale: float = 1.0
    rounds: int = 3

    def of(self, full: int, least: int = 20) -> int:
        """Return a full number at this size."""
        return max(least, round(full * self.scale))


FULL = Size()
SMOKE = Size(scale=0.01, rounds=1)
"""Says nothing about speed, but shows that the benchmarks still run."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured number; medians over the rounds.

    Attributes:
        name: what is measured.
        unit: of `value` and `baseline`.
        value: the median.
        spread: smallest and largest of the rounds.
        baseline: the bare form of the same work in the same run; None without one.
        ratio: of `value` to `baseline`, the median over the rounds.
        better, target: what the ratio must be, or the value where there is no baseline; None
            where nothing is promised.
    """

    name: str
    unit: str
    value: float
    spread: tuple[float, float] | None = None
    baseline: float | None = None
    ratio: float | None = None
    better: Better = "at least"
    target: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        if self.target is None:
            return None
        found = self.value if self.ratio is None else self.ratio
        return found >= self.target if self.better == "at least" else found <= self.target


def beside(
    name: str,
    unit: str,
    values: Sequence[float],
    baselines: Sequence[float],
    *,
    target: float | None = None,
    better: Better = "at least",
) -> Figure:
    """Return the figure of rounds in which value and baseline were measured in turn."""
    ratios = [value / bare for value, bare in zip(values, baselines, strict=True)]
    return Figure(
        name=name,
        unit=unit,
        value=statistics.median(values),
        spread=(min(values), max(values)),
        baseline=statistics.median(baselines),
        ratio=statistics.median(ratios),
        better=better,
        target=target,
    )


def quantile(values: Iterable[float], share: float) -> float:
    """Return the value below which `share` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def environment() -> dict[str, str]:
    """Return what the figures depend on, and how busy the machine was."""
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load": " ".join(f"{one:.2f}" for one in os.getloadavg()),
        "python": platform.python_version(),
        **{name: version(name) for name in ("nats-py", "asyncpg", "msgspec")},
    }


def as_json(figure: Figure) -> dict[str, Any]:
    """Return all fields and the verdict."""
    return {**msgspec.structs.asdict(figure), "met": figure.met}


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as text, one a line."""
    head = f"{'':<50} {'median':>10} {'spread':>19} {'baseline':>10} {'ratio':>6}  target"
    return "\n".join([head, *map(_line, figures)]) + "\n"


def _line(figure: Figure) -> str:
    spread = "-".join(map(_short, figure.spread)) if figure.spread else ""
    target = ""
    if figure.target is not None:
        verdict = "met" if figure.met else "MISSED"
        target = f"{figure.better} {figure.target:g} {verdict}"
    return (
        f"{f'{figure.name}, {figure.unit}':<50} {_short(figure.value):>10} {spread:>19} "
        f"{_short(figure.baseline):>10} {_short(figure.ratio):>6}  {target}"
    ).rstrip()


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
