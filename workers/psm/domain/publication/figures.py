"""The figures of accounts, positions and orders as updates and documents show them: texts.

Keys stand in the order of the update's fields, because updates are written from them as they are.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from psm.contracts.updates import Change
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.ledger.orders import Order, average_price
from psm.domain.ledger.positions import Position, break_even_price, entry_price, signed_cost
from psm.domain.money import (
    absolute,
    figure_sum,
    multiply,
    negate,
    published_or_null,
    published_text,
    subtract_wide,
)
from psm.domain.publication.asset_figures import asset_document
from psm.domain.publication.log_times import log_time
from psm.domain.publication.margin import margin_mode, position_margin
from psm.domain.valuation.excursion import extremes
from psm.domain.valuation.position_value import PositionValue
from psm.domain.valuation.state import MarginTexts
from psm.domain.valuation.valuation import Valuation


def state_document(books: Books, account: Account) -> dict[str, Any]:
    """Return what `GET /psm/state/{account_id}` answers, as of now."""
    ledger = account.ledger
    positions = {
        key: position_figures(account, position)
        for key, position in sorted(ledger.positions.items())
    }
    return {
        **common_figures(books, account),
        **state_figures(account, account.value()),
        "assets": asset_document(account),
        "positions": positions,
        "orders": {order.order_id: order_figures(order) for order in ledger.orders.all_open()},
    }


def common_figures(books: Books, account: Account) -> dict[str, Any]:
    """Return which state of the account it is, and its flags, as of now."""
    delivery = account.delivery
    return {
        "account_id": account.stream_id,
        "sequence_number": delivery.version,
        "log_sequence": books.position,
        "event_hash": delivery.event_hash.hex() if delivery.event_hash else None,
        "chain_hash": delivery.chain_hash.hex(),
        "flags": list(account.value().flags),
    }


def state_figures(
    account: Account,
    valuation: Valuation,
    margin: dict[str, str | None] | None = None,
    *,
    hashed: bool = True,
) -> dict[str, Any]:
    """Return the fields of `StateUpdated` that are not common to every update.

    Args:
        account: whose figures.
        valuation: of the account, as of now.
        margin: its `margin_figures`, where they were made already.
        hashed: with the hashes of ledger and state.
    """
    ledger, state = account.ledger, account.valuation
    shared = margin or margin_figures(valuation, ledger.leverage_limit)
    own, equity = state.performance, valuation.equity
    figures = {
        "status": account.delivery.status,
        "currency": ledger.currency,
        "cash": {c: published_text(amount) for c, amount in sorted(ledger.cash.items())},
        "equity": shared["equity"],
        "unrealized_pnl": published_or_null(valuation.unrealized_pnl),
        **_totals(account),
        "borrowed": {a: published_text(owed) for a, owed in sorted(ledger.borrowed.items())},
        "flows": published_text(own.flows),
        "flows_cost": published_text(ledger.flows_cost()),
        "unrated_cost": None if equity is None else published_text(valuation.unrated_cost),
        "exposure_gross": published_or_null(valuation.exposure_gross),
        "exposure_net": published_or_null(valuation.exposure_net),
        "margin_initial": shared["margin_initial"],
        "margin_maintenance": shared["margin_maintenance"],
        "margin_available": shared["margin_available"],
        "withdrawable": published_or_null(valuation.withdrawable),
        "leverage": shared["leverage"],
        "leverage_limit": shared["leverage_limit"],
        "peak_equity": published_or_null(own.peak),
        "drawdown": published_or_null(own.drawdown(equity)),
        "max_drawdown": published_or_null(own.max_drawdown()),
        "nav": published_or_null(own.nav(equity)),
        "nav_epoch": own.epoch,
        "open_positions": ledger.open_position_count(),
        "open_orders": len(ledger.orders.open_by_id),
    }
    if hashed:
        ledger_hash = account.ledger_hash()
        figures["ledger_hash"] = ledger_hash.hex()
        figures["state_hash"] = state.hash(ledger_hash, valuation).hex()
    return figures


def _totals(account: Account) -> dict[str, str]:
    """Return the lifetime totals in the account currency."""
    ledger = account.ledger
    net = figure_sum(
        ledger.total("realized_pnl"),
        negate(ledger.total("fees")),
        negate(ledger.total("liquidation_fees")),
        ledger.total("funding"),
    )
    texts = {**_NO_TOTALS, "realized_pnl_net": published_text(net)}
    for name in ledger.totals:  # most accounts have few
        if name in texts:
            texts[name] = account.total_text(name)
    return texts


_NO_TOTALS = dict.fromkeys(
    (
        "realized_pnl",
        "realized_pnl_net",
        "fees",
        "liquidation_fees",
        "funding",
        "deposits",
        "withdrawals",
        "transfers",
        "interest",
        "dividends",
        "adjustments",
        "taxes",
        "losses_covered",
    ),
    "0",
)


def order_figures(order: Order) -> dict[str, Any]:
    """Return an order's own figures."""
    return {
        "order_id": order.order_id,
        "symbol": order.symbol,
        "position_side": order.position_side,
        "side": order.side,
        "type": order.type,
        "quantity": published_text(order.quantity),
        "price": published_or_null(order.price),
        "stop_price": published_or_null(order.stop_price),
        "reduce_only": order.reduce_only,
        "time_in_force": order.time_in_force,
        "strategy_id": order.strategy_id,
        "filled_quantity": published_text(order.filled_quantity),
        "average_price": published_or_null(average_price(order)),
        "status": order.status,
    }


def margin_figures(valuation: Valuation, leverage_limit: Decimal | None) -> dict[str, str | None]:
    """Return the fields of `MarginUpdated` that are not common to every update."""
    return {
        "equity": published_or_null(valuation.equity),
        "margin_initial": published_or_null(valuation.margin_initial),
        "margin_maintenance": published_or_null(valuation.margin_maintenance),
        "margin_available": published_or_null(valuation.margin_available),
        "margin_ratio": published_or_null(valuation.margin_ratio),
        "leverage": published_or_null(valuation.leverage),
        "leverage_limit": published_or_null(leverage_limit),
    }


def published_margin(account: Account) -> MarginTexts | None:
    """Return the margin figures as last published; None before the first time."""
    state = account.valuation
    state.freeze_published_margin(account.ledger)
    published = state.published
    if isinstance(published, Valuation):
        # With the limit of then: the event that opens an account may bring another one.
        published = tuple(margin_figures(published, published.leverage_limit).values())
        state.mark_published(published)
    assert published is None or isinstance(published, tuple), "frozen above"
    return published


def position_figures(account: Account, position: Position) -> dict[str, Any]:
    """Return a position's own figures; null where it is flat or does not compute."""
    figures = position_update(account, position, "marked")
    del figures["change"]
    return figures


def position_update(account: Account, position: Position, change: Change) -> dict[str, Any]:
    """Return the fields of `PositionUpdated` that are not common to every update."""
    value = _value_of(account, position, account.value())
    own = _own_texts(account, position)
    settle = position.instrument.settle
    home = settle == account.ledger.currency
    missing = None if position.size else "0"
    unrealized = published_text(value.unrealized) if value else missing
    margin = position_margin(account, position, value)
    return {
        "class": position.instrument.position_class,
        "symbol": position.instrument.symbol,
        "position_side": position.position_side,
        "change": change,
        "kind": position.instrument.kind,
        "currency": settle,
        "multiplier": own["multiplier"],
        "margin_mode": margin_mode(account.ledger, position),
        "side": position.side,
        "size": own["size"],
        "peak_size": own["peak_size"],
        "entry_price": own["entry_price"],
        "break_even_price": own["break_even_price"],
        "cost": own["cost"] if home else _home_cost(position),
        "cost_quote": own["cost"],
        **_mark_figures(account, position, value),
        "notional": published_text(value.notional) if value else missing,
        "unrealized_pnl": unrealized,
        "unrealized_pnl_account": (
            unrealized if home or not value else _converted(account, position, value)
        ),
        "realized_pnl": own["realized_pnl"],
        "realized_pnl_account": own["realized_pnl"] if home else None,
        "realized_pnl_net": own["realized_pnl_net"],
        "fees": own["fees"],
        "funding": own["funding"],
        **_cycle_figures(account, position, own),
        "isolated_margin": margin.wallet,
        "liquidation_price": margin.liquidation,
        "bankruptcy_price": margin.bankruptcy,
    }


_Texts = dict[str, str | None]


def _mark_figures(
    account: Account, position: Position, value: PositionValue | None
) -> dict[str, Any]:
    marked = None
    if value is not None and value.source == "mark":
        marked = account.prices.current_mark(position.instrument.symbol)
    return {
        "mark_price": published_text(value.price) if value else None,
        "mark_source": value.source if value else None,
        "mark_log_sequence": marked.log_sequence if marked else None,
        "mark_time": log_time(marked.time) if marked else None,
    }


def _cycle_figures(account: Account, position: Position, own: _Texts) -> dict[str, Any]:
    worst, best = extremes(account.valuation.totals.excursions.get(position.key), position)
    return {
        "cycle": position.cycle,
        "cycle_opened_at": own["cycle_opened_at"],
        "cycle_realized_pnl": own["cycle_realized_pnl"],
        "cycle_fees": own["cycle_fees"],
        "cycle_funding": own["cycle_funding"],
        "cycle_mae": published_text(worst),
        "cycle_mfe": published_text(best),
    }


_written: dict[tuple[str, str], tuple[Position, _Texts]] = {}
_WRITTEN_MAX = 16_384


def _own_texts(account: Account, position: Position) -> _Texts:
    """Return the texts that no mark changes; those written last are remembered."""
    key = (account.stream_id, position.key)
    known = _written.get(key)
    if known is not None and known[0] is position:
        return known[1]
    texts = _write(position)
    if len(_written) >= _WRITTEN_MAX:
        _written.clear()
    _written[key] = (position, texts)
    return texts


def _write(position: Position) -> _Texts:
    net = figure_sum(position.realized_pnl, negate(position.fees), position.funding)
    opened = position.cycle_opened_at
    return {
        "multiplier": published_text(position.instrument.multiplier),
        "size": published_text(absolute(position.size)),
        "peak_size": published_text(position.peak_size),
        "entry_price": published_or_null(entry_price(position)),
        "break_even_price": published_or_null(break_even_price(position)),
        "cost": published_text(signed_cost(position))
        if position.instrument.full_notional
        else None,
        "realized_pnl": published_text(position.realized_pnl),
        "realized_pnl_net": published_text(net),
        "fees": published_text(position.fees),
        "funding": published_text(position.funding),
        "cycle_opened_at": None if opened is None else log_time(opened),
        "cycle_realized_pnl": published_text(position.cycle_realized_pnl),
        "cycle_fees": published_text(position.cycle_fees),
        "cycle_funding": published_text(position.cycle_funding),
    }


def _value_of(account: Account, position: Position, valuation: Valuation) -> PositionValue | None:
    """Return the value of an open position, also where the account as a whole does not compute."""
    if not position.size:
        return None
    value = valuation.positions.get(position.key)
    return account.position_value(position.key) if value is None else value


def _home_cost(position: Position) -> str | None:
    """Return what shares quoted in another currency cost in the account's; contracts have none."""
    if not position.instrument.full_notional:
        return None
    return published_text(position.home_cost.amount)


def _converted(account: Account, position: Position, value: PositionValue) -> str | None:
    """Return what totals add of what is unrealized, at the rate of now; null without one."""
    rate = account.prices.rate(position.instrument.settle)
    if rate is None:
        return None
    try:
        if not position.instrument.full_notional:
            return published_text(multiply(value.unrealized, rate))
        worth = multiply(value.worth if position.size > 0 else negate(value.worth), rate)
        return published_text(subtract_wide(worth, position.home_cost.amount))
    except ArithmeticError:
        return None
