"""Collateral: how much of an asset secures margin, and what a borrowed one needs."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.table_events import CollateralDefined
from psm.domain.money import ZERO


class Collateral(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Terms of an asset as security.

    Attributes:
        haircut: share of its value that does not count, from 0 to 1.
        borrow_maintenance_rate: maintenance margin per value where less than nothing is held.
    """

    asset: str
    haircut: Decimal
    borrow_maintenance_rate: Decimal = ZERO


def terms_of(event: CollateralDefined) -> Collateral:
    """Return the terms that a definition states.

    Raises:
        ContractError: reason `invalid_payload`: more than the value would not count.
    """
    if event.haircut > 1:
        raise ContractError("invalid_payload", "haircut must be from 0 to 1", "payload.haircut")
    return Collateral(
        asset=event.asset,
        haircut=event.haircut,
        borrow_maintenance_rate=event.borrow_maintenance_rate or ZERO,
    )
