"""What events booked, out of the lifetime totals of an account: for it, a symbol, a strategy.

An event counts for the symbol that it names, with all that it moved, such as the gain of a coin
with which its fee was paid. So the parts add up without a rate.
"""

from __future__ import annotations

from decimal import Decimal

from psm.analytics.books import Share, shares
from psm.analytics.buckets import Booked, Minute
from psm.analytics.feed import StateFacts
from psm.analytics.journal import CORRECTIONS, Entry
from psm.analytics.rows import EVERY, NETTING, UNATTRIBUTED, TradeRow
from psm.analytics.timeline_state import Pending, State
from psm.analytics.worth import (
    Held,
    converted,
    held_after,
    number,
    unrealized_at,
    value_of,
)
from psm.domain.money import ZERO, absolute, add, subtract


def totals_of(update: StateFacts) -> tuple[str, ...]:
    """Return the lifetime totals that an update tells."""
    return (
        update.realized_pnl,
        update.fees,
        update.liquidation_fees,
        update.funding,
        update.interest,
        update.dividends,
        update.adjustments,
        update.losses_covered,
        update.taxes,
    )


def difference(after: tuple[str, ...], before: tuple[str, ...]) -> Booked:
    """Return what lifetime totals moved by."""
    realized, fees, liquidation, funding, *other = (
        ZERO if new == old else subtract(Decimal(new), Decimal(old))
        for new, old in zip(after, before, strict=True)
    )
    interest, dividends, adjustments, covered, taxes = other
    earned = add(add(interest, dividends), add(adjustments, covered))
    return Booked(
        realized=realized,
        fees=add(fees, liquidation),
        funding=funding,
        other=subtract(earned, taxes),
    )


def book(update: StateFacts, minute: Minute, booked: Booked, pending: Pending) -> str | None:
    """Count what an event booked for account and symbol; return the symbol, if there is one."""
    applied = update.applied
    symbol = None if applied is None else applied.symbol
    moved = dict.fromkeys(update.symbol for update, _ in pending.positions)
    if len(moved) == 1:
        (symbol,) = moved
    if applied is not None and applied.event_type == "TradeExecuted":
        booked.fills = 1
        booked.turnover = _turnover(pending, applied.quantity, applied.price)
    if applied is not None and applied.event_type in CORRECTIONS:
        booked.corrected = add(booked.pnl, _restated(pending))
    minute.total.put(booked)
    if symbol is not None:
        _of(minute, EVERY, symbol).put(booked)
    return symbol


def book_strategies(
    state: State, minute: Minute, entries: list[Entry], booked: Booked, symbol: str
) -> list[TradeRow]:
    """Count what an event booked for strategies, and book it; return the cycles that it closed.

    What a fill paid is its strategy's. What the account realized in another way than the books of
    its strategies is `netting`, so that they add up.
    """
    rows: list[TradeRow] = []
    rest = Booked()
    rest.put(booked)
    if not entries:
        _of(minute, UNATTRIBUTED, symbol).put(booked)
        return rows
    for entry in entries:
        books = state.strategies.by_key.setdefault(entry.key, {})
        rate = _rate(state, entry)
        parts = shares(entry, books)
        rows.extend(state.strategies.take(entry, state.account_id))
        for strategy, share in parts.items():
            realized = converted(books[strategy].realized, rate)
            part = _part(entry, share, booked, realized, rate)
            rest = rest.less(part)
            _of(minute, strategy, entry.symbol or symbol).put(part)
    _of(minute, NETTING, symbol).put(rest)
    return rows


def book_corrected(
    minute: Minute, symbol: str, booked: Booked, parts: dict[str, tuple[Decimal, Decimal]]
) -> None:
    """Count what a correction changed of what strategies realized and paid."""
    rest = Booked()
    rest.put(booked)
    for strategy, (realized, fees) in sorted(parts.items()):
        part = Booked(realized=realized, fees=fees, corrected=subtract(realized, fees))
        rest = rest.less(part)
        _of(minute, strategy, symbol).put(part)
    _of(minute, NETTING, symbol).put(rest)


def _part(entry: Entry, share: Share, booked: Booked, realized: Decimal, rate: Decimal) -> Booked:
    if entry.is_fill:
        return Booked(
            realized=realized,
            fees=booked.fees,
            funding=booked.funding,
            other=booked.other,
            turnover=booked.turnover,
            fills=booked.fills,
        )
    fees, funding = converted(share.fees, rate), converted(share.funding, rate)
    return Booked(realized=realized, fees=fees, funding=funding)


def _rate(state: State, entry: Entry) -> Decimal:
    """Return the rate of a position before or after an event; 0 where none is known."""
    for update, before in state.pending.positions:
        if update.symbol == entry.symbol:
            held = held_after(update, before) or before
            if held is not None and held.rate is not None:
                return held.rate
    return ZERO


def _of(minute: Minute, strategy: str, symbol: str) -> Booked:
    return minute.booked.setdefault(strategy, {}).setdefault(symbol, Booked())


def _turnover(pending: Pending, quantity: str | None, price: str | None) -> Decimal:
    """Return the value of a fill of a contract or share; 0 of a pair's."""
    if not pending.positions or quantity is None or price is None:
        return ZERO
    update, before = pending.positions[-1]
    held = held_after(update, before) or before
    if held is None or held.rate is None:
        return ZERO
    return converted(absolute(value_of(held, Decimal(quantity), Decimal(price))), held.rate)


def _restated(pending: Pending) -> Decimal:
    """Return what a correction changed of what positions are worth, at the marks of then."""
    changed = ZERO
    for update, before in pending.positions:
        after = held_after(update, before)
        price = number(update.mark_price)
        if price is None and before is not None:
            price = before.mark
        if price is not None:
            gained = subtract(_gain(after, price), _gain(before, price))
            changed = add(changed, gained)
    return changed


def _gain(held: Held | None, price: Decimal) -> Decimal:
    return ZERO if held is None else unrealized_at(held, price)
