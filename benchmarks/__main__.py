"""`python -m benchmarks [--json] [--events N]`: measures, prints a table or JSON."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from typing import get_args

from benchmarks import fold
from psm.domain.books import Publishing


def main() -> int:
    """Run every benchmark; return 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--events", type=int, default=40_000, help="measured events per run")
    options = parser.parse_args()
    rows = [
        fold.measure(
            events=options.events,
            accounts=accounts,
            positions=positions,
            publishing=publishing,
            shared=shared,
        )
        for accounts, positions, shared in ((20, 10, False), (20, 10, True), (2, 1_000, True))
        for publishing in get_args(Publishing)
    ]
    few, many = (
        next(r for r in rows if r["publishing"] == "hashes" and r["positions_per_account"] == n)
        for n in (10, 1_000)
    )
    ratio = many["microseconds_per_event"] / few["microseconds_per_event"]
    figures = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "fold": rows,
        "ratio": round(ratio, 2),
        "snapshot": fold.snapshot_bytes(),
        "profile": fold.profile(events=options.events // 4, accounts=20, positions=10),
        "targets": {
            "events_per_s": fold.TARGET_EVENTS_PER_S,
            "ratio_max": fold.RATIO_MAX,
        },
    }
    met = few["events_per_s"] >= fold.TARGET_EVENTS_PER_S and ratio <= fold.RATIO_MAX
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if options.json else _table(figures))
    return 0 if met else 1


def _table(figures: dict) -> str:  # type: ignore[type-arg]
    columns = {
        "publishing": "publishing",
        "positions": "positions_per_account",
        "a mark values": "accounts_per_mark",
        "events/s": "events_per_s",
        "us/event": "microseconds_per_event",
        "baseline/s": "baseline_events_per_s",
    }
    lines = ["  ".join(f"{name:>13}" for name in columns)]
    lines += ["  ".join(f"{row[name]:>13}" for name in columns.values()) for row in figures["fold"]]
    lines.append(f"ratio {figures['ratio']} (at most {fold.RATIO_MAX})")
    lines += [
        f"snapshot, {row['windows']}: {row['bytes_per_account']} bytes an account"
        for row in figures["snapshot"]
    ]
    lines.append("most time of their own:")
    lines += [
        f"{row['share']:>7.1%} {row['calls']:>9} {row['function']}" for row in figures["profile"]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
