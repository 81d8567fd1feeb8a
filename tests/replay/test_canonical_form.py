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
    "equity.jsonl.gz": "f0381e9975e11dec3fe3b1616d3e9c21b679a573fc5c73d902cfc77ed50ece8a",
    "everything.jsonl.gz": "553b258df214dc4fff0d6d1c231077585afbfa972bdf2eef442b2902d5a920bf",
    "future.jsonl.gz": "c3b12383d6c2c31d77082072b257f733e815c2ad6ced973f67281f393f4e812d",
    "inverse_perp.jsonl.gz": "bb015742539d293261268de4468d7a5888583c4e2e0f204c9b59db25a6d1ed99",
    "linear.expected.jsonl": "367fda447c583ad72dcbfbc96eb4659401d98f03550d54ea19fc9415bb03dd14",
    "linear_perp.jsonl.gz": "cd1e044571f070ded1fe1336a55c51777bb3cb4da763063c6c88fefc4779bf45",
    "repairs.expected.jsonl": "78d7b4c921fb0b4829728811c8a11cd99a0cdea52c0576d84274b7b4555a044e",
    "spot.jsonl.gz": "ba8067c37c4a36dfe986f7f44d181c9ddaa6cf8ad239f45a0e6c39753e46441e",
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
