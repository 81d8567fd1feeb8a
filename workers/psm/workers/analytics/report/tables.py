"""Tables of the page, each with a caption and with headings that say what they head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from html import escape

from psm.analytics.closes import BucketClose
from psm.analytics.formulas import FORMULAS
from psm.analytics.rows import TradeRow
from psm.analytics.series import compounded, months
from psm.domain.publication.log_times import log_time
from psm.workers.analytics.parts import Part
from psm.workers.analytics.report.figures import ReportFigures
from psm.workers.analytics.report.texts import (
    SHOWN,
    bare_percent,
    data,
    money,
    percent,
    ratio,
    seconds,
)

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
SHOWN_TRADES = 500
SHOWN_CLOSES = 750
_TEXT_COLUMNS = ("Symbol", "Strategy", "Side", "Opened", "Closed", "Bucket")


def months_table(figures: ReportFigures) -> str:
    """Return the return of each month, and of each year."""
    if figures.metrics.ruined or not figures.navs:
        return '<p class="empty">No month has a return.</p>'
    known = months(figures.navs)
    rows: list[list[str]] = []
    for year in sorted({month[:4] for month in known}):
        of_year = [known.get(f"{year}-{number:02}") for number in range(1, 13)]
        whole = compounded([value for value in of_year if value is not None])
        rows.append([year, *(data(value, bare_percent) for value in (*of_year, whole))])
    return _table(
        "In per cent, of complete buckets; the first and the last month may be parts of one.",
        ("Year", *_MONTHS, "Whole"),
        rows,
    )


def metrics_table(values: Mapping[str, Decimal | int | None]) -> str:
    """Return every figure with its formula."""
    rows = [
        f'<tr><th scope="row">{escape(formula.title)}</th>'
        f"<td>{data(values[name], SHOWN[formula.shown])}</td>"
        f'<td class="formula">{escape(formula.formula)}</td>'
        f'<td class="formula">{escape(formula.undefined)}</td></tr>'
        for name, formula in FORMULAS.items()
    ]
    return (
        '<div class="wide"><table><caption>r: returns of complete buckets of the latest epoch; '
        "A: buckets a year; N: net profits of closed trades.</caption>"
        '<thead><tr><th scope="col" class="text">Figure</th><th scope="col">Value</th>'
        '<th scope="col" class="text">Formula</th>'
        '<th scope="col" class="text">Not defined where</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def parts_table(name: str, parts: Sequence[Part]) -> str:
    """Return what symbols or strategies brought."""
    if not parts:
        return ""
    rows = [
        [
            escape(part.name),
            *(
                data(value, money)
                for value in (
                    part.realized,
                    part.unrealized_change,
                    part.fees,
                    part.funding,
                    part.other,
                    part.pnl,
                    part.turnover,
                )
            ),
            str(part.fills),
        ]
        for part in parts
    ]
    columns = (
        name,
        "Realized",
        "Unrealized change",
        "Fees",
        "Funding",
        "Other",
        "PnL",
        "Turnover",
        "Fills",
    )
    return _table(f"By {name.lower()}, in the currency of the account.", columns, rows)


def trades_table(trades: Sequence[TradeRow]) -> str:
    """Return the newest trades, the newest first."""
    if not trades:
        return '<p class="empty">No position went from flat to flat.</p>'
    shown = trades[: -SHOWN_TRADES - 1 : -1]
    caption = "From flat to flat, net of fees and funding, in the currency that each settles in."
    if len(shown) < len(trades):
        caption += f" The newest {len(shown)} of {len(trades)}."
    columns = (
        "Symbol",
        "Side",
        "Opened",
        "Closed",
        "Held",
        "Peak size",
        "Gross",
        "Fees",
        "Funding",
        "Net",
        "MAE",
        "MFE",
    )
    return _table(caption, columns, list(map(_trade, shown)))


def closes_table(closes: Sequence[BucketClose]) -> str:
    """Return what the charts are drawn of, folded away."""
    if not closes:
        return '<p class="empty">No bucket yet.</p>'
    shown = closes[-SHOWN_CLOSES:]
    caption = "Closes of buckets."
    if len(shown) < len(closes):
        caption += f" The newest {len(shown)} of {len(closes)}."
    rows = [
        [
            escape(close.bucket),
            str(close.epoch),
            data(close.equity, money),
            data(close.nav, lambda value: f"{value:.6f}"),
            data(close.ret, percent),
            data(close.flows, money),
            data(close.pnl, money),
            "yes" if close.complete else "no",
        ]
        for close in shown
    ]
    columns = ("Bucket", "Epoch", "Equity", "NAV", "Return", "Flows", "PnL", "Complete")
    table = _table(caption, columns, rows)
    return f"<details><summary>Show the {len(shown)} closes</summary>{table}</details>"


def _trade(trade: TradeRow) -> list[str]:
    return [
        escape(trade.symbol),
        trade.side,
        _time(trade.opened),
        _time(trade.closed),
        data(trade.holding_s, seconds),
        data(trade.peak_size, ratio if trade.peak_size >= 1 else money),
        *(
            data(value, money)
            for value in (
                trade.gross,
                trade.fees,
                trade.funding,
                trade.net,
                trade.mae,
                trade.mfe,
            )
        ),
    ]


def _time(time_ns: int) -> str:
    text = log_time(time_ns)
    return f'<time datetime="{text}" title="{text}">{text[:19].replace("T", " ")}</time>'


def _table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of cells that are HTML already; the first of a row heads it."""
    head = "".join(f'<th scope="col"{_kind(name)}>{escape(name)}</th>' for name in columns)
    body = "".join(_rows(columns, rows))
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for first, *cells in rows:
        rest = "".join(
            f"<td{_kind(name)}>{cell}</td>" for name, cell in zip(columns[1:], cells, strict=True)
        )
        yield f'<tr><th scope="row">{first}</th>{rest}</tr>'


def _kind(column: str) -> str:
    return ' class="text"' if column in _TEXT_COLUMNS else ""
