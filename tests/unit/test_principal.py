"""Records name people by a random pseudonym that each keeps, never by login or by a hash of it."""

from __future__ import annotations

import getpass
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from psm.contracts.errors import ConfigError
from psm.workers.ops.principal import principal


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person who never acted before."""
    monkeypatch.delenv("PSM_ACTOR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def test_a_pseudonym_is_made_once_and_kept(home: Path) -> None:
    """Only its owner may read it; it says nothing about the person."""
    made = principal()
    assert re.fullmatch(r"p-[0-9a-f]{16}", made)
    assert getpass.getuser() not in made
    assert principal() == made
    file = home / "psm" / "principal"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["principal"]
    file.unlink()
    assert principal() != made


def test_a_setting_goes_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a shared machine each says who acts."""
    monkeypatch.setenv("PSM_ACTOR", "p-of-the-night-shift")
    assert principal() == "p-of-the-night-shift"
    assert list(home.iterdir()) == []


def test_two_commands_at_once_get_the_same(home: Path) -> None:
    """Whoever comes second takes what is there."""
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: principal(), range(32)))
    assert len(found) == 1
    assert len(list((home / "psm").iterdir())) == 1


@pytest.mark.parametrize("text", ["", "alice", "p-xyz", "p-0123456789abcdef more"])
def test_what_is_no_pseudonym_is_not_used(home: Path, text: str) -> None:
    """A name that somebody wrote there would stand in records for ever."""
    (home / "psm").mkdir()
    (home / "psm" / "principal").write_text(text)
    with pytest.raises(ConfigError, match="holds no pseudonym"):
        principal()


def test_without_a_home_it_must_be_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container without a home, and a place that takes no file."""
    (home / "psm").write_text("a file")
    with pytest.raises(ConfigError, match="say who acts"):
        principal()
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    with pytest.raises(ConfigError, match="--actor or PSM_ACTOR"):
        principal()
