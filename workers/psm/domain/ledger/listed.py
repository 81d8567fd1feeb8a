"""Sorted lists of names that few accounts have: the same object until one comes or goes."""

from __future__ import annotations


def listed(names: tuple[str, ...], name: str, *, is_in: bool) -> tuple[str, ...]:
    """Return sorted names with one of them, or without it."""
    if is_in is (name in names):
        return names
    others = [one for one in names if one != name]
    return tuple(sorted((*others, name) if is_in else others))
