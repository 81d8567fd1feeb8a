"""docs/verified.md: what was run outside CI, of which commit, and whether that still holds.

    python -m scripts.verified run cluster pytest tests/cluster     # its last line is the result
    python -m scripts.verified            # fails where an entry is older than the files it covers

An entry names the commit it was made of, and a digest of the files that it covers: it is as good as
new as long as they hold what they held then. What was never run is listed, and fails nothing.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[1]
PAGE = Path("docs/verified.md")

COVERS: Mapping[str, tuple[str, ...]] = {
    "containers": (
        *("Dockerfile", "compose.yaml", "compose.single.yaml", "deploy"),
        *("requirements/runtime.txt", "scripts/images", "tests/containers"),
    ),
    "cluster": ("k8s/psm", "scripts/build_kubernetes.sh", "tests/cluster"),
    "observe": ("k8s/psm/rules", "k8s/psm/dashboards", "scripts/observe"),
    "load": ("benchmarks",),
}
"""What `make NAME` runs, and the files and folders that its result is about."""

_HEAD = """# Verified

What takes too long for every run of CI is run by `make NAME`, which writes its result here. CI
fails when the files that a result is about have changed since (`python -m scripts.verified`).

| what | commit | files | date | counts |
|---|---|---|---|---|
"""
_ROW = re.compile(r"\| ([a-z]+) \| ([0-9a-f]{7,40}) \| ([0-9a-f]{16}) \| ([0-9-]{10}) \| (.*) \|")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One result.

    Attributes:
        commit: what was run, at least 7 hex digits.
        files: digest of the files that it covers.
        date: when, UTC.
        result: what came of it, one line.
    """

    commit: str
    files: str
    date: str
    result: str


def entries(root: Path) -> dict[str, Entry]:
    """Return the results on the page by the name of the run; nothing where there is no page."""
    if not (root / PAGE).exists():
        return {}
    rows = map(_ROW.fullmatch, (root / PAGE).read_text("utf-8").splitlines())
    return {
        row[1]: Entry(commit=row[2], files=row[3], date=row[4], result=row[5])
        for row in rows
        if row is not None
    }


def record(root: Path, name: str, result: str, today: datetime.date) -> None:
    """Write a result of what is checked out.

    Raises:
        ValueError: there is no such run, or what it covers is not committed.
    """
    if name not in COVERS:
        raise ValueError(f"there is no run {name!r}; there is {', '.join(COVERS)}")
    commit = _git(root, "rev-parse", "--short=12", "HEAD").strip()
    if changed := _git(root, "status", "--porcelain", "--", *COVERS[name]).split("\n")[:-1]:
        files = ", ".join(line[3:] for line in changed)
        raise ValueError(f"{name}: commit {files} first, and run it again")
    entry = Entry(
        commit=commit,
        files=digest(root, name),
        date=today.isoformat(),
        result=" ".join(result.split()),
    )
    known = {**entries(root), name: entry}
    rows = (
        f"| {n} | {e.commit} | {e.files} | {e.date} | {e.result} |\n"
        for n, e in sorted(known.items())
    )
    (root / PAGE).write_text(_HEAD + "".join(rows), "utf-8")


def stale(root: Path) -> list[str]:
    """Return the runs whose files are others than their results are about."""
    return [name for name, entry in entries(root).items() if digest(root, name) != entry.files]


def digest(root: Path, name: str) -> str:
    """Return 16 hex digits of SHA-256 over names and bytes of the files that a run covers."""
    found = hashlib.sha256()
    for covered in COVERS.get(name, ()):
        path = root / covered
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                held = hashlib.sha256(file.read_bytes()).hexdigest()
                found.update(f"{held} {file.relative_to(root).as_posix()}\n".encode())
    return found.hexdigest()[:16]


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(  # noqa: S603
        ["git", *arguments],  # noqa: S607
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def _last_line(command: list[str]) -> str | None:
    """Run a command, showing what it says; return its last line, None where it failed."""
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:  # noqa: S603
        for line in running.stdout or ():
            sys.stdout.write(line)
            last = line.strip(" =\n") or last
    return last if running.returncode == 0 else None


def main(arguments: list[str]) -> int:
    """Run and record, or check all results; 1 where one is stale."""
    if arguments[:1] == ["run"] and len(arguments) > 2:
        result = _last_line(arguments[2:])
        if result is None:
            return 1
        try:
            record(ROOT, arguments[1], result, datetime.datetime.now(datetime.UTC).date())
        except ValueError as error:
            print(f"verified: not recorded: {error}", file=sys.stderr)
            return 1
        return 0
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    old, known = stale(ROOT), entries(ROOT)
    for name in COVERS:
        if name not in known:
            print(f"verified: {name} was never run; make {name}")
    for name in old:
        covered = ", ".join(COVERS.get(name, ()))
        print(f"verified: {name} is older than {covered}; make {name}", file=sys.stderr)
    return int(bool(old))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
