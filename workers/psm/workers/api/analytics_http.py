"""How accounts did, over HTTP: `GET /psm/analytics/{account}/{pnl,trades,lots,metrics}`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, get_args
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from psm.analytics.closes import PERIODS_MAX
from psm.analytics.formulas import FORMULAS
from psm.analytics.rows import EVERY, Timeframe, Window
from psm.contracts.errors import ConfigError
from psm.contracts.subjects import STREAM_ID_RULE, is_stream_id
from psm.workers.analytics.documents import (
    decimal_of,
    explain_document,
    lot_document,
    metrics_document,
    pnl_document,
    time_text,
    trade_document,
)
from psm.workers.analytics.figures import (
    FiguresQuestion,
    MixedCurrenciesError,
    SubjectFigures,
    figures_of,
    is_subject,
)
from psm.workers.analytics.reads import (
    HOLDING_DAYS,
    HOLDING_DAYS_MAX,
    PAGE_DEFAULT,
    PAGE_MAX,
    AnalyticsReads,
    By,
    NoAnalyticsError,
    QuestionError,
    Span,
    TooManyRowsError,
)
from psm.workers.api.analytics_documents import (
    LotsPageDocument,
    MetricsDocument,
    PnlPageDocument,
    TradesPageDocument,
)
from psm.workers.api.fold_turns import FoldTurns
from psm.workers.api.guard import Needs, asker_of
from psm.workers.api.parameters import (
    NUMBER,
    TEXT,
    TIME,
    Parameter,
    ParameterError,
    choice,
    integer,
    text_of,
    timestamp,
)
from psm.workers.api.parameters import limit as limit_parameter
from psm.workers.api.problems import problem
from psm.workers.api.reads import MalformedAccountError

_JSON = "application/json"
_TIMEFRAMES: tuple[str, ...] = get_args(Timeframe)
_WINDOWS: tuple[str, ...] = get_args(Window)
_BY: tuple[str, ...] = get_args(By)
_READ = Needs(action="read", kind="account", path="account_id", past="read.past")

Handler = Callable[[Request], Awaitable[Response]]
Routes = list[tuple[str, Handler, Needs, tuple[Parameter, ...]]]

_FROM = Parameter(name="from", description="Not before this UTC time.", schema=TIME)
_TO = Parameter(name="to", description="Before this UTC time.", schema=TIME)
_TIMEFRAME = Parameter(
    name="timeframe",
    description="Length of the buckets.",
    schema={"type": "string", "enum": list(_TIMEFRAMES), "default": "1d"},
)
_STRATEGY = Parameter(
    name="strategy", description="Of this strategy; `*` is the whole account.", schema=TEXT
)
_SYMBOL = Parameter(name="symbol", description="Of this symbol; `*` is all of them.", schema=TEXT)
_KNOWN_AT = Parameter(
    name="known_at",
    description="Log sequence: as it was known then, before what was corrected later.",
    schema=NUMBER,
)
_PAGE = (
    Parameter(name="after", description="The `next` of the page before.", schema=TEXT),
    limit_parameter(PAGE_MAX, PAGE_DEFAULT),
)
PNL_PARAMETERS = (
    _TIMEFRAME,
    _FROM,
    _TO,
    Parameter(
        name="by",
        description="A row for the whole, for each symbol or for each strategy.",
        schema={"type": "string", "enum": list(_BY), "default": "total"},
    ),
    _STRATEGY,
    _SYMBOL,
    *_PAGE,
)
TRADES_PARAMETERS = (_FROM, _TO, _STRATEGY, _SYMBOL, _KNOWN_AT, *_PAGE)
LOTS_PARAMETERS = (
    _FROM,
    _TO,
    _SYMBOL,
    Parameter(
        name="holding_days",
        description="What was held for more whole days is `long` term.",
        schema={
            "type": "integer",
            "minimum": 0,
            "maximum": HOLDING_DAYS_MAX,
            "default": HOLDING_DAYS,
        },
    ),
    _KNOWN_AT,
    *_PAGE,
)
METRICS_PARAMETERS = (
    _TIMEFRAME,
    _FROM,
    _TO,
    Parameter(
        name="window",
        description="The last days of the range.",
        schema={"type": "string", "enum": list(_WINDOWS), "default": "all"},
    ),
    _STRATEGY,
    _SYMBOL,
    Parameter(
        name="periods",
        description="Buckets a year; by default those of the account, of days 365 or as set.",
        schema={"type": "integer", "minimum": 1, "maximum": PERIODS_MAX},
    ),
    Parameter(name="risk_free", description="Annual rate, such as 0.03.", schema=TEXT),
    Parameter(
        name="explain",
        description="One figure: formula, range, n and every input of it.",
        schema={"type": "string", "enum": list(FORMULAS)},
    ),
)


def analytics_routes(reads: AnalyticsReads) -> Routes:
    """Return path behind `/psm`, handler, what it needs and query parameters of each route."""
    answers = _Answers(reads)
    return [
        ("/analytics/{account_id}/pnl", answers.pnl, _READ, PNL_PARAMETERS),
        ("/analytics/{account_id}/trades", answers.trades, _READ, TRADES_PARAMETERS),
        ("/analytics/{account_id}/lots", answers.lots, _READ, LOTS_PARAMETERS),
        ("/analytics/{account_id}/metrics", answers.metrics, _READ, METRICS_PARAMETERS),
    ]


class _Answers:
    """The handlers."""

    def __init__(self, reads: AnalyticsReads) -> None:
        self._reads = reads
        self._turns = FoldTurns()

    async def pnl(self, request: Request) -> Response:
        account, closed_through = await _standing(request, self._reads)
        page = await self._reads.pnl(
            account,
            choice(request, "timeframe", _TIMEFRAMES, "1d"),
            _span(request),
            by=choice(request, "by", _BY, "total"),
            strategy_id=text_of(request, "strategy") or EVERY,
            symbol=text_of(request, "symbol") or EVERY,
            **_place(request),
        )
        rows = [pnl_document(row, closed_through) for row in page.rows]
        return _page(request, account, closed_through, rows, page.next)

    async def trades(self, request: Request) -> Response:
        account, closed_through = await _standing(request, self._reads)
        page = await self._reads.trades(
            account,
            _span(request),
            strategy_id=text_of(request, "strategy") or EVERY,
            symbol=text_of(request, "symbol") or EVERY,
            known_at=integer(request, "known_at"),
            **_place(request),
        )
        rows = [trade_document(row) for row in page.rows]
        return _page(request, account, closed_through, rows, page.next)

    async def lots(self, request: Request) -> Response:
        account, closed_through = await _standing(request, self._reads)
        days = integer(request, "holding_days", least=0, most=HOLDING_DAYS_MAX)
        page = await self._reads.lots(
            account,
            _span(request),
            symbol=text_of(request, "symbol") or EVERY,
            known_at=integer(request, "known_at"),
            **_place(request),
        )
        rows = [lot_document(row, HOLDING_DAYS if days is None else days) for row in page.rows]
        return _page(request, account, closed_through, rows, page.next)

    async def metrics(self, request: Request) -> Response:
        question = _question(request)
        explained = choice(request, "explain", tuple(FORMULAS))
        # Statistics of long series take a processor for a while.
        async with self._turns.turn(asker_of(request)):
            figures = await figures_of(self._reads, question)
            body = await asyncio.to_thread(_metrics, figures, explained)
        return _answer(body)


async def analytics_problem(request: Request, error: Exception) -> Response:
    """Answer where the views of analytics have no answer."""
    kind = "unknown-account"
    if isinstance(error, TooManyRowsError):
        kind = "document-too-large"
    elif isinstance(error, MixedCurrenciesError):
        kind = "mixed-currencies"
    elif isinstance(error, QuestionError):
        kind = "malformed-parameter"
    return problem(kind, str(error), request.url.path)


ANALYTICS_PROBLEMS = (NoAnalyticsError, TooManyRowsError, MixedCurrenciesError, QuestionError)


def analytics_paths(
    prefix: str,
    name: Callable[[str, str], str],
    content: Callable[[type[msgspec.Struct]], dict[str, Any]],
    problems: Callable[[tuple[str, ...]], dict[str, Any]],
) -> dict[str, Any]:
    """Return the paths in the service's description of itself."""
    link = {"Link": {"description": "The next page, if any.", "schema": {"type": "string"}}}
    paths: dict[str, Any] = {}
    for kind, (parameters, struct, summary, more) in _DESCRIBED.items():
        schema = {"type": "string", "pattern": "^(group:)?[A-Za-z0-9_,-]{1,1000}$"}
        whose = {"name": "account_id", "in": "path", "required": True, "schema": schema}
        answer = {"description": summary, **content(struct)}
        paths[f"{prefix}/analytics/{{account_id}}/{kind}"] = {
            "get": {
                "operationId": name("get", f"{prefix}/analytics/{kind}"),
                "summary": summary,
                "parameters": [whose, *(parameter.document() for parameter in parameters)],
                "responses": {
                    "200": answer if kind == "metrics" else {**answer, "headers": link},
                    **problems(("malformed-account-id", "unknown-account", *more, "unavailable")),
                },
            }
        }
    return paths


_DESCRIBED: dict[str, tuple[tuple[Parameter, ...], type[msgspec.Struct], str, tuple[str, ...]]] = {
    "pnl": (PNL_PARAMETERS, PnlPageDocument, "Profit and loss by buckets of log time.", ()),
    "trades": (TRADES_PARAMETERS, TradesPageDocument, "Trades from flat to flat.", ()),
    "lots": (LOTS_PARAMETERS, LotsPageDocument, "Closed lots, first in, first out.", ()),
    "metrics": (
        METRICS_PARAMETERS,
        MetricsDocument,
        "Returns, risk and trades in figures; with `explain` how one came about.",
        ("document-too-large", "mixed-currencies", "too-many-folds"),
    ),
}


async def _standing(request: Request, reads: AnalyticsReads) -> tuple[str, int | None]:
    """Return the account of a request, and up to where it is complete."""
    account = request.path_params["account_id"]
    if not is_stream_id(account):
        raise MalformedAccountError(f"an account id is {STREAM_ID_RULE}")
    (standing,) = await reads.standing([account])
    return account, standing.closed_through


def _question(request: Request) -> FiguresQuestion:
    subject = request.path_params["account_id"]
    if not is_subject(subject):
        raise MalformedAccountError(f"an account id is {STREAM_ID_RULE}; a group is group:NAME")
    periods = integer(request, "periods", most=PERIODS_MAX)
    try:
        risk_free = decimal_of("risk_free", text_of(request, "risk_free") or "0")
    except ConfigError as error:
        raise ParameterError(str(error)) from error
    return FiguresQuestion(
        subject=subject,
        timeframe=choice(request, "timeframe", _TIMEFRAMES, "1d"),
        span=_span(request),
        window=choice(request, "window", _WINDOWS, "all"),
        strategy_id=text_of(request, "strategy") or EVERY,
        symbol=text_of(request, "symbol") or EVERY,
        periods=periods,
        risk_free=risk_free,
    )


def _span(request: Request) -> Span:
    return Span.between(timestamp(request, "from"), timestamp(request, "to"))


def _place(request: Request) -> dict[str, Any]:
    limit = integer(request, "limit") or PAGE_DEFAULT
    if limit > PAGE_MAX:
        raise ParameterError(f"limit must be at most {PAGE_MAX}; follow the link for more")
    return {"after": text_of(request, "after"), "limit": limit}


def _page(
    request: Request,
    account: str,
    closed_through: int | None,
    rows: list[dict[str, Any]],
    following: str | None,
) -> Response:
    headers = {}
    if following is not None:
        query = urlencode({**request.query_params, "after": following})
        headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    document = {
        "account_id": account,
        "closed_through": time_text(closed_through),
        "rows": rows,
        "next": following,
    }
    return _answer(msgspec.json.encode(document), headers)


def _metrics(figures: SubjectFigures, explained: str | None) -> bytes:
    if explained is not None:
        return msgspec.json.encode(explain_document(figures, explained))
    return msgspec.json.encode(metrics_document(figures))


def _answer(body: bytes, headers: dict[str, str] | None = None) -> Response:
    kept = {"Cache-Control": "no-store", **(headers or {})}
    return Response(body, media_type=_JSON, headers=kept)
