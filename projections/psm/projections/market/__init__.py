"""The projection `market`: order books of MARKETDATA, their last states and the latest one.

The books themselves are kept whole beside them, from time to time, so that a projector goes on
where it stopped: what changed since is read again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from psm.analytics.market_books import BookRow, BookSaved, MarketChange, RowsTrimmed
from psm.contracts import codec
from psm.contracts.updates_read import Decoded, ReadUpdate, decode, decoder
from psm.projections.latest import LatestPerKey
from psm.projections.projection import Projection
from psm.projections.rows import Row
from psm.projections.source import DEPTH
from psm.projections.sql import Connection, load

BOOK, SAVED, TRIMMED = "market.book", "market.saved", "market.trimmed"
_KINDS: dict[type[MarketChange], str] = {BookRow: BOOK, BookSaved: SAVED, RowsTrimmed: TRIMMED}
_PLACE = ("market_sequence", "market_sequence")
_QUERIES = load(__package__, "market")


class _BookSnapshots(LatestPerKey[BookRow]):
    """The last state of a book in each bucket, as far back as is kept."""

    def __init__(self) -> None:
        columns = [name for name in BookRow.__struct_fields__ if name != "forgotten"]
        super().__init__(
            "orderbook_snapshot",
            BOOK,
            BookRow,
            key=("exchange", "symbol", "bucket"),
            columns=columns,
            to_row=_unless_forgotten,
            place=_PLACE,
        )
        self.kinds = frozenset({BOOK, TRIMMED})
        self.statements = {**self.statements, "trim": _QUERIES["trim"]}

    def reduce(self, updates: Sequence[ReadUpdate]) -> Mapping[str, list[Row]]:
        """Return the rows to write, and before which time rows go: no row comes later than that."""
        books = super().reduce([update for update in updates if update.kind == BOOK])
        trims = [decode(_trimmed, update).payload for update in updates if update.kind == TRIMMED]
        return {**books, "trim": [{"exchange": "", "before": one.before} for one in trims[-1:]]}


def _entry(_: ReadUpdate, decoded: Decoded[Any]) -> Row:
    return msgspec.structs.asdict(decoded.payload)


def _unless_forgotten(update: ReadUpdate, decoded: Decoded[BookRow]) -> Row | None:
    return None if decoded.payload.forgotten else _entry(update, decoded)


def _is_forgotten(row: Row) -> bool:
    return bool(row["forgotten"])


_trimmed = decoder(RowsTrimmed)

ORDERBOOK_SNAPSHOT = _BookSnapshots()
"""At most one row per book and 100 ms of log time: the last state in them."""

ORDERBOOK_LATEST = LatestPerKey(
    "orderbook_latest",
    BOOK,
    BookRow,
    key=("exchange", "symbol"),
    is_gone=_is_forgotten,
    columns=[name for name in BookRow.__struct_fields__ if name not in ("bucket", "forgotten")],
    to_row=_entry,
    place=_PLACE,
)
"""The latest state of every book."""

ORDERBOOK_SAVED = LatestPerKey(
    "orderbook_saved",
    SAVED,
    BookSaved,
    key=("exchange", "symbol"),
    is_gone=_is_forgotten,
    columns=[name for name in BookSaved.__struct_fields__ if name != "forgotten"],
    to_row=_entry,
    place=_PLACE,
)
"""Books whole, from time to time: what the fold goes on from."""

MARKET = Projection(
    name="market",
    version=1,
    source=DEPTH,
    views=(ORDERBOOK_SNAPSHOT, ORDERBOOK_LATEST, ORDERBOOK_SAVED),
)


def update_of(change: MarketChange) -> ReadUpdate:
    """Return a change as views read it."""
    data = codec.encode({"timestamp": change.log_time, "payload": change})
    return ReadUpdate(kind=_KINDS[type(change)], data=data)


async def saved_books(connection: Connection) -> list[BookSaved]:
    """Return every book of the view, with what was saved of it."""
    return [BookSaved(**record) for record in await connection.fetch(_QUERIES["saved"])]
