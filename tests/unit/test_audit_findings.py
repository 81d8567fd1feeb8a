"""What an audit finds: every code has advice, and its line in the page about the audit."""

from __future__ import annotations

import re
from pathlib import Path

from psm.workers.proof.audit.findings import _NEXT, Finding, Findings

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"


def test_every_code_is_explained() -> None:
    """The table of docs/audit.md has exactly the codes that there are."""
    table = PAGE.read_text().partition("## Findings")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(_NEXT)


def test_findings_of_a_fold_are_taken_once() -> None:
    """Taking a collection adds its counts, also of what was not kept."""
    all_of_it, own = Findings(), Findings()
    all_of_it.add(Finding(code="missing", stream="TRADES", sequence=1))
    own.add(Finding(code="missing", stream="TRADES", sequence=5), 3)
    own.add(Finding(code="misplaced", stream="TRADES", sequence=4))
    all_of_it.take(own)
    assert all_of_it.counts() == {"misplaced": 1, "missing": 4}
    assert [(f.code, f.sequence) for f in all_of_it.ordered()] == [
        ("missing", 1),
        ("misplaced", 4),
        ("missing", 5),
    ]
