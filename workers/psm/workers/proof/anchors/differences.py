"""How a log differs from what was anchored: altered, deleted, inserted, swapped, cut off."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from psm.contracts.merkle import HASH_BYTES


class LogDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which the log is not what was anchored.

    Attributes:
        kind: `altered`, `deleted`, `missing` (a hole), `inserted`, `swapped`, `truncated`.
        first, last: indices of anchored leaves; for `inserted` of the log's messages.
        found_at: index in the log where something else stands, or the swapped one now stands.
    """

    kind: str
    first: int
    last: int
    found_at: int | None


def differences(known: bytes, found: Sequence[bytes | None], start: int) -> list[LogDifference]:
    """Return how the log's leaves differ from the anchored ones, in order.

    Args:
        known: all anchored leaves.
        found: the log's leaves from index `start` on, None for a hole; what is beyond the anchored
            ones is new and no difference.
        start: where they part first.
    """
    return _Comparison(known, found, start).run()


class _Comparison:
    """Walks along both; what was moved is told from what is gone by looking it up on both sides."""

    def __init__(self, known: bytes, found: Sequence[bytes | None], start: int) -> None:
        self._known = [known[i : i + HASH_BYTES] for i in range(start * HASH_BYTES, len(known), 32)]
        self._found = found
        self._start = start
        self._at_known = {leaf: place for place, leaf in reversed([*enumerate(self._known)])}
        self._at_found = {leaf: place for place, leaf in reversed([*enumerate(found)]) if leaf}
        self._moved: dict[int, None] = {}  # places in the log that a swap explains
        self._told: list[LogDifference] = []

    def run(self) -> list[LogDifference]:
        wanted = place = 0
        while wanted < len(self._known) and place < len(self._found):
            if self._known[wanted] == self._found[place] or place in self._moved:
                wanted, place = wanted + 1, place + 1
            else:
                wanted, place = self._judge(wanted, place)
        if wanted < len(self._known):
            self._tell("truncated", wanted, None, last=len(self._known) - 1)
        return self._told

    def _judge(self, wanted: int, place: int) -> tuple[int, int]:
        """Tell one difference; return where to go on."""
        leaf = self._found[place]
        if leaf is None:
            self._tell("missing", wanted, None)
            return wanted + 1, place + 1
        moved_to = self._at_found.get(self._known[wanted], -1)
        came_from = self._at_known.get(leaf, -1)
        is_later, is_ahead = moved_to > place, came_from > wanted
        if is_later and is_ahead and moved_to - place == came_from - wanted:
            self._moved[moved_to] = None
            self._tell("swapped", wanted, moved_to, last=came_from)
            return wanted + 1, place + 1
        if is_ahead and not is_later:
            self._tell("deleted", wanted, place)
            return wanted + 1, place
        if is_later:
            self._tell("inserted", place, place)
            return wanted, place + 1
        self._tell("altered", wanted, place)
        return wanted + 1, place + 1

    def _tell(
        self, kind: str, first: int, found_at: int | None, *, last: int | None = None
    ) -> None:
        """Note a difference; neighbours of the same kind become one."""
        first, last = first + self._start, (first if last is None else last) + self._start
        found_at = None if found_at is None else found_at + self._start
        before = self._told[-1] if self._told else None
        if before and before.kind == kind != "swapped" and before.last + 1 == first:
            self._told[-1] = msgspec.structs.replace(before, last=last)
        else:
            self._told.append(LogDifference(kind=kind, first=first, last=last, found_at=found_at))
