"""Charts as inline SVG: colours come from the page, so that they follow light, dark and paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from html import escape

import msgspec

from psm.analytics.series import Bin
from psm.workers.analytics.report.texts import Shown, percent

WIDTH, HEIGHT = 760.0, 240.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 74.0, 10.0, 10.0, 26.0
_LETTERS = 11
"""Of a label, that have room beside the picture."""

_POINTS = 600
_TOOLTIPS = 250
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_FLAT = 1e-8
"""Change, as a part of the value, up to which a line is flat: no label would show it."""

Point = tuple[str, Decimal | None]


class LineChart(msgspec.Struct, frozen=True, kw_only=True):
    """A line over buckets, with a gap where a value is not defined.

    Attributes:
        key: unique in the page.
        title: of the chart, for those who do not see it; `summary` says what it shows.
        points: time and value, in order.
        shown: how values are written.
        base: value whose level is drawn; the area between it and the line is filled.
        kind: class of the line, which gives it its colour.
        open_from: points from here on are of buckets that are not complete: drawn dashed.
    """

    key: str
    title: str
    summary: str
    points: Sequence[Point]
    shown: Shown
    base: Decimal | None = None
    kind: str = "line"
    open_from: int | None = None


class _Plot(msgspec.Struct, frozen=True):
    """Where values and indices are on the picture."""

    low: float
    high: float
    count: int

    def x(self, index: int) -> float:
        room = WIDTH - _LEFT - _RIGHT
        return _LEFT + (room / 2 if self.count < 2 else room * index / (self.count - 1))

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def line_chart(chart: LineChart) -> str:
    """Return a line chart, or a sentence where there is nothing to draw."""
    drawn = [index for index, (_, value) in enumerate(chart.points) if value is not None]
    if not drawn:
        return '<p class="empty">Nothing to draw: no bucket has a value.</p>'
    values = [float(value) for _, value in chart.points if value is not None]
    if chart.base is not None:
        values.append(float(chart.base))
    ticks = _ticks(min(values), max(values))
    plot = _Plot(ticks[0], ticks[-1], len(chart.points))
    kept = _thinned(chart.points, drawn)
    open_from = len(chart.points) if chart.open_from is None else chart.open_from
    closed = [index for index in kept if index < open_from]
    pending = [index for index in kept if index >= open_from]
    parts = [*_axes(plot, ticks, chart.shown), *_times(plot, [time for time, _ in chart.points])]
    if chart.base is not None:
        level = _at(plot.y(float(chart.base)))
        parts += _area(chart, plot, closed, level)
        parts.append(_level("base", level))
    parts += _line(chart, plot, closed, chart.kind)
    parts += _line(chart, plot, closed[-1:] + pending, f"{chart.kind} open")
    parts += _hits(chart, plot)
    return _picture(chart.key, chart.title, chart.summary, parts)


def histogram(key: str, bins: Sequence[Bin]) -> str:
    """Return how returns are distributed, losses and gains apart; a sentence where none are."""
    if not bins:
        return '<p class="empty">Nothing to draw: no return yet.</p>'
    highest = max(one.count for one in bins)
    ticks = [tick for tick in _ticks(0.0, float(highest)) if tick == int(tick)]
    plot = _Plot(0.0, max(ticks[-1], 1.0), len(bins))
    width = (WIDTH - _LEFT - _RIGHT) / len(bins)
    parts = [*_axes(plot, ticks, lambda value: f"{value:,.0f}")]
    for index, one in enumerate(bins):
        left, top = _LEFT + width * index, plot.y(float(one.count))
        kind = "loss" if one.high <= 0 else "gain" if one.low >= 0 else "both"
        text = f"{percent(one.low)} to {percent(one.high)}: {one.count}"
        parts.append(
            f'<rect class="bar {kind}" x="{_at(left + 1)}" y="{_at(top)}" '
            f'width="{_at(max(width - 2, 1))}" height="{_at(HEIGHT - _BOTTOM - top)}">'
            f"<title>{escape(text)}</title></rect>"
        )
    for index in sorted({min(1, len(bins) - 1), len(bins) // 2, max(len(bins) - 2, 0)}):
        middle = _at(_LEFT + width * (index + 0.5))
        text = escape(percent((bins[index].low + bins[index].high) / 2))
        parts.append(f'<text class="x" x="{middle}" y="{_at(HEIGHT - 8)}">{text}</text>')
    total = sum(one.count for one in bins)
    summary = f"{total} returns from {percent(bins[0].low)} to {percent(bins[-1].high)}."
    return _picture(key, "Distribution of returns", summary, parts)


def _picture(key: str, title: str, summary: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" '
        f'aria-labelledby="{key}-title {key}-desc">'
        f'<title id="{key}-title">{escape(title)}</title>'
        f'<desc id="{key}-desc">{escape(summary)}</desc>{"".join(parts)}</svg>'
    )


def _axes(plot: _Plot, ticks: Sequence[float], shown: Callable[[Decimal], str]) -> Iterator[str]:
    """Yield a level and its value for each tick; one that is longer than its place is narrowed."""
    texts = [shown(Decimal(repr(tick))) for tick in ticks]
    if all(text.endswith(".00") for text in texts):
        texts = [text.removesuffix(".00") for text in texts]
    for tick, text in zip(ticks, texts, strict=True):
        y = plot.y(tick)
        yield _level("grid", _at(y))
        place = f'x="{_at(_LEFT - 8)}" y="{_at(y + 4)}"'
        if len(text) > _LETTERS:
            place += f' textLength="{_at(_LEFT - 8)}" lengthAdjust="spacingAndGlyphs"'
        yield f'<text class="y" {place}>{escape(text)}</text>'


def _times(plot: _Plot, times: Sequence[str]) -> Iterator[str]:
    """Yield the times of a few buckets, the first and the last among them."""
    last = len(times) - 1
    wanted = 4 if len(times[0]) <= 10 else 3
    for index in sorted({round(last * part / wanted) for part in range(wanted + 1)}):
        anchor = "start" if index == 0 else "end" if index == last else "middle"
        if not last:
            anchor = "middle"
        text = times[index].replace("T", " ").removesuffix(":00Z").removesuffix("Z")
        yield (
            f'<text class="x" style="text-anchor:{anchor}" x="{_at(plot.x(index))}" '
            f'y="{_at(HEIGHT - 8)}">{escape(text)}</text>'
        )


def _line(chart: LineChart, plot: _Plot, indices: Sequence[int], kind: str) -> Iterator[str]:
    """Yield each unbroken piece of the line; a point alone is a dot."""
    for piece in _pieces(chart.points, indices):
        if len(piece) == 1 and len(indices) == 1 and not kind.endswith("open"):
            x, y = piece[0]
            yield f'<circle class="dot {kind}" cx="{_at(plot.x(x))}" cy="{_at(plot.y(y))}" r="3"/>'
        elif len(piece) > 1:
            path = " ".join(f"{_at(plot.x(x))},{_at(plot.y(y))}" for x, y in piece)
            yield f'<polyline class="{kind}" points="{path}"/>'


def _area(chart: LineChart, plot: _Plot, indices: Sequence[int], level: str) -> Iterator[str]:
    for piece in _pieces(chart.points, indices):
        if len(piece) > 1:
            path = " ".join(f"{_at(plot.x(x))},{_at(plot.y(y))}" for x, y in piece)
            first, last = _at(plot.x(piece[0][0])), _at(plot.x(piece[-1][0]))
            corners = f"{first},{level} {path} {last},{level}"
            yield f'<polygon class="area {chart.kind}" points="{corners}"/>'


def _pieces(points: Sequence[Point], indices: Sequence[int]) -> Iterator[list[tuple[int, float]]]:
    """Yield runs of points between which no value is missing."""
    piece: list[tuple[int, float]] = []
    for index in indices:
        missing = piece and any(value is None for _, value in points[piece[-1][0] : index])
        if missing:
            yield piece
            piece = []
        value = points[index][1]
        if value is not None:
            piece.append((index, float(value)))
    if piece:
        yield piece


def _hits(chart: LineChart, plot: _Plot) -> Iterator[str]:
    """Yield a strip to point at for each bucket, which says its value; not for very many."""
    if len(chart.points) > _TOOLTIPS:
        return
    width = (WIDTH - _LEFT - _RIGHT) / max(len(chart.points) - 1, 1)
    for index, (time, value) in enumerate(chart.points):
        if value is not None:
            left = max(plot.x(index) - width / 2, _LEFT)
            text = escape(f"{time}: {chart.shown(value)}")
            yield (
                f'<rect class="hit" x="{_at(left)}" y="{_TOP}" width="{_at(width)}" '
                f'height="{_at(HEIGHT - _TOP - _BOTTOM)}"><title>{text}</title></rect>'
            )


def _thinned(points: Sequence[Point], drawn: Sequence[int]) -> list[int]:
    """Return indices to draw: of very many, the first, lowest, highest and last of each piece."""
    if len(drawn) <= _POINTS:
        return list(drawn)
    size = math.ceil(len(drawn) / (_POINTS / 4))
    kept: set[int] = set()
    for start in range(0, len(drawn), size):
        piece = sorted(drawn[start : start + size], key=lambda index: points[index][1] or 0)
        kept |= {piece[0], piece[-1], drawn[start], drawn[min(start + size, len(drawn)) - 1]}
    return sorted(kept)


def _ticks(low: float, high: float) -> list[float]:
    """Return about five round values from at or below `low` to at or above `high`."""
    if high - low <= max(abs(low), abs(high)) * _FLAT:
        room = abs(low) * 0.01 or 1.0
        low, high = low - room, high + room
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(one * power for one in _STEPS if one * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [float(f"{index * step:.10g}") for index in range(first, last + 1)]


def _level(kind: str, y: str) -> str:
    return f'<line class="{kind}" x1="{_LEFT}" x2="{_at(WIDTH - _RIGHT)}" y1="{y}" y2="{y}"/>'


def _at(value: float) -> str:
    return f"{value:.1f}"
