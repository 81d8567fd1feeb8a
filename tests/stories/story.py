"""A story being told: events go to the real fold, figures are looked up in its books.

The log is a list in memory. An event that is not applied ends the story, unless the next sentence
says what became of it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from tests.stories.language import Sentence, StoryError, Vocabulary, sentences
from tests.support.domain import Log, Seen
from tests.support.events import Sent, event, instrument, mark, report


class Story:
    """A log, its books, and what the last sentence did.

    Attributes:
        log: with the books that its events add up to.
        used: templates of the sentences so far.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.log = Log()
        self.used: list[str] = []
        self._vocabulary = vocabulary
        self._name = ""
        self._next: dict[str, int] = {}
        self._sent: dict[tuple[str, int], Sent] = {}
        self._marks: dict[str, int] = {}
        self._seen: Seen | None = None
        self._unexplained: Sentence | None = None
        self._before: list[bytes] = []
        self._now = Sentence(line=0, text="")

    def tell(self, text: str) -> None:
        """Perform every sentence.

        Raises:
            StoryError: one is not true, or not of the vocabulary.
        """
        for sentence in sentences(text):
            template, blanks = self._vocabulary.read(sentence)
            if not template.text.startswith("That "):
                self._check_explained()
            self._now = sentence
            self.used.append(template.text)
            name = blanks.pop("who", None) or blanks.pop("whose", None)
            if name is not None:
                blanks["stream"] = self._stream(name)
            template.perform(self, **blanks)
        self._check_explained()

    def fail(self, what: str, sentence: Sentence | None = None) -> StoryError:
        """Return the error that ends the story, at this sentence unless another is named."""
        at = sentence or self._now
        return StoryError(f"line {at.line}: {at.text!r}: {what}")

    # --- what happens -------------------------------------------------------------------------

    def open(self, stream: str, currency: str) -> None:
        """Append the first event of an account; a second time it is an event like any other."""
        self._next.setdefault(stream, 1)
        self.append(stream, "AccountOpened", currency=currency)

    def append(self, stream: str, event_type: str, **payload: Any) -> None:
        """Append an event of an account, with the next number or the one it was given."""
        if stream not in self._next:
            raise self.fail(f"{stream} has no account")
        number = self._now.number or self._next[stream]
        given = {name: value for name, value in payload.items() if value is not None}
        sent = event(event_type, given, number, stream=stream, salt=f"line {self._now.line}")
        self._sent.setdefault((stream, number), sent)
        self._next[stream] = max(self._next[stream], number + 1)
        self._take(sent)

    def skip(self, number: int) -> None:
        """Leave out the next number of the account that was named last."""
        stream = self._name.lower()
        if number != self._next.get(stream):
            raise self.fail(f"the next event of {stream} is {self._next.get(stream)}")
        self._next[stream] = number + 1

    def repeat(self, number: int) -> None:
        """Append the very bytes of an event of that account once more."""
        self._take(self._sent_as(self._name.lower(), number))

    def event_id(self, stream: str, number: int) -> str:
        """Return the id of an event of the story."""
        body: dict[str, Any] = msgspec.json.decode(self._sent_as(stream, number).data)
        return str(body["event_id"])

    def set_mark(self, symbol: str, price: str, **more: str) -> None:
        """Append a mark."""
        self._marks[symbol] = number = self._marks.get(symbol, 0) + 1
        self._take(mark(number, price, symbol, at=None, **more))

    def report(self, stream: str, assets: dict[str, str], *held: dict[str, str]) -> None:
        """Append what somebody else says that the account has; it takes no number."""
        self._take(report(assets, *held, stream=stream, salt=f"line {self._now.line}"))

    def define(self, symbol: str, **definition: Any) -> None:
        """Append the definition of an instrument, unless it is known."""
        if symbol not in self.log.books.market.instruments:
            self._take(instrument(1, symbol, **definition))

    def strike(self, symbol: str) -> str:
        """Return what a unit of the underlying costs who exercises an option."""
        option = self.log.books.market.instruments[symbol].option
        if option is None:
            raise self.fail(f"{symbol} is no option")
        return str(option.strike)

    # --- what became of it --------------------------------------------------------------------

    def outcome(self, outcome: str, reason: str | None = None) -> None:
        """Compare what became of the last event with what the story says."""
        seen, self._unexplained = self._seen, None
        if seen is None or seen.outcome != outcome or (reason or seen.reason) != seen.reason:
            found = "nothing happened" if seen is None else f"{seen.outcome} ({seen.reason})"
            raise self.fail(f"the books say: {found}")

    def compared(self, *, matches: bool) -> dict[str, str]:
        """Check the answer to a report; return by how much it differs, by name."""
        self.outcome("compared")
        assert self._seen is not None
        answer = self._seen.payload("ReconciliationReported")
        if answer["matches"] is not matches:
            raise self.fail(f"the books say: {answer}")
        return {one["what"]: one["difference"] for one in answer["differences"]}

    def missing(self, number: int) -> None:
        """Check which event the account that was named last waits for."""
        account = self.log.account(self._name.lower())
        if account.delivery.version + 1 != number:
            raise self.fail(f"the books say: {account.delivery.version + 1}")

    def unchanged(self) -> None:
        """Check that the last event left every ledger and chain as it was."""
        if self._before != _hashes(self.log):
            raise self.fail("the books changed")

    def state(self, stream: str) -> dict[str, Any]:
        """Return what the books say of an account."""
        if stream not in self.log.books.accounts:
            raise self.fail(f"{stream} has no account")
        return self.log.state(stream)

    def position(self, stream: str, symbol: str, *, side: str, **claimed: str) -> None:
        """Compare a position with what the story says."""
        found = self.state(stream)["positions"].get(symbol)
        if found is None or found["side"] != side:
            raise self.fail(f"the books say: {found}")
        for name, figure in claimed.items():
            self.equal(found[name], figure)

    def equal(self, found: str | None, claimed: str) -> None:
        """Compare a figure of the books with what the story says."""
        if found is None or Decimal(found) != Decimal(claimed):
            raise self.fail(f"the books say: {found}")

    def _take(self, sent: Sent) -> None:
        self._before = _hashes(self.log)
        self._seen = self.log.when(sent)
        self._unexplained = None if self._seen.outcome == "applied" else self._now

    def _check_explained(self) -> None:
        if self._unexplained is not None and self._seen is not None:
            found = f"{self._seen.outcome} ({self._seen.reason}), and the story does not say so"
            raise self.fail(f"the books say: {found}", self._unexplained)

    def _sent_as(self, stream: str, number: int) -> Sent:
        sent = self._sent.get((stream, number))
        if sent is None:
            raise self.fail(f"{stream} has no event {number} yet")
        return sent

    def _stream(self, name: str) -> str:
        if name.lower() not in ("she", "he", "her", "his"):
            self._name = name.removesuffix("'s")
        return self._name.lower()


def _hashes(log: Log) -> list[bytes]:
    """Return ledger hash and chain hash of every account."""
    accounts = [account for _, account in sorted(log.books.accounts.items())]
    return [account.ledger_hash() + account.delivery.chain_hash for account in accounts]
