"""Requests that were answered and have not expired: the same one gets the same answer."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush
from typing import Any

import msgspec

ORDERS_MAX = 10_000
"""Requests of a slot that are remembered; with so many no further order is taken."""


class Answered(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request and its answer.

    Attributes:
        hash: of the request.
        expires: clock until which it is remembered.
        failed: checks that stood in its way; none where it was approved.
        data: the record, as text.
    """

    hash: str
    expires: int
    failed: tuple[str, ...]
    data: str


class AnsweredRequests:
    """Answers by name of the request."""

    def __init__(self) -> None:
        self._by_name: dict[str, Answered] = {}
        self._ends: list[tuple[int, str]] = []

    def count(self, clock: int) -> int:
        """Return how many are remembered; of so many as may be, those that have not expired."""
        if len(self._by_name) < ORDERS_MAX:
            return len(self._by_name)
        return len([None for one in self._by_name.values() if one.expires >= clock])

    def get(self, name: str) -> Answered | None:
        """Return the answer to a request."""
        return self._by_name.get(name)

    def put(self, name: str, answered: Answered) -> None:
        """Remember an answer until the request expires."""
        self._by_name[name] = answered
        heappush(self._ends, (answered.expires, name))

    def forget(self, clock: int) -> None:
        """Forget what has expired."""
        while self._ends and self._ends[0][0] < clock:
            expires, name = heappop(self._ends)
            found = self._by_name.get(name)
            if found is not None and found.expires == expires:
                del self._by_name[name]

    def orders_of(self, account_id: str) -> list[tuple[str, int]]:
        """Return order and expiry of the requests of an account, ascending."""
        begin = f"order/{account_id}/"
        return [
            (name.removeprefix(begin), one.expires)
            for name, one in sorted(self._by_name.items())
            if name.startswith(begin)
        ]

    def document(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {name: msgspec.to_builtins(one) for name, one in sorted(self._by_name.items())}

    def restore(self, document: Mapping[str, Any]) -> None:
        """Take everything of a document."""
        for name, one in document.items():
            self.put(name, msgspec.convert(one, Answered))
