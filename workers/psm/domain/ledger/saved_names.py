"""Debts and other names of an account, as its snapshot has them."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.renames import NO_RENAMES, Renames


class SavedNames(msgspec.Struct, frozen=True, kw_only=True):
    """What few accounts have: debts, and other names; `keys` are in their order."""

    borrowed: dict[str, Decimal]
    renames: Renames
    keys: list[tuple[str, tuple[str, ...]]]


def saved_names(ledger: Ledger) -> SavedNames | None:
    """Return what a snapshot keeps of an account; None where there is nothing."""
    renames = ledger.renames
    if not ledger.borrowed and renames == NO_RENAMES:
        return None
    return SavedNames(
        borrowed=dict(ledger.borrowed),
        renames=msgspec.structs.replace(renames, keys={}),
        keys=list(renames.keys.items()),
    )


def renames_of(names: SavedNames | None) -> Renames:
    """Return the names that a snapshot kept."""
    if names is None:
        return NO_RENAMES
    return msgspec.structs.replace(names.renames, keys=dict(names.keys))
