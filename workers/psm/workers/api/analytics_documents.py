"""What `/psm/analytics` answers with, as OpenAPI describes it: rows with texts for numbers."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from types import GenericAlias
from typing import Any, Literal, get_type_hints

import msgspec

from psm.analytics.performance import PerformanceFigures
from psm.analytics.rows import LotRow, PnlRow, TradeRow
from psm.analytics.trades import TradeMetrics

_Struct = type[msgspec.Struct]
_TIMES = ("opened", "closed", "revised_at", "bucket", "through_bucket")
_TEXT, _MAYBE = str, str | None

_SUBJECT: tuple[tuple[str, Any], ...] = (("account_id", _TEXT),)


def _shown(name: str, row: _Struct, describes: str, more: Iterable[Any] = ()) -> _Struct:
    """Return a struct with the fields of another as documents have them."""
    hints = get_type_hints(row)
    fields: list[Any] = [(field, _type(field, hints[field])) for field in row.__struct_fields__]
    return _document(name, describes, [*fields, *more])


def _type(name: str, hint: Any) -> Any:
    """Return the type in JSON: decimals and times are texts."""
    if hint in (Decimal, Decimal | None):
        return _TEXT if hint is Decimal else _MAYBE
    if name in _TIMES:
        return _TEXT if hint is int else _MAYBE
    return hint


def _document(name: str, describes: str, fields: Iterable[Any]) -> _Struct:
    return msgspec.defstruct(
        name,
        fields,
        module=__name__,
        namespace={"__doc__": describes},
        frozen=True,
        kw_only=True,
    )


def _page(name: str, describes: str, row: _Struct) -> _Struct:
    """Return a page of rows; `next` is `after` of the page behind, null at the end."""
    rows = GenericAlias(list, (row,))
    return _document(
        name,
        describes,
        [*_SUBJECT, ("closed_through", _MAYBE), ("rows", rows), ("next", _MAYBE)],
    )


PnlDocument = _shown(
    "PnlDocument",
    PnlRow,
    "One bucket; see `PnlRow`. `complete`: nothing can be added to it any more.",
    [("complete", bool)],
)
TradeDocument = _shown("TradeDocument", TradeRow, "One trade, from flat to flat; see `TradeRow`.")
LotDocument = _shown(
    "LotDocument",
    LotRow,
    "One closed lot; see `LotRow`. `term`: held for more than `holding_days` whole days, or less.",
    [("term", Literal["long", "short"])],
)
PnlPageDocument = _page("PnlPageDocument", "Buckets, ascending.", PnlDocument)
TradesPageDocument = _page("TradesPageDocument", "Trades as they closed.", TradeDocument)
LotsPageDocument = _page("LotsPageDocument", "Closed lots as they closed.", LotDocument)

_MADE_OF: tuple[tuple[str, Any], ...] = (
    ("timeframe", _TEXT),
    ("from", _MAYBE),
    ("to", _MAYBE),
    ("window", _TEXT),
    ("closed_through", _MAYBE),
    ("through_log_sequence", int),
    ("rules", int),
    ("periods_per_year", int),
    ("risk_free", _TEXT),
)
_WHOSE: tuple[Any, ...] = (
    ("account_id", _TEXT, ""),
    ("group_id", _TEXT, ""),
    ("members", GenericAlias(list, (str,)), []),
    ("strategy_id", _TEXT, ""),
    ("symbol", _TEXT, ""),
    ("currency", _MAYBE),
)
_TRADE_FIGURES = _shown("TradeFigures", TradeMetrics, "See `psm stats`.")
MetricsDocument = _document(
    "MetricsDocument",
    "Figures of complete buckets of the latest epoch; null is not defined. Of a group: `group_id` "
    "and `members` in place of `account_id`, `strategy_id` and `symbol`.",
    [
        *_WHOSE,
        *_MADE_OF,
        ("epochs", int),
        ("ruined", bool),
        ("metrics", _shown("MetricsFigures", PerformanceFigures, "See `psm stats`.")),
        ("trade_metrics", _TRADE_FIGURES),
        ("trade_metrics_by_currency", GenericAlias(dict, (str, _TRADE_FIGURES))),
    ],
)
ExplainDocument = _document(
    "ExplainDocument",
    "With `explain`: how one figure came about. `n` inputs from `first` to `last`; their navs "
    "are those of the unit over `base`, its nav before the range.",
    [
        *_WHOSE,
        ("metric", _TEXT),
        ("value", str | int | None),
        ("formula", _TEXT),
        ("undefined", _TEXT),
        ("n", int),
        ("first", _MAYBE),
        ("last", _MAYBE),
        *_MADE_OF,
        ("epoch", int),
        ("base", _TEXT),
        ("inputs", GenericAlias(list, (GenericAlias(dict, (str, str | None)),))),
    ],
)
ANALYTICS_STRUCTS: tuple[_Struct, ...] = (
    PnlPageDocument,
    TradesPageDocument,
    LotsPageDocument,
    MetricsDocument,
    ExplainDocument,
)
