"""Control messages that change nothing in the books: every partition takes them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.domain import given
from tests.support.events import Sent, deposit, envelope, opened

from psm.contracts import codec, drafts

SAID: dict[str, tuple[str, dict[str, Any]]] = {
    "LogTrimmed": (
        "control.log",
        {"through": 9, "certificate": "ab" * 32, "actor": "ann", "approval": "x"},
    ),
    "LogRestored": ("control.log", {"through": 9}),
    "RegionPromoted": (
        "control.region",
        {"epoch": 1, "region": "eu-2", "fork_sequence": 5, "previous_hash": "cd" * 32},
    ),
}


def control(event_type: str, number: int = 1, **changes: Any) -> Sent:
    """Return a control message."""
    subject, payload = SAID[event_type]
    token = subject.partition(".")[2]
    body = envelope(event_type, {**payload, **changes}, number, stream=token)
    return Sent(subject=subject, data=codec.encode(body))


def misplaced() -> Sent:
    """Return a message about the log on the subject of the regions."""
    body = envelope("LogRestored", {"through": 9}, 1, stream="region")
    return Sent(subject="control.region", data=codec.encode(body))


@pytest.mark.parametrize("event_type", SAID)
def test_it_is_applied_without_an_effect(event_type: str) -> None:
    """Its number must rise; no account is touched; it is published where it belongs."""
    log = given(opened(1), deposit(2))
    before = log.hashes()
    seen = log.when(control(event_type))
    assert (seen.outcome, seen.updates) == ("applied", [])
    assert log.when(control(event_type)).outcome == "stale"
    assert log.hashes() == before
    subject, payload = SAID[event_type]
    body = envelope(event_type, payload, None, stream=subject.partition(".")[2])
    assert drafts.draft_of(body).subject == subject


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (control("LogTrimmed", through=0), "invalid_payload"),
        (control("LogTrimmed", certificate="short"), "invalid_payload"),
        (control("RegionPromoted", region=""), "invalid_payload"),
        (
            Sent(
                subject="control.region",
                data=control("LogRestored").data.replace(b"log", b"region"),
            ),
            "unknown_event_type",
        ),
    ],
)
def test_what_does_not_belong_there_is_refused(sent: Sent, reason: str) -> None:
    """As any other message that concerns no account."""
    assert given(opened(1)).when(sent).reason == reason
