"""Corrections: trades and lots as they are without a fill that was busted, or with an amended one.

The entries of the position's journal are booked twice, as known before and as corrected; what
differs is told again. What a position stood at between its fills, `mae` and `mfe`, is in no update:
a cycle that a correction changed has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TypeVar

import msgspec

from psm.analytics.books import Book, Strategies, whole_share
from psm.analytics.cycles import Cycle, Lots
from psm.analytics.journal import CORRECTIONS, Entry
from psm.analytics.rows import EVERY, LotRow, TradeRow
from psm.domain.money import ZERO, absolute, add, negate, subtract


class Past(msgspec.Struct):
    """One position booked from its journal."""

    trades: list[TradeRow]
    lots: list[LotRow]
    cycle: Cycle | None
    open_lots: Lots
    strategies: Strategies

    def books(self, key: str) -> dict[str, Book]:
        """Return the books of its strategies."""
        return self.strategies.by_key.get(key, {})


class Revision(msgspec.Struct, frozen=True):
    """One position as a correction leaves it: what is open, and the rows that it changed.

    Attributes:
        booked: by how much it changed what each strategy realized and paid, in the currency that
            the position settles in.
    """

    key: str
    past: Past
    booked: dict[str, tuple[Decimal, Decimal]]
    trades: list[TradeRow]
    lots: list[LotRow]


def revisions(account_id: str, entries: Sequence[Entry]) -> list[Revision]:
    """Return what the last entry, a correction, changes, by key of the position."""
    *before, correction = entries
    was, is_now = corrected(before), corrected(entries)
    named = _targets(before, correction)
    found = []
    for key in sorted({entry.key: None for entry in named}):
        old, new = booked(account_id, was, key), booked(account_id, is_now, key)
        found.append(
            Revision(
                key=key,
                past=new,
                booked=_booked(
                    old.strategies.by_key.get(key, {}), new.strategies.by_key.get(key, {})
                ),
                trades=_revised_trades(old.trades, new.trades, correction),
                lots=_revised_lots(old.lots, new.lots, correction),
            )
        )
    return found


def _booked(old: dict[str, Book], new: dict[str, Book]) -> dict[str, tuple[Decimal, Decimal]]:
    """Return by how much books differ in what they realized and in fees."""
    found = {}
    for strategy in sorted({**old, **new}):
        was, is_now = old.get(strategy), new.get(strategy)
        realized, fees = _lifetime(is_now)
        realized_before, fees_before = _lifetime(was)
        found[strategy] = subtract(realized, realized_before), subtract(fees, fees_before)
    return found


def _lifetime(book: Book | None) -> tuple[Decimal, Decimal]:
    if book is None or book.position is None:
        return ZERO, ZERO
    return book.position.realized_pnl, book.position.fees


def corrected(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries as corrections among them leave them, without the corrections."""
    kept: list[Entry | None] = []
    for entry in entries:
        if entry.event_type not in CORRECTIONS:
            kept.append(entry)
            continue
        for place, other in enumerate(kept):
            if other is not None and _is_meant(entry, other):
                kept[place] = _amended(other, entry) if entry.event_type == _AMENDED else None
    return [entry for entry in kept if entry is not None]


_AMENDED = "TradeAmended"


def booked(account_id: str, entries: Sequence[Entry], key: str) -> Past:
    """Return a position booked from entries that have no corrections."""
    whole, lots = Book(EVERY), Lots([])
    past = Past([], [], None, lots, Strategies({}))
    for entry in entries:
        if entry.key != key:
            continue
        size = whole.size
        own = [*whole.take(entry, whole_share(entry, size), account_id)]
        moved = msgspec.structs.replace(entry, before=size, size=whole.size)
        past.trades.extend(_with_extremes(own, entry))
        past.lots.extend(lots.take(moved, account_id))
        past.trades.extend(past.strategies.take(entry, account_id))
    past.cycle = whole.cycle
    return past


def _with_extremes(rows: Sequence[TradeRow], entry: Entry) -> list[TradeRow]:
    return [msgspec.structs.replace(row, mae=entry.mae, mfe=entry.mfe) for row in rows]


def _targets(entries: Sequence[Entry], correction: Entry) -> list[Entry]:
    return [entry for entry in entries if _is_meant(correction, entry)]


def _is_meant(correction: Entry, entry: Entry) -> bool:
    """Return whether a correction means an entry; the ledger has found that it names one."""
    if entry.event_id == (correction.target or "").lower():
        return True
    if not entry.is_fill or correction.event_type == "EventReversed":
        return False
    if entry.fill_id != correction.target:
        return False
    side = None if correction.event_type == _AMENDED else correction.side
    return (
        correction.symbol in (None, entry.symbol)
        and correction.order_id in (None, entry.order_id)
        and side in (None, entry.side)
    )


def _amended(entry: Entry, correction: Entry) -> Entry:
    """Return a fill as it was amended."""
    moved = subtract(entry.size, entry.before)
    quantity = absolute(moved) if correction.quantity is None else correction.quantity
    fee = correction.fee
    buys = correction.side == "buy" if correction.side else moved > 0
    return msgspec.structs.replace(
        entry,
        before=ZERO,
        size=quantity if buys else negate(quantity),
        price=entry.price if correction.price is None else correction.price,
        fees=entry.fees if fee is None else add(subtract(entry.fees, entry.fee or ZERO), fee),
        fee=entry.fee if fee is None else fee,
    )


R = TypeVar("R", TradeRow, LotRow)
_TradeKey = tuple[str, int]
_Extremes = tuple[Decimal | None, Decimal | None]


def _revised_trades(
    old: Sequence[TradeRow], new: Sequence[TradeRow], correction: Entry
) -> list[TradeRow]:
    """Return rows that are other ones, and those that are gone."""
    was: dict[_TradeKey, TradeRow] = {(row.strategy_id, row.cycle): row for row in old}
    extremes: dict[object, _Extremes] = {_content(row): (row.mae, row.mfe) for row in old}
    rows = []
    for row in new:
        before = was.pop((row.strategy_id, row.cycle), None)
        if before is None or _content(before) != _content(row):
            mae, mfe = extremes.get(_content(row), (None, None))
            rows.append(_stamped(msgspec.structs.replace(row, mae=mae, mfe=mfe), correction))
    gone = [msgspec.structs.replace(row, gone=True) for row in was.values()]
    return [*rows, *(_stamped(row, correction) for row in gone)]


def _content(row: TradeRow) -> object:
    return msgspec.structs.astuple(
        msgspec.structs.replace(row, cycle=0, mae=None, mfe=None, through_log_sequence=0)
    )


def _revised_lots(old: Sequence[LotRow], new: Sequence[LotRow], correction: Entry) -> list[LotRow]:
    was = {row.lot: row for row in old}
    rows = [row for row in new if was.pop(row.lot, None) != row]
    gone = [msgspec.structs.replace(row, gone=True) for row in was.values()]
    return [_stamped(row, correction) for row in (*rows, *gone)]


def _stamped(row: R, correction: Entry) -> R:
    """Return a row that says since when it is so."""
    return msgspec.structs.replace(
        row, revised_at=correction.time, through_log_sequence=correction.log_sequence
    )
