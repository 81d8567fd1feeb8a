"""Order books over HTTP: `GET /market/book/{exchange}/{symbol}`, and the reads behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from psm.adapters import postgres
from psm.analytics.order_book import Level
from psm.contracts.errors import PSMError
from psm.projections.sql import load
from psm.workers.api.guard import Needs
from psm.workers.api.parameters import clean
from psm.workers.api.problems import problem

MARKET_PREFIXES = ("/market", "/api/market")
BOOK_PATH = "/book/{exchange}/{symbol}"
_ROUTE = "/book/{exchange}/{symbol:path}"
"""The same for the router: a symbol may be `XBT/USD`, also percent-encoded."""

Handler = Callable[[Request], Awaitable[Response]]

_BOOK = load("psm.projections.market", "market")["book"]
_JSON = "application/json"
_READ = Needs(action="read", kind="symbol", path="symbol")


class MarketPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Place in the stream that a document is as of.

    Attributes:
        market_sequence: of the last event in MARKETDATA.
        time: when the stream stored it, RFC 3339.
    """

    market_sequence: int
    time: str


class BookDocument(msgspec.Struct, frozen=True, kw_only=True):
    """An order book: its best levels, and what follows from them.

    Attributes:
        since: when the book came into this state, or its last snapshot.
        last_id: the venue's number of the last change.
        bids, asks: the best 20 levels, [price, quantity] as the venue wrote them, the best first.
        bid_levels, ask_levels: how many there are in all.
        microprice: mid weighted by the other side's quantity.
        imbalance: of the best five levels, -1 all asks to 1 all bids.
        top_hash: SHA-256 of the levels in canonical form, hex.
        checksum_failures, unread: events since the last snapshot.
    """

    exchange: str
    symbol: str
    state: str
    since: str
    last_id: int | None
    bids: list[Level]
    asks: list[Level]
    bid_levels: int
    ask_levels: int
    mid: str | None
    spread: str | None
    microprice: str | None
    imbalance: str | None
    top_hash: str | None
    checksum_failures: int
    unread: int
    as_of: MarketPlace


class UnknownBookError(PSMError):
    """A book of which no event is in the view."""


class NotSyncedError(PSMError):
    """A book that must not be read now.

    Attributes:
        state: it is in.
        since: when it came into it.
    """

    def __init__(self, book: BookDocument) -> None:
        super().__init__(
            f"the book of {book.symbol} at {book.exchange} is {book.state} since {book.since}; "
            "its next snapshot makes it synced"
        )
        self.state, self.since = book.state, book.since


class MarketReads:
    """Answers reads from the view of order books."""

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool

    async def book(self, exchange: str, symbol: str) -> BookDocument:
        """Return a book that is synced.

        Raises:
            UnknownBookError: there is none.
            NotSyncedError: changes of it are missing.
            TransientError: PostgreSQL is away.
        """
        async with postgres.acquired(self._pool) as connection:
            found = await connection.fetchval(_BOOK, exchange, symbol)
        if found is None:
            raise UnknownBookError(f"no order book of {symbol} at {exchange} is known")
        book = msgspec.json.decode(found, type=BookDocument)
        if book.state != "synced":
            raise NotSyncedError(book)
        return book


def market_routes(reads: MarketReads) -> list[tuple[str, Handler, Needs]]:
    """Return path, handler and what it needs of each route."""

    async def book(request: Request) -> Response:
        names = (clean(name, request.path_params[name]) for name in ("exchange", "symbol"))
        body = msgspec.json.encode(await reads.book(*names))
        return Response(body, media_type=_JSON, headers={"Cache-Control": "no-store"})

    return [(f"{prefix}{_ROUTE}", book, _READ) for prefix in MARKET_PREFIXES]


async def _unknown_book(request: Request, error: Exception) -> Response:
    return problem("unknown-book", str(error), request.url.path)


async def _not_synced(request: Request, error: Exception) -> Response:
    assert isinstance(error, NotSyncedError)
    path = request.url.path
    return problem("book-not-synced", str(error), path, state=error.state, since=error.since)


MARKET_PROBLEMS = {UnknownBookError: _unknown_book, NotSyncedError: _not_synced}
"""What answers for an error of these reads."""


def market_paths(
    name: Callable[[str, str], str],
    content: Callable[[type[msgspec.Struct]], dict[str, Any]],
    problems: Callable[[tuple[str, ...]], dict[str, Any]],
) -> dict[str, Any]:
    """Return the paths in the service's description of itself."""
    parameters = [
        {"name": one, "in": "path", "required": True, "schema": {"type": "string"}}
        for one in ("exchange", "symbol")
    ]
    return {
        f"{prefix}{BOOK_PATH}": {
            "get": {
                "operationId": name("get", f"{prefix}/book"),
                "summary": "An order book: its best levels, and what follows from them.",
                "parameters": parameters,
                "responses": {
                    "200": {"description": "The book.", **content(BookDocument)},
                    **problems(("unknown-book", "book-not-synced", "unavailable")),
                },
            }
        }
        for prefix in MARKET_PREFIXES
    }
