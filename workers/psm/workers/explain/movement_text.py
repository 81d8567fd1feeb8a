"""What an event did to a figure of the ledger, in words and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from psm.domain.ledger.positions import Position, notional_cash
from psm.domain.money import ZERO, absolute, add, exact_text, negate, subtract
from psm.workers.explain.movements import History, Move
from psm.workers.explain.tree import Node, bracketed

_RULES = {
    "CashDeposited": "deposits add to cash",
    "CashWithdrawn": "withdrawals leave cash",
    "TransferredIn": "transfers in add to cash",
    "TransferredOut": "transfers out leave cash",
    "TransferReversed": "a transfer came back: the opposite of what it moved",
    "CashReversed": "the venue took a deposit or withdrawal back: the opposite of what it moved",
    "PositionTransferredIn": "shares and contracts come with their cost; no cash moves",
    "PositionTransferredOut": "shares and contracts leave at their cost; no cash moves",
    "StockDividend": "new units come on top, at no cost",
    "ReturnOfCapital": "capital paid back lowers the cost",
    "SymbolChanged": "the same thing under another symbol: nothing moves but the name",
    "SpinOff": "units of another symbol come with a part of the cost",
    "Merged": "units go, for cash that lowers the cost and for units that carry the rest",
    "BorrowChanged": "what is owed changes; no money moves",
    "AssetsExchanged": "one asset goes, another comes, and a fee after it",
    "MarginTransferred": "money moved between a position's wallet and the account; it stays there",
    "MarginReported": "the venue's own margin of a position; no money moves",
    "TaxCharged": "a tax is paid from cash",
    "LossCovered": "somebody else paid for a loss",
    "CashAdjusted": "a person corrected cash, as the event's actor and reason say",
    "FeeCharged": "a fee is paid from cash",
    "FundingApplied": "funding is booked as the venue reported it; received is above zero",
    "InterestAccrued": "interest is booked as reported",
    "DividendPaid": "a dividend is booked as reported; a tax withheld from it is part of it",
    "PositionSettled": "a settlement realizes the gain at the settlement price; what is delivered "
    "carries the cost of the option",
    "SplitApplied": "a split multiplies sizes and leaves the cost as it is",
    "PositionAdjusted": "a person corrected the position; no cash moves",
    "EventReversed": "rebuilt as if the event had never happened",
    "TradeBusted": "rebuilt as if the fill had never happened",
    "TradeAmended": "rebuilt as if the fill had happened as amended",
}
_TRADE_RULES = {
    "cash": "a fill moves the realized gain, or for spot and equity the whole notional, less fees",
    "realized_pnl": "a closed part gains side x multiplier x (proceeds - its share of the cost)",
    "fees": "fees are booked as the venue reported them",
    "size": "a fill adds its signed quantity",
    "cost": "an opened part adds quantity x price, a closed part takes its share of the cost away",
}


_PAID = ("commission", "liquidation_fee")
_FEES = {"fees": ("commission",), "liquidation_fees": ("liquidation_fee",)}
"""Total -> the fields of a fill that are in it; a position's fees are both."""

_Text = tuple[str, Decimal] | None
"""How a number comes about, and that number; None where nothing is to be said."""


def event_nodes(history: History) -> tuple[Node, ...]:
    """Return a node per message that moved the figure."""
    return tuple(_node(history.figure, move) for move in history.moves)


def _node(figure: str, move: Move) -> Node:
    first, last = move.places[0], move.places[-1]
    if first is last:
        what = f"event {last.sequence_number} {last.event_type}"
        kind = "cash" if figure.startswith("cash.") else figure.rpartition(".")[2]
        rule = _RULES.get(last.event_type or "", "booked as the event says")
        if last.event_type == "TradeExecuted":
            rule = _TRADE_RULES.get(kind, rule)
    else:
        what = f"events {first.sequence_number} to {last.sequence_number}"
        rule = "they waited for a missing number and were applied together"
    return Node(
        figure=what,
        value=exact_text(move.change),
        rule=rule,
        arithmetic=_arithmetic(figure, move),
        sequence_number=last.sequence_number,
        log_sequence=last.log_sequence,
        event_id=last.event_id,
        timestamp=last.timestamp,
    )


def _arithmetic(figure: str, move: Move) -> str | None:
    """Return how a fill's change comes about; None for what is booked as the event names it.

    None too where it is not that change: an amount of another currency is in a total by its rate.
    """
    if move.payload is None or move.places[-1].event_type != "TradeExecuted" or not move.after:
        return None
    found = _of_fill(figure, move, move.payload, move.after)
    return found[0] if found is not None and found[1] == move.change else None


def _of_fill(figure: str, move: Move, fill: Mapping[str, Any], after: Position) -> _Text:
    name = figure.rpartition(".")[2]
    if figure.startswith("cash."):
        return _cash(figure.removeprefix("cash."), move, fill, after)
    if name == "realized_pnl":
        return _realized(move.before, after, fill)
    if name == "size":
        bought, quantity = fill["side"] == "buy", Decimal(str(fill["quantity"]))
        sign = "+" if bought else "-"
        return f"{sign}{fill['quantity']}", quantity if bought else negate(quantity)
    if name not in _FEES:
        return None
    return _sum(_fees(fill, *(_FEES[name] if figure == name else _PAID)))


def _cash(currency: str, move: Move, fill: Mapping[str, Any], after: Position) -> _Text:
    instrument = after.instrument
    settle, paid_in = instrument.settle, fill.get("commission_currency")
    names = ["commission"] if (paid_in or settle) == currency else []
    fees = _fees(fill, *names, *(["liquidation_fee"] if settle == currency else []))
    text, value = "0", ZERO
    if settle == currency and instrument.full_notional:
        quantity, price = Decimal(str(fill["quantity"])), Decimal(str(fill["price"]))
        value = notional_cash(instrument, fill["side"], quantity, price)
        times = "" if instrument.multiplier == 1 else f" x {exact_text(instrument.multiplier)}"
        sign = "-" if fill["side"] == "buy" else ""
        text = f"{sign}{fill['quantity']} x {bracketed(str(fill['price']))}{times}"
    elif settle == currency:
        text, value = _realized(move.before, after, fill) or (text, value)
    for fee, amount in fees:
        text, value = f"{text} - {fee}", subtract(value, amount)
    return text, value


def _sum(parts: Sequence[tuple[str, Decimal]]) -> _Text:
    value = ZERO
    for _, amount in parts:
        value = add(value, amount)
    return (" + ".join(text for text, _ in parts), value) if parts else None


def _fees(fill: Mapping[str, Any], *names: str) -> list[tuple[str, Decimal]]:
    texts = [str(fee) for fee in map(fill.get, names) if fee is not None]
    return [(bracketed(text), Decimal(text)) for text in texts]


def _realized(before: Position | None, after: Position, fill: Mapping[str, Any]) -> _Text:
    """Return multiplier x (proceeds - cost) of the part that a fill closed; None if it opened."""
    if before is None or not before.size or after.realized_pnl == before.realized_pnl:
        return None
    quantity, price = Decimal(str(fill["quantity"])), bracketed(str(fill["price"]))
    held = absolute(before.size)
    whole = quantity >= held
    closed = held if whole else quantity
    cost = bracketed(exact_text(before.cost if whole else subtract(before.cost, after.cost)))
    proceeds = f"{exact_text(closed)} {'/' if before.instrument.inverse else 'x'} {price}"
    gains = (before.size > ZERO) != before.instrument.inverse
    gain = f"({proceeds} - {cost})" if gains else f"({cost} - {proceeds})"
    multiplier = before.instrument.multiplier
    text = gain if multiplier == 1 else f"{exact_text(multiplier)} x {gain}"
    return text, subtract(after.realized_pnl, before.realized_pnl)
