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
    "equity.jsonl.gz": "12cca118ea113a0cf8c08a168da4e81ce431e3ff51470cced71e71e6888ab963",
    "everything.jsonl.gz": "e7bce9c988e565ec44ba17ff7fa87de21f9ecd2fb039b272ed43cc74e2d6d4bc",
    "future.jsonl.gz": "688f8fc971640f029af0c42f0da3e83bad50305db6ea2619522ff47c67d15910",
    "inverse_perp.jsonl.gz": "564c0f843699fff084d98f7f264dad4928f388bcbf3d01b35d6626f56f33c29d",
    "linear.expected.jsonl": "5bc2e5eafb432f12d636fb5d495944dc05588a2169dd09d325ba46630ee7faa8",
    "linear_perp.jsonl.gz": "2ca44ae22d9ad4ef877344d1807207a4038994f0db720f985f30727505c9b1eb",
    "repairs.expected.jsonl": "91d49422ad7a7741801c2a689f4d425d0ac2304e16af88c315125e2050337271",
    "spot.jsonl.gz": "8bc7053389f2db125b38cdef10e57e20caa24a6045d80afbef68eb829fcccd46",
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
