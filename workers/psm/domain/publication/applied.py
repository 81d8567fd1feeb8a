"""What an applied event said, as its `StateUpdated` repeats it: never who, why or whom."""

from __future__ import annotations

from functools import cache

from psm.contracts.fields import Payload
from psm.contracts.reversals import CashReversed, TransferReversed
from psm.domain.money import published_text

_NUMBERS = {
    "quantity": ("quantity",),
    "price": ("price", "settlement_price", "entry_price"),
    "fee": ("commission", "fee"),
    "amount": ("amount", "funding_payment"),
}
_TEXTS = {
    "symbol": ("symbol",),
    "side": ("side",),
    "position_side": ("position_side",),
    "order_id": ("order_id",),
    "fill_id": ("fill_id",),
    "strategy_id": ("strategy_id",),
    "reference": ("reference", "transfer_id"),
}
_TARGETS = ("event_id", "fill_id")
"""What a correction names; the original of a reversal is what else it would be known by."""

_ORDER = (
    "symbol", "position_side", "side", "quantity", "price", "fee", "order_id", "fill_id",
    "strategy_id", "amount", "reference", "target",
)  # fmt: skip


def applied_event(event: Payload) -> dict[str, str]:
    """Return the type of an event and the fields that analytics count by; none that is empty."""
    said = {"event_type": type(event).__name__}
    for name, fields, number in _fields_of(type(event)):
        for field in fields:
            value = getattr(event, field)
            if value is not None:
                said[name] = published_text(value) if number else value
                break
    return said


@cache
def _fields_of(kind: type[Payload]) -> tuple[tuple[str, tuple[str, ...], bool], ...]:
    """Return (name, fields of the event in which it stands, whether it is a number)."""
    wanted = {**_TEXTS, **_NUMBERS, "target": ()}
    if "event_id" in kind.__struct_fields__:
        wanted |= {"target": _TARGETS, "fill_id": ()}
    elif kind in (CashReversed, TransferReversed):
        wanted |= {"target": wanted["reference"], "reference": ("reversal_reference",)}
    found = []
    for name in _ORDER:
        fields = tuple(field for field in wanted[name] if field in kind.__struct_fields__)
        if fields:
            found.append((name, fields, name in _NUMBERS))
    return tuple(found)
