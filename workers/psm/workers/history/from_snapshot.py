"""Books of one account that begin at its newest snapshot instead of at the log's beginning."""

from __future__ import annotations

from nats.aio.client import Client

from psm.contracts import subjects
from psm.contracts.envelope import event_hash
from psm.contracts.errors import LogDamagedError
from psm.domain.books import Books
from psm.domain.snapshot import load_account
from psm.workers.log.reader import log_message, read_stored, stored_at
from psm.workers.log.refold import fold_message
from psm.workers.log.shape import LogShape
from psm.workers.partition.jetstream import JetStreamSnapshots

_NEWEST = 2**63 - 1
_TABLES = [f"{head}.*" for head in subjects.OF_ALL]


async def books_from_snapshot(
    nc: Client, shape: LogShape, stream_id: str, first: int
) -> Books | None:
    """Return books as of the newest snapshot in front of a sequence number; None if there is none.

    Marks, instruments and rules up to there are read, the account's own events are not.

    Raises:
        LogDamagedError: the log has other bytes where the snapshot was taken.
    """
    partition = subjects.partition_of(stream_id, shape.partitions)
    store, subject = JetStreamSnapshots(nc, partition), subjects.snapshot(partition, stream_id)
    before = _NEWEST
    while (saved := await store.older(subject, before)) is not None:
        account, snapshot = load_account(saved.data)
        if account.delivery.version < first:
            break
        before = saved.sequence
    else:
        return None
    at = snapshot.log_sequence
    message = await stored_at(nc, at)
    if message is None or event_hash(message.data).hex() != snapshot.message_hash:
        raise LogDamagedError(
            f"log sequence {at} is not the message that the snapshot of {stream_id} was taken at"
        )
    books = shape.books()
    async for batch in read_stored(nc, _TABLES, 1, at):
        for stored in batch:
            await fold_message(nc, books, log_message(stored), "nothing")
    books.advance(at)
    books.restore(account)
    return books
