"""Live answers against the log: what each of them must be, to the byte."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import msgspec
from nats.aio.client import Client
from tests.support.workbench import WAIT_S, end

from psm.adapters import telemetry
from psm.contracts.codec import encode_fields
from psm.contracts.live import AsOf, LiveQuestion
from psm.domain.books import Books
from psm.domain.market.slots import ValuationSlots
from psm.domain.messages import LogMessage
from psm.domain.publication.documents import document_at
from psm.workers.fleet import Holding, NatsMembers, this_member
from psm.workers.fleet.live_reads import LiveAnswers
from psm.workers.fleet.worker import Worker
from psm.workers.log.need_history import fold_from_memory
from psm.workers.log.reader import last_log_sequence, read_log


@asynccontextmanager
async def answering(nc: Client, worker: Worker, partitions: int) -> AsyncIterator[None]:
    """Answer live reads for a worker that has all partitions, as the fleet's table says."""
    me = this_member("1", None)
    holdings = tuple(Holding(partition=n, state="live") for n in range(partitions))
    await LiveAnswers(nc, worker, telemetry.quiet().metrics).listen(me.id)
    told = asyncio.Event()

    async def renew() -> None:  # the key ends by itself
        while True:
            await NatsMembers(nc).put(msgspec.structs.replace(me, holdings=holdings))
            told.set()
            await asyncio.sleep(1)

    task = asyncio.create_task(renew())
    try:
        await asyncio.wait_for(told.wait(), WAIT_S)
        yield
    finally:
        await end(task)


class Given(msgspec.Struct, frozen=True):
    """A question and its answer."""

    question: LiveQuestion
    body: bytes

    @property
    def as_of(self) -> AsOf:
        """The moment it shows."""
        return msgspec.json.decode(self.body, type=_Answer).as_of


class _Answer(msgspec.Struct):
    as_of: AsOf


async def assert_folds(
    nc: Client, partitions: int, slots: ValuationSlots, answers: Iterable[Given]
) -> None:
    """Fold the whole log from its beginning; each answer is what the fold says at its `as_of`."""
    wanted: dict[int, list[Given]] = defaultdict(list)
    for given in answers:
        wanted[given.as_of.log_sequence].append(given)
    books = Books(partitions=partitions, slots=slots)
    folded: dict[int, LogMessage] = {}
    end = await last_log_sequence(nc)
    async for batch in read_log(nc, [">"], 1, end):
        for message in batch:
            fold_from_memory(books, message, lambda _: folded)
            folded[message.log_sequence] = message
            for given in wanted.pop(message.log_sequence, ()):
                assert given.body == expected(books, given.question, message)
    assert not wanted, f"as of places that the log does not have: {sorted(wanted)}"


def expected(books: Books, question: LiveQuestion, message: LogMessage) -> bytes:
    """Return the answer as of a message that was folded last."""
    account, place = books.accounts[question.account_id], message.log_sequence
    return encode_fields(document_at(books, account, question.read, place, message.time))
