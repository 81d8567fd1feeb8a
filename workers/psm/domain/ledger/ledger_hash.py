"""The hash of a ledger: over the canonical bytes of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from psm.contracts.update_fields import Status
from psm.domain.delivery.parked import Parked
from psm.domain.ledger.canonical import (
    account_part,
    cash_json,
    costs_json,
    order_part,
    own_fill_part,
    position_part,
    totals_json,
)
from psm.domain.ledger.ledger import Ledger


def hash_of(ledger: Ledger, version: int, status: Status, parked: Mapping[int, Parked]) -> bytes:
    """Return SHA-256 over the sorted digests of account, positions, orders and parked list.

    Delivery counters, log positions, flags and identity windows are not in it. Only the parts
    that changed since the last call are digested again.

    Args:
        ledger: whose parts.
        version: of the stream.
        status: of the stream.
        parked: events that wait for a gap to close, by number.
    """
    return ledger.digests.hash(partial(part_of, ledger), version, status, parked)


def part_of(ledger: Ledger, key: str, version: int, status: Status) -> bytes | None:
    """Return a part's canonical bytes; None where the part does not exist any more."""
    if not key:
        return account_part(
            aliases=ledger.renames.aliases,
            borrowed=ledger.borrowed,
            cash=cash_json(ledger.cash, ledger.digests.cash_texts),
            costs=costs_json(ledger.costs),
            currency=ledger.currency,
            leverage_limit=ledger.leverage_limit,
            leverages=ledger.leverages,
            modes=ledger.modes,
            wallets=ledger.wallets,
            status=status,
            totals=totals_json(ledger.totals, ledger.digests.totals_texts),
            version=version,
        )
    name = key[1:]
    if key[0] == "p":
        position = ledger.positions.get(name)
        return None if position is None else position_part(position)
    if key[0] == "f":
        return own_fill_part(name, ledger.own_fills[name])
    order = ledger.orders.by_id.get(name)
    return None if order is None else order_part(order)
