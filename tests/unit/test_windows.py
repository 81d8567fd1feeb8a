"""What a stream remembers of its past."""

from __future__ import annotations

import pytest

from psm.domain.windows import WINDOW, IdentityWindow, KeyWindow, digest16, same_hash


def key(n: int) -> bytes:
    """Return a 16-byte key."""
    return n.to_bytes(16, "big")


def test_keys_are_remembered_up_to_the_window() -> None:
    """The 256th stays, the 257th pushes out the first."""
    window = KeyWindow()
    for n in range(WINDOW):
        window.add(key(n))
    assert key(0) in window
    window.add(key(WINDOW))
    assert key(0) not in window
    assert key(1) in window
    assert len(window.packed) == WINDOW * 16


def test_a_key_is_found_only_at_its_own_place() -> None:
    """Bytes that straddle two entries are no entry."""
    first, second = bytes(range(16)), bytes(range(16, 32))
    window = KeyWindow(first + second)
    straddling = (first + second)[8:24]
    assert straddling not in window
    window.add(straddling)
    assert straddling in window


@pytest.mark.parametrize("size", [1, WINDOW, WINDOW + 5])
def test_identities_by_place_and_by_id(size: int) -> None:
    """An event is found by its place back from the last, and by its id."""
    window = IdentityWindow()
    for n in range(size):
        window.add(key(n), bytes([n % 256]) * 32)
    kept = min(size, WINDOW)
    assert len(window) == kept
    assert window.at(0) == (key(size - 1), bytes([(size - 1) % 256]) * 16)
    oldest = size - kept
    assert window.at(kept - 1) == (key(oldest), bytes([oldest % 256]) * 16)
    assert window.at(kept) is None
    assert window.hash_of(key(oldest)) == bytes([oldest % 256]) * 16
    assert window.hash_of(key(size)) is None


def test_digests_separate_their_parts() -> None:
    """Two parts are not the same as one joined part."""
    assert digest16("fill", "ab", "c") != digest16("fill", "a", "bc")
    assert len(digest16("x")) == 16
    assert same_hash(b"a" * 16, b"a" * 16 + b"b" * 16)
