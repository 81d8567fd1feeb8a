"""Fills of one moment in the order of their position. Pure.

Each fill leads from one size of the position to another, so they are edges of a graph, and their
order is a trail that uses each edge once (Hierholzer, 1873). Where a venue left fills out there is
none; then what is connected stays together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import TypeVar

from psm.workers.imports.facts import Link

T = TypeVar("T")


def trail(items: Sequence[T], link_of: Callable[[T], Link], standing: Decimal | None) -> list[T]:
    """Return items of one symbol so that each begins where the one before it ended.

    Args:
        items: in the order that counts where their links leave a choice.
        link_of: gives the link of an item.
        standing: where the position stood before them; None where that is not known.
    """
    leaving: dict[Decimal, list[T]] = {}
    for item in items:
        leaving.setdefault(link_of(item).before, []).append(item)
    found: list[T] = []
    while leaving:
        start = _start([link_of(i) for left in leaving.values() for i in left], standing)
        found += _walked(leaving, link_of, start)
        standing = link_of(found[-1]).after
        leaving = {size: left for size, left in leaving.items() if left}
    return found


def _start(links: Sequence[Link], standing: Decimal | None) -> Decimal:
    """Return where a trail begins: where it stands, or more leave than come, or flat."""
    excess = Counter(link.before for link in links)
    sizes = list(excess)
    excess.subtract(link.after for link in links)
    if standing is not None and standing in sizes:
        return standing
    ahead = [size for size in sizes if excess[size] > 0]
    if ahead:
        return ahead[0]
    return Decimal(0) if Decimal(0) in sizes else sizes[0]


def _walked(
    leaving: dict[Decimal, list[T]], link_of: Callable[[T], Link], start: Decimal
) -> Iterable[T]:
    """Take the trail from a size out of what is left."""
    open_items: list[tuple[Decimal, T | None]] = [(start, None)]
    closed: list[T] = []
    while open_items:
        size, item = open_items[-1]
        if leaving.get(size):
            following = leaving[size].pop(0)
            open_items.append((link_of(following).after, following))
            continue
        open_items.pop()
        if item is not None:
            closed.append(item)
    return reversed(closed)
