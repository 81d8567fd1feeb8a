"""Two documents of one account compared field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from psm.contracts.codec import canonical_decimal
from psm.domain.money import subtract_wide


class FieldDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One field that differs.

    Attributes:
        field: path such as `positions.BTC-PERP.size`.
        before: its value, None where it was not there or null.
        after: likewise.
        change: after - before, exactly, where both are amounts.
    """

    field: str
    before: Any
    after: Any
    change: str | None


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[FieldDifference]:
    """Return what differs between two documents, by ascending path."""
    old, new = dict(_flat(before)), dict(_flat(after))
    return [
        FieldDifference(
            field=path,
            before=old.get(path),
            after=new.get(path),
            change=_change(old.get(path), new.get(path)),
        )
        for path in sorted({**old, **new})
        if old.get(path) != new.get(path)
    ]


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _change(before: Any, after: Any) -> str | None:
    if isinstance(before, bool) or isinstance(after, bool):
        return None
    if isinstance(before, int) and isinstance(after, int):
        return str(after - before)
    if _is_amount(before) and _is_amount(after):
        return canonical_decimal(subtract_wide(Decimal(after), Decimal(before)))
    return None


def _is_amount(value: Any) -> bool:
    digits = value.removeprefix("-").replace(".", "", 1) if isinstance(value, str) else ""
    # Hashes may consist of digits only; no amount is as long as one.
    return digits.isascii() and digits.isdecimal() and len(value) < 64
