"""The pages name what there is: modules, folders, links, every room, every decision."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PSM = [ROOT / source / "psm" for source in ("contracts", "workers", "projections")]
DECISIONS = sorted((DOCS / "adr").glob("0*.md"))
GENERATED = {"mutation.md"}
"""Names modules as of the commit that it was made of."""
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for page in sorted(DOCS.rglob("*.md")) if page.name not in GENERATED),
]

_TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(
    r"(?:adapters|benchmarks|contracts|deploy|docs|domain|examples|k8s|projections|schemas|scripts"
    r"|risk|tests|workers)/[\w*./-]*"
)
_DOTTED = re.compile(r"psm\.(?:contracts|domain|adapters|projections|workers)(?:\.\w+)*")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def paths(text: str) -> list[str]:
    """Return what looks like a path of the repository, in the order of the text."""
    return [code for code in _CODE.findall(text) if _PATH.fullmatch(code)]


def exists(path: str) -> bool:
    """Return whether a path is one of the repository, or below the source roots."""
    roots = (ROOT, *PSM)
    return any(next(iter(root.glob(path.rstrip("/"))), None) for root in roots)


def is_module(dotted: str) -> bool:
    """Return whether a dotted name is a module, or a name in one."""
    parts = dotted.split(".")
    for end in range(len(parts), 1, -1):
        for root in PSM:
            stem = root.joinpath(*parts[1:end])
            module = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
            if module.exists():
                names = parts[end:]
                return len(names) <= 1 and all(name in module.read_text() for name in names)
    return False


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _HEADING.findall(prose(page)):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def section(page: Path, heading: str) -> str:
    """Return a page's text from a heading to the next one of its rank."""
    return page.read_text(encoding="utf-8").partition(f"\n{heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_path_and_module_exists(page: Path) -> None:
    """What a page calls by its path is there; so are the modules that it names with dots."""
    text = prose(page)
    if page.name == "ARCHITECTURE.md":
        text = text.replace(section(page, "## Seats"), "")
    assert [path for path in paths(text) if not exists(path)] == []
    named = [code for code in _CODE.findall(text) if _DOTTED.fullmatch(code)]
    assert [name for name in named if not is_module(name)] == []


def test_every_test_that_a_page_names_exists() -> None:
    """Who looks for a scenario runs it by this name."""
    texts = (path.read_text("utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py")))
    there = {name for text in texts for name in _TEST.findall(text)}
    named = {code for page in PAGES for code in _CODE.findall(prose(page))}
    wanted = {code for code in named if code.startswith("test_") and code.isidentifier()}
    assert wanted - there == set()
    assert wanted


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    """A link within the repository has its file, and its heading where it names one."""
    for link in _LINK.findall(prose(page)):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), link
        if anchor:
            assert anchor in anchors(there), link


def test_seats_are_free() -> None:
    """What is planned does not exist; who builds it takes its seat off the page."""
    seats = paths(section(DOCS / "ARCHITECTURE.md", "## Seats"))
    taken = [row for row in seats if row.startswith(("contracts/psm", "workers/psm", "proj"))]
    assert len(taken) >= 10
    assert [path for path in taken if (ROOT / path).exists()] == []


@pytest.mark.parametrize("package", ["workers", "domain"])
def test_every_room_is_on_the_page(package: str) -> None:
    """The tables of rooms name each folder and each loose module, and nothing else."""
    floors = section(DOCS / "ARCHITECTURE.md", "## The floors")
    table = floors.partition(f"### Rooms of `psm.{package}`")[2].partition("\n### ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and line[2].isdigit()]
    named = [path for row in rows for path in paths(row.split("|")[2])]
    inside = (ROOT / "workers" / "psm" / package).iterdir()
    rooms = [room for room in inside if not room.name.startswith(("__", "py.typed", "."))]
    assert sorted(named) == sorted(
        f"{package}/{room.name}{'/' if room.is_dir() else ''}" for room in rooms
    )


def test_words_are_in_order_and_each_has_an_owner() -> None:
    """The glossary is alphabetical, says each word once, and where it belongs."""
    lines = (DOCS / "GLOSSARY.md").read_text(encoding="utf-8").splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if "| `" in line
    ]
    words = [row[0] for row in rows]
    assert len(words) > 100
    assert words == sorted(set(words), key=str.lower)
    assert all(len(row) == 3 and row[1].endswith(".") and paths(row[2]) for row in rows)


def test_every_decision_is_listed_and_complete() -> None:
    """Decisions are numbered without a gap, in the index by their title, and have four parts."""
    index = (DOCS / "adr" / "README.md").read_text(encoding="utf-8")
    assert [page.name[:4] for page in DECISIONS] == [
        f"{number:04}" for number in range(1, len(DECISIONS) + 1)
    ]
    for page in DECISIONS:
        title = page.read_text(encoding="utf-8").partition("\n")[0]
        number, _, name = title.removeprefix("# ").partition(". ")
        assert f"| {number} | [{name}]({page.name}) |" in index
        parts = [h for h in _HEADING.findall(prose(page)) if h != title.removeprefix("# ")]
        assert parts == ["Context", "Decision", "Consequences", "Rejected"]


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("domain/fold.py", True),
        ("workers/partition/loop.py", True),
        ("workers/partition/wheel.py", False),
        ("projections/current_state/", True),
        ("projections/future_state/", False),
        ("tests/integration/test_kill_*.py", True),
        ("tests/integration/test_heal_*.py", False),
    ],
)
def test_paths_that_are_missing_are_noticed(path: str, *, there: bool) -> None:
    """The check tells apart what is there and what is not."""
    assert paths(f"see `{path}`") == [path]
    assert exists(path) is there


def test_modules_that_are_missing_are_noticed() -> None:
    """A dotted name may go one name beyond its module, which must be in it."""
    assert is_module("psm.domain.fold")
    assert is_module("psm.workers.process.crash_points.CRASH_POINTS")
    assert not is_module("psm.workers.process.crash_points.CRASHED")
    assert not is_module("psm.domain.account_fold")
