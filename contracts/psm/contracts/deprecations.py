"""What will go away, and when: said in each such event's envelope, and in docs/events.md.

A deprecated version stays readable for ever. After its date our own producers no longer write it,
and a reader that only knows it misses what comes after.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec


class Deprecation(msgspec.Struct, frozen=True, kw_only=True):
    """Notice that a version of an event type ends.

    Attributes:
        event_type: of the event.
        major: the version that ends, with all its minors.
        since: when the notice was given.
        ends: first day on which it is no longer written.
        instead: what to use, in one sentence.
    """

    event_type: str
    major: int
    since: date
    ends: date
    instead: str


DEPRECATIONS: tuple[Deprecation, ...] = ()
"""Every notice in force. Each one also stands in the table of docs/events.md; a test compares."""


def notice(event_type: str, schema_version: str) -> Deprecation | None:
    """Return the notice that concerns a version, if there is one."""
    major = int(schema_version.partition(".")[0])
    for found in DEPRECATIONS:
        if (found.event_type, found.major) == (event_type, major):
            return found
    return None


def metadata(event_type: str, schema_version: str) -> dict[str, Any]:
    """Return what an envelope's `metadata` says of it: `deprecated`, or nothing."""
    found = notice(event_type, schema_version)
    if found is None:
        return {}
    return {
        "deprecated": {
            "since": found.since.isoformat(),
            "ends": found.ends.isoformat(),
            "instead": found.instead,
        }
    }
