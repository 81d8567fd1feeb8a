"""The golden logs still give what they gave when they were made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.replay.golden import FOLDER, observed, read
from tests.support.domain import Log
from tests.support.events import Sent
from tests.support.market import KINDS

LOGS = sorted(FOLDER.glob("*.jsonl.gz"))


def test_there_is_a_golden_log_per_kind() -> None:
    """Every selection of instruments has one."""
    assert [path.name.partition(".")[0] for path in LOGS] == sorted(KINDS)


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.name.partition(".")[0])
def test_golden_log_gives_the_same_hashes(path: Path) -> None:
    """Figures and hashes agree after every message; else the first difference is named."""
    lines = read(path)
    assert len(lines) >= 1_000
    log = Log()
    expected: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(lines, 1):
        log.when(Sent(subject=line.subject, data=line.data.encode(), at=line.time))
        expected |= line.seen
        found = observed(log.books)
        if found != expected:
            pytest.fail(f"message {number}: {_first_difference(expected, found)}\n{line.data}")


def _first_difference(expected: dict[str, Any], found: dict[str, Any]) -> str:
    for account in sorted({*expected, *found}):
        was, now = expected.get(account, {}), found.get(account, {})
        for name in {**was, **now}:
            if was.get(name) != now.get(name):
                return f"{account}.{name} was {was.get(name)!r}, is {now.get(name)!r}"
    return "nothing differs"
