"""`python -m benchmarks.ledger [--json] [--events N]`: measures, prints a table or JSON."""

from __future__ import annotations

import argparse
import json
import platform
import sys

from benchmarks import fold


def main() -> int:
    """Run every benchmark; return 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--events", type=int, default=40_000, help="measured events per run")
    options = parser.parse_args()
    few = fold.measure(events=options.events, accounts=20, positions=10)
    many = fold.measure(events=options.events, accounts=2, positions=1_000)
    ratio = many["microseconds_per_event"] / few["microseconds_per_event"]
    figures = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "fold": [few, many],
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
    lines = [f"{'positions':>10} {'events/s':>10} {'us/event':>9} {'baseline/s':>11}"]
    lines += [
        f"{row['positions_per_account']:>10} {row['events_per_s']:>10} "
        f"{row['microseconds_per_event']:>9} {row['baseline_events_per_s']:>11}"
        for row in figures["fold"]
    ]
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
