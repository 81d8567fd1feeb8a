"""Trades and lots of an account: cycles of its positions as published, lots first in, first out."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.analytics.feed import PositionFacts, nanoseconds_of
from psm.analytics.journal import Event, JournalEntry
from psm.analytics.lots import ClosedLot, LotBook, OpenLot
from psm.analytics.rows import EVERY, LotRow, TradeRow
from psm.analytics.statistics import over
from psm.analytics.trades import seconds_between
from psm.analytics.worth import HeldChange, number
from psm.contracts.position_keys import parts_of
from psm.domain.money import (
    ZERO,
    absolute,
    add,
    multiply_wide,
    negate,
    quotient,
    subtract,
)

GREW = ("opened", "increased")
"""Changes of a position that may bring it to its greatest size."""


class Cycle(msgspec.Struct, array_like=True):
    """A position since it was opened from flat.

    Attributes:
        peak: greatest size x price of a fill.
        is_lived: whether the account held just this all the while, and not what a correction took.
    """

    side: str
    opened: int
    number: int = 0
    fills: int = 0
    peak: Decimal = ZERO
    is_lived: bool = True

    def reach(self, size: Decimal, price: Decimal | None, entry: JournalEntry) -> None:
        """Take notice of a size that an event led to."""
        if price is not None:
            self.peak = max(self.peak, notional(size, price, entry))


class Lots(msgspec.Struct, array_like=True):
    """Open lots of a position, oldest first; `size` is their sum, `count` of those closed."""

    open: list[OpenLot]
    size: Decimal = ZERO
    count: int = 0

    def take(self, entry: JournalEntry, account_id: str) -> list[LotRow]:
        """Take what an event did to the position; return the lots that it closed."""
        book = LotBook(
            entry.symbol or "", entry.multiplier, inverse=entry.inverse, open_lots=self.open
        )
        closed = self._restate(book, entry) if entry.is_restating else self._move(book, entry)
        self.open = list(book.open_lots)
        rows = []
        for gone in closed:
            self.count = self.count + 1
            rows.append(_lot_row(gone, entry, account_id, self.count))
        return rows

    def _move(self, book: LotBook, entry: JournalEntry) -> list[ClosedLot]:
        """Let units go and come; those that no fill moved, each at a price of their own."""
        closed = []
        moved, size = subtract(entry.size, self.size), self.size
        if entry.exit is not None and size and (size > 0) != (moved > 0):
            leaving = moved if absolute(moved) <= absolute(size) else negate(size)
            closed = book.fill(leaving, entry.exit, entry.time)
            self.size, moved = add(size, leaving), subtract(moved, leaving)
        if moved and entry.price is not None:
            closed = [*closed, *book.fill(moved, entry.price, entry.time)]
            self.size = entry.size
        return closed

    def _restate(self, book: LotBook, entry: JournalEntry) -> list[ClosedLot]:
        """Divide lots, sell the fraction that was paid out, change what units cost."""
        closed: list[ClosedLot] = []
        whole = entry.size
        if entry.grown is not None:
            whole = multiply_wide(entry.before, entry.grown)
        book.split(absolute(whole), absolute(entry.before), whole)
        fraction = subtract(entry.size, whole)
        if fraction and entry.exit is not None:
            closed = book.fill(fraction, entry.exit, entry.time)
        if entry.shift:
            book.shift(entry.shift, by_cost=entry.event_type == "SpinOff")
        self.size = entry.size
        return closed


class Cycles(msgspec.Struct):
    """What is open of an account's cycles and lots, by key of the position."""

    open: dict[str, Cycle]
    lots: dict[str, Lots]

    def trades(
        self,
        event: Event,
        moved: list[HeldChange],
        entries: list[JournalEntry],
    ) -> list[TradeRow]:
        """Take positions as an event left them; return the cycles that it closed."""
        by_key = {entry.key: entry for entry in entries}
        rows = []
        for one in moved:
            key, update = one.key, one.update
            entry = by_key.get(key)
            if entry is None:
                continue
            if update.change == "opened" or (update.side != "flat" and key not in self.open):
                self.open[key] = Cycle(update.side, _opened(update, event), update.cycle or 0)
            cycle = self.open.get(key)
            if cycle is None:
                continue
            cycle.fills = cycle.fills + entry.is_fill
            if update.change in GREW:
                cycle.reach(Decimal(update.size), entry.price, entry)
            elif update.change == "closed":
                rows.append(_trade_row(self.open.pop(key), update, event))
        return rows

    def closed_lots(self, entries: list[JournalEntry], account_id: str) -> list[LotRow]:
        """Take what an event did to positions; return the lots that it closed."""
        rows = []
        if entries and entries[0].event_type == "SymbolChanged":
            self._relabel(entries)
        for entry in entries:
            lots = self.lots.setdefault(entry.key, Lots([]))
            rows.extend(lots.take(entry, account_id))
        return rows

    def _relabel(self, entries: list[JournalEntry]) -> None:
        """Let the lots of a symbol go on under its new name."""
        gone = [entry.key for entry in entries if not entry.size]
        come = [entry.key for entry in entries if entry.size and not entry.before]
        if len(gone) == len(come) == 1 and gone[0] in self.lots:
            old = self.lots[gone[0]]
            new = self.lots.get(come[0], Lots([]))
            self.lots[come[0]] = Lots(old.open, old.size, new.count)
            self.lots[gone[0]] = Lots([], ZERO, old.count)


def notional(size: Decimal, price: Decimal, entry: JournalEntry) -> Decimal:
    """Return the magnitude of a size's value, in the currency that the position settles in."""
    if entry.inverse:
        value = quotient(size, price) if price else ZERO
    else:
        value = multiply_wide(size, price)
    return absolute(multiply_wide(value, entry.multiplier))


def net_of(gross: Decimal, fees: Decimal, funding: Decimal) -> Decimal:
    """Return what a trade earned."""
    return add(subtract(gross, fees), funding)


def _opened(update: PositionFacts, event: Event) -> int:
    told = update.cycle_opened_at
    return event.time if told is None else nanoseconds_of(told)


def _trade_row(cycle: Cycle, update: PositionFacts, event: Event) -> TradeRow:
    gross, fees, funding = (
        number(text) or ZERO
        for text in (update.cycle_realized_pnl, update.cycle_fees, update.cycle_funding)
    )
    net = net_of(gross, fees, funding)
    return TradeRow(
        account_id=event.account_id,
        symbol=update.symbol,
        position_side=update.position_side,
        strategy_id=EVERY,
        cycle=cycle.number,
        side="short" if cycle.side == "short" else "long",
        currency=update.currency or "",
        opened=cycle.opened,
        closed=event.time,
        peak_size=number(update.peak_size) or ZERO,
        gross=gross,
        fees=fees,
        funding=funding,
        net=net,
        mae=number(update.cycle_mae) if cycle.is_lived else None,
        mfe=number(update.cycle_mfe) if cycle.is_lived else None,
        return_on_peak_notional=over(net, cycle.peak) if cycle.peak else None,
        holding_s=seconds_between(cycle.opened, event.time),
        fills=cycle.fills,
        through_log_sequence=event.log_sequence,
    )


def _lot_row(lot: ClosedLot, entry: JournalEntry, account_id: str, number_: int) -> LotRow:
    symbol, side = parts_of(entry.key)
    return LotRow(
        account_id=account_id,
        symbol=symbol,
        position_side=side,
        lot=number_,
        side="short" if lot.side == "short" else "long",
        currency=entry.currency,
        opened=lot.opened,
        closed=lot.closed,
        quantity=lot.quantity,
        open_price=lot.open_price,
        close_price=lot.close_price,
        pnl=lot.pnl,
        days_held=lot.days_held,
        through_log_sequence=entry.log_sequence,
    )
