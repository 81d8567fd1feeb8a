"""Archived events in words: whatever a service wrote, a line comes out."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from psm.workers.archive.documents import ArchivedEvent
from psm.workers.explain.event import sentence
from psm.workers.explain.event_text import content, line, tree


def event(number: int, **fields: Any) -> dict[str, Any]:
    """Return a document; the archive's own names, nothing known but the place."""
    blank: dict[str, Any] = dict.fromkeys(ArchivedEvent.__struct_fields__)
    place = {"archive_sequence": number, "stored_at": "2026-02-14T13:05:00+00:00"}
    return msgspec.to_builtins({**blank, **place, **fields})  # type: ignore[no-any-return]


def test_each_event_stands_below_its_cause() -> None:
    """Siblings keep their order, a deeper branch comes before the next sibling."""
    events = [
        event(1, event_id="a", event_type="A"),
        event(2, event_id="b", event_type="B", causation_id="a"),
        event(3, event_id="c", event_type="C", causation_id="a"),
        event(4, event_id="d", event_type="D", causation_id="b"),
        event(5, event_id="e", event_type="E", causation_id="elsewhere"),
    ]
    shown = [text.replace("2026-02-14 13:05:00 UTC  ", "") for text in tree(events, "d")]
    assert shown == [
        "#1  A",
        "├─ #2  B",
        "│  └─ #4  D  <- this event",
        "└─ #3  C",
        "#5  E",
    ]


def test_a_long_chain_has_no_limit() -> None:
    """A thousand causes in a row are a thousand lines."""
    events = [event(n, event_id=str(n), causation_id=str(n - 1)) for n in range(1, 3001)]
    assert len(tree(events)) == 3000


@pytest.mark.parametrize(
    ("role", "payload", "expected"),
    [
        ("market_data", {"symbol": "BTCUSDT", "last": "1"}, "BTCUSDT 1"),
        ("signal", {"side": "buy", "symbol": "X"}, "buy X"),
        ("decision", {"decision": "rejected", "reason": "too {big}"}, "rejected: (too {big})"),
        ("alert", {"severity": "error", "message": "m"}, "error: m"),
        ("order_result", {"order_id": "o", "status": "filled"}, "order o filled"),
        ("trade", {"side": None, "symbol": "X"}, ""),
        ("trade", [], ""),
        (None, {"a": 1, "b": {}, "c": "x"}, "a 1, c x"),
    ],
)
def test_what_is_missing_is_left_out(role: str | None, payload: Any, expected: str) -> None:
    """No field is required of another service's payload, and braces in it are data."""
    found = event(1, role=role, payload=payload)
    assert content(found) == expected
    assert line(found).startswith("#1  2026-02-14 13:05:00 UTC  not an event")


def test_a_sentence_needs_nothing_but_the_event() -> None:
    """Without signal and decision it says that the reasons are not there."""
    lonely: dict[str, Any] = {"event": event(1), "decision": None, "signal": None, "effects": []}
    assert sentence(lonely) == (
        "On 2026-02-14 13:05:00 UTC something happened (no content), "
        "for reasons that are not in the archive."
    )
