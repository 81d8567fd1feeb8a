"""Old payloads stay readable for ever: one plain function per step.

The first step is the flat 0.x draft, an event without envelope, for `TradeExecuted` and
`FundingApplied`. It has no `sequence_number`, so it enters through the doors that assign one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from psm.contracts import limits
from psm.contracts.errors import ContractError

FLAT_EVENT_TYPES = ("TradeExecuted", "FundingApplied")
_FLAT_ENVELOPE = ("event_id", "event_type", "timestamp", "account_id", "schema_version")
_MAJOR = re.compile(rf"[0-9]{{1,{limits.VERSION_DIGITS}}}")
_SIDES = {"long": "buy", "short": "sell", "buy": "buy", "sell": "sell"}


def is_flat(fields: Mapping[str, Any]) -> bool:
    """Return whether these are the fields of a flat 0.x draft."""
    return (
        "payload" not in fields
        and "stream_id" not in fields
        and "sequence_number" not in fields
        and "account_id" in fields
        and isinstance(fields.get("event_type"), str)
        and fields.get("event_type") in FLAT_EVENT_TYPES
    )


def upcast_flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the 1.0.0 envelope of a flat draft, with the same `event_id` and no number yet.

    `account_id` becomes `stream_id`; side `long` means buy and `short` means sell. Numbers are
    expected as their literal text (`codec.decode_untyped` gives that), never as binary floats.

    Raises:
        ContractError: reason `unknown_side`, where a trade's side is none of these.
    """
    payload = {k: _number_text(v) for k, v in fields.items() if k not in _FLAT_ENVELOPE}
    if fields["event_type"] == "TradeExecuted":
        side = payload.get("side")
        if not isinstance(side, str) or side not in _SIDES:
            raise ContractError("unknown_side", "side must be long or short", "side")
        payload["side"] = _SIDES[side]
    envelope = {k: fields[k] for k in ("event_id", "event_type", "timestamp") if k in fields}
    return {
        **envelope,
        "stream_id": fields["account_id"],
        "schema_version": "1.0.0",
        "payload": payload,
    }


def _number_text(value: Any) -> Any:
    assert not isinstance(value, float), "numbers keep their literal text"
    return str(value) if type(value) is int else value


STEPS: dict[tuple[str, int], Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    (event_type, 0): upcast_flat for event_type in FLAT_EVENT_TYPES
}
"""From (event type, major version) to the next major: the whole event's fields in, and out."""


def upcast(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event after every step that there is for it; the current form stays as it is.

    Args:
        fields: of the whole event; numbers as their literal text.

    Raises:
        ContractError: a step cannot read it.
    """
    event = dict(fields)
    while True:
        major = str(event.get("schema_version", "0")).partition(".")[0]
        known = int(major) if _MAJOR.fullmatch(major) else -1
        step = STEPS.get((str(event.get("event_type")), known))
        if step is None:
            return event
        event = step(event)
