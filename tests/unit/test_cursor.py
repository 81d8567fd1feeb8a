"""The commit cursor."""

from __future__ import annotations

import msgspec
import pytest

from psm.contracts.errors import InvariantError
from psm.domain.messages import Update
from psm.workers.log.cursor import Cursor, digest_of, dump_cursor, load_cursor


def update(number: int, data: bytes = b"{}", stream_id: str = "acc") -> Update:
    return Update(
        kind="state.updated",
        stream_id=stream_id,
        partition=3,
        event_id=f"id-{number}",
        data=data,
        log_sequence=number,
    )


@pytest.mark.parametrize(
    "cursor",
    [
        Cursor(log_sequence=0),
        Cursor(log_sequence=7, event_hash="ab" * 32, updates=3),
        Cursor(log_sequence=2**53 + 1, part=999, digest="cd" * 32, event_hash="ab" * 32),
    ],
)
def test_cursor_comes_back_as_it_was(cursor: Cursor) -> None:
    """What is stored is read back, to the last digit of the position."""
    assert load_cursor(dump_cursor(cursor)) == cursor


def test_cursor_has_these_fields_only() -> None:
    """Projections and auditors read them by name; equal cursors have equal bytes."""
    data = dump_cursor(Cursor(log_sequence=1, event_hash="ab"))
    assert msgspec.json.decode(data) == {
        "log_sequence": 1,
        "part": 0,
        "digest": None,
        "event_hash": "ab",
        "updates": 0,
        "closed_through": None,
        "epoch": 0,
    }
    assert data == dump_cursor(Cursor(event_hash="ab", log_sequence=1))


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{}", b'{"log_sequence":"1"}', b'{"log_sequence":1', b"\xff"]
)
def test_what_is_no_cursor_is_refused(data: bytes) -> None:
    """Somebody else's message on the subject stops whoever reads it."""
    with pytest.raises(InvariantError, match="no cursor"):
        load_cursor(data)


def test_digest_is_of_subjects_bytes_and_order() -> None:
    """Another byte, account, order or number of updates gives another digest."""
    one, two = update(1, b'{"a":1}'), update(2, b'{"a":2}')
    digests = [
        digest_of([]),
        digest_of([one]),
        digest_of([one, two]),
        digest_of([two, one]),
        digest_of([one, update(2, b'{"a":3}')]),
        digest_of([one, update(2, b'{"a":2}', "other")]),
    ]
    assert len(set(digests)) == len(digests)
    assert digest_of([one, two]) == digest_of([update(9, b'{"a":1}'), two]), "ids are in the bytes"
