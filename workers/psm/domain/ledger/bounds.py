"""Bounds of an account's state, so that what is made of it can be held wherever it goes.

They are counts, which no server sees differently, and part of the rules: an event that would exceed
one is neither refused, because what happened has happened, nor applied. It blocks its stream until
rules with other bounds are enabled, or an operator dismisses it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from psm.contracts.codec import json_name
from psm.contracts.errors import ContractError
from psm.contracts.limits import ALIASES, ASSETS, IDENTIFIER_BYTES, OPEN_ORDERS, POSITIONS
from psm.domain.ledger.effect import Effect
from psm.domain.ledger.ledger import Ledger

FEW = min(ASSETS, ALIASES, POSITIONS, OPEN_ORDERS) // 2
"""Up to so many names of all kinds together no event can exceed a bound."""

_LONGEST_NAME = 6 * 128 + 2  # of any of them as JSON, each byte an escape


class StateTooLargeError(Exception):
    """An event that the state has no room for; nothing was changed. Never leaves the fold.

    Attributes:
        error: reason and detail.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.error = ContractError("state_too_large", detail)


class _Change(NamedTuple):
    """Effect on one kind of name: how many of those before stay, and which are new."""

    what: str
    most: int
    kept: int
    added: dict[str, None]

    @property
    def size(self) -> int:
        """How many there are afterwards."""
        return self.kept + len(self.added)


def check_bounds(ledger: Ledger, effect: Effect) -> None:
    """Make sure that an effect leaves the state within its bounds.

    Only what an effect adds counts: whatever makes the state smaller goes on.

    Raises:
        StateTooLargeError: it does not.
    """
    if _has_few(ledger):
        return
    changes = (
        _assets(ledger, effect),
        _positions(ledger, effect),
        _orders(ledger, effect),
        _borrowed(ledger, effect),
        _aliases(ledger, effect),
    )
    names = _check_counts(changes)
    if names:
        _check_names(ledger, names)


def check_rebooked(before: Ledger, after: Ledger) -> None:
    """Make sure that a corrected past leaves the state within its bounds, likewise.

    Raises:
        StateTooLargeError: it does not.
    """
    if _has_few(after):
        return
    changes = (
        _between("assets", ASSETS, before.cash, after.cash),
        _between("borrowed assets", ASSETS, before.borrowed, after.borrowed),
        _between("aliases", ALIASES, before.renames.aliases, after.renames.aliases),
        _between("open positions", POSITIONS, _open_positions(before), _open_positions(after)),
        _between("open orders", OPEN_ORDERS, before.orders.open_by_id, after.orders.open_by_id),
    )
    if _check_counts(changes):
        _check_names(after, ())


def _has_few(ledger: Ledger) -> bool:
    rare = len(ledger.borrowed) + len(ledger.renames.aliases)
    return len(ledger.cash) + len(ledger.positions) + len(ledger.orders.open_by_id) + rare <= FEW


def _between(what: str, most: int, before: Iterable[str], after: Iterable[str]) -> _Change:
    held, kept = dict.fromkeys(before), dict.fromkeys(after)
    added = {name: None for name in kept if name not in held}
    return _Change(what, most, len(kept) - len(added), added)


def _check_counts(changes: Iterable[_Change]) -> list[str]:
    """Return the names that are new, where all of them together may be too long."""
    count = 0
    names: list[str] = []
    for change in changes:
        if change.added and change.size > change.most:
            raise StateTooLargeError(
                f"the account would have more than {change.most} {change.what}"
            )
        count += change.size
        names.extend(change.added)
    return names if count * _LONGEST_NAME > IDENTIFIER_BYTES else []


def _assets(ledger: Ledger, effect: Effect) -> _Change:
    added = {currency: None for currency, _ in effect.cash if currency not in ledger.cash}
    return _Change("assets", ASSETS, len(ledger.cash), added)


def _positions(ledger: Ledger, effect: Effect) -> _Change:
    after = {step.position.key: bool(step.position.size) for step in effect.steps}
    kept = ledger.open_position_count()
    added: dict[str, None] = {}
    for key, is_open in after.items():
        if is_open and not _is_open(ledger, key):
            added[key] = None
        elif not is_open and _is_open(ledger, key):
            kept -= 1
    return _Change("open positions", POSITIONS, kept, added)


def _orders(ledger: Ledger, effect: Effect) -> _Change:
    held = ledger.orders.open_by_id
    kept = len(held)
    added: dict[str, None] = {}
    for order in effect.orders:
        if order.open and order.order_id not in held:
            added[order.order_id] = None
        elif not order.open and order.order_id in held:
            kept -= 1
    return _Change("open orders", OPEN_ORDERS, kept, added)


def _borrowed(ledger: Ledger, effect: Effect) -> _Change:
    added: dict[str, None] = {}
    if effect.borrowed is not None and effect.borrowed[0] not in ledger.borrowed:
        added = {effect.borrowed[0]: None}
    return _Change("borrowed assets", ASSETS, len(ledger.borrowed), added)


def _aliases(ledger: Ledger, effect: Effect) -> _Change:
    held = ledger.renames.aliases
    after = held if effect.renamed is None else effect.renamed.names.aliases
    added = {name: None for name in after if name not in held}
    return _Change("aliases", ALIASES, len(after) - len(added), added)


def _is_open(ledger: Ledger, key: str) -> bool:
    position = ledger.positions.get(key)
    return position is not None and bool(position.size)


def _open_positions(ledger: Ledger) -> list[str]:
    return [key for key in ledger.positions if _is_open(ledger, key)]


def _check_names(ledger: Ledger, added: Iterable[str]) -> None:
    size = 0
    for name in (*ledger.cash, *_open_positions(ledger), *ledger.orders.open_by_id, *added):
        size += len(json_name(name).encode())
    if size > IDENTIFIER_BYTES:
        raise StateTooLargeError(
            f"names of assets, positions and orders would take more than {IDENTIFIER_BYTES} bytes"
        )
