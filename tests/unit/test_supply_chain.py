"""Notices and bill of materials are of the packages that are locked."""

from __future__ import annotations

from scripts.supply_chain import LOCKS, NOTICES, locked, main, notices, sbom, unhashed


def test_notices_are_those_of_the_packages() -> None:
    """The page in git is the one that would be written; each package has a licence."""
    assert NOTICES.read_text("utf-8") == notices()
    assert main(["--check"]) == 0


def test_every_locked_package_has_a_hash() -> None:
    assert unhashed() == []
    assert {len(locked(lock)) > 5 for lock in LOCKS.glob("*.txt")} == {True}


def test_the_bill_names_every_package_once() -> None:
    """With version, licence and the hash of each file; twice the same document."""
    found = sbom()
    packages = locked(LOCKS / "runtime.txt")
    assert [one["purl"] for one in found["components"]] == [one.purl for one in packages]
    assert len({one["bom-ref"] for one in found["components"]}) == len(packages)
    assert all(one["licenses"] and one["externalReferences"] for one in found["components"])
    assert found["dependencies"][0]["dependsOn"] == [one.purl for one in packages]
    assert sbom() == found
