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
from psm.domain.messages import Emit, LogMessage
from psm.domain.snapshot import dump_account

FEW = settings(max_examples=max(1, settings().max_examples // 40))
"""Every example folds a whole log several times."""
seeds = st.integers(0, 2**32 - 1)
_payloads = {kind.__name__: kind for kind in KINDS}


def folded(messages: list[LogMessage], *emits: Emit) -> Log:
    """Return a log that took the messages, each part of them folded for another purpose."""
    log = Log()
    for number, message in enumerate(messages):
        log.take(message, emits[number * len(emits) // len(messages)])
    return log


def saved(books: Books) -> dict[str, bytes]:
    """Return everything the books know of every account."""
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
    emits: tuple[Emit, ...]
    for emits in (("nothing",), ("payloads",), ("unhashed",), ("updates", "hashes")):
        log = folded(messages, *emits)
        assert saved(log.books) == saved(always.books)
    half = folded(messages, "nothing", "updates")
    assert half.updates == always.updates[-len(half.updates) :]


@FEW
@given(seeds)
def test_updates_without_hashes_are_the_same_otherwise(seed: int) -> None:
    """A fold for readers of figures gives every update with its id, less two fields."""
    log, unhashed = Log(), Log()
    for message in messages_of(seed):
        expected = log.take(message).updates
        for state in (u["payload"] for u in expected if u["event_type"] == "StateUpdated"):
            del state["ledger_hash"], state["state_hash"]
        assert unhashed.take(message, "unhashed").updates == expected


@FEW
@given(seeds)
def test_hashes_are_those_of_the_updates(seed: int) -> None:
    """A fold for hashes gives those of each `StateUpdated`."""
    log, silent = Log(), Log()
    for message in messages_of(seed):
        states = log.take(message).payloads("StateUpdated")
        hashes = silent.take(message, "hashes").result.hashes
        assert [(h.stream_id, h.sequence_number) for h in hashes] == [
            (state["account_id"], state["sequence_number"]) for state in states
        ]
        found = [(h.chain_hash.hex(), h.ledger_hash.hex(), h.state_hash.hex()) for h in hashes]
        names = ("chain_hash", "ledger_hash", "state_hash")
        assert found == [tuple(state[name] for name in names) for state in states]


@FEW
@given(seeds)
def test_payloads_are_those_of_the_updates(seed: int) -> None:
    """A fold for values gives what decoding the updates gives, key by key, in order."""
    log, plain = Log(), Log()
    for message in messages_of(seed):
        updates = log.take(message).result.updates
        payloads = plain.take(message, "payloads").result.payloads
        assert [(p.kind, p.stream_id) for p in payloads] == [
            (update.kind, update.stream_id) for update in updates
        ]
        for published, update in zip(payloads, updates, strict=True):
            decoded = msgspec.json.decode(update.data)["payload"]
            again = msgspec.json.decode(msgspec.json.encode(published.payload))
            assert again == decoded
            assert [*again] == [*decoded]


@FEW
@given(seeds)
def test_placements_are_what_the_updates_tell(seed: int) -> None:
    """Each event that took a place is named once, as its `StateUpdated` has it, and refused so."""
    log = Log()
    for message in messages_of(seed):
        seen = log.take(message)
        told = [
            (update["causation_id"], update["payload"]["sequence_number"])
            for update in seen.updates
            if update["event_type"] == "StateUpdated" and update["payload"]["cause"] == "event"
        ]
        announced = [p for p in seen.result.placements if p.announced]
        assert [(p.event_id, p.number) for p in announced] == told
        refused = [
            (r["event_id"], r["reason"])
            for r in seen.payloads("EventRefused")
            if r["outcome"] == "refused" and message.kind == "trades"
        ]
        assert [(p.event_id, p.reason) for p in announced if p.reason] == refused


@FEW
@given(seeds)
def test_updates_are_what_their_structs_encode(seed: int) -> None:
    """Updates are written out by hand: each is byte for byte what its contract's struct gives."""
    for update in folded(messages_of(seed), "updates").updates:
        fields = msgspec.json.decode(update.data)
        raw = msgspec.json.decode(update.data, type=dict[str, msgspec.Raw])["payload"]
        payload: Any = msgspec.json.decode(raw, type=_payloads[fields["event_type"]])
        assert codec.encode(UpdateEnvelope(**{**fields, "payload": payload})) == update.data
