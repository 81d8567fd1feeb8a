"""Log times as texts: RFC 3339 in UTC with microseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def log_time(time_ns: int) -> str:
    """Return a log time as RFC 3339 in UTC with microseconds."""
    return f"{_second(time_ns // 1_000_000_000)}.{time_ns // 1000 % 1_000_000:06d}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
