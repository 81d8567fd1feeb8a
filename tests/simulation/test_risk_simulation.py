"""Risk workers in a simulated world: whatever breaks, each order has one decision that holds.

A failure names its seed: `run_risk_seed(17)` takes the very same turns.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import Any

import pytest
from tests.support.simulator.bugs import patched
from tests.support.simulator.risk_bugs import RISK_BUGS
from tests.support.simulator.risk_world import run_risk_seed
from tests.support.simulator.run import BugFoundError

SEEDS = int(os.environ.get("PSM_TEST_RISK_WORLDS", "12"))
BUG_SEEDS = 40
RARE: dict[str, dict[str, Any]] = {
    "stale_state_accepted": {"loss": 0.6},
    "records_without_ids": {"faults": {"doubled": 0.7}},
}
"""What breaks only where two rare things meet is looked for where one of them is common."""

_BROKEN = re.compile(r"\b(Type|Name|Attribute|Value|Index|Key)Error\b")
_seen: Counter[str] = Counter()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_order_has_one_decision_that_holds(seed: int) -> None:
    """Kills, freezes, takeovers, lost answers: one chain, true to the log and the rulebook."""
    report = run_risk_seed(seed)
    _seen.update(report.seen)
    _seen.update(report.fired)


def test_enough_has_happened() -> None:
    """Worlds in which nothing is approved, latched or lost show nothing."""
    if SEEDS >= 12:
        wanted = {
            *("approved approved", "rejected mode", "rejected max_order_quantity"),
            *("rejected open_orders_count", "rejected account_unknown", "latched"),
            *("worker_killed", "worker_frozen", "connection_cut", "dropped", "write_in_flight"),
        }
        assert wanted <= set(_seen), f"never happened: {sorted(wanted - set(_seen))}"
        assert _seen["takeovers"] > 5 * SEEDS


def test_the_same_seed_is_the_same_run() -> None:
    """Every step is the same again."""
    first = run_risk_seed(3)
    assert run_risk_seed(3) == first
    assert run_risk_seed(4).trace != first.trace


@pytest.mark.parametrize("bug", RARE)
def test_what_makes_a_bug_common_harms_nothing_else(bug: str) -> None:
    """Worlds in which it is looked for are good ones without it."""
    for seed in range(3):
        run_risk_seed(seed, **RARE[bug])


def test_the_first_owner_comes_between_two_looks() -> None:
    """This seed found that a slot was then taken for one whose record is gone."""
    run_risk_seed(100)


@pytest.mark.parametrize("bug", RISK_BUGS)
def test_a_planted_bug_is_noticed(bug: str) -> None:
    """Each promise that is broken on purpose makes some seed fail, and not for a bad patch."""
    with patched(RISK_BUGS[bug]()):
        for seed in range(BUG_SEEDS):
            try:
                run_risk_seed(seed, **RARE.get(bug, {}))
            except BugFoundError as error:
                if _BROKEN.search(str(error)):
                    raise
                return
    pytest.fail(f"{BUG_SEEDS} seeds did not notice: {RISK_BUGS[bug].__doc__}")
