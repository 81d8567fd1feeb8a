"""What a partition saves, kept in memory: snapshots, and the checkpoint with its records."""

from __future__ import annotations

from functools import partial

from psm.domain.books import Books
from psm.domain.market.slots import ValuationSlots
from psm.domain.snapshot import dump_account, dump_checkpoint, load_account, load_checkpoint
from psm.domain.snapshot_records import lay_over, record_of


class Shelf:
    """What a partition saves, and the books that a recovery makes of it."""

    def __init__(
        self, partitions: int, slots: ValuationSlots, partition: int | None = None
    ) -> None:
        self.snapshots: dict[str, bytes] = {}
        self._empty = partial(Books, partitions=partitions, partition=partition, slots=slots)
        self.checkpoint = dump_checkpoint(self._empty(), 0, None)

    def save(self, books: Books, *, cut: int | None = None) -> dict[str, int]:
        """Save all that changed; return how many of each kind.

        `cut`: die after so many snapshots, before the checkpoint.
        """
        whole, marked = books.to_save()
        at = books.position
        for stream in whole[:cut]:
            self.snapshots[stream] = dump_account(books.accounts[stream], at, b"")
        if cut is not None:
            return {}
        records = {stream: record_of(books.accounts[stream]) for stream in marked}
        self.checkpoint = dump_checkpoint(books, at, b"", records)
        books.all_saved(whole)
        return {"whole": len(whole), "records": len(marked)}

    def recovered(self) -> Books:
        """Return books as of the checkpoint, some accounts as of later."""
        books, checkpoint = self._empty(), load_checkpoint(self.checkpoint)
        books.market.restore(checkpoint.tables)
        books.advance(checkpoint.log_sequence)
        for stream, data in self.snapshots.items():
            account, snapshot = load_account(data)
            record = checkpoint.records.get(stream)
            if record is not None and snapshot.log_sequence < checkpoint.log_sequence:
                lay_over(account, record)
                books.marked[stream] = None
            books.restore(account)
        return books


def everything(books: Books) -> dict[str, bytes]:
    """Return everything of every account."""
    return {s: dump_account(a, books.position, b"") for s, a in sorted(books.accounts.items())}
