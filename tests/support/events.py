"""Builders of events: the bytes a trading service would send, with the subject they go to.

Ids are made from what they identify, so a test is the same on every run.
"""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from psm.contracts import codec, subjects
from psm.contracts.control_events import CONTROL_SUBJECTS

ACCOUNT = "acc_001"
SYMBOL = "BTC-PERP"
START = 1_765_535_400_000_000_000
"""2025-12-12T10:30:00Z in nanoseconds."""
SECOND = 1_000_000_000

_IDS = uuid.UUID("0e7a1a52-6f43-4f0c-9a52-6a1a3b1de001")

SAMPLES = (
    b'{"event_id":"7b0e0c0e-8a57-4d8c-9c56-0b7f3f0f2a01","event_type":"TradeExecuted",'
    b'"stream_id":"acc_001","sequence_number":1,"timestamp":"2025-12-12T10:30:00Z",'
    b'"schema_version":"1.0","payload":{"symbol":"BTC-PERP","side":"buy","quantity":0.5,'
    b'"price":42000.00,"commission":2.10}}\n'
    b'{"event_id":"7b0e0c0e-8a57-4d8c-9c56-0b7f3f0f2a02","event_type":"FundingApplied",'
    b'"stream_id":"acc_001","sequence_number":2,"timestamp":"2025-12-12T16:00:00Z",'
    b'"schema_version":"1.0","payload":{"symbol":"BTC-PERP","funding_rate":0.0001,'
    b'"funding_payment":-2.10}}\n'
    b'{"event_id":"7b0e0c0e-8a57-4d8c-9c56-0b7f3f0f2a03","event_type":"TradeExecuted",'
    b'"timestamp":"2025-12-12T17:30:00Z","account_id":"acc_001","symbol":"BTC-PERP",'
    b'"side":"short","quantity":0.2,"price":42500.00,"commission":0.85}\n'
    b'{"event_id":"7b0e0c0e-8a57-4d8c-9c56-0b7f3f0f2a04","event_type":"FundingApplied",'
    b'"timestamp":"2025-12-12T20:00:00Z","account_id":"acc_001","symbol":"ETH-PERP",'
    b'"funding_rate":0.0001,"funding_payment":-0.042}\n'
).splitlines()
"""Two numbered events and two flat drafts; their numbers are JSON numbers on purpose."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """One message as it was published; `at` is its log time in ns, None for the next second."""

    subject: str
    data: bytes
    at: int | None = None

    def later(self, at: int) -> Sent:
        """Return the same message at another log time."""
        return msgspec.structs.replace(self, at=at)


def addressed(sent: Sent, partitions: int) -> Sent:
    """Return what operators' tools would publish: `repair.<stream>` with its partition in it."""
    head, _, stream = sent.subject.partition(".")
    if head != "repair" or "." in stream:
        return sent
    return msgspec.structs.replace(sent, subject=subjects.repair(stream, partitions))


def event_id(*parts: object) -> str:
    """Return the same UUID for the same parts."""
    return str(uuid.uuid5(_IDS, "/".join(map(str, parts))))


def envelope(
    event_type: str,
    payload: dict[str, Any],
    number: int | None,
    *,
    stream: str = ACCOUNT,
    salt: str = "",
    **changes: Any,
) -> dict[str, Any]:
    """Return an envelope; `salt` gives another `event_id`, a change of None leaves a field out."""
    fields: dict[str, Any] = {
        "event_id": event_id(event_type, stream, number, salt),
        "event_type": event_type,
        "stream_id": stream,
        "sequence_number": number,
        "timestamp": "2025-12-12T10:30:00Z",
        "schema_version": "1.0.0",
        "payload": payload,
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def event(
    event_type: str,
    payload: dict[str, Any],
    number: int | None,
    *,
    stream: str = ACCOUNT,
    **more: Any,
) -> Sent:
    """Return an event on `trades.<stream>`."""
    body = envelope(event_type, payload, number, stream=stream, **more)
    return Sent(subject=f"trades.{stream}", data=codec.encode(body))


def raw(data: bytes, *, stream: str = ACCOUNT) -> Sent:
    """Return any bytes on `trades.<stream>`."""
    return Sent(subject=f"trades.{stream}", data=data)


def changed(sent: Sent, **fields: Any) -> Sent:
    """Return the message with other envelope fields; None leaves a field out."""
    body = {**msgspec.json.decode(sent.data), **fields}
    data = codec.encode({name: value for name, value in body.items() if value is not None})
    return msgspec.structs.replace(sent, data=data)


def opened(number: int = 1, *, currency: str = "USDT", **more: Any) -> Sent:
    """Return `AccountOpened`; `leverage_limit` and envelope fields by name."""
    payload = {"currency": currency, **_taken(more, "leverage_limit", "margin_mode")}
    return event("AccountOpened", payload, number, **more)


def deposit(number: int, amount: str = "1000", **more: Any) -> Sent:
    """Return `CashDeposited`."""
    payload = {"amount": amount, **_taken(more, "currency", "reference")}
    return event("CashDeposited", payload, number, **more)


def withdrawal(number: int, amount: str = "100", **more: Any) -> Sent:
    """Return `CashWithdrawn`."""
    payload = {"amount": amount, **_taken(more, "currency", "reference")}
    return event("CashWithdrawn", payload, number, **more)


def trade(
    number: int, side: str, quantity: str, price: str, symbol: str = SYMBOL, **more: Any
) -> Sent:
    """Return `TradeExecuted`."""
    payload = {
        "symbol": symbol,
        "side": side,
        "quantity": quantity,
        "price": price,
        **_taken(more, "commission", "commission_currency", "liquidation_fee"),
        **_taken(more, "fill_id", "order_id", "strategy_id"),
    }
    return event("TradeExecuted", payload, number, **more)


def funding(number: int, payment: str, symbol: str = SYMBOL, **more: Any) -> Sent:
    """Return `FundingApplied`."""
    extra = _taken(more, "funding_rate", "currency", "reference")
    payload = {"symbol": symbol, "funding_payment": payment, **extra}
    return event("FundingApplied", payload, number, **more)


def fee(number: int, amount: str, **more: Any) -> Sent:
    """Return `FeeCharged`."""
    payload = {"amount": amount, **_taken(more, "currency", "symbol", "reason")}
    return event("FeeCharged", payload, number, **more)


def report(assets: dict[str, Any], *positions: dict[str, Any], **more: Any) -> Sent:
    """Return `AccountReported`, which has no number; fields of its payload by name."""
    names = ("source", "as_of", "through", "wallets", "basis", "equity", "rates", "cost_method")
    payload = {
        "source": "venue",
        "as_of": "2025-12-12T10:30:00Z",
        "assets": assets,
        "positions": list(positions),
        **_taken(more, *names, "tolerance"),
    }
    more["salt"] = f"{payload}{more.get('salt', '')}"
    return event("AccountReported", payload, None, **more)


def unknown(number: int, **more: Any) -> Sent:
    """Return an event whose type no rules know."""
    return event("MoonPhaseChanged", {}, number, **more)


def mark(
    number: int, price: str, symbol: str = SYMBOL, *, at: int | None = None, **more: Any
) -> Sent:
    """Return `MarkPriceUpdated` on `marks.<symbol>`."""
    payload = {"symbol": symbol, "price": price, **_taken(more, "index_price", "delta")}
    body = envelope("MarkPriceUpdated", payload, number, **{"stream": symbol, **more})
    return Sent(subject=f"marks.{symbol}", data=codec.encode(body), at=at)


def instrument(number: int = 1, symbol: str = SYMBOL, **more: Any) -> Sent:
    """Return `InstrumentDefined` on `instruments.<symbol>`; a linear perpetual unless told."""
    own = ("kind", "base", "quote", "settle", "multiplier")
    names = (*own, "margin_tiers", "signed_price", "option")
    payload = {
        "symbol": symbol,
        "kind": "linear_perp",
        "base": "BTC",
        "quote": "USDT",
        "settle": "USDT",
        **_taken(more, *names),
    }
    body = envelope("InstrumentDefined", payload, number, stream=symbol, **more)
    return Sent(subject=f"instruments.{symbol}", data=codec.encode(body))


def collateral(number: int = 1, asset: str = "BTC", haircut: str = "0.1", **more: Any) -> Sent:
    """Return `CollateralDefined` on `collateral.<asset>`."""
    payload = {"asset": asset, "haircut": haircut, **_taken(more, "borrow_maintenance_rate")}
    body = envelope("CollateralDefined", payload, number, **{"stream": asset, **more})
    return Sent(subject=f"collateral.{asset}", data=codec.encode(body))


def rules(version: int = 1, *, number: int | None = None, **more: Any) -> Sent:
    """Return `RulesEnabled` on `control.rules`."""
    payload = {"rules_version": version, "actor": "operator", "reason": "test"}
    body = envelope("RulesEnabled", payload, number, stream="rules", **more)
    return Sent(subject="control.rules", data=codec.encode(body))


def control(event_type: str, payload: dict[str, Any], number: int) -> Sent:
    """Return what an operator says to the whole log, on the subject of its type."""
    subject = CONTROL_SUBJECTS[event_type]
    body = envelope(event_type, payload, number, stream=subject.partition(".")[2])
    return Sent(subject=subject, data=codec.encode(body))


def dismissed(log_sequence: int, **more: Any) -> Sent:
    """Return `EventDismissed`; `actor` and `reason` by name."""
    return operator("EventDismissed", {"log_sequence": log_sequence}, **more)


def voided(first: int, last: int, **more: Any) -> Sent:
    """Return `SequenceVoided`; `actor` and `reason` by name."""
    return operator("SequenceVoided", {"from": first, "to": last}, **more)


def retried(**more: Any) -> Sent:
    """Return `StreamRetried`; `actor` and `reason` by name."""
    return operator("StreamRetried", {}, **more)


def operator(event_type: str, payload: dict[str, Any], **more: Any) -> Sent:
    """Return an operator event on `repair.<stream>`: the log stores it under its partition.

    It has no number; its `event_id` follows from payload and salt.
    """
    who = {"actor": "op", "reason": "test", **_taken(more, "actor", "reason")}
    more["salt"] = f"{payload}{more.get('salt', '')}"
    body = event(event_type, {**payload, **who}, None, **more)
    return msgspec.structs.replace(body, subject=f"repair.{body.subject.removeprefix('trades.')}")


def _taken(more: dict[str, Any], *names: str) -> dict[str, Any]:
    """Take the payload's fields out of `more`; what stays belongs to the envelope."""
    return {name: more.pop(name) for name in names if name in more}
