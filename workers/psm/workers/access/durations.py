"""Times as people write them: `90d`, `12h`, `30m`, `10s`."""

from __future__ import annotations

import re
from datetime import timedelta

from psm.workers.access.policy import PolicyError

_DURATION = re.compile(r"([1-9][0-9]{0,4})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration(text: str) -> timedelta:
    """Return the time that a text says.

    Raises:
        PolicyError: it says none.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise PolicyError(f"{text[:20]!r} is no time such as 90d, 12h or 30m")
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
