"""Crash points."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from psm.contracts.errors import ConfigError
from psm.workers.process.crash_points import CRASH_POINTS, armed, crash_point

_CODE = """
from psm.workers.process.crash_points import crash_point
for turn in range(5):
    crash_point("worker.after_fold")
    crash_point("worker.after_commit")
    print(turn, flush=True)
"""


def test_process_dies_at_the_nth_pass() -> None:
    """The named point kills with SIGKILL at exactly the pass asked for."""
    done = subprocess.run(
        [sys.executable, "-c", _CODE],
        env={**os.environ, "PSM_CRASH_POINT": "worker.after_commit:3"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == [b"0", b"1"]
    assert b'"point":"worker.after_commit"' in done.stderr


def test_without_the_variable_nothing_happens() -> None:
    """Unarmed points are passed."""
    assert armed({}) is None
    for name in CRASH_POINTS:
        crash_point(name)


@pytest.mark.parametrize(
    "text", ["worker.after_lunch", "worker.after_fold:0", "worker.after_fold:x"]
)
def test_unknown_points_are_refused(text: str) -> None:
    """A crash test that would never crash must not pass for one that did."""
    with pytest.raises(ConfigError, match=r"worker\.after_commit"):
        armed({"PSM_CRASH_POINT": text})


def test_production_refuses_crash_points() -> None:
    """Nobody can arm a crash point in production."""
    with pytest.raises(ConfigError, match="refuses"):
        armed({"PSM_CRASH_POINT": "worker.after_fold", "PSM_ENV": "production"})
