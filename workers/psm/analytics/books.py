"""Positions booked again by the code of the ledger: those of strategies, and corrected ones."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from psm.analytics.buckets import NOTHING, Worth
from psm.analytics.cycles import GREW, Cycle, net_of
from psm.analytics.journal import JournalEntry
from psm.analytics.rows import NETTING, UNATTRIBUTED, TradeRow
from psm.analytics.statistics import over
from psm.analytics.trades import seconds_between
from psm.analytics.worth import Held, converted
from psm.contracts.position_keys import parts_of
from psm.domain.ledger import positions
from psm.domain.ledger.positions import Position
from psm.domain.market.instrument import Instrument
from psm.domain.money import (
    ONE,
    ZERO,
    absolute,
    add,
    exactly_scaled,
    multiply,
    negate,
    published,
    quotient,
    scaled,
    subtract,
    truncated,
)

_AT_COST = ("PositionAdjusted", "PositionTransferredOut", "SymbolChanged")
"""Events by which what goes leaves at its cost."""


class Share(msgspec.Struct, frozen=True):
    """What one event is for one book: by how much it moves, and its fees and funding."""

    moved: Decimal
    fees: Decimal = ZERO
    funding: Decimal = ZERO


class Book(msgspec.Struct):
    """A position of a strategy, or of the account as it would have been.

    Attributes:
        strategy: `*` of the account.
        realized: by its last event, gross, in the settle currency.
    """

    strategy: str
    position: Position | None = None
    cycle: Cycle | None = None
    realized: Decimal = ZERO

    @property
    def size(self) -> Decimal:
        """Signed size."""
        return ZERO if self.position is None else self.position.size

    def take(self, entry: JournalEntry, share: Share, account_id: str) -> list[TradeRow]:
        """Book what an event is for it; return the cycles that it closed."""
        position = self.position or Position(
            instrument=_instrument(entry), last_fill=entry.price or ZERO
        )
        before = position.realized_pnl
        rows: list[TradeRow] = []
        if entry.is_restating:
            position = _restated(position, entry)
        elif share.moved:
            for step in _steps(position, entry, share):
                rows.extend(self._step(step, entry, account_id))
                position = step.position
        elif share.fees and position.size:
            fees = add(position.cycle_fees, share.fees)
            position = msgspec.structs.replace(position, cycle_fees=fees)
        if share.funding and position.size:
            funding = add(position.cycle_funding, share.funding)
            position = msgspec.structs.replace(position, cycle_funding=funding)
        self.position, self.realized = position, subtract(position.realized_pnl, before)
        return rows

    def _step(
        self, step: positions.PositionStep, entry: JournalEntry, account_id: str
    ) -> list[TradeRow]:
        after = step.position
        if step.change == "opened" or self.cycle is None:
            self.cycle = Cycle(after.side, entry.time, after.cycle)
        self.cycle.fills = self.cycle.fills + entry.is_fill
        if step.change in GREW:
            self.cycle.reach(after.size, entry.price, entry)
        if step.change != "closed":
            return []
        cycle, self.cycle = self.cycle, None
        return [_trade(self.strategy, cycle, after, entry, account_id)]


class Strategies(msgspec.Struct):
    """Books of the strategies of an account, by key of the position and strategy.

    Until a fill names a strategy there are none: all is of `unattributed`, which is the account.

    Attributes:
        since: minute in which the first one was named.
    """

    by_key: dict[str, dict[str, Book]]
    named: bool = False
    since: int = 0

    def take(self, entry: JournalEntry, account_id: str) -> list[TradeRow]:
        """Share an event out to the books of its position; return the cycles that it closed."""
        books = self.by_key.setdefault(entry.key, {})
        rows: list[TradeRow] = []
        for strategy, share in shares(entry, books).items():
            book = books.setdefault(strategy, Book(strategy))
            rows.extend(book.take(entry, share, account_id))
        return rows

    def worth(self, key: str, whole: Worth, held: Held) -> dict[str, Worth]:
        """Return what a position is worth to each strategy, and what nets out between them.

        Args:
            key: of the position.
            whole: what it is worth to the account.
            held: it, at the mark at which that is so; where it is flat, as it was, at its last
                mark: what strategies hold of it stays worth that, for updates tell no later one.
        """
        books = self.by_key.get(key, {})
        found, rest = {}, whole
        for strategy, book in sorted(books.items()):
            part = _worth_of(book, held)
            found[strategy], rest = part, Worth(subtract(rest.unrealized, part.unrealized), ZERO)
        if found:
            found[NETTING] = Worth(rest.unrealized)
        return found

    def start(self, held: dict[str, Held], cycles: dict[str, Cycle], minute: int) -> None:
        """Let `unattributed` have what the account holds, as the first strategy is named."""
        self.named, self.since = True, minute
        for key, one in sorted(held.items()):
            cycle = cycles.get(key)
            position = _position_of(one, cycle)
            own = None if cycle is None else msgspec.structs.replace(cycle)
            self.by_key[key] = {UNATTRIBUTED: Book(UNATTRIBUTED, position, own)}


def _worth_of(book: Book, held: Held) -> Worth:
    """Return what a book is worth at the mark and the rate of the account's own position."""
    position = book.position
    if position is None or not position.size or held.mark is None:
        return NOTHING
    value, gain = positions.value_at(position, held.mark)
    return Worth(converted(gain, held.rate), converted(absolute(value), held.rate))


def shares(entry: JournalEntry, books: dict[str, Book]) -> dict[str, Share]:
    """Return what an event is for each strategy, by name, ascending.

    A fill is its strategy's. Funding and fees of a position are shared by size, a position that is
    closed by the venue is closed for all, and what else moves is nobody's.
    """
    moved = subtract(entry.size, entry.before)
    if entry.is_fill:
        return {entry.strategy or UNATTRIBUTED: Share(moved, entry.fees, entry.funding)}
    held = {name: book.size for name, book in sorted(books.items()) if book.size}
    if entry.is_restating:
        return dict.fromkeys(held, Share(ZERO))
    if moved and (entry.size or not held):
        return {UNATTRIBUTED: Share(moved, entry.fees, entry.funding)}
    return _by_size(entry, held, closes=bool(moved))


def _by_size(entry: JournalEntry, held: dict[str, Decimal], *, closes: bool) -> dict[str, Share]:
    """Return the shares of fees and funding by size; all is shared out, to the last digit."""
    whole = ZERO
    for size in held.values():
        whole = add(whole, absolute(size))
    found = {}
    fees, funding = entry.fees, entry.funding
    for name, size in held.items():
        part = absolute(size)
        own, paid = scaled(fees, part, whole), scaled(funding, part, whole)
        if part == whole:  # the last one
            own, paid = fees, funding
        fees, funding, whole = subtract(fees, own), subtract(funding, paid), subtract(whole, part)
        found[name] = Share(negate(size) if closes else ZERO, own, paid)
    return found


def whole_share(entry: JournalEntry, size: Decimal) -> Share:
    """Return what an event is for the account's own position of a size."""
    moved = subtract(entry.size, entry.before)
    if moved and not entry.is_fill and not entry.size:
        moved = negate(size)
    return Share(moved, entry.fees, entry.funding)


def _steps(position: Position, entry: JournalEntry, share: Share) -> list[positions.PositionStep]:
    reduces = position.size and (position.size > 0) != (share.moved > 0)
    size, price, left = absolute(share.moved), entry.price, list[positions.PositionStep]()
    side: Literal["buy", "sell"] = "buy" if share.moved > 0 else "sell"
    at_cost = entry.event_type in _AT_COST or (price is None and entry.exit is None)
    if reduces and (at_cost or entry.exit is not None):
        leaving = min(size, absolute(position.size))
        if at_cost:
            left = [positions.reduce_at_cost(position, leaving)]
        else:
            left = positions.fill(position, side, leaving, entry.exit or ZERO, share.fees)
        if size == leaving:
            return left
        position, size = left[-1].position, subtract(size, leaving)
    return [*left, *positions.fill(position, side, size, price or ZERO, share.fees)]


def _restated(position: Position, entry: JournalEntry) -> Position:
    """Return a position in other units, without a fraction that was paid out, at another cost."""
    new, old = absolute(entry.size), absolute(entry.before)
    size = scaled(position.size, new, old)
    if entry.grown is None or entry.exit is None:
        position = _scaled(position, new, old)
    else:
        position = _scaled(position, entry.grown, ONE)
        fraction = absolute(subtract(position.size, size))
        if fraction:
            side: Literal["buy", "sell"] = "sell" if size > 0 else "buy"
            position = positions.fill(position, side, fraction, entry.exit, ZERO)[-1].position
    if entry.shift:
        cost = add(position.cost, multiply(absolute(position.size), entry.shift))
        position = msgspec.structs.replace(position, cost=cost)
    return position


def _scaled(position: Position, new: Decimal, old: Decimal) -> Position:
    return msgspec.structs.replace(
        position,
        size=scaled(position.size, new, old),
        peak_size=truncated(exactly_scaled(position.peak_size, new, old)),
    )


def _instrument(entry: JournalEntry) -> Instrument:
    """Return as much of the definition as the arithmetic of positions asks for."""
    return Instrument(
        symbol=entry.symbol or "",
        kind="inverse_perp" if entry.inverse else "linear_perp",
        base="",
        quote=entry.currency,
        settle=entry.currency,
        multiplier=entry.multiplier,
    )


def _position_of(held: Held, cycle: Cycle | None) -> Position:
    """Return an open position as the ledger would have it."""
    entry, size = held.entry or ZERO, absolute(held.size)
    instrument = Instrument(
        symbol=held.symbol,
        kind="inverse_perp" if held.inverse else "linear_perp",
        base="",
        quote=held.currency,
        settle=held.currency,
        multiplier=held.multiplier,
    )
    cost = (quotient(size, entry) if entry else ZERO) if held.inverse else multiply(size, entry)
    return Position(
        instrument=instrument,
        size=held.size,
        cost=cost,
        last_fill=entry,
        cycle=0 if cycle is None else cycle.number,
        cycle_realized_pnl=Decimal(held.realized),
        cycle_fees=Decimal(held.fees),
        cycle_funding=Decimal(held.funding),
        peak_size=Decimal(held.peak_size),
    )


def _trade(
    strategy: str, cycle: Cycle, after: Position, entry: JournalEntry, account_id: str
) -> TradeRow:
    gross, fees, funding = (
        published(figure)
        for figure in (after.cycle_realized_pnl, after.cycle_fees, after.cycle_funding)
    )
    net = net_of(gross, fees, funding)
    symbol, side = parts_of(entry.key)
    return TradeRow(
        account_id=account_id,
        symbol=symbol,
        position_side=side,
        strategy_id=strategy,
        cycle=cycle.number,
        side="short" if cycle.side == "short" else "long",
        currency=entry.currency,
        opened=cycle.opened,
        closed=entry.time,
        peak_size=after.peak_size,
        gross=gross,
        fees=fees,
        funding=funding,
        net=net,
        mae=None,
        mfe=None,
        return_on_peak_notional=over(net, cycle.peak) if cycle.peak else None,
        holding_s=seconds_between(cycle.opened, entry.time),
        fills=cycle.fills,
        through_log_sequence=entry.log_sequence,
    )
