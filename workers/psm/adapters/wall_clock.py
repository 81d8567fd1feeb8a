"""The time of day, as documents write it."""

from __future__ import annotations

from datetime import UTC, datetime


def now_text(timespec: str = "microseconds") -> str:
    """Return now, RFC 3339 in UTC; `timespec` as of `datetime.isoformat`."""
    return datetime.now(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
