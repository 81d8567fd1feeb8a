"""Names on the wire."""

from __future__ import annotations

import pytest

from psm.contracts import subjects


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("BTC-PERP", "BTC-PERP"),
        ("BRK.B", "BRK%2EB"),
        ("50%", "50%25"),
        ("a b*>", "a%20b%2A%3E"),
        ("ü", "%C3%BC"),
        ("BTC/USD", "BTC%2FUSD"),
    ],
)
def test_tokens_are_encoded_and_decoded(text: str, token: str) -> None:
    """What NATS forbids is percent-encoded, and decoding is exact."""
    assert subjects.encode_token(text) == token
    assert subjects.decode_token(token) == text


@pytest.mark.parametrize("token", ["BRK.B", "%2e", "%", "%41", "a b", "%FF"])
def test_only_real_encodings_are_decoded(token: str) -> None:
    """There is one encoding of every text."""
    with pytest.raises(ValueError, match=r"."):
        subjects.decode_token(token)


@pytest.mark.parametrize(
    ("token", "value"), [("", 0x811C9DC5), ("a", 0xE40C292C), ("foobar", 0xBF9CF968)]
)
def test_partition_is_fnv_1a(token: str, value: int) -> None:
    """The broker's own function, by its published test vectors."""
    assert subjects.partition_of(token, 2**32) == value
    assert subjects.partition_of(token, 16) == value % 16


def test_stream_ids() -> None:
    """Letters, digits, _ and -, up to 64."""
    assert subjects.is_stream_id("acc_001-A")
    assert subjects.is_stream_id("x" * 64)
    for bad in ("", "x" * 65, "a.b", "a b", "ä", "a\n"):
        assert not subjects.is_stream_id(bad)


def test_subjects_of_one_account() -> None:
    """Producer's, stored and durable subjects of one account."""
    p = subjects.partition_of("acc_001", 16)
    assert subjects.trades("acc_001") == "trades.acc_001"
    assert subjects.stored_trades("acc_001", 16) == f"trades.{p}.acc_001"
    assert subjects.update("position.updated", p, "acc_001") == f"psm.position.updated.{p}.acc_001"
    assert subjects.entrance(subjects.cursor(p)) == f"_psm.cursor.{p}"
    assert subjects.stream_filters("acc_001", 16)[0] == f"trades.{p}.acc_001"
    assert subjects.partition_filters(p)[0] == f"trades.{p}.*"
    assert subjects.snapshot(p, "acc_001").startswith(subjects.checkpoint(p) + ".")
