"""Why a decision was made, as a person reads it: made from the document of `explain_decision`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psm.workers.explain.event_text import clock, content, moment, outcome, trade, tree, words

Document = Mapping[str, Any]

_LABEL = 12
_FOUND_BY = {
    "correlation": " (same correlation only)",
    "named": " (the mark that the decision names)",
}


def sentence(document: Document) -> str:
    """Return the whole story in one sentence."""
    event, decision, signal = document["event"], document["decision"], document["signal"]
    parts = [_what(document)]
    if signal and event["role"] != "signal":
        parts.append(f"because {_signalled(signal)}")
    if decision and event["role"] != "decision":
        parts.append(("and " if signal else "because ") + _decided(decision))
    if not signal and not decision:
        parts.append("for reasons that are not in the archive")
    return f"On {clock(event)} {', '.join(parts)}."


def lines(document: Document) -> list[str]:
    """Return what stood behind the event: decision, signal, market data, each with its time."""
    result = [sentence(document), ""]
    for label, name in (("decision", "decision"), ("signal", "signal"), ("market", "market_data")):
        result += _part(label, document[name], document["found_by"].get(name))
    return result


def limits(document: Document) -> list[dict[str, Any]]:
    """Return the checks of the decision as rows: name, value, limit, passed, detail."""
    checks = document["checks"]
    if not isinstance(checks, list):
        return []
    return [check for check in checks if isinstance(check, dict)]


def causes(document: Document) -> list[str]:
    """Return causes and effects as the lines of one tree."""
    steps = [*(document["causation_chain"] or ()), *document["effects"]]
    events = {step["event"]["archive_sequence"]: step["event"] for step in steps}
    shown = tree([events[number] for number in sorted(events)], document["event"]["event_id"])
    if missing := document["missing_cause"]:
        return [f"(its first cause, {missing}, is not in the archive)", *shown]
    return shown


def proof(document: Document) -> dict[str, Any]:
    """Return what to compare when the explanation is doubted."""
    event = document["event"]
    names = ("event_id", "correlation_id", "event_hash", "chain_hash", "ledger_hash", "state_hash")
    found = {name: event[name] for name in names if event[name]}
    return {
        "archived": f"#{event['archive_sequence']}, {event['js_stream']} message "
        f"{event['js_sequence']}, stored {moment(event['stored_at'])}",
        **({"outcome": outcome(event)} if event["outcome"] else {}),
        **found,
    }


def _what(document: Document) -> str:
    event = document["event"]
    payload = _payload(event)
    who = payload.get("account_id") or event["stream_id"] or "somebody"
    match event["role"]:
        case "signal":
            return _signalled(event)
        case "decision":
            return _decided(event)
        case "trade":
            verb = {"buy": "bought", "sell": "sold"}.get(str(payload.get("side")).lower(), "traded")
            return " ".join([who, verb, words(payload, "{quantity} {symbol}", "at {price}")]) + (
                _position(document)
            )
        case "order_request":
            return f"{who} ordered to {trade(payload)}"
    return f"{event['event_type'] or 'something'} happened ({content(event) or 'no content'})"


def _signalled(signal: Mapping[str, Any]) -> str:
    payload = _payload(signal)
    who = payload.get("strategy_id") or signal["source_service"] or "a strategy"
    said = words(payload, "{side}", "with confidence {confidence}", "({reason})")
    return f"strategy {who} signalled {said}"


def _decided(decision: Mapping[str, Any]) -> str:
    said = words(_payload(decision), "{decision} it", "({reason})")
    return f"risk {said or 'decided'}"


def _position(document: Document) -> str:
    """What the position was afterwards, if a service said so."""
    for step in document["effects"]:
        if step["event"]["role"] == "position_update":
            return words(_payload(step["event"]), " (then {side} {size})")
    return ""


def _part(label: str, event: Mapping[str, Any] | None, found_by: str | None) -> list[str]:
    if event is None:
        return [f"{label:<{_LABEL}}not in the archive"]
    by = f" [{event['source_service']}]" if event["source_service"] else ""
    loose = _FOUND_BY.get(found_by or "", "")
    result = [f"{label:<{_LABEL}}{clock(event)}  {content(event)}{by}{loose}"]
    payload = _payload(event)
    if label == "signal" and payload.get("reason"):
        result.append(f"{'':<{_LABEL}}{payload['reason']}")
    for name in ("strategy_params", "indicators", "risk_state"):
        if isinstance(payload.get(name), dict):
            pairs = ", ".join(f"{k} {v}" for k, v in payload[name].items() if _is_scalar(v))
            result.append(f"{'':<{_LABEL}}{name}: {pairs}")
    return result


def _payload(event: Mapping[str, Any]) -> Mapping[str, Any]:
    payload = event["payload"]
    return payload if isinstance(payload, dict) else {}


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float))
