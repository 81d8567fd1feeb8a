"""Figures and rows as JSON shows them: numbers as exact texts, times in UTC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from psm.analytics.buckets import LENGTHS, MINUTE_NS
from psm.analytics.closes import bound_text, bucket_text
from psm.analytics.documents import exact_document
from psm.analytics.formulas import FORMULAS
from psm.analytics.performance import returns_of
from psm.analytics.rows import LotRow, PnlRow, TradeRow
from psm.analytics.trades import Trade, trade_metrics_by_currency
from psm.contracts.errors import ConfigError
from psm.domain.money import exact_text
from psm.domain.publication.log_times import log_time
from psm.workers.analytics.figures import SubjectFigures

_TIMES = ("opened", "closed", "revised_at", "through_bucket")


def stats_document(figures: SubjectFigures) -> dict[str, Any]:
    """Return all of it; of an account's days the fields of `psm fold --metrics` are among them."""
    named = "daily" if figures.question.timeframe == "1d" else "closes"
    return {
        **metrics_document(figures),
        named: [exact_document(close) for close in figures.closes],
        "trades": [
            trade_figures(trade, with_account=bool(figures.members)) for trade in figures.trades
        ],
    }


def metrics_document(figures: SubjectFigures) -> dict[str, Any]:
    """Return figures with what they are made of, without closes and trades."""
    return {
        **_subject(figures),
        **_range(figures),
        "epochs": figures.epochs,
        "ruined": figures.metrics.ruined,
        "metrics": exact_document(figures.metrics),
        "trade_metrics": exact_document(figures.trade_metrics),
        "trade_metrics_by_currency": {
            currency: exact_document(own)
            for currency, own in trade_metrics_by_currency(figures.trades).items()
        },
    }


def explain_document(figures: SubjectFigures, metric: str) -> dict[str, Any]:
    """Return how a figure came about: its formula, and each input.

    Raises:
        ConfigError: there is no such figure.
    """
    formula = FORMULAS.get(metric)
    if formula is None:
        raise ConfigError(f"{metric} is no figure; there are {', '.join(FORMULAS)}")
    of_returns = formula.of == "returns"
    source = figures.metrics if of_returns else figures.trade_metrics
    document = exact_document(source)
    inputs: list[dict[str, Any]]
    if of_returns:
        inputs = list(_returns(figures, _BESIDE.get(formula.shown) or _BESIDE.get(metric)))
        ends = {"first": inputs[0]["bucket"], "last": inputs[-1]["bucket"]} if inputs else {}
    else:
        inputs = [_net(trade) for trade in figures.trades]
        ends = {"first": inputs[0]["closed"], "last": inputs[-1]["closed"]} if inputs else {}
    return {
        **_subject(figures),
        "metric": metric,
        "value": document[metric],
        "formula": formula.formula,
        "undefined": formula.undefined,
        "n": len(inputs),
        "first": ends.get("first"),
        "last": ends.get("last"),
        **_range(figures),
        "epoch": figures.epochs,
        "base": exact_text(figures.base),
        "inputs": inputs,
    }


def pnl_document(row: PnlRow, closed_through: int | None) -> dict[str, Any]:
    """Return a bucket, and whether it is complete."""
    end = row.bucket + LENGTHS[row.timeframe] * MINUTE_NS
    return {
        **_timed(row),
        "bucket": bucket_text(row.bucket, row.timeframe),
        "complete": closed_through is not None and end <= closed_through,
    }


def trade_document(row: TradeRow) -> dict[str, Any]:
    """Return a trade with all that is known of it."""
    return _timed(row)


def trade_figures(row: TradeRow, *, with_account: bool = False) -> dict[str, Any]:
    """Return the fields of a trade that `psm fold --metrics` prints, too."""
    document = _timed(row)
    names = [*Trade.__struct_fields__, "holding_s"]
    return {name: document[name] for name in (("account_id",) if with_account else ()) + (*names,)}


def lot_document(row: LotRow, holding_days: int | None = None) -> dict[str, Any]:
    """Return a closed lot; with `holding_days` whether it was held longer than those."""
    document = _timed(row)
    if holding_days is not None:
        document["term"] = term_of(row, holding_days)
    return document


def term_of(row: LotRow, holding_days: int) -> str:
    """Return `long` of a lot that was held more than so many whole days, else `short`."""
    return "long" if row.days_held > holding_days else "short"


def time_text(time_ns: int | None) -> str | None:
    """Return a log time as documents have it."""
    return None if time_ns is None else log_time(time_ns)


def _subject(figures: SubjectFigures) -> dict[str, Any]:
    group = figures.question.group
    if group is not None:
        return {"group_id": group, "members": figures.members, "currency": figures.currency}
    return {
        "account_id": figures.question.subject,
        "strategy_id": figures.question.strategy_id,
        "symbol": figures.question.symbol,
        "currency": figures.currency,
    }


def _range(figures: SubjectFigures) -> dict[str, Any]:
    question = figures.question
    return {
        "timeframe": question.timeframe,
        "from": _bound(question.span.start),
        "to": _bound(question.span.end),
        "window": question.window,
        "closed_through": time_text(figures.closed_through),
        "through_log_sequence": figures.through_log_sequence,
        "rules": figures.rules,
        "periods_per_year": figures.periods,
        "risk_free": exact_text(question.risk_free),
    }


def _bound(time_ns: int | None) -> str | None:
    return None if time_ns is None else bound_text(time_ns)


_BESIDE = {"money": "equity", "max_drawdown_intraday": "max_drawdown"}
"""What figures are made of beside returns: of closes, by the name of the figure or how it reads."""


def _returns(figures: SubjectFigures, beside: str | None) -> Iterable[dict[str, Any]]:
    """Yield each return with the navs that it is made of, and another figure of its close."""
    navs = figures.navs
    returns = [None for _ in navs] if figures.metrics.ruined else returns_of(navs)
    for close, nav, value in zip(figures.counted, navs, returns, strict=True):
        yield {
            "bucket": close.bucket,
            "nav": exact_text(nav),
            "ret": None if value is None else exact_text(value),
            **({} if beside is None else {beside: exact_document(close)[beside]}),
        }


def _net(trade: TradeRow) -> dict[str, Any]:
    return {
        "symbol": trade.symbol,
        "opened": log_time(trade.opened),
        "closed": log_time(trade.closed),
        "net": exact_text(trade.net),
        "currency": trade.currency,
        "holding_s": exact_text(trade.holding_s),
    }


def _timed(row: msgspec.Struct) -> dict[str, Any]:
    """Return a row with its times as texts."""
    document: Mapping[str, Any] = exact_document(row)
    return {name: time_text(value) if name in _TIMES else value for name, value in document.items()}


def decimal_of(option: str, text: str) -> Decimal:
    """Return a number that a person gave.

    Raises:
        ConfigError: it is none.
    """
    try:
        value = Decimal(text)
    except ArithmeticError:
        value = Decimal("NaN")
    if not value.is_finite() or value.adjusted() > 3 or len(value.as_tuple().digits) > 20:
        raise ConfigError(f"{option} {text}: give a rate a year such as 0.03")
    return value
