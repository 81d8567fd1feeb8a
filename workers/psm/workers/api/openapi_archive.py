"""The paths of the event archive in the service's description of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from psm.workers.api.parameters import EVENTS_PARAMETERS, MESSAGE_PARAMETERS
from psm.workers.archive.documents import Causation, Correlation, EventPage, Explanation, WholeEvent

STRUCTS = (EventPage, WholeEvent, Causation, Explanation, Correlation)

Content = Callable[[type[msgspec.Struct]], dict[str, Any]]
Problems = Callable[[tuple[str, ...]], dict[str, Any]]

_ONE: dict[str, tuple[str, type[msgspec.Struct], str]] = {
    "/events/{event_id}": (
        "getEvent",
        WholeEvent,
        "One event with its bytes; an archive_sequence is taken for an id, too.",
    ),
    "/events/{event_id}/causation": ("getCausation", Causation, "What caused it, what it caused."),
    "/events/{event_id}/explain": (
        "getExplanation",
        Explanation,
        "Decision, signal, market data and checks behind it.",
    ),
    "/correlations/{correlation_id}": ("getCorrelation", Correlation, "All of a correlation."),
}
_TEXT = {"type": "string"}


def archive_paths(content: Content, problems: Problems) -> dict[str, Any]:
    """Return the paths; `content` and `problems` make the answers."""
    link = {"Link": {"description": "The next page, if any.", "schema": {"type": "string"}}}
    paths: dict[str, Any] = {
        "/events": {
            "get": {
                "operationId": "getEvents",
                "summary": "Archived events in the order of archiving.",
                "parameters": [parameter.document() for parameter in EVENTS_PARAMETERS],
                "responses": {
                    "200": {"description": "A page.", "headers": link, **content(EventPage)},
                    **problems(("unavailable",)),
                },
            }
        }
    }
    for path, (operation, struct, summary) in _ONE.items():
        kinds = ["unknown-correlation" if struct is Correlation else "unknown-event"]
        if struct is not WholeEvent:  # which has a limit of its own
            kinds.append("document-too-large")
        name = path.partition("{")[2].partition("}")[0]
        paths[path] = {
            "get": {
                "operationId": operation,
                "summary": summary,
                "parameters": [{"name": name, "in": "path", "required": True, "schema": _TEXT}],
                "responses": {
                    "200": {"description": "The document.", **content(struct)},
                    **problems((*kinds, "unavailable")),
                },
            }
        }
    paths["/events/{event_id}/bytes"] = {"get": _bytes(link, problems)}
    return paths


def _bytes(link: dict[str, Any], problems: Problems) -> dict[str, Any]:
    """Return the operation that gives a message's bytes, in pieces where it is large."""
    total = {"description": "Bytes of the whole message.", "schema": {"type": "integer"}}
    body = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {
        "operationId": "getEventBytes",
        "summary": "The message exactly as it was stored, at most a megabyte of it.",
        "parameters": [
            {"name": "event_id", "in": "path", "required": True, "schema": _TEXT},
            *(parameter.document() for parameter in MESSAGE_PARAMETERS),
        ],
        "responses": {
            "200": {
                "description": "A piece.",
                "headers": {**link, "Psm-Total-Bytes": total},
                "content": body,
            },
            **problems(("unknown-event", "unavailable")),
        },
    }
