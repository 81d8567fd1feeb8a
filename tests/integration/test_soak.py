"""The soak in small: `make soak` runs, watches every process, and its checks find nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from benchmarks.soak import PARTS, Check, Plan, Report
from benchmarks.soak_watch import Minute, growth

SMALL = {
    "minutes": 0.25,
    "interval-s": 5,
    "accounts": 20,
    "symbols": 4,
    "trades-per-s": 60,
    "marks-per-s": 8,
    "partitions": 4,
    "validated": 2,
}


@pytest.mark.timeout(300)
def test_everything_at_work_is_audited_at_the_end() -> None:
    """Load, then audit, validate and views: nothing is behind, lost or different."""
    options = [part for name, value in SMALL.items() for part in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--json", *options],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["failed"] == 0
    assert found["sent"] > 500
    assert found["settled_s"] is not None
    commands = [check["command"].split()[1] for check in found["checks"]]
    assert commands == ["audit", "validate", "validate", "views"]
    assert found["growth"] == {}, "too short to be judged"
    last: dict[str, Any] = found["minutes"][-1]
    assert last["messages"]["TRADES"] > 500
    assert last["messages"]["PSM"] > last["messages"]["TRADES"]
    assert last["memory_mb"].keys() == {"broker", *PARTS}
    assert all(memory > 5 for memory in last["memory_mb"].values())
    assert last["lag"].keys() == set(PARTS)


def minute(minutes: float, memory: float) -> Minute:
    """Return a line of a soak with one process."""
    return Minute(
        minutes=minutes,
        messages={},
        megabytes={},
        per_s={},
        disk_mb=0.0,
        memory_mb={"worker": memory},
        lag={},
        behind_s=0.0,
    )


def report(grown: dict[str, float], *, exit_code: int = 0, failed: int = 0) -> Report:
    """Return what a soak found."""
    return Report(
        plan=Plan(),
        environment={},
        minutes=[],
        sent=1,
        failed=failed,
        settled_s=1.0,
        checks=[Check("psm audit", exit_code, 1.0, "two findings")],
        growth=grown,
    )


def test_growth_is_judged_after_the_first_ten_minutes() -> None:
    """The highest memory from then on, beside the highest until then."""
    lines = [minute(1, 50), minute(9, 90), minute(10, 100), minute(11, 104), minute(12, 109)]
    assert growth(lines, 10) == {"worker": 0.09}
    assert report(growth(lines, 10)).problems == []
    grown = growth([*lines, minute(13, 112)], 10)
    assert report(grown).problems == [
        "worker grew by 12.0% after minute 10; at most 10% are allowed"
    ]
    assert growth(lines[:3], 10) == {}


def test_what_a_soak_finds_is_told() -> None:
    """Findings of a command, and events that nobody acknowledged."""
    assert report({}, exit_code=1, failed=3).problems == [
        "3 events were not acknowledged",
        "`psm audit` ended with 1: two findings",
    ]
