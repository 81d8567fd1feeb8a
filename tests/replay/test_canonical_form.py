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
    "equity.jsonl.gz": "12dcd45251efa74e8e638e56ed5dc128f3da1a3721a9029c2b7b7f7e14ac8039",
    "everything.jsonl.gz": "75c93c5b5c5d7f04786ef5fe2eaf8fb8847a865c23662400ade0f7699be6c8da",
    "future.jsonl.gz": "5a9f27799e75fef94d4d20ced8a9ebacbe8845f46c710c82aa0afba0315c3a9a",
    "inverse_perp.jsonl.gz": "1b9b86110e782e4e262e5816d50e824746432d9c08ab7c0832874301b7c1b02d",
    "linear.expected.jsonl": "5bc2e5eafb432f12d636fb5d495944dc05588a2169dd09d325ba46630ee7faa8",
    "linear_perp.jsonl.gz": "9e8d5a01676bc58928af758ff59ba80fd0d0c09646b2f445f453642b236d3396",
    "repairs.expected.jsonl": "91d49422ad7a7741801c2a689f4d425d0ac2304e16af88c315125e2050337271",
    "spot.jsonl.gz": "c35646d4b9a65f04228c8e440f1cba0f356d362cac7c8beeab4f9232a39bdf7e",
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
