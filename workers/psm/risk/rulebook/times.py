"""Times as the rulebook counts them: whole microseconds since 1970, and days since then."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from psm.contracts.codec import is_timestamp
from psm.risk.rulebook.answers import RefusedError

DAY_US = 86_400_000_000
MINUTE_US = 60_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ORDINAL = date(1970, 1, 1).toordinal()
_MICROSECOND = timedelta(microseconds=1)


def moment(text: str, field: str) -> int:
    """Return an RFC 3339 time in microseconds.

    Raises:
        RefusedError: it is none, or not in UTC.
    """
    if not is_timestamp(text):
        raise RefusedError("invalid_payload", f"{field} must be RFC 3339 in UTC, not {text}")
    return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND


def day_number(text: str, field: str) -> int:
    """Return a date as days since 1970.

    Raises:
        RefusedError: it is none.
    """
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.isoformat() != text:
        raise RefusedError("invalid_payload", f"{field} must be a date like 2026-12-01, not {text}")
    return int(found.toordinal()) - _ORDINAL


def minute_of_day(text: str, field: str) -> int:
    """Return "08:30" in microseconds since midnight.

    Raises:
        RefusedError: it is no time of day; "24:00" is the day's end.
    """
    hours, _, minutes = text.partition(":")
    digits = f"{hours}{minutes}"
    if len(hours) == len(minutes) == 2 and digits.isascii() and digits.isdigit():
        found = int(hours) * 60 + int(minutes)
        if found <= 24 * 60 and int(minutes) < 60:
            return found * int(MINUTE_US)
    raise RefusedError("invalid_payload", f"{field} must be a time of day like 08:30, not {text}")
