"""The README, the first hour and the page about risk are true: their marked shell blocks run.

A block ```sh after a line `<!-- test: run -->` is run by bash with the `psm` of this environment
first in the PATH, all of a page in one folder and in their order; after `<!-- test: up -->` with a
`psm up` running, of which nobody tells it. Each must end with exit code 0.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.running import psm, psm_up

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"<!-- test: (run|up) -->\n```sh\n(.*?)```", re.DOTALL)
PAGES = {
    name: (ROOT / name).read_text() for name in ("README.md", "docs/risk.md", "docs/tutorial.md")
}
BLOCKS = {name: BLOCK.findall(text) for name, text in PAGES.items()}


def test_pages_have_blocks_to_run() -> None:
    """The convention is in use: without marked blocks this file would prove nothing."""
    assert {kind for kind, _ in BLOCKS["README.md"]} == {"run", "up"}
    assert {kind for kind, _ in BLOCKS["docs/risk.md"]} == {"up"}
    assert {kind for kind, _ in BLOCKS["docs/tutorial.md"]} == {"up"}
    for name, text in PAGES.items():
        assert text.count("<!-- test: ") == len(BLOCKS[name])


@pytest.fixture(autouse=True)
def _nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("NATS_URL", "POSTGRES_DSN"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "here").mkdir()


@pytest.mark.timeout(400)
def test_readme_and_first_hour_run(tmp_path: Path) -> None:
    """What a reader copies works as it stands, and leaves an account without any flag."""
    run_blocks("README.md", "run", tmp_path / "here")
    with psm_up(tmp_path, "--no-sync"):
        run_blocks("README.md", "up", tmp_path / "here")
        state = json.loads(psm("state", "acc_001", "-o", "json").stdout)
        run_blocks("docs/tutorial.md", "up", tmp_path / "here")
        taught = json.loads(psm("state", "desk_1", "-o", "json").stdout)
    assert state["flags"] == []
    assert state["margin_maintenance"] == "105"
    assert taught["cash"] == {"USDT": "9998.8"}  # what the busted fill had moved is gone


@pytest.mark.timeout(400)
def test_walk_of_risk_runs(tmp_path: Path) -> None:
    """A newcomer gets from nothing to a refusal, and to its story, with what the page says."""
    with psm_up(tmp_path, "--no-sync", "--risk"):
        run_blocks("docs/risk.md", "up", tmp_path / "here")
        story = archived("o2")
        outcomes = {
            one["order_id"]: (one["decision"], one["failed"])
            for one in json.loads(psm("risk", "decisions", "acc_1", "-o", "json").stdout)
        }
    assert outcomes == {
        "o1": ("approved", []),
        "o2": ("rejected", ["mode", "daily_loss"]),
        "o3": ("approved", ["mode", "daily_loss"]),
    }
    assert story["decision"]["payload"]["order_id"] == "o2"
    assert story["market_data"]["payload"] == {"symbol": "BTC-PERP", "price": "41500"}
    assert story["found_by"]["market_data"] == "named"


def archived(order_id: str) -> dict[str, Any]:
    """Return the story of a decision, once archive and views have it."""

    for _ in range(100):
        done = psm("explain", order_id, "-o", "json", check=False)
        if done.returncode == 0:
            found: dict[str, Any] = json.loads(done.stdout)
            return found
        time.sleep(0.2)
    raise AssertionError(done.stderr)


def run_blocks(page: str, wanted: str, folder: Path) -> None:
    """Run all blocks of a page of one kind."""
    for kind, block in BLOCKS[page]:
        if kind == wanted:
            run(block, folder)


def run(block: str, folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip()
