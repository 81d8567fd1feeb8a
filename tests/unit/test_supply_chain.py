"""Notices and bill of materials are of the packages that are locked."""

from __future__ import annotations

import re

from scripts.supply_chain import LOCKS, NOTICES, ROOT, locked, main, notices, sbom, unhashed


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


def test_every_image_can_be_pinned_by_a_variable() -> None:
    """The files name no image but by a variable with a default, so that a digest needs no edit."""
    found = []
    for path in (*ROOT.glob("compose*.yaml"), ROOT / "Dockerfile"):
        for line in path.read_text("utf-8").splitlines():
            image = re.match(r"\s*image: (.*)|FROM (\S+)", line)
            if image is not None:
                found.append(image[1] or image[2])
    variable = re.compile(r"\$\{(IMAGE_[A-Z]+)(?::-[^}]+)?\}")
    assert [image for image in found if not variable.fullmatch(image)] == []
    told = (ROOT / "docs" / "supply-chain.md").read_text("utf-8")
    names = {match[1] for image in found if (match := variable.fullmatch(image))}
    assert {"IMAGE_NATS", "IMAGE_POSTGRES", "IMAGE_PSM", "IMAGE_PYTHON"} <= names
    assert [name for name in sorted(names) if name not in told] == []
