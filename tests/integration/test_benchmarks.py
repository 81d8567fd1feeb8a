"""The benchmarks run: tiny, so their figures say nothing, but none of them has rotted."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from benchmarks.__main__ import BENCHMARKS

# These start many processes one after the other; what they start, others start too.
LONG = frozenset({"archive", "scaling"})


@pytest.mark.timeout(660)
def test_benchmarks_measure_something() -> None:
    """Each returns figures above zero, beside a baseline where there is a ratio."""
    only = sorted(BENCHMARKS.keys() - LONG)
    names = [argument for name in only for argument in ("--only", name)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--smoke", "--json", *names],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["smoke"] is True
    assert set(found["seconds"]) == set(only)
    for figure in found["figures"]:
        assert figure["value"] > 0, figure
        assert (figure["ratio"] is None) or figure["baseline"] is not None, figure
        assert (figure["met"] is None) == (figure["target"] is None), figure
