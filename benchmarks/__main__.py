"""Measures PSM beside bare forms of the same work: `make bench ARGS=...`."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable

import structlog

from benchmarks import (
    accounts,
    analytics,
    archive,
    audit,
    book,
    checkpoint,
    commit,
    costs,
    fold,
    latency,
    partitions,
    projection,
    recovery,
    replay,
    risk,
    scaling,
    views,
)
from benchmarks.figures import FULL, SMOKE, Figure, Size, as_json, environment, table

Benchmark = Callable[[Size], Awaitable[list[Figure]]]

BENCHMARKS: dict[str, Benchmark] = {
    "fold": fold.figures,
    "accounts": accounts.measure,
    "costs": costs.measure,
    "commit": commit.measure,
    "replay": replay.measure,
    "latency": latency.measure,
    "partitions": partitions.measure,
    "projection": projection.measure,
    "views": views.measure,
    "scaling": scaling.measure,
    "recovery": recovery.measure,
    "checkpoint": checkpoint.measure,
    "archive": archive.figures,
    "audit": audit.measure,
    "risk": risk.measure,
    "book": book.measure,
    "analytics": analytics.measure,
}


def main() -> int:
    """Run the benchmarks that were asked for; return 1 where a target is missed."""
    options = _options()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if options.profile:
        sys.stdout.write(fold.profile_text(events=10_000))
        return 0
    size = SMOKE if options.smoke else FULL
    before = environment()
    figures: list[Figure] = []
    seconds: dict[str, float] = {}
    for name in options.only or BENCHMARKS:
        started = time.perf_counter()
        figures += asyncio.run(_run(BENCHMARKS[name], size))
        seconds[name] = round(time.perf_counter() - started, 1)
        sys.stderr.write(f"{name}: {seconds[name]} s\n")
    if options.json:
        found = {
            "environment": before,
            "smoke": options.smoke,
            "seconds": seconds,
            "figures": [as_json(figure) for figure in figures],
        }
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        lines = [f"{name}: {text}" for name, text in before.items()]
        sys.stdout.write("\n".join(lines) + "\n\n" + table(figures))
    missed = any(figure.met is False for figure in figures)
    return 1 if missed and not options.smoke else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--only", action="append", choices=BENCHMARKS, help="one benchmark; may be given again"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="tiny sizes: shows that it runs, not how fast"
    )
    parser.add_argument(
        "--profile", action="store_true", help="show where the fold spends its time instead"
    )
    return parser.parse_args()


async def _run(benchmark: Benchmark, size: Size) -> list[Figure]:
    return await benchmark(size)


if __name__ == "__main__":
    raise SystemExit(main())
