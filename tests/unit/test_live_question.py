"""What may be asked live, and what reading live does to the books: nothing."""

from __future__ import annotations

from typing import get_args

import pytest
from tests.support.market import Market
from tests.support.slots import even_slots

from psm.contracts.codec import encode
from psm.contracts.live import LiveQuestion, LiveRead, MalformedQuestionError, question_of
from psm.domain.books import Books
from psm.domain.messages import LogMessage
from psm.domain.publication.documents import document_at
from psm.domain.snapshot import dump_account
from psm.workers.log.need_history import fold_from_memory

READS: tuple[LiveRead, ...] = get_args(LiveRead)


def test_account_id_is_a_question() -> None:
    """The shortest question is the id, as in the other reads."""
    assert question_of(b"acc_001") == LiveQuestion(account_id="acc_001")


def test_question_as_json() -> None:
    """All that may be asked is in one document; encoding gives it back."""
    question = LiveQuestion(account_id="a", read="margin", min_sequence=3, min_log_sequence=9)
    assert question_of(encode(question)) == question
    assert question_of(b' {"account_id":"a","timeout_ms":0}').timeout_ms == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"a b",
        b"\xff",
        b"{",
        b"{}",
        b'{"account_id":"a.b"}',
        b'{"account_id":"a","read":"events"}',
        b'{"account_id":"a","min_sequence":-1}',
        b'{"account_id":"a","min_log_sequence":1.5}',
        b'{"account_id":"a","timeout_ms":30001}',
        b'{"account_id":"a","min_seqence":1}',
        b'{"account_id":"a","timeout_ms":NaN}',
        b'{"a":' * 10_000,
    ],
)
def test_what_is_no_question(body: bytes) -> None:
    """A misspelt or impossible question is told from one about nobody."""
    with pytest.raises(MalformedQuestionError):
        question_of(body)


@pytest.mark.parametrize("seed", range(4))
def test_reading_changes_nothing_of_the_books(seed: int) -> None:
    """A fold that is read after each message publishes the same bytes and saves the same state."""
    read, unread = (Books(partitions=4, slots=even_slots(2000)) for _ in range(2))
    folded: dict[int, LogMessage] = {}
    updates = 0
    for message in Market(seed=seed, length=250).author().log.messages.values():
        results = [fold_from_memory(books, message, lambda _: folded) for books in (read, unread)]
        folded[message.log_sequence] = message
        assert results[0].updates == results[1].updates
        updates += len(results[0].updates)
        for number, account in enumerate(read.accounts.values()):
            kind = READS[(number + message.log_sequence) % 4]
            document_at(read, account, kind, message.log_sequence, message.time)
    assert updates > 300
    for name, account in unread.accounts.items():
        assert dump_account(read.accounts[name], 1, b"") == dump_account(account, 1, b"")
