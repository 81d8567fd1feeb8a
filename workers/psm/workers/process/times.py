"""Times as people give them, and comparison of UTC times as events carry them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from psm.contracts.errors import ConfigError

TIME_RULE = "a time such as 2025-12-12T10:30:00Z or with +01:00, a date, or -1h (s, m, h, d, w)"

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?([Zz]|[+-]\d\d:?\d\d))?",
    re.ASCII,
)
_AGO = re.compile(r"-?(\d{1,6})([smhdw])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def utc_time(text: str, now: datetime | None = None) -> str:
    """Return a time that a person gave as RFC 3339 in UTC.

    Args:
        text: `2025-12-12T10:30:00+01:00`, `2025-12-12` (its beginning in UTC), `-1h`, `now`.
        now: what the last two count from; the clock's by default.

    Raises:
        ConfigError: it is none of these.
    """
    ago = _AGO.fullmatch(text)
    try:
        if ago or text == "now":
            back = timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else timedelta()
            return _written((now or datetime.now(UTC)) - back, None)
        if given := _TIME.fullmatch(text):
            return _from_parts(given)
    except (ValueError, OverflowError):  # the 31st of February, or before the year 1
        pass
    raise ConfigError(f"{text}: expected {TIME_RULE}")


def is_later(time: str | None, bound: str | None) -> bool:
    """Return whether an RFC 3339 UTC time is later than another; false if either is unknown."""
    return time is not None and bound is not None and _comparable(time) > _comparable(bound)


def _from_parts(given: re.Match[str]) -> str:
    numbers = [int(given[group] or 0) for group in range(1, 7)]
    whole = datetime(*numbers, tzinfo=UTC)  # type: ignore[misc,arg-type]
    zone = given[8]
    if zone and zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        if hours > 23 or minutes > 59:
            raise ValueError(zone)
        offset = timedelta(hours=hours, minutes=minutes)
        whole += -offset if zone[0] == "+" else offset
    return _written(whole, given[7])


def _written(time: datetime, fraction: str | None) -> str:
    """Return the time; a fraction keeps its digits, which a `datetime` would cut to six."""
    if fraction is None and time.microsecond:
        fraction = f"{time.microsecond:06}"  # of a time that was counted back to
    whole = time.isoformat(timespec="seconds")[:19]
    return f"{whole}.{fraction}Z" if fraction else f"{whole}Z"


def _comparable(text: str) -> str:
    """Return the time in a form that compares as text: nanoseconds, without zone."""
    whole, _, fraction = text.removesuffix("Z").removesuffix("+00:00").partition(".")
    return f"{whole}.{fraction.ljust(9, '0')}"


def nanoseconds_of(time: str) -> int:
    """Return an RFC 3339 UTC time, as `utc_time` writes it, in nanoseconds since 1970."""
    text = _comparable(time)
    whole = datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)
    seconds = (whole - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return seconds * 1_000_000_000 + int(text[20:29])
