"""Business keys of account events: what makes two of them the same fact, from their bytes.

The archive remembers them for ever, the fold the last 256 of a stream. Both read the bytes with
the same codec, so no field beside the key, known or not, can hide one from the archive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from psm.contracts.codec import decode_envelope
from psm.contracts.errors import ContractError
from psm.contracts.events import TradeExecuted
from psm.contracts.fields import Payload
from psm.contracts.registry import account_codec_for
from psm.contracts.subjects import encode_token
from psm.projections.storable import is_storable_text

KEY_MAX = 512
"""Characters of a key: an index entry has a limit; a longer one is known by its hash."""


class BusinessKey(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Key of one event.

    Attributes:
        kind: `fill`, `transfer` or `reference`.
        key: the parts that the event says, or their hash.
        symbol: or asset that it belongs to; empty where the kind or the event names none.
    """

    kind: str
    key: str
    symbol: str = ""


_Key = tuple[str, str | None, str]


def _fill(event: TradeExecuted) -> _Key:
    # Both legs of a self-trade, and one trade that fills two orders, are facts of their own.
    if event.fill_id is None:
        return "fill", None, event.symbol
    return "fill", _parts(event.fill_id, event.side, event.order_id), event.symbol


def _transfer(event: Any) -> _Key:
    return "transfer", event.transfer_id, ""


def _reference(event: Any) -> _Key:
    return _named(event, event.reference)


def _reversal(event: Any) -> _Key:
    return _named(event, event.reversal_reference)


def _named(event: Payload, reference: str | None) -> _Key:
    named = (getattr(event, name, None) for name in ("symbol", "asset", "from_asset", "currency"))
    of = next((name for name in named if name), "")
    leg = getattr(event, "position_side", None)
    key = None if reference is None else _parts(type(event).__name__, reference, leg)
    return "reference", key, of


def _parts(*parts: str | None) -> str:
    """Return one key of several; a blank within a part is none between two."""
    return " ".join(encode_token(part) for part in parts if part is not None)


_KEYS: dict[str, Callable[[Any], _Key]] = {
    "TradeExecuted": _fill,
    **dict.fromkeys(
        ("TransferredIn", "TransferredOut", "PositionTransferredIn", "PositionTransferredOut"),
        _transfer,
    ),
    **dict.fromkeys(("TransferReversed", "CashReversed"), _reversal),
    **dict.fromkeys(
        (
            "CashDeposited", "CashWithdrawn", "CashAdjusted", "InterestAccrued", "DividendPaid",
            "FundingApplied", "FeeCharged", "TaxCharged", "LossCovered", "ReturnOfCapital",
            "StockDividend", "SplitApplied", "PositionAdjusted", "PositionSettled", "SymbolChanged",
            "SpinOff", "Merged", "BorrowChanged", "AssetsExchanged", "MarginTransferred",
            "MarginReported",
        ),
        _reference,
    ),
}  # fmt: skip


def business_key(event_type: object, data: bytes) -> BusinessKey | None:
    """Return the key of an account's event; None where it has none, or cannot be applied."""
    key_of = _KEYS.get(event_type) if isinstance(event_type, str) else None
    if key_of is None:
        return None
    try:
        envelope = decode_envelope(data)
        kind, key, symbol = key_of(account_codec_for(envelope).decode(envelope.payload))
    except ContractError:
        return None
    return None if key is None else BusinessKey(kind=kind, key=_short(key), symbol=_short(symbol))


def _short(text: str) -> str:
    if len(text) <= KEY_MAX and is_storable_text(text):
        return text
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
