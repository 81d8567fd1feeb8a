"""What is published never changes what is folded, and updates are what their contract says."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.domain import Log
from tests.support.market import Market

from psm.contracts import codec
from psm.contracts.updates import KINDS, UpdateEnvelope
from psm.domain.books import Books
from psm.domain.messages import LogMessage
from psm.domain.snapshot import dump_account

FEW = settings(max_examples=max(1, settings().max_examples // 40))
"""Every example folds a whole log several times."""
seeds = st.integers(0, 2**32 - 1)
_payloads = {kind.__name__: kind for kind in KINDS}


def folded(messages: list[LogMessage], *modes: str) -> Log:
    """Return a log that took the messages, the books publishing by turns as told."""
    log = Log()
    for number, message in enumerate(messages):
        log.books.publishing = modes[number * len(modes) // len(messages)]  # type: ignore[assignment]
        log.take(message)
    return log


def saved(books: Books) -> dict[str, bytes]:
    """Return everything the books know of every account."""
    books.publishing = "updates"
    return {s: dump_account(a, 1, b"\0" * 32) for s, a in sorted(books.accounts.items())}


def messages_of(seed: int) -> list[LogMessage]:
    """Return a mixed stream of all instrument kinds and event types."""
    log = Log()
    found = []
    for sent in Market(seed=seed, length=200).author().sent:
        found.append(log.message(sent))
        log.messages[found[-1].log_sequence] = found[-1]
    return found


@FEW
@given(seeds)
def test_books_are_the_same_whatever_they_publish(seed: int) -> None:
    """Accounts end alike, and later updates are those of books that always published."""
    messages = messages_of(seed)
    always = folded(messages, "updates")
    for modes in (("nothing",), ("updates", "hashes")):
        log = folded(messages, *modes)
        assert saved(log.books) == saved(always.books)
    half = folded(messages, "nothing", "updates")
    assert half.updates == always.updates[-len(half.updates) :]


@FEW
@given(seeds)
def test_hashes_are_those_of_the_updates(seed: int) -> None:
    """Books that publish hashes give one pair for each `StateUpdated`."""
    log, silent = Log(), Log()
    silent.books.publishing = "hashes"
    for message in messages_of(seed):
        states = log.take(message).payloads("StateUpdated")
        hashes = silent.take(message).result.hashes
        assert [(h.stream_id, h.sequence_number) for h in hashes] == [
            (state["account_id"], state["sequence_number"]) for state in states
        ]
        assert [(h.ledger_hash.hex(), h.state_hash.hex()) for h in hashes] == [
            (state["ledger_hash"], state["state_hash"]) for state in states
        ]


@FEW
@given(seeds)
def test_updates_are_what_their_structs_encode(seed: int) -> None:
    """Updates are written out by hand: each is byte for byte what its contract's struct gives."""
    for update in folded(messages_of(seed), "updates").updates:
        fields = msgspec.json.decode(update.data)
        raw = msgspec.json.decode(update.data, type=dict[str, msgspec.Raw])["payload"]
        payload: Any = msgspec.json.decode(raw, type=_payloads[fields["event_type"]])
        assert codec.encode(UpdateEnvelope(**{**fields, "payload": payload})) == update.data
