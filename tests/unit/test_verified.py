"""What was run outside CI is not older than what it is about."""

from __future__ import annotations

import datetime
import shutil
import subprocess
from pathlib import Path

import pytest
from scripts import verified

TODAY = datetime.date(2026, 2, 14)


def test_no_result_is_older_than_what_it_covers() -> None:
    """The page of this repository; a run that never was fails nothing."""
    assert verified.stale(verified.ROOT) == []
    assert verified.entries(verified.ROOT).keys() <= verified.COVERS.keys()


def test_what_is_covered_exists() -> None:
    """Else a renamed folder would be covered by nothing."""
    for name, covered in verified.COVERS.items():
        for path in covered:
            assert (verified.ROOT / path).exists(), f"{name}: {path}"


def test_a_result_is_good_as_long_as_its_files_are_the_same(tmp_path: Path) -> None:
    """Another file changes nothing; one of its own, new or committed, makes it stale."""
    repository(tmp_path)
    verified.record(tmp_path, "load", "3 passed\nin 4 s", TODAY)
    (entry,) = verified.entries(tmp_path).values()
    assert (entry.date, entry.result) == ("2026-02-14", "3 passed in 4 s")
    (tmp_path / "other").write_text("new")
    commit(tmp_path)
    assert verified.stale(tmp_path) == []
    (tmp_path / "benchmarks" / "new").write_text("new")
    assert verified.stale(tmp_path) == ["load"]
    commit(tmp_path)
    assert verified.stale(tmp_path) == ["load"]
    verified.record(tmp_path, "load", "4 passed", TODAY)
    assert verified.stale(tmp_path) == []


def test_only_what_is_committed_is_recorded(tmp_path: Path) -> None:
    """A result of files that nobody else has says nothing to anybody."""
    repository(tmp_path)
    (tmp_path / "benchmarks" / "old").write_text("changed")
    with pytest.raises(ValueError, match="commit benchmarks/old first"):
        verified.record(tmp_path, "load", "3 passed", TODAY)
    with pytest.raises(ValueError, match="no run 'lod'"):
        verified.record(tmp_path, "lod", "3 passed", TODAY)


def test_no_history_is_needed(tmp_path: Path) -> None:
    """A copy without the commits says the same."""
    repository(tmp_path)
    verified.record(tmp_path, "load", "3 passed", TODAY)
    shutil.rmtree(tmp_path / ".git")
    assert verified.stale(tmp_path) == []
    (tmp_path / "benchmarks" / "old").rename(tmp_path / "benchmarks" / "renamed")
    assert verified.stale(tmp_path) == ["load"]


def repository(folder: Path) -> None:
    """Make a repository with a file that `load` covers."""
    (folder / "benchmarks").mkdir()
    (folder / "docs").mkdir()
    (folder / "benchmarks" / "old").write_text("old")
    git(folder, "init", "--quiet")
    commit(folder)


def commit(folder: Path) -> None:
    """Commit everything."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=more")


def git(folder: Path, *arguments: str) -> None:
    """Run git as somebody."""
    somebody = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", *somebody, *arguments], cwd=folder, check=True)
