"""Decisions of a whole log in lines, made and proved without a server.

The lines are folded twice: as `psm risk fold` does, which feeds the engine update by update; and
as a proof does, which knows no updates, only accounts at places of the log.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from typing import TypeVar

from psm.contracts.subjects import head_of
from psm.domain.books import Books
from psm.domain.messages import Folded, LogMessage, NeedHistory
from psm.risk.engine.proof import Judge
from psm.risk.engine.proof_records import RecordRead, read_record
from psm.risk.engine.rules import RULES, Registry
from psm.risk.market import HEADS
from psm.risk.messages import RiskOutput, Stored
from psm.workers.log.need_history import fold_with_history
from psm.workers.ops.keys import made_signature
from psm.workers.proof.risk.accounts import PastAccounts
from psm.workers.proof.risk.evidence import Sources
from psm.workers.proof.risk.prover import Prover
from psm.workers.replay.risk_fold import RiskFolder

Message = TypeVar("Message")


class RecordedRisk(RiskFolder):
    """Folds the lines of a log with its orders, and keeps what a proof reads.

    Attributes:
        messages: of TRADES; `rules` of RULEBOOK, `commands` of ORDERS by their
            sequence, and `results` of it.
        records: of all slots, in the order in which they were made.
    """

    def __init__(self, partitions: int) -> None:
        super().__init__(partitions)
        self.messages: list[LogMessage] = []
        self.rules: list[Stored] = []
        self.commands: dict[int, Stored] = {}
        self.results: list[Stored] = []
        self.records: list[RecordRead] = []
        self._last_n: dict[int, int] = {}

    def take_line(self, line: bytes) -> list[RiskOutput]:
        """Take the next line; return the records that it caused.

        Raises:
            LineError: it is no event that could stand in a log.
        """
        outputs = self.decide(line)
        for output in outputs:
            record = read_record(len(self.records) + 1, output.data)
            slot, n = record.payload["slot"], record.payload["n"]
            if n > self._last_n.get(slot, 0):  # others were stored before, or are by nobody
                self._last_n[slot] = n
                self.records.append(record)
        return outputs

    def _ruled(self, stored: Stored) -> None:
        self.rules.append(stored)
        super()._ruled(stored)

    def _commanded(self, stored: Stored) -> None:
        self.commands[stored.sequence] = stored
        super()._commanded(stored)

    def _ended(self, stored: Stored) -> None:
        self.results.append(stored)
        super()._ended(stored)

    def _fold(self, message: LogMessage) -> Folded:
        self.messages.append(message)
        return super()._fold(message)


async def prove_lines(
    made: RecordedRisk,
    partitions: int,
    records: Sequence[RecordRead] | None = None,
    judge: Judge | None = None,
    rules: Registry = RULES,
) -> Prover:
    """Prove records by the log that was folded.

    Args:
        made: folded lines.
        partitions: of the books that prove; the figures do not depend on it.
        records: others than those that were made, such as recorded ones.
        judge: looks at each decision.
        rules: all that decisions may name.
    """
    chosen = made.records if records is None else records
    books = Books(partitions=partitions, publishing=False)
    accounts = PastAccounts(books, _each(made.messages), _folds(books, made.messages))

    async def command(sequence: int) -> Stored | None:
        return made.commands.get(sequence)

    async def message(sequence: int) -> Stored | None:
        place = bisect_left(made.messages, sequence, key=lambda one: one.log_sequence)
        found = made.messages[place : place + 1]
        return _stored(found[0]) if found and found[0].log_sequence == sequence else None

    sources = Sources(
        made.rules,
        made_signature,
        market=lambda first: _market(made.messages, first),
        command=command,
        results=lambda: _each(made.results),
        message=message,
        accounts=accounts,
    )
    prover = Prover(sources, judge=judge, rules=rules)
    for record in chosen:
        prover.expect(record)
    for record in chosen:
        await prover.take(record)
    return prover


def _folds(books: Books, messages: Sequence[LogMessage]):  # type: ignore[no-untyped-def]
    async def read(wanted: NeedHistory) -> dict[int, LogMessage]:
        first, last = wanted.from_log_sequence, wanted.to_log_sequence
        near = islice(messages, max(first - 1, 0), last)
        return {m.log_sequence: m for m in near if wanted.holds(m, books.partitions)}

    async def folded(message: LogMessage) -> Folded:
        return await fold_with_history(books, message, read, "nothing")

    return folded


async def _each(messages: Sequence[Message]) -> AsyncIterator[Message]:
    for message in messages:
        yield message


async def _market(messages: Sequence[LogMessage], first: int) -> AsyncIterator[Stored]:
    for message in messages:
        if message.log_sequence >= first and head_of(message.subject) in HEADS:
            yield _stored(message)


def _stored(message: LogMessage) -> Stored:
    return Stored(
        sequence=message.log_sequence,
        time=message.time // 1000,
        subject=message.subject,
        data=message.data,
    )
