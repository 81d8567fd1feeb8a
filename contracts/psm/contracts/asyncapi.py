"""The AsyncAPI 3.0 document of every subject: who publishes what where, in which shape.

Made from the registry, so it cannot forget an event type. `make schemas` writes it to
docs/asyncapi.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args

import msgspec

from psm.contracts import deprecations, events, registry, updates
from psm.contracts.feed import POSITION_HEADER, PREVIOUS_HEADER
from psm.contracts.live import LiveQuestion
from psm.contracts.registry import kinds, version_of
from psm.contracts.reports import AccountReported
from psm.contracts.rulebook_events import RULEBOOK_EVENTS

_SCHEMA = "#/components/schemas/{name}"
_READS = ("state", "positions", "margin", "orders", "reconciliation")
_LIVE = (
    "Read live, from the books of whoever folds the account: one moment, with `as_of`. The body is "
    "the account id, or which read, what to wait for and how long. Errors: 400, 404, 413 "
    "(`too_large`: ask over HTTP), 429, 503 (a handover), 504 (not reached)."
)
_ABOUT = {
    "stream_id": "Account or portfolio: letters, digits, `_` and `-`, at most 64.",
    "partition": "Partition of the log that the account is in.",
    "symbol": "Symbol, percent-encoded where NATS forbids a character.",
    "asset": "Asset, percent-encoded where NATS forbids a character.",
    "timeframe": "Length of a candle, such as `1m`.",
    "strategy_id": "Strategy, percent-encoded.",
    "account_id": "Account, percent-encoded.",
    "severity": "info, warning, error or critical.",
    "order_id": "Order, percent-encoded.",
    "exchange": "Exchange, percent-encoded.",
    "halted": "Scope that was halted, such as `group:desk`, percent-encoded.",
    "scope": "firm, group, account, strategy, symbol, or the kind of a table.",
    "name": "Whose, or the table's name, percent-encoded.",
}
_RECORDED = {
    "marketdata.ticker.{symbol}": "market_data",
    "marketdata.candle.{symbol}.{timeframe}": "market_data",
    "marketdata.depth.{exchange}.{symbol}": "market_data",
    "signals.strategy.{strategy_id}.{symbol}": "signal_generated",
    "risk.decision.{account_id}": "risk_decision",
    "risk.alert.{severity}": "alert",
    "orders.command.{account_id}": "order_request",
    "orders.status.{order_id}": "order_result",
    "fills.exchange.{exchange}.{symbol}": "recorded",
    "fills.internal.{order_id}": "position_update",
}
_DECIDED = {
    "psm.risk.decision.{account_id}": "risk_decision",
    "psm.risk.alert.{severity}": "alert",
    "psm.risk.halt.{halted}": "LatchSet",
    "psm.risk.release.{account_id}": "AccountReleased",
}
_ALSO = {
    "orders.command.{account_id}": ("replace_request", "cancel_request"),
    "psm.risk.halt.{halted}": ("cancel_all",),
}


def document() -> dict[str, Any]:
    """Return the document."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for address, names, action, text in _traffic():
        name = _key(address)
        channels[name] = _channel(address, names, text)
        operations[f"{action}.{name}"] = _operation(action, name)
    for read in _READS:
        text = f"Read: {read}. The body is the account id; the answer is that of the HTTP API."
        _request(read, text, channels, operations)
    _request("live", _LIVE, channels, operations)
    messages = {name: _message(name, kind) for name, kind in kinds().items()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Portfolio & State Manager",
            "version": registry.SCHEMA_VERSION,
            "description": (
                "Subjects of PSM on NATS. `receive` is what PSM reads, folds or records; `send` "
                "is what it publishes after the commit. Schemas are versioned per event type."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages | _plain_messages(),
            "schemas": _schemas(),
        },
    }


def _traffic() -> Iterable[tuple[str, list[str], str, str]]:
    """Address, event types, what PSM does there, and what it is for."""
    log = [kind.__name__ for kind in (*get_args(events.AccountEvent), AccountReported)]
    repairs = [kind.__name__ for kind in get_args(events.OperatorEvent)]
    yield "trades.{stream_id}", log, "receive", "The account's events, numbered 1, 2, 3: the log."
    repair = "repair.{partition}.{stream_id}"
    yield repair, repairs, "receive", "Operators' events, which let a stream that stopped go on."
    yield "marks.{symbol}", ["MarkPriceUpdated"], "receive", "Mark prices; numbers need only rise."
    yield "instruments.{symbol}", ["InstrumentDefined"], "receive", "What a symbol is."
    collateral = "How much of an asset secures margin."
    yield "collateral.{asset}", ["CollateralDefined"], "receive", collateral
    yield "control.rules", ["RulesEnabled"], "receive", "From which point on which rules hold."
    trimmed = ["LogTrimmed", "LogRestored"]
    yield "control.log", trimmed, "receive", "Which messages the hot log has."
    yield "control.region", ["RegionPromoted"], "receive", "Which region leads."
    rules = "Limits, halts, groups and tables, signed by who says so; kept for ever."
    yield "rulebook.{scope}.{name}", list(RULEBOOK_EVENTS), "receive", rules
    for address, name in _RECORDED.items():
        names = [name, *_ALSO.get(address, ())]
        yield address, names, "receive", "Recorded for audit and replay; never folded."
    for address, name in _DECIDED.items():
        names = [name, *_ALSO.get(address, ())]
        yield address, names, "send", "Of the risk engine, once it is stored in RISK."
    for kind, middle in updates.KINDS.items():
        update = [kind.__name__]
        yield f"psm.{middle}", update, "send", "For core subscribers: fast, at most once."
        durable = f"psm.{middle}.{{partition}}.{{stream_id}}"
        yield durable, update, "send", "The same, durable in the JetStream stream PSM."


def _channel(address: str, names: Iterable[str], text: str) -> dict[str, Any]:
    parameters = [part[1:-1] for part in address.split(".") if part.startswith("{")]
    channel: dict[str, Any] = {
        "address": address,
        "description": text,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
    }
    if parameters:
        channel["parameters"] = {name: {"description": _ABOUT[name]} for name in parameters}
    return channel


def _operation(action: str, channel: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}


def _request(read: str, text: str, channels: dict[str, Any], operations: dict[str, Any]) -> None:
    """A read by request and reply; the answer comes to the inbox that the request names."""
    name, inbox = f"psm.get.{read}", f"psm.get.{read}.reply"
    bodies = ["account_id", "LiveQuestion"] if read == "live" else ["account_id"]
    channels[name] = _channel(name, bodies, text)
    channels[inbox] = {
        "address": None,
        "messages": {"document": {"$ref": "#/components/messages/document"}},
    }
    operations[f"receive.{name}"] = _operation("receive", name) | {
        "reply": {"channel": {"$ref": f"#/channels/{inbox}"}}
    }


def _message(name: str, kind: type[msgspec.Struct]) -> dict[str, Any]:
    version = version_of(name)
    event = {
        "type": "object",
        "properties": {
            "event_type": {"const": name},
            "payload": {"$ref": f"#/components/schemas/{name}"},
        },
    }
    message = {
        "name": name,
        "title": f"{name} {version}",
        "summary": (kind.__doc__ or name).strip().partition("\n")[0],
        "payload": {"allOf": [{"$ref": "#/components/schemas/Envelope"}, event]},
        "x-schema-version": version,
    }
    if kind in updates.KINDS:
        message["headers"] = _FEED_HEADERS
    return message | {
        f"x-{key}": value for key, value in deprecations.metadata(name, version).items()
    }


_FEED_HEADERS = {
    "type": "object",
    "required": [POSITION_HEADER],
    "properties": {
        POSITION_HEADER: {
            "type": "string",
            "pattern": "^[0-9]+/[0-9]+/[0-9]+$",
            "description": "`<log_sequence>/<n>/<N>`: n of the account's N updates of that input.",
        },
        PREVIOUS_HEADER: {
            "type": "string",
            "pattern": "^[0-9]+$",
            "description": (
                "Log sequence of the input that updated the account before, 0 for none; missing "
                "where there is no account."
            ),
        },
    },
}


def _plain_messages() -> dict[str, Any]:
    return {
        "recorded": {
            "name": "recorded",
            "title": "Any event",
            "summary": "An event of any type, kept as it is.",
            "payload": {"$ref": "#/components/schemas/Envelope"},
        },
        "account_id": {
            "name": "account_id",
            "contentType": "text/plain",
            "summary": "An account id.",
            "payload": {"type": "string"},
        },
        "LiveQuestion": {
            "name": "LiveQuestion",
            "summary": "A live read.",
            "payload": {"$ref": "#/components/schemas/LiveQuestion"},
        },
        "document": {
            "name": "document",
            "summary": "The document of the read, or headers `Nats-Service-Error*`.",
            "payload": {"type": "object"},
        },
    }


def _schemas() -> dict[str, Any]:
    """Every payload's schema; what they share by reference stands beside them."""
    found: dict[str, Any] = {}
    for path, schema in registry.schemas().items():
        for name, shared in schema.get("$defs", {}).items():
            found[name] = _linked(shared)
        own = {key: value for key, value in schema.items() if key not in ("$defs", "$schema")}
        found[path.partition("/")[0]] = _linked(own)
    _, live = msgspec.json.schema_components([LiveQuestion], ref_template=_SCHEMA)
    return found | live


def _linked(schema: Any) -> Any:
    """The schema with its references as this document needs them."""
    if isinstance(schema, list):
        return [_linked(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: value.replace("#/$defs/", "#/components/schemas/")
        if key == "$ref" and isinstance(value, str)
        else _linked(value)
        for key, value in schema.items()
    }


def _key(address: str) -> str:
    return address.replace("{", "").replace("}", "")
