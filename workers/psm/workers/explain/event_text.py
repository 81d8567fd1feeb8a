"""Archived events in words: one line each, and as the tree of what caused what.

Other services write these payloads, so nothing is required: what is missing is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Event = Mapping[str, Any]

_SCALAR_MAX = 4


def tree(events: Sequence[Event], marked: str | None = None) -> list[str]:
    """Return the events as the lines of a tree, each below the event that caused it.

    Args:
        events: documents, in the order of archiving; an event whose cause is none of them is a
            root.
        marked: `event_id` of the one to point at.
    """
    ids = {event["event_id"] for event in events if event["event_id"]}
    children: dict[str, list[Event]] = {}
    roots = []
    for event in events:
        cause = event["causation_id"]
        if cause in ids and cause != event["event_id"]:
            children.setdefault(cause, []).append(event)
        else:
            roots.append(event)
    lines: list[str] = []
    shown: set[int] = set()
    # Events that cause each other in a circle have no root; they come last.
    for root in [*roots, *events]:
        _branch(root, "", "", children, shown, lines, marked)
    return lines


def _branch(
    event: Event,
    head: str,
    below: str,
    children: Mapping[str, list[Event]],
    shown: set[int],
    lines: list[str],
    marked: str | None,
) -> None:
    # A stack of our own: a chain may be longer than Python's.
    stack = [(event, head, below)]
    while stack:
        event, head, below = stack.pop()
        if event["archive_sequence"] in shown:
            continue
        shown.add(event["archive_sequence"])
        mark = "  <- this event" if marked and event["event_id"] == marked else ""
        lines.append(f"{head}{line(event)}{mark}")
        following = [
            child
            for child in children.get(event["event_id"] or "", ())
            if child["archive_sequence"] not in shown
        ]
        for child in reversed(following):
            last = child is following[-1]
            stack.append(
                (child, f"{below}{'└─ ' if last else '├─ '}", f"{below}{'   ' if last else '│  '}")
            )


def line(event: Event) -> str:
    """Return one event in one line: sequence, time, type, place, content, service, outcome."""
    parts = [f"#{event['archive_sequence']}", clock(event), event["event_type"] or "not an event"]
    if event["stream_id"] and event["sequence_number"]:
        parts.append(f"{event['stream_id']}/{event['sequence_number']}")
    parts.append(content(event))
    if event["source_service"]:
        parts.append(f"[{event['source_service']}]")
    parts.append(outcome(event))
    return "  ".join(part for part in parts if part)


def outcome(event: Event) -> str:
    """Return what the fold made of the event, or nothing if that is not known."""
    if not event["outcome"]:
        return ""
    why = f": {event['refusal_reason']}" if event["refusal_reason"] else ""
    return f"{event['outcome']}{why}"


def clock(event: Event) -> str:
    """Return the event's own time, or when it was stored."""
    return moment(event["timestamp"] or event["stored_at"])


def moment(text: str) -> str:
    """Return a time of the archive as a person reads it."""
    return text.replace("T", " ").removesuffix("+00:00") + " UTC"


def content(event: Event) -> str:
    """Return what the event says, in a few words."""
    payload = event["payload"]
    if not isinstance(payload, dict):
        return ""
    match event["role"]:
        case "market_data":
            return market_data(payload)
        case "signal":
            return signal(payload)
        case "decision":
            return decision(payload)
        case "alert":
            return words(payload, "{severity}:", "{message}")
        case "order_result":
            return words(
                payload, "order {order_id} {status}", "{filled_quantity}", "at {average_price}"
            )
        case "order_request" | "trade":
            return trade(payload)
        case "position_update":
            return words(payload, "{side} {size} {symbol}", "at {entry_price}")
    scalars = [f"{k} {v}" for k, v in payload.items() if isinstance(v, (str, int, float))]
    return ", ".join(scalars[:_SCALAR_MAX])


def market_data(payload: Mapping[str, Any]) -> str:
    """Return a tick or candle in words."""
    price = next((n for n in ("price", "last", "close", "mark_price") if n in payload), "price")
    return words(payload, "{symbol}", f"{{{price}}}", "(bid {bid}, ask {ask})")


def signal(payload: Mapping[str, Any]) -> str:
    """Return a signal in words."""
    return words(
        payload, "{strategy_id}:", "{side} {symbol}", "at {price}", "(confidence {confidence})"
    )


def decision(payload: Mapping[str, Any]) -> str:
    """Return a risk decision in words."""
    return words(payload, "{decision}:", "{side} {quantity} {symbol}", "at {price}", "({reason})")


def trade(payload: Mapping[str, Any]) -> str:
    """Return an order or a fill in words."""
    return words(payload, "{side} {quantity} {symbol}", "at {price}", "(order {order_id})")


def words(payload: Mapping[str, Any], *phrases: str) -> str:
    """Return the phrases whose every field is there, filled in."""
    known = {name: value for name, value in payload.items() if value is not None}
    return " ".join(_filled(phrases, known))


def _filled(phrases: Iterable[str], known: Mapping[str, Any]) -> Iterable[str]:
    for phrase in phrases:
        try:
            yield phrase.format_map(known)
        except (KeyError, IndexError, ValueError, AttributeError):
            continue
