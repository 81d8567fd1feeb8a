"""The README says what is true: its marked shell blocks run.

A block ```sh after a line `<!-- test: run -->` is run by bash with the `psm` of this environment
first in the PATH, all of them in one folder and in their order; after `<!-- test: up -->` with a
`psm up` running, of which nobody tells it. Each must end with exit code 0.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.running import psm, psm_up

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"<!-- test: (run|up) -->\n```sh\n(.*?)```", re.DOTALL)
BLOCKS = BLOCK.findall(README.read_text())


def test_readme_has_blocks_to_run() -> None:
    """The convention is in use: without marked blocks this file would prove nothing."""
    assert {kind for kind, _ in BLOCKS} == {"run", "up"}
    assert README.read_text().count("<!-- test: ") == len(BLOCKS)


def test_readme_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader copies works as it stands, and leaves an account without any flag."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("NATS_URL", "POSTGRES_DSN"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "here").mkdir()
    for kind, block in BLOCKS:
        if kind == "run":
            run(block, tmp_path / "here")
    with psm_up(tmp_path, "--no-sync"):
        for kind, block in BLOCKS:
            if kind == "up":
                run(block, tmp_path / "here")
        state = json.loads(psm("state", "acc_001", "-o", "json").stdout)
    assert state["flags"] == []
    assert state["margin_maintenance"] == "105"


def run(block: str, folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip()
