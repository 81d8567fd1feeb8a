"""Digests of a ledger's parts: only what changed is digested again."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping

from psm.contracts.update_fields import Status
from psm.domain.delivery.parked import Parked
from psm.domain.ledger.canonical import AmountTexts, parked_part
from psm.domain.ledger.effect import TotalName

ACCOUNT = ""
"""Key of the account's own part; positions are `p<key>`, orders `o<order id>`, fills `f`."""

PartOf = Callable[[str, int, Status], bytes | None]
"""Canonical bytes of a part by its key, version and status; None where it does not exist."""

_sha256 = hashlib.sha256


class PartDigests:
    """Sorted digests of all parts: a change costs the same however many there are.

    Attributes:
        cash_texts: amounts as they were written last; they only speed up the next hash.
        totals_texts: the same of lifetime sums.
    """

    __slots__ = ("_by_key", "_changed", "_hashed_as", "_sorted", "cash_texts", "totals_texts")

    def __init__(self) -> None:
        self.cash_texts: AmountTexts[str] = {}
        self.totals_texts: AmountTexts[TotalName] = {}
        self._changed: dict[str, None] = {ACCOUNT: None}
        self._hashed_as: tuple[int, Status] | None = None
        self._by_key: dict[str, bytes] = {}
        self._sorted: list[bytes] = []

    def changed(self, key: str) -> None:
        """Note that a part is another one, or gone."""
        self._changed[key] = None

    def drop_texts(self) -> None:
        """Free what only speeds up the next hash."""
        self.cash_texts, self.totals_texts = {}, {}

    def hash(
        self, part_of: PartOf, version: int, status: Status, parked: Mapping[int, Parked]
    ) -> bytes:
        """Return SHA-256 over the sorted digests of all parts and of what is parked."""
        if self._hashed_as != (version, status):
            self._hashed_as = (version, status)
            self._changed[ACCOUNT] = None
        for key in self._changed:
            part = part_of(key, version, status)
            self._replace(key, None if part is None else _sha256(part).digest())
        self._changed = {}
        if not parked:
            return _sha256(b"".join(self._sorted)).digest()
        own = _sha256(parked_part(parked)).digest()
        return _sha256(b"".join(sorted([*self._sorted, own]))).digest()

    def _replace(self, key: str, digest: bytes | None) -> None:
        before = self._by_key.pop(key, None)
        if before is not None:
            del self._sorted[bisect_left(self._sorted, before)]
        if digest is not None:
            self._by_key[key] = digest
            insort(self._sorted, digest)
