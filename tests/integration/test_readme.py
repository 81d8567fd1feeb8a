"""The README says what is true: its marked shell blocks run.

A block ```sh after a line `<!-- test: run -->` is run by bash, in a folder of its own, with the
`psm` of this environment first in the PATH. It must end with exit code 0.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"<!-- test: run -->\n```sh\n(.*?)```", re.DOTALL)
BLOCKS = BLOCK.findall(README.read_text())


def test_readme_has_blocks_to_run() -> None:
    """The convention is in use: without marked blocks this file would prove nothing."""
    assert BLOCKS
    assert README.read_text().count("<!-- test: run -->") == len(BLOCKS)


@pytest.mark.parametrize("block", BLOCKS, ids=range(1, len(BLOCKS) + 1))
def test_readme_block_runs(block: str, tmp_path: Path) -> None:
    """What a reader copies works as it stands."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip()
