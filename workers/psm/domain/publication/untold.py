"""What updates would tell next: for who reads a log to its end and waits for no slot."""

from __future__ import annotations

from psm.domain.books import Books
from psm.domain.messages import LogMessage, Update
from psm.domain.publication.due import everything_due
from psm.domain.publication.updates import UpdateWriter


def untold(books: Books, last: LogMessage) -> list[Update]:
    """Tell of every account what waits for its slot, closes of the last message's minute included.

    Args:
        books: after the last message; what was told waits no more.
        last: of the log; updates have its place.
    """
    writer = UpdateWriter(books, last, "mark", "updates")
    minute = books.market.minute(last.time) + 1
    for _, account in sorted(books.accounts.items()):
        account.end_minute(minute)
        if account.unpublished.tellable:
            writer.account(account, due=everything_due(account))
    return writer.finished()
