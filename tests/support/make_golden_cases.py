"""Write the golden logs of the unit tests' cases: `python -m tests.support.make_golden_cases`.

Runs the tests of the ledger and keeps every log that they told a `Log` in memory: short ones, each
on books of its own, in one file. So what a unit test has an opinion about, the golden hashes have
one about as well, on every figure. Of a test module with very many cases some are left out. Only
for a new log: one that is in git never changes, whatever becomes of the tests it was taken from.
"""

from __future__ import annotations

import sys
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from scripts.mutation.narrow import narrowed
from tests.support import domain
from tests.support.domain import Log
from tests.support.events import Sent
from tests.support.make_golden_bounds import corners_of_bounds
from tests.support.make_golden_corners import write
from tests.support.make_golden_rare import PATH as RARE

from psm.contracts.errors import PSMError

BOUNDS = "test_state_bounds.py"
TESTS = Path(__file__).parent.parent / "unit"
WHERE = ("ledger", "accounting", "events", "test_account.py", "test_audit_findings.py",
         "test_business_keys.py", "test_fold.py", "test_collateral_defined.py", "test_evolve.py",
         "test_flags.py", "test_lateness.py", "test_marks_corners.py", "test_numbering.py",
         "test_order_book.py", "test_past_terms.py", "test_positions.py", "test_publish.py",
         "test_rates.py", "test_reconciliation.py", "test_snapshot.py", "test_stated_rates.py",
         BOUNDS, "test_valuation.py", "test_valuation_slots.py")  # fmt: skip
CASE_MAX = 32
"""Messages of the longest case."""
MODULE_MAX = 1200
"""Messages of all cases of a test module; beyond it every so manieth case is kept."""

Case = tuple[Sent, ...]


class Listener:
    """Keeps what the logs of a test run are told, by test module."""

    def __init__(self) -> None:
        self.module = ""
        self.heard: list[tuple[str, list[Sent]]] = []

    def pytest_runtest_setup(self, item: Any) -> None:
        """Note whose logs come next."""
        self.module = item.nodeid.partition("::")[0]

    def listen(self, patch: pytest.MonkeyPatch) -> None:
        """Let every log with books of its own tell what it is told."""
        begun, message, kept = Log.__init__, Log.message, dict[int, list[Sent]]()

        def begin(log: Log, **books: Any) -> None:
            begun(log, **books)
            if not books:
                kept[id(log)] = []
                self.heard.append((self.module, kept[id(log)]))
            else:
                kept.pop(id(log), None)

        def take(log: Log, sent: Sent) -> Any:
            made = message(log, sent)
            if id(log) in kept:
                kept[id(log)].append(sent.later(made.time))
            return made

        patch.setattr(domain.Log, "__init__", begin)
        patch.setattr(domain.Log, "message", take)


def chosen(heard: Iterable[tuple[str, Sequence[Sent]]]) -> Iterator[Case]:
    """Yield the cases that are kept: none is the beginning of another one, and all of them fold."""
    found = {tuple(sent): module for module, sent in heard if 0 < len(sent) <= CASE_MAX}
    begun: dict[Case, None] = {}
    modules: dict[str, list[Case]] = defaultdict(list)
    for case in sorted(found, key=len, reverse=True):
        if case not in begun and _folds(case):
            modules[found[case]].append(case)
        begun.update((case[:length], None) for length in range(1, len(case) + 1))
    for _, cases in sorted(modules.items()):
        count = sum(map(len, cases))
        yield from cases[:: -(-count // MODULE_MAX)]


def _folds(case: Case) -> bool:
    try:
        Log().when(*case)
    except (PSMError, ArithmeticError, LookupError, ValueError, AssertionError):
        return False
    return True


def lines(cases: Iterable[Case]) -> bytes:
    """Return the lines of the cases, one log after the other: the log sequence begins again."""
    found = []
    for case in cases:
        for number, sent in enumerate(case, 1):
            head = {"log_sequence": number, "subject": sent.subject, "time": sent.at}
            found.append({**head, "data_base64": b64encode(sent.data).decode()})
    return b"".join(msgspec.json.encode(line) + b"\n" for line in found)


def main() -> int:
    """Run the tests and write what they told; return 1 where one fails."""
    listener = Listener()
    with pytest.MonkeyPatch.context() as patch:
        listener.listen(patch)
        arguments = ["-q", "-n", "0", "-p", "no:cacheprovider"]
        failed = pytest.main([*arguments, *(str(TESTS / name) for name in WHERE)], [listener])
    if failed:
        return 1
    tell(listener.heard)
    return 0


def tell(heard: Sequence[tuple[str, Sequence[Sent]]]) -> None:
    """Write the golden logs of what was heard: of bounds apart, which are narrow there."""
    of_bounds = [one for one in heard if one[0].endswith(BOUNDS)]
    with narrowed():
        write(RARE.parent / "bounds.jsonl.gz", lines([*chosen(of_bounds), *corners_of_bounds()]))
    others = [one for one in heard if not one[0].endswith(BOUNDS)]
    write(RARE.parent / "cases.jsonl.gz", lines(chosen(others)))


if __name__ == "__main__":
    sys.exit(main())
