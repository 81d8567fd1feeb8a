"""Comparison of UTC times as events carry them."""

from __future__ import annotations


def is_later(time: str | None, bound: str | None) -> bool:
    """Return whether an RFC 3339 UTC time is later than another; false if either is unknown."""
    return time is not None and bound is not None and _comparable(time) > _comparable(bound)


def _comparable(text: str) -> str:
    """Return the time in a form that compares as text: nanoseconds, without zone."""
    whole, _, fraction = text.removesuffix("Z").removesuffix("+00:00").partition(".")
    return f"{whole}.{fraction.ljust(9, '0')}"
