"""A log in memory with the books that fold it, and given/when on top of it."""

from __future__ import annotations

from typing import Any

import msgspec
from tests.support.events import ACCOUNT, SECOND, START, SYMBOL, Sent, mark

from psm.contracts import codec, subjects
from psm.contracts.updates import KINDS
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.market.slots import ValuationSlots
from psm.domain.messages import Emit, Folded, LogMessage, NeedHistory, Outcome, Update
from psm.domain.publication.figures import state_document
from psm.domain.snapshot import dump_account, dump_checkpoint, load_account, load_checkpoint


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the last message did."""

    result: Folded
    updates: list[dict[str, Any]]
    """The envelopes of the updates, decoded."""

    @property
    def outcome(self) -> Outcome:
        """Its outcome."""
        return self.result.outcome

    @property
    def reason(self) -> str | None:
        """Its reason code."""
        return self.result.reason

    @property
    def types(self) -> list[str]:
        """Event types of its updates, in order."""
        return [update["event_type"] for update in self.updates]

    def payloads(self, event_type: str) -> list[dict[str, Any]]:
        """Return the payloads of its updates of one type."""
        return [u["payload"] for u in self.updates if u["event_type"] == event_type]

    def payload(self, event_type: str) -> dict[str, Any]:
        """Return the payload of its only update of one type."""
        (payload,) = self.payloads(event_type)
        return payload


def envelope_of(update: Update) -> dict[str, Any]:
    """Return an update's envelope."""
    envelope: dict[str, Any] = msgspec.json.decode(update.data)
    return envelope


def decoded(update: Update) -> dict[str, Any]:
    """Return an update's envelope; what its own contract forbids is an error."""
    envelope = envelope_of(update)
    msgspec.convert(envelope["payload"], _CONTRACTS[update.kind])
    return envelope


_CONTRACTS = {kind: payload for payload, kind in KINDS.items()}


class Log:
    """Messages in order and the books they add up to; answers `NeedHistory` from itself."""

    def __init__(
        self,
        *,
        partitions: int = 16,
        partition: int | None = None,
        slots: ValuationSlots = ValuationSlots(),  # noqa: B008 - frozen
        books: Books | None = None,
    ) -> None:
        self.books = books or Books(partitions=partitions, partition=partition, slots=slots)
        self.messages: dict[int, LogMessage] = {}
        self.updates: list[Update] = []
        self._time = START
        self._idle_marks = 0

    def when(self, *sent: Sent) -> Seen:
        """Append messages; return what the last one did."""
        for message in map(self.message, sent):
            seen = self.take(message)
        return seen

    def let_pass(self, seconds: int) -> list[dict[str, Any]]:
        """Let log time and valuation clock go on by marks of a symbol that nobody has.

        Returns the envelopes of the updates.
        """
        seen: list[dict[str, Any]] = []
        for _ in range(0, seconds, 10):
            self._idle_marks += 1
            idle = mark(self._idle_marks, "1", "NOBODYS", at=self._time + 10 * SECOND)
            seen += self.when(idle).updates
        return seen

    def message(self, sent: Sent) -> LogMessage:
        """Return the next message of the log, one second after the last unless told."""
        self._time = self._time + SECOND if sent.at is None else sent.at
        sequence = max([self.books.position, *list(self.messages)[-1:]]) + 1
        return LogMessage(
            log_sequence=sequence,
            subject=stored(sent.subject, self.books.partitions),
            time=self._time,
            data=sent.data,
        )

    def take(self, message: LogMessage, emit: Emit = "updates") -> Seen:
        """Fold one message of the log."""
        self.messages[message.log_sequence] = message
        result = fold(self.books, message, emit=emit)
        history: dict[int, LogMessage] = {}
        asked: dict[NeedHistory, None] = {}
        while isinstance(result, NeedHistory):
            assert result not in asked, f"asked twice: {result}"
            asked[result] = None
            history |= self.history(result)
            result = fold(self.books, message, history, emit=emit)
        self.updates += result.updates
        read = envelope_of if emit == "unhashed" else decoded
        return Seen(result=result, updates=list(map(read, result.updates)))

    def history(self, need: NeedHistory) -> dict[int, LogMessage]:
        """Return the messages that the fold asked for."""
        partitions = self.books.partitions
        return {n: one for n, one in self.messages.items() if need.holds(one, partitions)}

    def account(self, stream: str = ACCOUNT) -> Account:
        """Return an account of the books."""
        return self.books.accounts[stream]

    def state(self, stream: str = ACCOUNT) -> dict[str, Any]:
        """Return the state document of an account."""
        return state_document(self.books, self.account(stream))

    def position(self, symbol: str = SYMBOL, stream: str = ACCOUNT) -> dict[str, Any]:
        """Return a position's figures."""
        figures: dict[str, Any] = self.state(stream)["positions"][symbol]
        return figures

    def hashes(self) -> dict[str, str]:
        """Return the ledger hash of every account."""
        return {s: a.ledger_hash().hex() for s, a in sorted(self.books.accounts.items())}

    def end(self) -> bytes:
        """Return everything the books say about every account, as canonical bytes."""
        documents = [state_document(self.books, a) for _, a in sorted(self.books.accounts.items())]
        return codec.canonical_bytes(documents)


def given(*sent: Sent, **books: Any) -> Log:
    """Return a log that starts with these messages."""
    log = Log(**books)
    if sent:
        log.when(*sent)
    return log


def restarted(log: Log) -> Log:
    """Return the log with books that a checkpoint and snapshots of now give back."""
    books, at = log.books, log.books.position
    again = Log(
        books=Books(partitions=books.partitions, partition=books.partition, slots=books.slots)
    )
    again.books.market.restore(load_checkpoint(dump_checkpoint(books, at, None)).tables)
    again.books.advance(at)
    for account in books.accounts.values():
        again.books.restore(load_account(dump_account(account, at, b""))[0])
    again.messages = dict(log.messages)
    return again


def stored(subject: str, partitions: int) -> str:
    """Return the subject as the log stores it."""
    head, _, token = subject.partition(".")
    if head not in subjects.OF_STREAMS or "." in token:
        return subject
    return subjects.stored(head, token, partitions)
