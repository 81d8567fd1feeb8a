"""Bounds of three, and rules 2 with the same: what a log in `NARROW` is folded with.

The real bounds take a log of thousands of messages to reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from psm.domain.folding import table_events
from psm.domain.ledger import bounds

NARROW = ("bounds",)
_BOUNDS: dict[str, Any] = {
    "FEW": 0,
    "ASSETS": 3,
    "ALIASES": 3,
    "POSITIONS": 3,
    "OPEN_ORDERS": 3,
    "IDENTIFIER_BYTES": 90,
}


@contextmanager
def narrowed() -> Iterator[None]:
    """Have the narrow bounds for a while."""
    with (
        patch.multiple(bounds, **_BOUNDS),
        patch.object(table_events, "RULES_VERSION", 2),
    ):
        yield
