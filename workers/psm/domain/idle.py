"""Which accounts nothing but their own next message can change: they need not stay in memory.

An account that went to its snapshot and came back is the same account, because everything of it
is in the snapshot. What may happen to it meanwhile is the question here: a mark moves those who
have positions, orders or foreign cash, new rules move those who are blocked.
"""

from __future__ import annotations

from psm.domain.account import Account
from psm.domain.books import Books


def is_idle(account: Account) -> bool:
    """Return whether no mark, definition or rule concerns the account.

    Its stream is open, and it has no open position or order, nothing unpublished, and no cash in
    a currency other than its own.
    """
    return not (
        account.settles
        or account.parked
        or account.blocked is not None
        or account.unpublished
        or account.has_open_orders
        or any(currency != account.currency for currency in account.cash)
    )


def evict(books: Books, stream_id: str) -> None:
    """Drop an idle account whose newest snapshot is its present state.

    Before its next message is folded it must be put back with `Books.restore`.
    """
    account = books.accounts.pop(stream_id)
    assert stream_id not in books.dirty, f"{stream_id} changed since it was saved"
    assert not account.rates, f"{stream_id}: marks concern it"
