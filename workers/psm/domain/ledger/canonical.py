"""The canonical bytes of a ledger's parts: what the ledger hash is taken over. Form 1.

Canonical JSON: keys sorted, no blanks, decimals without exponent, trailing zeros or `-0`. Written
out by hand, because every event changes a part or two and hashes them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TypeVar

from psm.contracts.codec import canonical_bytes, json_name, json_text
from psm.contracts.update_fields import Status
from psm.domain.delivery.parked import Parked
from psm.domain.ledger.effect import TotalName
from psm.domain.ledger.holdings import NO_COST, Cost
from psm.domain.ledger.modes import PositionModes
from psm.domain.ledger.orders import Order
from psm.domain.ledger.own_fills import OwnFill
from psm.domain.ledger.positions import Position
from psm.domain.ledger.wallets import Wallets
from psm.domain.money import exact_text

_Key = TypeVar("_Key", str, TotalName)
AmountTexts = dict[_Key, tuple[Decimal, str]]
"""Amount and JSON entry by key, ascending by name: what was written last, to be written once."""


def account_part(
    *,
    cash: str,
    costs: str,
    currency: str | None,
    leverage_limit: Decimal | None,
    leverages: Mapping[str, Decimal],
    modes: PositionModes,
    wallets: Wallets,
    status: Status,
    totals: str,
    version: int,
    aliases: Mapping[str, str] | None = None,
    borrowed: Mapping[str, Decimal] | None = None,
) -> bytes:
    """Return the account's own part; `cash`, `costs` and `totals` are JSON written already.

    What only hedge mode, isolated margin, changed symbols and debts have is left out where there
    is none.
    """
    own = _decimals(leverages) if leverages else "{}"
    names = f'"aliases":{canonical_bytes(aliases).decode()},' if aliases else ""
    owed = f'"borrowed":{_decimals(borrowed)},' if borrowed else ""
    isolated = position_modes = waiting_modes = ""
    if wallets.symbols or wallets.amounts:
        symbols = canonical_bytes(sorted(wallets.symbols)).decode()
        isolated = f',"isolated":[{symbols},{_decimals(wallets.amounts)}]'
    if modes.own:
        position_modes = f',"position_modes":{canonical_bytes(modes.own).decode()}'
    if modes.waiting:
        waiting_modes = f',"waiting_modes":{canonical_bytes(modes.waiting).decode()}'
    return (
        f'{{{names}{owed}"cash":{cash}'
        f',"costs":{costs}'
        f',"currency":{"null" if currency is None else json_name(currency)}{isolated}'
        f',"leverage_limit":{_text(leverage_limit)}'
        f',"leverages":{own}{position_modes}'
        f',"status":"{status}"'
        f',"totals":{totals}'
        f',"version":{version}{waiting_modes}}}'
    ).encode()


def _decimals(values: Mapping[str, Decimal]) -> str:
    return canonical_bytes({key: exact_text(value) for key, value in values.items()}).decode()


def cash_json(cash: Mapping[str, Decimal], texts: AmountTexts[str]) -> str:
    """Return amounts by currency as JSON; `texts` are kept from call to call."""
    return _amounts(cash, texts)


def costs_json(costs: Mapping[str, Cost]) -> str:
    """Return costs by asset as JSON: [what is known of it, whether something is not]."""
    if not costs:
        return "{}"
    return canonical_bytes(
        {asset: [exact_text(cost.amount), cost.unknown] for asset, cost in costs.items()}
    ).decode()


def totals_json(totals: Mapping[TotalName, Decimal], texts: AmountTexts[TotalName]) -> str:
    """Return lifetime sums by name as JSON; `texts` are kept from call to call."""
    return _amounts(totals, texts)


def _amounts(amounts: Mapping[_Key, Decimal], texts: AmountTexts[_Key]) -> str:
    """Return amounts by name as JSON; only what changed is written again."""
    if len(texts) != len(amounts):
        texts.clear()
        for key in sorted(amounts):
            texts[key] = (amounts[key], _entry(key, amounts[key]))
    for key, amount in amounts.items():
        if texts[key][0] is not amount:
            texts[key] = (amount, _entry(key, amount))
    return f"{{{','.join([entry for _, entry in texts.values()])}}}"


def _entry(name: str, amount: Decimal) -> str:
    return f'{json_name(name)}:"{exact_text(amount)}"'


def position_part(position: Position) -> bytes:
    """Return the part of a position, open or flat; when it opened is of delivery, not in it.

    A margin that the venue reported is left out where there is none.
    """
    instrument, margin, reported = position.instrument, position.margin, ""
    if margin is not None:
        figures = f'"{exact_text(margin.initial)}","{exact_text(margin.maintenance)}"'
        reported = f',"margin":[{figures},{"true" if margin.stale else "false"}]'
    return (
        f'{{"cost":"{exact_text(position.cost)}"'
        f',"cycle":{position.cycle}'
        f',"cycle_fees":"{exact_text(position.cycle_fees)}"'
        f',"cycle_funding":"{exact_text(position.cycle_funding)}"'
        f',"cycle_realized_pnl":"{exact_text(position.cycle_realized_pnl)}"'
        f',"defined":{"true" if instrument.defined else "false"}'
        f',"fees":"{exact_text(position.fees)}"'
        f',"funding":"{exact_text(position.funding)}"'
        f',"home_cost":{_cost(position.home_cost)}'
        f',"kind":"{instrument.kind}"'
        f',"last_fill":"{exact_text(position.last_fill)}"{reported}'
        f',"multiplier":"{exact_text(instrument.multiplier)}"'
        f',"peak_size":"{exact_text(position.peak_size)}"'
        f',"position_side":"{position.position_side}"'
        f',"realized_pnl":"{exact_text(position.realized_pnl)}"'
        f',"settle":{json_name(instrument.settle)}'
        f',"size":"{exact_text(position.size)}"'
        f',"symbol":{json_name(instrument.symbol)}}}'
    ).encode()


def order_part(order: Order) -> bytes:
    """Return the part of an order, open or ended."""
    return (
        f'{{"external":{"true" if order.external else "false"}'
        f',"filled_quantity":"{exact_text(order.filled_quantity)}"'
        f',"filled_value":"{exact_text(order.filled_value)}"'
        f',"inverse":{"true" if order.inverse else "false"}'
        f',"order_id":{json_text(order.order_id)}'
        f',"position_side":{_name(order.position_side)}'
        f',"price":{_text(order.price)}'
        f',"quantity":"{exact_text(order.quantity)}"'
        f',"reduce_only":{"true" if order.reduce_only else "false"}'
        f',"side":"{order.side}"'
        f',"status":"{order.status}"'
        f',"stop_price":{_text(order.stop_price)}'
        f',"strategy_id":{_name(order.strategy_id)}'
        f',"symbol":{json_name(order.symbol)}'
        f',"time_in_force":{_name(order.time_in_force)}'
        f',"type":"{order.type}"}}'
    ).encode()


def own_fill_part(symbol: str, fill: OwnFill) -> bytes:
    """Return the part of the last fill in a spot pair."""
    price = exact_text(fill.price)
    return f'{{"own_fill":{fill.number},"price":"{price}","symbol":{json_name(symbol)}}}'.encode()


def parked_part(parked: Mapping[int, Parked]) -> bytes:
    """Return the part of the events that wait for a gap to close: (number, event hash)."""
    waiting = [[number, parked[number].event_hash.hex()] for number in sorted(parked)]
    return canonical_bytes({"parked": waiting})


def _cost(cost: Cost) -> str:
    if cost is NO_COST:
        return '["0",false]'
    return f'["{exact_text(cost.amount)}",{"true" if cost.unknown else "false"}]'


def _name(text: str | None) -> str:
    return "null" if text is None else json_text(text)


def _text(value: Decimal | None) -> str:
    return "null" if value is None else f'"{exact_text(value)}"'
