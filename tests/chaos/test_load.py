"""`make load` in small: three brokers, one short step, and what it tells."""

from __future__ import annotations

import pytest
from benchmarks.load import Steps, load, summary, told

pytestmark = [pytest.mark.chaos, pytest.mark.chaos_long]
SMALL = Steps(first=30, most=1, step_s=2, accounts=5, symbols=2, partitions=2)


async def test_one_step_on_three_brokers() -> None:
    """Events are acknowledged and seen; the objectives are those of the step."""
    (step,) = await load(SMALL)
    assert (step.failed, step.per_s) == (0, 30)
    assert step.sent > 10
    assert step.seen_ms[0] > 0
    of = {row.objective: row for row in step.objectives}
    assert of["http"].met is True
    assert of["read"].count > 0
    assert told(step)[0].startswith("30/s")
    assert summary([step]).startswith("3 servers, ")
