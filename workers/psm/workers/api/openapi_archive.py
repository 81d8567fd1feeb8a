"""The paths of the event archive in the service's description of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from psm.workers.archive.documents import Causation, Correlation, EventPage, Explanation, WholeEvent
from psm.workers.archive.reads import LIMIT_DEFAULT, LIMIT_MAX

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
_SEQUENCE = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
_TEXT = {"type": "string"}
_FILTERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("from_sequence", "The first archive_sequence.", _SEQUENCE),
    ("to_sequence", "The last archive_sequence.", _SEQUENCE),
    ("stream_id", "Only events of this account or portfolio.", _TEXT),
    ("event_type", "Only events of this type.", _TEXT),
    (
        "limit",
        "How many at most.",
        {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
    ),
)


def archive_paths(content: Content, problems: Problems) -> dict[str, Any]:
    """Return the paths; `content` and `problems` make the answers."""
    link = {"Link": {"description": "The next page, if any.", "schema": {"type": "string"}}}
    paths: dict[str, Any] = {
        "/events": {
            "get": {
                "operationId": "getEvents",
                "summary": "Archived events in the order of archiving.",
                "parameters": [
                    {"name": name, "in": "query", "description": text, "schema": schema}
                    for name, text, schema in _FILTERS
                ],
                "responses": {
                    "200": {"description": "A page.", "headers": link, **content(EventPage)},
                    **problems(("malformed-parameter", "unavailable")),
                },
            }
        }
    }
    for path, (operation, struct, summary) in _ONE.items():
        kind = "unknown-correlation" if struct is Correlation else "unknown-event"
        name = path.partition("{")[2].partition("}")[0]
        paths[path] = {
            "get": {
                "operationId": operation,
                "summary": summary,
                "parameters": [{"name": name, "in": "path", "required": True, "schema": _TEXT}],
                "responses": {
                    "200": {"description": "The document.", **content(struct)},
                    **problems((kind, "unavailable")),
                },
            }
        }
    return paths
