"""Accounts as they were at places of the log, in one pass over it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from heapq import heappop, heappush
from typing import Any

import msgspec

from psm.contracts import codec
from psm.domain.books import Books
from psm.domain.messages import LogMessage
from psm.domain.publication.figures import state_document

UNOPENED: Mapping[str, Any] = {
    "status": "open", "currency": None, "equity": None, "unrealized_pnl": None,
    "cash": {}, "assets": {}, "positions": {}, "orders": {},
}  # fmt: skip
"""Document of an account that no event has opened yet."""


class _Ordering(msgspec.Struct, frozen=True):
    order_id: str | None = None


class _Event(msgspec.Struct, frozen=True):
    payload: _Ordering = _Ordering()


class PastAccounts:
    """Documents of accounts at places that are named beforehand.

    Attributes:
        books: as far as the log was folded.
    """

    def __init__(
        self,
        books: Books,
        log: AsyncIterator[LogMessage],
        fold: Callable[[LogMessage], Awaitable[object]],
    ) -> None:
        """Nothing is read yet.

        Args:
            books: empty.
            log: messages that decide the accounts, ascending.
            fold: folds one into the books.
        """
        self.books = books
        self._log, self._fold = log, fold
        self._next: LogMessage | None = None
        self._ended = False
        self._wanted: list[tuple[int, str]] = []
        self._askers: dict[tuple[str, int], int] = {}
        self._found: dict[tuple[str, int], bytes] = {}
        self._shown: dict[tuple[str, str], int] = {}

    def want(self, account_id: str, log_sequence: int) -> None:
        """Say that an account will be asked for at a place, once; before anything is read."""
        key = account_id, log_sequence
        self._askers[key] = self._askers.get(key, 0) + 1
        if self._askers[key] == 1:
            heappush(self._wanted, (log_sequence, account_id))

    async def document(self, account_id: str, log_sequence: int) -> bytes | None:
        """Return an account's state document at a place; None if it was never wanted.

        It is kept until everybody who wanted it has forgotten it: two groups may have seen it.
        """
        while not self._ended and self._wanted and self._wanted[0][0] <= log_sequence:
            await self._step()
        return self._found.get((account_id, log_sequence))

    def forget(self, account_id: str, log_sequence: int) -> None:
        """Say that it was asked for; nobody else who wanted it is bothered."""
        key = account_id, log_sequence
        self._askers[key] = self._askers.get(key, 1) - 1
        if self._askers[key] <= 0:
            del self._askers[key]
            self._found.pop(key, None)

    def shown(self, account_id: str, order_id: str) -> int | None:
        """Return the log sequence of the first event so far that names an order."""
        return self._shown.get((account_id, order_id))

    async def _step(self) -> None:
        """Fold the next message, after what is wanted before it."""
        message = await anext(self._log, None)
        last = None if message is None else message.log_sequence
        while self._wanted and (last is None or self._wanted[0][0] < last):
            self._capture(*heappop(self._wanted))
        if message is None:
            self._ended = True
            return
        await self._fold(message)
        if message.stream_id is not None:
            self._note(message)

    def _capture(self, log_sequence: int, account_id: str) -> None:
        account = self.books.accounts.get(account_id)
        document = UNOPENED if account is None else state_document(self.books, account)
        self._found[account_id, log_sequence] = codec.encode(document)

    def _note(self, message: LogMessage) -> None:
        try:
            order_id = _events.decode(message.data).payload.order_id
        except codec.INVALID_JSON:
            return
        if order_id is not None and message.stream_id is not None:
            self._shown.setdefault((message.stream_id, order_id), message.log_sequence)


_events = msgspec.json.Decoder(_Event)
