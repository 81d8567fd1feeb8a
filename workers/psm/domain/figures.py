"""The figures of accounts, positions and orders as updates and documents show them: texts.

Keys stand in the order of the update's fields, because updates are written from them as they are.
"""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any

from psm.contracts.updates import Change
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.liquidation import liquidation_price
from psm.domain.money import absolute, figure_sum, negate, published_text
from psm.domain.orders import Order, average_price
from psm.domain.positions import Position, break_even_price, entry_price
from psm.domain.valuation import Valuation, drawdown, keep_margin, state_hash
from psm.domain.worth import PositionValue, position_value, price_of


def state_document(books: Books, account: Account) -> dict[str, Any]:
    """Return what `GET /psm/state/{account_id}` answers, as of now."""
    valuation = books.valuation(account)
    positions = {
        symbol: position_figures(books, account, position)
        for symbol, position in sorted(account.positions.items())
    }
    return {
        "account_id": account.stream_id,
        "sequence_number": account.version,
        "log_sequence": books.position,
        "event_hash": account.event_hash.hex() if account.event_hash else None,
        "chain_hash": account.chain_hash.hex(),
        "flags": list(valuation.flags),
        **state_figures(account, valuation),
        "positions": positions,
        "orders": {order.order_id: order_figures(order) for order in account.open_orders()},
    }


def state_figures(
    account: Account, valuation: Valuation, margin: dict[str, str | None] | None = None
) -> dict[str, Any]:
    """Return the fields of `StateUpdated` that are not common to every update.

    Args:
        account: whose figures.
        valuation: of the account, as of now.
        margin: its `margin_figures`, where they were made already.
    """
    ledger_hash = account.ledger_hash()
    hashed = state_hash(account, ledger_hash, valuation)
    shared = margin or margin_figures(valuation, account.leverage_limit)
    gross, fees = account.total("realized_pnl"), account.total("fees")
    funding = account.total("funding")
    return {
        "status": account.status,
        "currency": account.currency,
        "cash": {c: published_text(amount) for c, amount in sorted(account.cash.items())},
        "equity": shared["equity"],
        "unrealized_pnl": _text(valuation.unrealized_pnl),
        "realized_pnl": account.total_text("realized_pnl"),
        "realized_pnl_net": published_text(figure_sum(gross, negate(fees), funding)),
        "fees": account.total_text("fees"),
        "funding": account.total_text("funding"),
        "deposits": account.total_text("deposits"),
        "withdrawals": account.total_text("withdrawals"),
        "exposure_gross": _text(valuation.exposure_gross),
        "exposure_net": _text(valuation.exposure_net),
        "margin_initial": shared["margin_initial"],
        "margin_maintenance": shared["margin_maintenance"],
        "margin_available": shared["margin_available"],
        "withdrawable": _text(valuation.withdrawable),
        "leverage": shared["leverage"],
        "leverage_limit": shared["leverage_limit"],
        "peak_equity": _text(account.peak_equity),
        "drawdown": _text(drawdown(account.peak_equity, valuation.equity)),
        "open_positions": account.open_position_count(),
        "open_orders": account.open_order_count,
        "ledger_hash": ledger_hash.hex(),
        "state_hash": hashed.hex(),
    }


def order_figures(order: Order) -> dict[str, Any]:
    """Return an order's own figures."""
    return {
        "order_id": order.order_id,
        "symbol": order.symbol,
        "side": order.side,
        "type": order.type,
        "quantity": published_text(order.quantity),
        "filled_quantity": published_text(order.filled_quantity),
        "average_price": _text(average_price(order)),
        "status": order.status,
    }


def margin_figures(valuation: Valuation, leverage_limit: Decimal | None) -> dict[str, str | None]:
    """Return the fields of `MarginUpdated` that are not common to every update."""
    return {
        "equity": _text(valuation.equity),
        "margin_initial": _text(valuation.margin_initial),
        "margin_maintenance": _text(valuation.margin_maintenance),
        "margin_available": _text(valuation.margin_available),
        "margin_ratio": _text(valuation.margin_ratio),
        "leverage": _text(valuation.leverage),
        "leverage_limit": _text(leverage_limit),
    }


def published_margin(account: Account) -> tuple[str | None, ...] | None:
    """Return the margin figures as last published; None before the first time."""
    keep_margin(account)
    if account.margin_unwritten is not None:
        figures = margin_figures(account.margin_unwritten, account.leverage_limit)
        account.margin_published = tuple(figures.values())
        account.margin_unwritten = None
    return account.margin_published


def position_figures(books: Books, account: Account, position: Position) -> dict[str, Any]:
    """Return a position's own figures; null where it is flat or does not compute."""
    figures = position_update(books, account, position, "marked")
    del figures["change"]
    return figures


def position_update(
    books: Books, account: Account, position: Position, change: Change
) -> dict[str, Any]:
    """Return the fields of `PositionUpdated` that are not common to every update."""
    valuation = books.valuation(account)
    value = _value_of(books, account, position, valuation)
    size, entry, break_even, realized, net, fees, funding, cycle = _own_texts(
        books, account, position
    )
    missing = None if position.size else "0"
    liquidation = None
    if value is not None:
        rates = partial(books.rate, account)
        liquidation = liquidation_price(account, position, valuation, rates)
    return {
        "symbol": position.instrument.symbol,
        "change": change,
        "side": position.side,
        "size": size,
        "entry_price": entry,
        "break_even_price": break_even,
        "mark_price": published_text(value.price) if value else None,
        "mark_source": value.source if value else None,
        "notional": published_text(value.notional) if value else missing,
        "unrealized_pnl": published_text(value.unrealized) if value else missing,
        "realized_pnl": realized,
        "realized_pnl_net": net,
        "fees": fees,
        "funding": funding,
        "cycle": position.cycle,
        "cycle_realized_pnl": cycle,
        "liquidation_price": _text(liquidation),
    }


_WRITTEN_MAX = 16_384


def _own_texts(books: Books, account: Account, position: Position) -> tuple[str | None, ...]:
    """Return the texts that no mark changes; those written last are remembered."""
    key = (account.stream_id, position.instrument.symbol)
    known = books.written.get(key)
    if known is not None and known[0] is position:
        return known[1]
    texts = _written(position)
    if len(books.written) >= _WRITTEN_MAX:
        books.written.clear()
    books.written[key] = (position, texts)
    return texts


def _written(position: Position) -> tuple[str | None, ...]:
    net = figure_sum(position.realized_pnl, negate(position.fees), position.funding)
    return (
        published_text(absolute(position.size)),
        _text(entry_price(position)),
        _text(break_even_price(position)),
        published_text(position.realized_pnl),
        published_text(net),
        published_text(position.fees),
        published_text(position.funding),
        published_text(position.cycle_realized_pnl),
    )


def _value_of(
    books: Books, account: Account, position: Position, valuation: Valuation
) -> PositionValue | None:
    """Return the value of an open position, also where the account as a whole does not compute."""
    if not position.size:
        return None
    symbol = position.instrument.symbol
    value = valuation.positions.get(symbol)
    if value is not None:
        return value
    try:
        price, source = price_of(account, position, books.marks.get(symbol))
        return position_value(position, price, source, account.leverage_of(symbol))
    except ArithmeticError:
        return None


def _text(value: Decimal | None) -> str | None:
    return None if value is None else published_text(value)
