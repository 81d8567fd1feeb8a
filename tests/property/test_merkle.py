"""Merkle trees agree with the RFC's vectors and with a naive reading of its definition."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psm.contracts import merkle

# The leaves and roots that implementations of RFC 6962 test themselves with.
ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]

trees = st.integers(1, 70).map(lambda n: [merkle.leaf_hash(str(i).encode()) for i in range(n)])


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162, 2.1.1, word for word, over leaf hashes."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_the_known_vectors(size: int) -> None:
    """The eight trees every implementation agrees on."""
    assert merkle.root_of(LEAVES[:size]).hex() == ROOTS[size - 1]


def test_empty_tree_has_the_hash_of_nothing() -> None:
    """As the RFC says."""
    assert merkle.root_of([]).hex() == hashlib.sha256(b"").hexdigest()


def test_proofs_are_those_of_the_known_vectors() -> None:
    """Inclusion of leaf 5 in the tree of 8, and consistency of 6 with 8."""
    assert [p.hex() for p in merkle.inclusion_proof(LEAVES, 5)] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    assert [p.hex() for p in merkle.consistency_proof(LEAVES, 6)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


@given(trees)
def test_root_is_the_definition(leaves: list[bytes]) -> None:
    """Appending one by one gives what the recursive definition gives."""
    assert merkle.root_of(leaves) == naive_root(leaves)


@given(trees, st.data())
def test_every_leaf_is_proven_and_nothing_else(leaves: list[bytes], data: st.DataObject) -> None:
    """Another leaf, place, size, root or a changed path is refused."""
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof, root, size = merkle.inclusion_proof(leaves, index), merkle.root_of(leaves), len(leaves)
    leaf = leaves[index]
    assert merkle.verify_inclusion(leaf, index, size, proof, root)
    other = data.draw(st.integers(-1, size).filter(lambda i: i != index))
    assert not merkle.verify_inclusion(leaf, other, size, proof, root)
    assert not merkle.verify_inclusion(merkle.leaf_hash(b"x"), index, size, proof, root)
    assert not merkle.verify_inclusion(leaf, index, size, proof, merkle.leaf_hash(b"x"))
    assert not merkle.verify_inclusion(leaf, index, size, [*proof, leaf], root)
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        changed = [*proof[:place], bytes(32), *proof[place + 1 :]]
        assert not merkle.verify_inclusion(leaf, index, size, changed, root)
        assert not merkle.verify_inclusion(leaf, index, size, proof[:-1], root)


@given(trees, st.data())
def test_every_older_tree_is_proven_and_no_other(leaves: list[bytes], data: st.DataObject) -> None:
    """A history that was changed anywhere is no prefix."""
    size = len(leaves)
    old = data.draw(st.integers(0, size))
    proof = merkle.consistency_proof(leaves, old)
    root, old_root = merkle.root_of(leaves), merkle.root_of(leaves[:old])
    assert merkle.verify_consistency(old, old_root, size, root, proof)
    if not old:
        return
    place = data.draw(st.integers(0, old - 1))
    forged = [*leaves[:place], merkle.leaf_hash(b"x"), *leaves[place + 1 :]]
    assert not merkle.verify_consistency(
        old, merkle.root_of(forged[:old]), size, root, merkle.consistency_proof(leaves, old)
    )
    assert not merkle.verify_consistency(
        old, old_root, size, merkle.root_of(forged), merkle.consistency_proof(forged, old)
    )
    assert not merkle.verify_consistency(size + 1, old_root, size, root, proof)
    assert not merkle.verify_consistency(old, old_root, size, root, [*proof, old_root])


def test_node_is_no_leaf() -> None:
    """Two leaves as one entry do not make the same root: the prefixes differ."""
    two = LEAVES[:2]
    assert merkle.leaf_hash(two[0] + two[1]) != merkle.root_of(two)


@pytest.mark.parametrize("index", [-1, 8])
def test_proofs_of_what_is_not_there_are_refused(index: int) -> None:
    """No proof by wrapping around."""
    with pytest.raises(IndexError):
        merkle.inclusion_proof(LEAVES, index)
    with pytest.raises(IndexError):
        merkle.consistency_proof(LEAVES, index + (index > 0))
