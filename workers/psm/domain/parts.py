"""The canonical bytes of a ledger's parts: what the ledger hash is taken over. Form 1.

Canonical JSON: keys sorted, no blanks, decimals without exponent, trailing zeros or `-0`. Written
out by hand, because every event changes a part or two and hashes them again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from psm.contracts.codec import canonical_bytes, json_name, json_text
from psm.domain.money import exact_text
from psm.domain.orders import Order
from psm.domain.positions import Position

if TYPE_CHECKING:  # an account keeps the digests of its parts
    from psm.domain.account import Account
    from psm.domain.effect import TotalName
    from psm.domain.waiting import Parked


_Key = TypeVar("_Key", str, "tuple[str, TotalName]")
Texts = dict[_Key, tuple[Decimal, str]]
"""Amount and JSON entry by key, ascending by name."""


def account_part(account: Account, cash: Texts[str], totals: Texts[tuple[str, TotalName]]) -> bytes:
    """Return the account's own part.

    Args:
        account: whose amounts, settings, status and version are in it.
        cash: texts of the amounts as of the last call, by currency; changed in place.
        totals: likewise, by currency and name.
    """
    limit, currency = account.leverage_limit, account.currency
    leverages = "{}"
    if account.leverages:
        texts = {symbol: exact_text(value) for symbol, value in account.leverages.items()}
        leverages = canonical_bytes(texts).decode()
    return (
        f'{{"cash":{_amounts(account.cash, cash, str)}'
        f',"currency":{"null" if currency is None else json_name(currency)}'
        f',"leverage_limit":{_text(limit)}'
        f',"leverages":{leverages}'
        f',"status":"{account.status}"'
        f',"totals":{_amounts(account.totals, totals, _total_name)}'
        f',"version":{account.version}}}'
    ).encode()


def _amounts(
    amounts: Mapping[_Key, Decimal], texts: Texts[_Key], name_of: Callable[[_Key], str]
) -> str:
    """Return amounts by name as JSON; only what changed is written anew."""
    if len(texts) != len(amounts):
        texts.clear()
        for key in sorted(amounts, key=name_of):
            texts[key] = (amounts[key], _entry(name_of(key), amounts[key]))
    for key, amount in amounts.items():
        if texts[key][0] is not amount:
            texts[key] = (amount, _entry(name_of(key), amount))
    return f"{{{','.join([entry for _, entry in texts.values()])}}}"


def _total_name(key: tuple[str, TotalName]) -> str:
    currency, name = key
    return f"{currency}.{name}"


def _entry(name: str, amount: Decimal) -> str:
    return f'{json_name(name)}:"{exact_text(amount)}"'


def position_part(position: Position) -> bytes:
    """Return the part of a position, open or flat."""
    instrument = position.instrument
    return (
        f'{{"cost":"{exact_text(position.cost)}"'
        f',"cycle":{position.cycle}'
        f',"cycle_fees":"{exact_text(position.cycle_fees)}"'
        f',"cycle_funding":"{exact_text(position.cycle_funding)}"'
        f',"cycle_realized_pnl":"{exact_text(position.cycle_realized_pnl)}"'
        f',"defined":{"true" if instrument.defined else "false"}'
        f',"fees":"{exact_text(position.fees)}"'
        f',"funding":"{exact_text(position.funding)}"'
        f',"kind":"{instrument.kind}"'
        f',"last_fill":"{exact_text(position.last_fill)}"'
        f',"multiplier":"{exact_text(instrument.multiplier)}"'
        f',"realized_pnl":"{exact_text(position.realized_pnl)}"'
        f',"settle":{json_name(instrument.settle)}'
        f',"size":"{exact_text(position.size)}"'
        f',"symbol":{json_name(instrument.symbol)}}}'
    ).encode()


def order_part(order: Order) -> bytes:
    """Return the part of an order, open or ended."""
    in_force = order.time_in_force
    return (
        f'{{"external":{"true" if order.external else "false"}'
        f',"filled_quantity":"{exact_text(order.filled_quantity)}"'
        f',"filled_value":"{exact_text(order.filled_value)}"'
        f',"order_id":{json_text(order.order_id)}'
        f',"price":{_text(order.price)}'
        f',"quantity":"{exact_text(order.quantity)}"'
        f',"reduce_only":{"true" if order.reduce_only else "false"}'
        f',"side":"{order.side}"'
        f',"status":"{order.status}"'
        f',"stop_price":{_text(order.stop_price)}'
        f',"symbol":{json_name(order.symbol)}'
        f',"time_in_force":{"null" if in_force is None else json_text(in_force)}'
        f',"type":"{order.type}"}}'
    ).encode()


def parked_part(parked: Mapping[int, Parked]) -> bytes:
    """Return the part of the events that wait behind a gap: (number, event hash), ascending."""
    waiting = [[number, parked[number].event_hash.hex()] for number in sorted(parked)]
    return canonical_bytes({"parked": waiting})


def _text(value: Decimal | None) -> str:
    return "null" if value is None else f'"{exact_text(value)}"'
