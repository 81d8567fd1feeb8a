"""What events booked, out of the lifetime totals of an account: for it, a symbol, a strategy.

An event counts for the symbol that it names, with all that it moved, such as the gain of a coin
with which its fee was paid. So the parts add up without a rate.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.analytics.books import Share, shares
from psm.analytics.buckets import Booked, Minute
from psm.analytics.feed import StateFacts
from psm.analytics.journal import CORRECTIONS, JournalEntry
from psm.analytics.rows import EVERY, NETTING, UNATTRIBUTED, TradeRow
from psm.analytics.timeline_state import Pending, TimelineState
from psm.analytics.worth import (
    Held,
    converted,
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
    if after == before:
        return Booked()
    other = ZERO
    if after[4:] != before[4:]:
        interest, dividends, adjustments, covered, taxes = map(_moved, after[4:], before[4:])
        other = subtract(add(add(interest, dividends), add(adjustments, covered)), taxes)
    realized, fees, liquidation, funding = map(_moved, after[:4], before[:4])
    return Booked(realized, add(fees, liquidation) if liquidation else fees, funding, other)


def _moved(after: str, before: str) -> Decimal:
    return ZERO if after == before else subtract(Decimal(after), Decimal(before))


def book(update: StateFacts, minute: Minute, booked: Booked, pending: Pending) -> str | None:
    """Count what an event booked for account and symbol; return the symbol, if there is one."""
    applied = update.applied
    symbol = None if applied is None else applied.symbol
    moved = pending.positions
    if moved and all(one.update.symbol == moved[0].update.symbol for one in moved[1:]):
        symbol = moved[0].update.symbol
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
    state: TimelineState, minute: Minute, entries: list[JournalEntry], booked: Booked, symbol: str
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


def share_all(state: TimelineState, whole: str, strategy: str) -> None:
    """Let a strategy have all that was told of the whole so far, in what is not over yet."""
    state.worth[strategy] = dict(state.worth.get(whole, {}))
    for minute in state.minutes:
        minute.worth[strategy] = dict(minute.worth.get(whole, {}))
        told = minute.booked.get(whole, {})
        minute.booked[strategy] = {symbol: _copy(told[symbol]) for symbol in sorted(told)}
    for bucket in state.buckets.values():
        series = bucket.series.get(whole, {})
        bucket.series[strategy] = {
            symbol: msgspec.structs.replace(one, booked=_copy(one.booked))
            for symbol, one in sorted(series.items())
        }


def _copy(booked: Booked) -> Booked:
    return msgspec.structs.replace(booked)


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


def _part(
    entry: JournalEntry, share: Share, booked: Booked, realized: Decimal, rate: Decimal
) -> Booked:
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


def _rate(state: TimelineState, entry: JournalEntry) -> Decimal:
    """Return the rate of a position before or after an event; 0 where none is known."""
    for moved in state.pending.positions:
        if moved.update.symbol == entry.symbol:
            held = moved.after or moved.before
            if held is not None and held.rate is not None:
                return held.rate
    return ZERO


def _of(minute: Minute, strategy: str, symbol: str) -> Booked:
    return minute.booked.setdefault(strategy, {}).setdefault(symbol, Booked())


def _turnover(pending: Pending, quantity: str | None, price: str | None) -> Decimal:
    """Return the value of a fill of a contract or share; 0 of a pair's."""
    if not pending.positions or quantity is None or price is None:
        return ZERO
    held = pending.positions[-1].after or pending.positions[-1].before
    if held is None or held.rate is None:
        return ZERO
    return converted(absolute(value_of(held, Decimal(quantity), Decimal(price))), held.rate)


def _restated(pending: Pending) -> Decimal:
    """Return what a correction changed of what positions are worth, at the marks of then."""
    changed = ZERO
    for moved in pending.positions:
        before = moved.before
        price = number(moved.update.mark_price)
        if price is None and before is not None:
            price = before.mark
        if price is not None:
            gained = subtract(_gain(moved.after, price), _gain(before, price))
            changed = add(changed, gained)
    return changed


def _gain(held: Held | None, price: Decimal) -> Decimal:
    return ZERO if held is None else unrealized_at(held, price)
