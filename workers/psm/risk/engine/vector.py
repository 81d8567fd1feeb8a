"""The read vector: which state of each account decisions saw."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psm.contracts import codec
from psm.risk.engine.member import GroupMember

Entry = tuple[int, int, str]
"""Sequence number, log sequence, state hash."""

ENTRIES_MAX = 24
"""Entries in one record; of more the first go before it, in records of their own."""
_MODULUS = 2**256


class Vector:
    """What the records of a slot told of its accounts, and a hash over each group's.

    The hash is the sum of the entries' SHA-256, modulo 2^256: it follows one entry at a time.
    """

    def __init__(self) -> None:
        self._told: dict[str, dict[str, Entry]] = {}
        self._sums: dict[str, int] = {}

    def news(self, group: str, members: Iterable[GroupMember]) -> list[tuple[str, Entry]]:
        """Return the entries of members that are not as they were told, ascending."""
        told = self._told.get(group, {})
        return sorted(
            (one.account_id, one.seen) for one in members if told.get(one.account_id) != one.seen
        )

    def tell(self, group: str, entries: Iterable[tuple[str, Entry]]) -> None:
        """Note that a record tells these."""
        told, number = self._told.setdefault(group, {}), self._sums.get(group, 0)
        for account_id, entry in entries:
            before = told.get(account_id)
            if before is not None:
                number = int(number) - _number(account_id, before)
            told[account_id] = entry
            number = int(number) + _number(account_id, entry)
        self._sums[group] = int(number) % _MODULUS

    def forget(self, account_id: str) -> None:
        """Leave an account out: it is in no group here any more."""
        for group, told in self._told.items():
            before = told.pop(account_id, None)
            if before is not None:
                number = int(self._sums[group]) - _number(account_id, before)
                self._sums[group] = int(number) % _MODULUS

    def hash(self, group: str) -> str:
        """Return the hash over a group's accounts as told, hex."""
        return f"{self._sums.get(group, 0):064x}"

    def document(self) -> dict[str, dict[str, Sequence[Any]]]:
        """Return everything as JSON values."""
        return {
            group: {name: list(entry) for name, entry in sorted(told.items())}
            for group, told in sorted(self._told.items())
            if told
        }

    def restore(self, document: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
        """Take everything of a document, or what a record told."""
        for group, told in document.items():
            self.tell(group, [(name, (int(a), int(b), str(c))) for name, (a, b, c) in told.items()])


def _number(account_id: str, entry: Entry) -> int:
    data = codec.canonical_bytes([account_id, *entry])
    return int(hashlib.sha256(data).hexdigest(), 16)
