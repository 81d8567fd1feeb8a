"""Canonical form 1 is frozen: what the hashes of a log were, they are for ever.

The other tests of golden logs show that the fold gives what was recorded. This one shows that the
records were not made anew. If it fails, put the old records back. Whatever must hash differently
needs form 2, beside form 1, and logs that say which one they have.
"""

from __future__ import annotations

import gzip
import hashlib
import re

import pytest
from tests.replay.golden import FOLDER

from psm.adapters.jetstream.streams import CANONICAL_FORM

FROZEN = {
    "equity.jsonl.gz": "7057384a9870006c31945dc0b97c0ccaf9252213e96f09a58a1c7eab63c8315c",
    "everything.jsonl.gz": "7931486b96561f661e9d6f09d6023d669687763bbc1f3426c4e6ef7e3e5f0692",
    "future.jsonl.gz": "5a9f27799e75fef94d4d20ced8a9ebacbe8845f46c710c82aa0afba0315c3a9a",
    "inverse_perp.jsonl.gz": "9f7b9470df493362cb0f89ca0e4816b89e8824bd1e72c1018b4814846940a2c7",
    "linear.expected.jsonl": "5bc2e5eafb432f12d636fb5d495944dc05588a2169dd09d325ba46630ee7faa8",
    "linear_perp.jsonl.gz": "9e8d5a01676bc58928af758ff59ba80fd0d0c09646b2f445f453642b236d3396",
    "repairs.expected.jsonl": "91d49422ad7a7741801c2a689f4d425d0ac2304e16af88c315125e2050337271",
    "spot.jsonl.gz": "3837cc56e131f9fbf417f968a39a0bf22f553d8dda3c524446ba914e78c06c36",
}
"""SHA-256 over the chain, ledger and state hashes in each record, in file order."""

_HASH = re.compile(rb'"(?:chain|ledger|state)_hash":"([0-9a-f]{64})"')


def test_the_form_is_the_one_that_is_frozen() -> None:
    """Another number needs records of its own."""
    assert CANONICAL_FORM == 1


@pytest.mark.parametrize("name", FROZEN)
def test_recorded_hashes_are_those_of_form_1(name: str) -> None:
    """Not one of them was made anew."""
    data = (FOLDER / name).read_bytes()
    hashes = _HASH.findall(gzip.decompress(data) if name.endswith(".gz") else data)
    assert len(hashes) >= 100
    assert hashlib.sha256(b"".join(hashes)).hexdigest() == FROZEN[name]
