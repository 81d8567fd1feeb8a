"""Corrections: trades and lots as they are without a fill that was busted, or with an amended one.

The entries of the position's journal are booked twice, as known before and as corrected; what
differs is told again. What a position would have stood at between its fills is in no update: a
cycle has `mae` and `mfe` only if the account held just that while it lasted.

Of what depends on what is held, such as a split, the journal says what it did, not what it would
have done: where the account ever had any before, both pasts are folded from the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

import msgspec

from psm.analytics.books import Book, Strategies, whole_share
from psm.analytics.cycles import Cycle, Cycles, Lots
from psm.analytics.journal import CORRECTIONS, DEPENDENT, JournalEntry
from psm.analytics.rows import EVERY, LotRow, TradeRow
from psm.contracts.position_keys import position_key, symbol_of
from psm.domain.money import ZERO, absolute, add, negate, subtract

_MODE = "PositionModeChanged"


class BookedPast(msgspec.Struct):
    """One position as it was booked again.

    Attributes:
        currency: that it settles in; empty for none.
        trades, lots: that closed, those of strategies too.
        cycle, open_lots: what is open of the account's own.
        books: of its strategies, as if they had been named from the start.
    """

    currency: str
    trades: list[TradeRow]
    lots: list[LotRow]
    cycle: Cycle | None
    open_lots: Lots
    books: dict[str, Book]

    @classmethod
    def empty(cls) -> BookedPast:
        """Return that of a position that never was."""
        return cls("", [], [], None, Lots([]), {})


class Pasts(msgspec.Struct, frozen=True):
    """Positions of an account without a correction and with it, by key."""

    was: dict[str, BookedPast]
    is_now: dict[str, BookedPast]


class Revision(msgspec.Struct, frozen=True):
    """One position as a correction leaves it: what is open, and the rows that it changed.

    Attributes:
        currency: that the position settles in.
        booked: by how much it changed what each strategy realized and paid, in that currency.
    """

    key: str
    currency: str
    past: BookedPast
    booked: dict[str, tuple[Decimal, Decimal]]
    trades: list[TradeRow]
    lots: list[LotRow]


def is_told(entries: Sequence[JournalEntry]) -> bool:
    """Return whether the journal says enough of what its corrections changed, the last one too.

    A change of mode that moved nothing only counts where it came after a corrected fill.
    """
    moded = 0
    for n, entry in enumerate(entries):
        if entry.event_type in DEPENDENT:
            if entry.event_type != _MODE or entry.key:
                return False
            moded = n
        elif entry.event_type in CORRECTIONS and _targets(entries[:moded], entry):
            return False
    return True


def booked_pasts(account_id: str, entries: Sequence[JournalEntry]) -> Pasts:
    """Return the positions that the last entry, a correction, means, as the journal tells them."""
    *before, correction = entries
    was, is_now = corrected(before), corrected(entries)
    named = (*_targets(before, correction), *_targets(is_now, correction))
    keys = sorted(dict.fromkeys(entry.key for entry in named if entry.key))
    return Pasts(
        was={key: booked(account_id, was, key, _moved(before, was, key)) for key in keys},
        is_now={key: booked(account_id, is_now, key, _moved(entries, is_now, key)) for key in keys},
    )


def pasts_told(
    cycles: Cycles, strategies: Strategies, trades: Iterable[TradeRow], lots: Iterable[LotRow]
) -> dict[str, BookedPast]:
    """Return positions by key, out of what is open of them and the rows of what closed."""
    found: dict[str, BookedPast] = {}

    def of(key: str) -> BookedPast:
        return found.setdefault(key, BookedPast.empty())

    for trade in trades:
        of(_key_of(trade)).trades.append(trade)
    for lot in lots:
        of(_key_of(lot)).lots.append(lot)
    for key, cycle in cycles.open.items():
        of(key).cycle = cycle
    for key, open_lots in cycles.lots.items():
        of(key).open_lots = open_lots
    for key, books in strategies.by_key.items():
        of(key).books = books
        for book in books.values():
            if book.position is not None:
                of(key).currency = book.position.instrument.settle
    return found


def _key_of(row: TradeRow | LotRow) -> str:
    return position_key(row.symbol, row.position_side)  # type: ignore[arg-type]


def revisions(pasts: Pasts, correction: JournalEntry) -> list[Revision]:
    """Return what a correction changes, by key of the position."""
    found = []
    for key in sorted({**pasts.was, **pasts.is_now}):
        old = pasts.was.get(key) or BookedPast.empty()
        new = pasts.is_now.get(key) or BookedPast.empty()
        if old == new:
            continue
        found.append(
            Revision(
                key=key,
                currency=old.currency or new.currency,
                past=new,
                booked=_booked(old.books, new.books),
                trades=_revised(old.trades, new.trades, _trade_key, correction),
                lots=_revised(old.lots, new.lots, _lot_key, correction),
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


def corrected(entries: Sequence[JournalEntry]) -> list[JournalEntry]:
    """Return the entries as corrections among them leave them, without the corrections."""
    kept: list[JournalEntry | None] = []
    for entry in entries:
        if entry.event_type not in CORRECTIONS:
            kept.append(entry)
            continue
        for place, other in enumerate(kept):
            if other is not None and _is_meant(entry, other):
                kept[place] = _amended(other, entry) if entry.event_type == _AMENDED else None
    return [entry for entry in kept if entry is not None]


_AMENDED = "TradeAmended"


def _moved(
    entries: Sequence[JournalEntry], kept: Sequence[JournalEntry], key: str
) -> dict[int, None]:
    """Return places of entries of a position that corrections took away or moved, and of these."""
    by_place = {entry.log_sequence: entry for entry in kept if entry.key == key}
    corrections = [entry for entry in entries if entry.event_type in CORRECTIONS]
    found: dict[int, None] = {}
    for entry in entries:
        left = by_place.get(entry.log_sequence)
        if entry.key == key and (left is None or _step(left) != _step(entry)):
            meant = [one.log_sequence for one in corrections if _is_meant(one, entry)]
            found |= dict.fromkeys((entry.log_sequence, *meant))
    return found


def _step(entry: JournalEntry) -> tuple[Decimal, Decimal | None]:
    return subtract(entry.size, entry.before), entry.price


def booked(
    account_id: str, entries: Sequence[JournalEntry], key: str, moved: Mapping[int, None]
) -> BookedPast:
    """Return a position booked from entries that have no corrections.

    Args:
        account_id: whose position it is.
        entries: of the account, as corrections left them.
        key: of the position.
        moved: places of its entries that corrections took away or moved, and of these.
    """
    whole, past, strategies = Book(EVERY), BookedPast.empty(), Strategies({})
    lived = _Lived(moved)
    for entry in (one for one in entries if one.key == key):
        size, past.currency = whole.size, entry.currency
        if not size:
            lived.begin(entry)
        own = [*whole.take(entry, whole_share(entry, size), account_id)]
        lived.reach(entry, whole.size)
        past.trades.extend(_with_extremes(own, entry) if lived.is_lived else own)
        if own:  # what it flipped to begins here
            lived.begin(entry)
            lived.reach(entry, whole.size)
        step = msgspec.structs.replace(entry, before=size, size=whole.size)
        past.lots.extend(past.open_lots.take(step, account_id))
        past.trades.extend(strategies.take(entry, account_id))
    past.cycle, past.books = whole.cycle, strategies.by_key.get(key, {})
    if past.cycle is not None:
        past.cycle.is_lived = lived.is_lived and not any(lived.since <= place for place in moved)
    return past


class _Lived:
    """Whether the account held a cycle just as it is booked, all the while.

    Args:
        moved: places that corrections took away or moved, and those of the corrections.
    """

    def __init__(self, moved: Mapping[int, None]) -> None:
        self._moved = moved
        self.since, self.is_lived = 0, True

    def begin(self, entry: JournalEntry) -> None:
        """Begin a cycle with an entry."""
        self.since, self.is_lived = entry.log_sequence, True

    def reach(self, entry: JournalEntry, size: Decimal) -> None:
        """Take the size that an entry led to."""
        at = entry.log_sequence
        is_moved = any(self.since <= place <= at for place in self._moved)
        self.is_lived = self.is_lived and size == entry.size and not is_moved


def _with_extremes(rows: Sequence[TradeRow], entry: JournalEntry) -> list[TradeRow]:
    return [msgspec.structs.replace(row, mae=entry.mae, mfe=entry.mfe) for row in rows]


def _targets(entries: Sequence[JournalEntry], correction: JournalEntry) -> list[JournalEntry]:
    return [entry for entry in entries if _is_meant(correction, entry)]


def _is_meant(correction: JournalEntry, entry: JournalEntry) -> bool:
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


def _amended(entry: JournalEntry, correction: JournalEntry) -> JournalEntry:
    """Return a fill as it was amended."""
    moved = subtract(entry.size, entry.before)
    quantity = absolute(moved) if correction.quantity is None else correction.quantity
    buys = correction.side == "buy" if correction.side else moved > 0
    signed = quantity if buys else negate(quantity)
    before, size = (entry.before, entry.size) if signed == moved else (ZERO, signed)
    key = entry.key
    if correction.key and symbol_of(correction.key) == entry.symbol:
        key = correction.key
    return msgspec.structs.replace(
        entry,
        key=key,
        before=before,
        size=size,
        price=entry.price if correction.price is None else correction.price,
        fees=add(entry.fees, correction.fees),
    )


R = TypeVar("R", TradeRow, LotRow)


def _revised(
    old: Sequence[R],
    new: Sequence[R],
    key_of: Callable[[R], object],
    correction: JournalEntry,
) -> list[R]:
    """Return rows that are other ones, and those that are gone."""
    was = {key_of(row): row for row in old}
    rows: list[R] = []
    for row in new:
        before = was.pop(key_of(row), None)
        if before is None or _content(before) != _content(row):
            rows.append(_stamped(row, correction))
    gone = (msgspec.structs.replace(row, gone=True) for row in was.values())
    rows.extend(_stamped(row, correction) for row in gone)
    return rows


def _trade_key(row: TradeRow) -> object:
    return row.strategy_id, row.cycle


def _lot_key(row: LotRow) -> object:
    return row.lot


def _content(row: R) -> R:
    return msgspec.structs.replace(row, through_log_sequence=0)


def _stamped(row: R, correction: JournalEntry) -> R:
    """Return a row that says since when it is so."""
    return msgspec.structs.replace(
        row, revised_at=correction.time, through_log_sequence=correction.log_sequence
    )
