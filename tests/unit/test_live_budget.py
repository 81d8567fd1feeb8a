"""The share of a worker's time that live reads may take."""

from __future__ import annotations

from psm.adapters import telemetry
from psm.workers.partition.live_budget import LiveBudget

METRICS = telemetry.quiet().metrics


def test_share_is_kept_over_any_long_time() -> None:
    """Whoever asks without pause gets 5 % of the time, and what was saved before."""
    now = [0.0]
    budget = LiveBudget(METRICS, clock=lambda: now[0])
    spent = 0.0
    while now[0] < 1000.0:
        if budget.is_spent:
            now[0] += 0.001
        else:
            budget.spend(0.003)
            now[0] += 0.003
            spent += 0.003
    assert 50.0 <= spent <= 50.6


def test_long_answer_leaves_a_debt() -> None:
    """One answer may exceed what is left; the next ones wait until it is paid."""
    now = [0.0]
    budget = LiveBudget(METRICS, clock=lambda: now[0])
    assert not budget.is_spent
    budget.spend(1.5)
    now[0] = 19.9
    assert budget.is_spent
    now[0] = 20.1
    assert not budget.is_spent


def test_quiet_hours_are_saved_for_a_moment_only() -> None:
    """A day without questions does not allow an hour of answers."""
    now = [0.0]
    budget = LiveBudget(METRICS, clock=lambda: now[0])
    now[0] = 86_400.0
    assert not budget.is_spent
    budget.spend(0.6)
    assert budget.is_spent
