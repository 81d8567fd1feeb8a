"""Freed memory goes back to the system: the C library keeps it for itself unless asked.

A start frees the bytes of all snapshots at once, a mark with very many holders those of their
updates: hundreds of megabytes that would count as the worker's for the rest of its life.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


def give_back() -> None:
    """Return freed pages to the system; nothing where the C library cannot. Takes milliseconds."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # not glibc
        return None
