"""Every golden log still gives the fingerprints in git: hashes, outcomes and published bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripts.mutation import mutators
from scripts.mutation.__main__ import FOLDER, PRINTS, golden_logs, name_of, sources_of_the_domain
from scripts.mutation.equivalent import stale
from scripts.mutation.runner import PRINT_LENGTH, fingerprint, replayed
from scripts.mutation.spooling import spool_logs

from psm.contracts import registry
from psm.domain.folding import table_events as table_fold

RECORDED = json.loads(PRINTS.read_text("utf-8"))
LOGS = golden_logs(FOLDER)


def test_every_golden_log_is_recorded() -> None:
    """A log without fingerprints would judge nothing."""
    assert [name_of(path) for path in LOGS] != []
    assert sorted(map(name_of, LOGS)) == sorted(RECORDED)


@pytest.mark.parametrize("path", LOGS, ids=name_of)
def test_golden_log_gives_the_recorded_fingerprints(path: Path, tmp_path: Path) -> None:
    """After every message; accounts pass through snapshots, and workers take over, on the way."""
    recorded, number = RECORDED[name_of(path)], -1
    for number, found in enumerate(replayed(spool_logs(path, tmp_path))):
        kept = recorded[number * PRINT_LENGTH : (number + 1) * PRINT_LENGTH]
        assert fingerprint(found) == kept, f"fingerprint {number + 1}: {found}"
    assert (number + 1) * PRINT_LENGTH == len(recorded)


def test_second_reading_leaves_the_rules_as_they_are(tmp_path: Path) -> None:
    """It knows rules 2 while it reads, and nothing of them afterwards."""
    spools = spool_logs(FOLDER / "written" / "next_rules.jsonl.gz", tmp_path)
    before = (vars(table_fold)["RULES_VERSION"], dict(registry._CODECS), dict(registry._FROM_RULES))
    enabled = [found for found in replayed(spools) if getattr(found, "what", "") == "folded"]
    assert len(enabled) >= 40
    after = (vars(table_fold)["RULES_VERSION"], dict(registry._CODECS), dict(registry._FROM_RULES))
    assert after == before


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ("x = a < b", ["a < b -> a <= b", "a < b -> a >= b"]),
        ("x = a + b", ["a + b -> a - b"]),
        ("x = a and b", ["a and b -> a or b"]),
        ("x = not a", ["not a -> a"]),
        ("x = 2", ["2 -> 3", "2 -> 1"]),
        ("x = True", ["True -> False"]),
        ("x = add(a, ZERO)", ["ZERO -> ONE", "add -> subtract"]),
        ("def f():\n    return a", ["return a -> return None"]),
        ("f(a)", ["f(a) -> pass"]),
        ("a.b = c", ["a.b = c -> pass"]),
        ("if a:\n    b", ["if a: -> if not a:"]),
        ("x = sorted(a)", ["sorted(a) -> a"]),
        ('"""Text."""\nx: int', []),
        ("assert a < b, 'text'", []),
        ("raise InvariantError('text')", []),
    ],
)
def test_mutators_change_what_they_should(source: str, texts: list[str]) -> None:
    """Each change is made, and the changed source is what it says."""
    found = mutators.mutants("m.py", source)
    assert sorted(mutant.text for mutant in found) == sorted(texts)
    for mutant in found:
        assert mutators.mutated(source, mutant) != source


def test_what_was_judged_equivalent_is_still_there() -> None:
    """A judgement holds for the line it was made of; a line written again is judged again."""
    found = [
        m
        for name, source in sources_of_the_domain().items()
        for m in mutators.mutants(name, source)
    ]
    assert stale(found) == []
