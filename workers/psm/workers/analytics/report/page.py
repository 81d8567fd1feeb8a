"""The page: everything in one file, without a script, without a request to anybody."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import cache
from html import escape
from importlib.resources import files

from psm.analytics.formulas import FORMULAS
from psm.analytics.performance import returns_of
from psm.analytics.series import distribution, falls, rolling_sharpe
from psm.domain.money import ONE, ZERO, exact_text
from psm.workers.analytics.report.figures import ReportFigures
from psm.workers.analytics.report.svg import LineChart, Point, histogram, line_chart
from psm.workers.analytics.report.tables import (
    closes_table,
    metrics_table,
    months_table,
    parts_table,
)
from psm.workers.analytics.report.tables import trades_table as trades_of
from psm.workers.analytics.report.texts import SHOWN, data, money, percent, ratio, short_time

ROLLING = 30
"""Buckets of the rolling Sharpe ratio."""

# Nothing is fetched, whatever an id in the page may look like.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
_BINS_MAX = 31
_KEY = (
    "total_return",
    "cagr",
    "volatility",
    "sharpe",
    "sortino",
    "max_drawdown",
    "win_rate",
    "profit_factor",
)
_UNITS = {"1m": "minutes", "5m": "5 minutes", "1h": "hours", "1d": "days", "1w": "weeks"}


def report_page(figures: ReportFigures) -> str:
    """Return the tear sheet as one HTML document; the same figures give the same bytes."""
    title = escape(f"{figures.subject}: tear sheet")
    return "".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n',
            f"<title>{title}</title>\n<style>{_style()}</style>\n</head>\n<body>\n<main>\n",
            *_header(figures),
            *_charts(figures),
            *_tables(figures),
            _footer(figures),
            "</main>\n</body>\n</html>\n",
        )
    )


@cache
def _style() -> str:
    return files(__package__).joinpath("style.css").read_text("utf-8")


def _header(figures: ReportFigures) -> Iterator[str]:
    yield f"<header><h1>{escape(figures.subject)}</h1>"
    count = len(figures.members)
    members = f" of {count} account{'s' * (count > 1)}" if figures.kind == "group" else ""
    part = "".join(f", {name} {value}" for name, value in figures.part.items())
    yield f'<p class="sub">Tear sheet of a trading {figures.kind}{members}{escape(part)}</p>'
    rows = [f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in _facts(figures)]
    yield f'<dl class="facts">{"".join(rows)}</dl>'
    yield from (f'<p class="notice" role="note">{escape(text)}</p>' for text in _notices(figures))
    yield "</header>\n"
    values = _values(figures)
    cards = [
        f'<li><span class="name">{escape(FORMULAS[name].title)}</span>'
        f"{data(values[name], SHOWN[FORMULAS[name].shown])}</li>"
        for name in _KEY
    ]
    yield f'<ul class="key" aria-label="Key figures">{"".join(cards)}</ul>\n'


def _facts(figures: ReportFigures) -> Iterator[tuple[str, str]]:
    """Yield what a reader must know to read the figures, and to have them again."""
    closes = figures.closes
    yield "From", short_time(closes[0].bucket if closes else figures.start or "-")
    yield "Through", short_time(closes[-1].bucket if closes else figures.end or "-")
    yield "Currency", figures.currency or "several"
    yield "Bucket", figures.timeframe
    yield "Returns (n)", f"{figures.metrics.n:,}"
    yield "Trades", f"{figures.trade_metrics.n:,}"
    yield "Epoch of units", str(closes[-1].epoch if closes else 0)
    yield "Buckets a year", f"{figures.periods_per_year:,}"
    yield "Risk-free rate", percent(figures.risk_free)
    yield "Complete", short_time(figures.closed_through or "nothing yet")
    yield "Log sequence", f"{figures.through_log_sequence:,}"
    yield "Rules", str(figures.rules)
    if figures.members:
        yield "Accounts", ", ".join(figures.members)


def _notices(figures: ReportFigures) -> Iterator[str]:
    """Yield what limits the figures."""
    if figures.metrics.ruined:
        yield (
            "The unit fell to zero or below: ratios are not defined; total return and "
            "drawdown say what happened."
        )
    elif not figures.metrics.n:
        yield "No bucket of this range is complete: open ones never enter a figure."
    elif figures.metrics.few:
        yield (
            f"Fewer than 100 returns, {figures.metrics.n}: quantiles and ratios say little"
            + ("" if figures.timeframe in ("1d", "1w") else ", and annual figures next to nothing")
            + "."
        )
    if figures.part:
        yield (
            "A part of the account: its return is its profit over the account's equity when the "
            "bucket began, so one that began with nothing has none."
        )
    elif any(close.equity is None and close.nav is None for close in figures.closes):
        yield "In some buckets equity could not be computed (a mark or a rate was missing): gaps."


def _charts(figures: ReportFigures) -> Iterator[str]:
    unit = _UNITS[figures.timeframe]
    times = [time for time, _ in figures.navs]
    navs = [nav for _, nav in figures.navs]
    returns = [] if figures.metrics.ruined else returns_of(navs)
    yield from _levels(figures)
    yield _line(
        "drawdown",
        "Drawdown",
        "Each close below the highest one before it",
        list(zip(times, falls(navs), strict=True)),
        percent,
        base=ZERO,
        kind="fall",
    )
    yield f"<section><h2>Returns by month</h2>{months_table(figures)}</section>\n"
    caption = f"How often returns of {unit} were of which size"
    picture = histogram("returns", distribution(returns, _bins(len(returns))))
    yield _figure("Distribution of returns", caption, picture)
    sharpes = rolling_sharpe(returns, ROLLING, figures.periods_per_year, figures.risk_free)
    rolled = list(zip(times, sharpes, strict=False))
    caption = f"Of the last {ROLLING} {unit}, annual by {figures.periods_per_year:,} buckets a year"
    yield _line("sharpe", "Rolling Sharpe ratio", caption, rolled, ratio, base=ZERO)
    if figures.exposure:
        caption = "Highest gross exposure that was published in each bucket"
        yield _line("exposure", "Exposure", caption, figures.exposure, money, base=ZERO)


def _levels(figures: ReportFigures) -> Iterator[str]:
    """Yield what it is worth, and what a unit is; a part of an account has no equity of its own."""
    places = [index for index, close in enumerate(figures.closes) if not close.complete]
    if any(close.equity is not None for close in figures.closes):
        points: list[Point] = [(close.bucket, close.equity) for close in figures.closes]
        caption = f"Equity at the end of each bucket, in {figures.currency or 'its currency'}"
        opened = places[0] if places else None
        yield _line("equity", "Equity", caption, points, money, opened)
    caption = "Deposits and withdrawals taken out: gains and losses alone"
    yield _line("nav", "Value of a unit", caption, list(figures.navs), _unit, base=ONE)


def _bins(count: int) -> int:
    """Return how many bars show so many returns, about as many as the root of them."""
    return min(_BINS_MAX, max(5, math.isqrt(count) | 1))


def _unit(value: Decimal) -> str:
    return f"{value:.4f}"


def _line(
    key: str,
    title: str,
    caption: str,
    points: Sequence[Point],
    shown: object,
    open_from: int | None = None,
    *,
    base: Decimal | None = None,
    kind: str = "line",
) -> str:
    assert callable(shown)
    known = [value for _, value in points if value is not None]
    summary = "No value."
    if known:
        summary = (
            f"From {shown(known[0])} to {shown(known[-1])}, lowest {shown(min(known))}, "
            f"highest {shown(max(known))}; {len(known)} values."
        )
    chart = LineChart(
        key=key,
        title=title,
        summary=summary,
        points=points,
        shown=shown,
        base=base,
        kind=kind,
        open_from=open_from,
    )
    return _figure(title, caption, line_chart(chart))


def _figure(title: str, caption: str, picture: str) -> str:
    return (
        f"<section><h2>{escape(title)}</h2><figure><figcaption>{escape(caption)}</figcaption>"
        f"{picture}</figure></section>\n"
    )


def _tables(figures: ReportFigures) -> Iterator[str]:
    parts = parts_table("Symbol", figures.symbols) + parts_table("Strategy", figures.strategies)
    nothing = '<p class="empty">Nothing was brought in this range.</p>'
    yield f"<section><h2>What brought it</h2>{parts or nothing}</section>\n"
    yield f"<section><h2>All figures</h2>{metrics_table(_values(figures))}</section>\n"
    yield f"<section><h2>Trades</h2>{trades_of(figures.trades)}</section>\n"
    yield f"<section><h2>Closes</h2>{closes_table(figures.closes)}</section>\n"


def _values(figures: ReportFigures) -> dict[str, Decimal | int | None]:
    """Return every figure by name; `n` is that of returns."""
    return {
        name: getattr(figures.metrics if formula.of == "returns" else figures.trade_metrics, name)
        for name, formula in FORMULAS.items()
    }


def _footer(figures: ReportFigures) -> str:
    range_ = "".join(
        f" {option} {text}"
        for option, text in (("--from", figures.start), ("--to", figures.end))
        if text is not None
    )
    part = "".join(f" --{name} {shlex.quote(value)}" for name, value in figures.part.items())
    again = (
        f"psm stats {figures.asked}{part}{range_} --timeframe {figures.timeframe} "
        f"--periods {figures.periods_per_year} --risk-free {exact_text(figures.risk_free)} -o json"
    )
    return (
        "<footer><p>Times are those of the log, UTC. What is not defined is &ndash;, never zero. "
        "Hover over a number for its exact digits. The same figures as JSON: "
        f"<code>{escape(again)}</code></p></footer>\n"
    )
