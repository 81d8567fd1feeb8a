"""A state document that updates keep as it is, for whoever follows an account.

A document of `psm.get.state` or `psm.get.live`, and every update of the account after it, give the
document that the views answer with: figures as they were published, each row as of its own update.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from psm.contracts.codec import decode_untyped, encode_fields
from psm.contracts.position_keys import position_key
from psm.contracts.update_fields import Common
from psm.contracts.updates import KIND_OF, TOLD_ONCE, StateUpdated

HOLDINGS = ("assets", "positions", "orders")
"""Fields of a state document that have a row for each of something."""

STATE_FIELDS = (*StateUpdated.__struct_fields__, "as_of", *HOLDINGS)
"""Fields of a state document in their order; one that an account does not have is left out."""

_OPEN = ("submitted", "accepted", "partially_filled")
_GAP = "sequence_gap"


class _Heard(msgspec.Struct):
    """What is needed of an update."""

    event_type: str
    timestamp: str
    payload: dict[str, Any]


_heard = msgspec.json.Decoder(_Heard)


class AccountDocument:
    """One account, from a document on.

    Attributes:
        state: its document: texts, and mappings of them. Change nothing in it.
    """

    def __init__(self, document: bytes) -> None:
        """Start from a document.

        Args:
            document: of `psm.get.state`, `psm.get.live` with read `state`, or `GET /psm/state`.
        """
        self.state = decode_untyped(document)

    def take(self, updates: Iterable[bytes]) -> None:
        """Apply the updates of one input, all of them, in their order."""
        for data in updates:
            heard = _heard.decode(data)
            kind = KIND_OF[heard.event_type]
            put_update(self.state, kind, heard.payload)
            if kind == "state.updated":
                place = heard.payload["log_sequence"]
                self.state["as_of"] = {"log_sequence": place, "time": heard.timestamp}

    def encoded(self) -> bytes:
        """Return the document as JSON, its fields in the order of the reads."""
        return encode_fields(
            {name: self.state[name] for name in STATE_FIELDS if name in self.state}
        )


def put_update(state: dict[str, Any], kind: str, payload: Mapping[str, Any]) -> None:
    """Apply an update of the account to its document, as the views do.

    Args:
        state: a state document; it is changed.
        kind: of the update, such as `position.updated`.
        payload: of the update.
    """
    match kind:
        case "state.updated":
            _put_state(state, payload)
        case "position.updated" if payload["class"] == "asset":
            put_asset(state["assets"], payload)
        case "position.updated":
            key = position_key(payload["symbol"], payload["position_side"])
            # A bust took its only fill.
            gone = (payload["side"], payload["cycle"]) == ("flat", 0)
            _put(state["positions"], key, None if gone else figures_in(payload))
        case "order.updated":
            is_open = payload["status"] in _OPEN
            _put(state["orders"], payload["order_id"], figures_in(payload) if is_open else None)
        case "stream.blocked":
            state["status"] = "gap" if payload["reason"] == _GAP else "blocked"
        case "stream.resumed":
            state["status"] = "open"


def put_asset(document: dict[str, dict[str, str | None]], figures: Mapping[str, Any]) -> None:
    """Replace an asset of a document by what an update said of it; of nothing held nothing."""
    asset = figures["symbol"]
    if figures["side"] == "flat":
        document.pop(asset, None)
        return
    is_short = figures["side"] == "short"
    row = {
        "quantity": _signed(figures["size"], is_short),
        "cost": figures["cost"],
        "entry_price": figures["entry_price"],
        "mark_price": figures["mark_price"],
        "value": _signed(figures["notional"], is_short),
        "unrealized_pnl": figures["unrealized_pnl"],
    }
    _put(document, asset, row)


def put_home(
    document: dict[str, dict[str, str | None]], currency: str, cash: Mapping[str, str]
) -> None:
    """Replace the account currency of a document: it is worth what it is, and costs that."""
    quantity = cash.get(currency, "0")
    if quantity == "0":
        document.pop(currency, None)
        return
    row: dict[str, str | None] = {
        "quantity": quantity,
        "cost": quantity,
        "entry_price": "1",
        "mark_price": "1",
        "value": quantity,
        "unrealized_pnl": "0",
    }
    _put(document, currency, row)


def _put_state(state: dict[str, Any], payload: Mapping[str, Any]) -> None:
    kept = {name: state[name] for name in (*HOLDINGS, "as_of") if name in state}
    state.clear()
    state.update({name: value for name, value in payload.items() if name not in TOLD_ONCE})
    state.update(kept)
    if state["currency"] is not None:
        put_home(state["assets"], state["currency"], state["cash"])


def _signed(magnitude: str | None, is_short: bool) -> str | None:
    """Return a figure of something owed below zero; what was rounded to zero has no sign."""
    return f"-{magnitude}" if is_short and magnitude not in (None, "0") else magnitude


def figures_in(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return an update's own figures, as a document has them."""
    own = {name: value for name, value in payload.items() if name not in Common.__struct_fields__}
    return {name: value for name, value in own.items() if name not in ("change", *TOLD_ONCE)}


def _put(rows: dict[str, Any], key: str, row: dict[str, Any] | None) -> None:
    """Set or take away a row; rows stand by their keys."""
    if row is None:
        rows.pop(key, None)
        return
    is_new = key not in rows
    rows[key] = row
    if is_new:
        ordered = sorted(rows.items())
        rows.clear()
        rows.update(ordered)
