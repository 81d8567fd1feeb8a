"""Recorded logs fold to what was recorded: on any machine, in any year."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.golden import FOLDER, first_difference, records

ROOT = Path(__file__).parent.parent.parent
LOGS = sorted(path.name.removesuffix(".expected.jsonl") for path in FOLDER.glob("*.expected.jsonl"))
SURROUNDINGS = [
    {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C"},
    {"PYTHONHASHSEED": "1", "TZ": "Asia/Kathmandu", "LC_ALL": "C.UTF-8"},
    {"PYTHONHASHSEED": "4242", "TZ": "America/St_Johns", "PYTHONUTF8": "1"},
]


def expected(name: str) -> list[dict[str, Any]]:
    """Return the records in git."""
    text = (FOLDER / f"{name}.expected.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_there_are_golden_logs() -> None:
    """They cover every outcome that the rules have without operators."""
    assert "linear" in LOGS
    outcomes = dict.fromkeys(record["outcome"] for record in expected("linear"))
    names = ["applied", "refused", "duplicate", "conflict", "parked", "held", "blocked"]
    assert sorted(outcomes) == sorted([*names, "rejected", "stale"])


@pytest.mark.parametrize("name", LOGS)
@pytest.mark.parametrize("surroundings", SURROUNDINGS, ids=lambda s: s["TZ"])
def test_golden_log_folds_to_what_was_recorded(name: str, surroundings: dict[str, str]) -> None:
    """Another process, hash seed, time zone and locale give the same hash after every message."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.golden", str(FOLDER / f"{name}.jsonl")],
        cwd=ROOT,
        env={**os.environ, **surroundings},
        capture_output=True,
        check=True,
    )
    found = [json.loads(line) for line in run.stdout.splitlines()]
    difference = first_difference(expected(name), found)
    assert difference is None, difference


def test_first_difference_names_message_and_field() -> None:
    """Whoever breaks a golden log learns where it went apart."""
    lines = (FOLDER / "linear.jsonl").read_bytes().splitlines()
    want = expected("linear")
    place = next(n for n, r in enumerate(want) if r["accounts"].get("acc_001"))
    changed = lines.copy()
    changed[place] = lines[place].replace(b'"schema_version":"1.0.0"', b'"schema_version":"1.0"')
    changed[place] = changed[place].replace(b'"schema_version":"1.0",', b'"schema_version":"1",')
    difference = first_difference(want, list(records(changed)))
    assert difference is not None
    sequence = want[place]["log_sequence"]
    assert difference.startswith(f"log sequence {sequence} (trades.acc_001): ")
    assert "chain_hash is" in difference
    short = first_difference(want, want[:-1])
    assert short == f"{len(want)} messages expected, {len(want) - 1} folded"
