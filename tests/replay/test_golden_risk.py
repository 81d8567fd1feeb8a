"""Golden logs of orders: the recorded decisions, made again and proved, whatever surrounds them."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.make_golden_risk import (
    FOLDER,
    PARTITIONS,
    PRINT_LENGTH,
    PRINTS,
    prints_of,
    read_lines,
)

from psm.risk.limits import CATALOGUE
from psm.workers.proof.risk.offline import RecordedRisk, prove_lines

RECORDED: dict[str, dict[str, Any]] = json.loads(PRINTS.read_text("utf-8"))
NAMES = sorted(RECORDED)
ROOT = Path(__file__).parents[2]
NEVER = {
    "too_many_orders",  # 10 000 orders in fifteen minutes
    "account_known",  # a member that the feed lost: no log says so
}


def made(name: str, partitions: int = PARTITIONS) -> RecordedRisk:
    found = RecordedRisk(partitions)
    for line in read_lines(name):
        found.take_line(line)
    return found


def test_every_golden_log_is_recorded() -> None:
    """More than 1 000 decisions, and files without prints would judge nothing."""
    assert [path.name.removesuffix(".jsonl.gz") for path in sorted(FOLDER.glob("*.gz"))] == NAMES
    assert sum(one["decisions"] for one in RECORDED.values()) > 1_500


@pytest.mark.parametrize("name", NAMES)
def test_golden_log_gives_the_recorded_decisions(name: str) -> None:
    """Every record byte for byte, alerts and latches too."""
    found, _ = prints_of(read_lines(name))
    recorded = RECORDED[name]["records"]
    length = PRINT_LENGTH
    kept = [recorded[at : at + length] for at in range(0, len(recorded), length)]
    for number, (before, now) in enumerate(zip(kept, found, strict=False), 1):
        assert before == now, f"record {number}"
    assert len(kept) == len(found)


@pytest.mark.parametrize(
    ("name", "partitions"), [*((name, 1) for name in NAMES), ("traffic_1", 64)]
)
def test_golden_log_is_proved(name: str, partitions: int) -> None:
    """Made with one number of partitions, proved with another: byte for byte the same."""
    prover = asyncio.run(prove_lines(made(name), partitions))
    assert prover.deviations == []
    assert prover.decisions == RECORDED[name]["decisions"]


def test_every_check_fails_somewhere() -> None:
    """A check that never fails in them is not at its border."""
    failed: set[str] = set()
    for name in NAMES:
        for record in made(name).records:
            failed |= {one["name"] for one in record.payload.get("checks", ()) if not one["passed"]}
    assert set(CATALOGUE) - failed == NEVER


@pytest.mark.parametrize("seed", ["1", "4242"])
def test_hash_seed_zone_and_locale_do_not_matter(seed: str) -> None:
    """A process of its own, with surroundings of its own, gives the same prints."""
    code = (
        "import json; from tests.support.make_golden_risk import *;"
        "print(json.dumps({n: ''.join(prints_of(read_lines(n))[0]) for n in "
        f"{['traffic_1', 'people', 'losses']}}}))"
    )
    own = {"PYTHONHASHSEED": seed, "TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **own}, cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name, prints in json.loads(found.stdout).items():
        assert prints == RECORDED[name]["records"], name


def test_the_command_proves_a_file(tmp_path: Path) -> None:
    """`psm validate --risk --file`: exit code 0, and what was proved as JSON."""
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join(read_lines("people"))))
    found = subprocess.run(
        [sys.executable, "-m", "psm.workers.cli", "validate", "--risk", "--file", str(path),
         "-o", "json"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    verdict = json.loads(found.stdout)
    assert (verdict["ok"], verdict["deviations"]) == (True, 0)
    assert verdict["decisions"] == RECORDED["people"]["decisions"]
