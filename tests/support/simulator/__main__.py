"""`make simulate SEEDS=1000`: run many seeds, count what happened, keep those that fail."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path

from tests.support.simulator.bugs import BUGS, planted
from tests.support.simulator.faults import FAULTS
from tests.support.simulator.run import BugFoundError, Report, run_seed

from psm.domain.messages import Outcome

REGRESSIONS = Path(__file__).parents[2] / "simulation" / "regressions.txt"
_EVERY_S = 5.0


def regressions() -> list[int]:
    """Return the seeds that once found a bug."""
    lines = (line.partition("#")[0].strip() for line in REGRESSIONS.read_text().splitlines())
    return [int(line) for line in lines if line]


def main() -> int:
    """Run; exit code 1 if a seed fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at the same time")
    parser.add_argument("--bug", choices=list(BUGS), help="plant this bug first")
    chosen = parser.parse_args()
    seeds = [*range(chosen.first, chosen.first + chosen.seeds)]
    failed: dict[int, str] = {}
    reports: list[Report] = []
    started = told = time.monotonic()
    for seed, report, error in _results(seeds, chosen.jobs, chosen.bug):
        if report is not None:
            reports.append(report)
        else:
            failed[seed] = error
            print(f"FAILED {error}\n  again: make simulate FIRST={seed} SEEDS=1", flush=True)
        if time.monotonic() - told >= _EVERY_S:
            told = time.monotonic()
            done = len(reports) + len(failed)
            print(f"{done} of {len(seeds)} seeds, {len(failed)} failed", file=sys.stderr)
    _tell(reports, failed, time.monotonic() - started)
    if chosen.bug is None:
        _keep(failed)
    return 1 if failed else 0


def _results(
    seeds: list[int], jobs: int, bug: str | None
) -> Iterator[tuple[int, Report | None, str]]:
    if jobs == 1 or len(seeds) == 1:
        yield from (_one(seed, bug) for seed in seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(_one, seeds, [bug] * len(seeds), chunksize=4)


def _one(seed: int, bug: str | None) -> tuple[int, Report | None, str]:
    try:
        with nullcontext() if bug is None else planted(bug):
            return seed, run_seed(seed), ""
    except BugFoundError as error:
        return seed, None, str(error)


def _tell(reports: list[Report], failed: dict[int, str], seconds: float) -> None:
    fired = sum((report.fired for report in reports), Counter())
    print(f"seeds run        {len(reports) + len(failed)}")
    print(f"bugs found       {len(failed)}")
    print(f"events           {sum(report.events for report in reports)}")
    print(f"updates          {sum(report.updates for report in reports)}")
    print(f"commits          {sum(report.commits for report in reports)}")
    seen = sum((report.outcomes for report in reports), Counter())
    print(f"accounts         {seen['evicted']} evicted, {seen['returned']} returned")
    for outcome in Outcome:
        print(f"  {outcome:<14} {seen[outcome]}")
    print(f"simulated hours  {sum(report.virtual_s for report in reports) / 3600:.1f}")
    print(f"steps            {sum(report.steps for report in reports)}")
    print(f"seconds          {seconds:.1f}")
    print(f"faults fired     {fired.total()}")
    for fault in FAULTS:
        print(f"  {fault:<22} {fired[fault]}")


def _keep(failed: dict[int, str]) -> None:
    """Add what failed to the list that is always run."""
    new = [seed for seed in failed if seed not in regressions()]
    with REGRESSIONS.open("a") as file:
        file.writelines(f"{seed}  # {failed[seed].splitlines()[0][:100]}\n" for seed in new)


if __name__ == "__main__":
    sys.exit(main())
