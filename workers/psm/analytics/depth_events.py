"""Depth events as they are published: a payload, an envelope with it, or a line of a recording."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from psm.analytics.order_book import Depth, Id, Level, number
from psm.contracts.codec import INVALID_JSON
from psm.contracts.errors import ContractError
from psm.contracts.subjects import depth_place


class NamedDepth(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A depth event, and whose book it is of; empty where the event does not say.

    Attributes:
        event: snapshot or changes, numbers as the venue wrote them.
    """

    event: Depth
    exchange: str = ""
    symbol: str = ""


class _Fields(msgspec.Struct, gc=False):
    kind: Literal["snapshot", "delta"]
    bids: list[Level] = []
    asks: list[Level] = []
    first_id: Id | None = None
    last_id: Id | None = None
    prev_id: Id | None = None
    depth: Id | None = None
    checksum: Id | None = None
    exchange: str | None = None
    symbol: str | None = None


class _Event(msgspec.Struct, gc=False):
    payload: _Fields


_event = msgspec.json.Decoder(_Event)
_exact = msgspec.json.Decoder(dict[str, Any], float_hook=str)


def decode_depth(data: bytes) -> NamedDepth:
    """Return the depth event in a body.

    The usual form, an envelope whose levels are two texts each, is read fast; numbers that are no
    texts and further values of a level, as venues send them, are read too.

    Raises:
        ContractError: it is none; `field` names where.
    """
    try:
        found = _event.decode(data).payload
    except msgspec.ValidationError:
        return _decode_any(data)
    except INVALID_JSON as error:
        raise ContractError("invalid_json", str(error)) from None
    _check_levels(found.bids, "bids")
    _check_levels(found.asks, "asks")
    event = Depth(
        kind=found.kind,
        bids=found.bids,
        asks=found.asks,
        first_id=found.first_id,
        last_id=found.last_id,
        prev_id=found.prev_id,
        depth=found.depth,
        checksum=found.checksum,
    )
    return NamedDepth(event=event, exchange=found.exchange or "", symbol=found.symbol or "")


def _decode_any(data: bytes) -> NamedDepth:
    payload, place = _payload(data)
    if payload.get("kind") not in ("snapshot", "delta"):
        raise ContractError("malformed_field", "kind is snapshot or delta", "kind")
    bids, asks = _side(payload, "bids"), _side(payload, "asks")
    ids = {
        name: payload[name]
        for name in ("first_id", "last_id", "prev_id", "depth", "checksum")
        if payload.get(name) is not None
    }
    try:
        event = msgspec.convert({"kind": payload["kind"], **ids}, Depth, strict=False)
    except msgspec.ValidationError as error:
        raise ContractError("malformed_field", str(error)) from None
    return NamedDepth(
        event=msgspec.structs.replace(event, bids=bids, asks=asks),
        exchange=str(payload.get("exchange") or place[0]),
        symbol=str(payload.get("symbol") or place[1]),
    )


def _payload(data: bytes) -> tuple[dict[str, Any], tuple[str, str]]:
    """Return the payload in a body, and the book that a subject beside it names."""
    try:
        document = _exact.decode(data)
    except INVALID_JSON as error:
        raise ContractError("invalid_json", str(error)) from None
    place = ("", "")
    if "subject" in document and isinstance(document.get("data"), dict):
        place = depth_place(str(document["subject"])) or place
        document = document["data"]
    if isinstance(document.get("payload"), dict):
        document = document["payload"]
    return document, place


def _side(payload: dict[str, Any], name: str) -> list[Level]:
    given = payload.get(name) or []
    if not isinstance(given, list):
        raise ContractError("malformed_field", "levels are [[price, quantity], ...]", name)
    levels = []
    for place, level in enumerate(given):
        if not isinstance(level, list) or len(level) < len(("price", "quantity")):
            path = f"{name}[{place}]"
            raise ContractError("malformed_field", "a level is [price, quantity]", path)
        levels.append((str(level[0]), str(level[1])))
    _check_levels(levels, name)
    return levels


def _check_levels(levels: list[Level], name: str) -> None:
    """Make sure of every number before a book takes any of them."""
    for place, (price, quantity) in enumerate(levels):
        try:
            number(price)
            number(quantity)
        except ContractError as error:
            raise ContractError(error.reason, error.detail, f"{name}[{place}]") from None
