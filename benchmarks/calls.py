"""Python calls that one event costs, counted exactly: no clock, so no noise.

    python -m benchmarks.calls            # the three counts
    python -m benchmarks.calls --most 40  # and the functions called most

Counts depend on the version of Python alone; compare those of one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from types import CodeType, FrameType
from typing import Any, get_args

from benchmarks.logs import PARTITIONS, MixedLog
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.messages import Emit

EVENTS = 4_000


def calls(emit: Emit, events: int = EVENTS) -> Counter[CodeType]:
    """Return how often each function was called while `events` were folded."""
    log = MixedLog(events=events, accounts=20, positions=10)
    books = Books(partitions=PARTITIONS)
    for message in log.warm:
        fold(books, message, emit=emit)
    found: Counter[CodeType] = Counter()

    def note(frame: FrameType, what: str, _: Any) -> None:
        if what == "call":
            found[frame.f_code] += 1

    sys.setprofile(note)
    try:
        for message in log.measured:
            fold(books, message, emit=emit)
    finally:
        sys.setprofile(None)
    return found


def main() -> None:
    """Print calls per event, by what is emitted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calls", description=__doc__)
    parser.add_argument("--most", type=int, default=0, help="list the functions called most")
    most = parser.parse_args().most
    counts = {emit: calls(emit) for emit in get_args(Emit)}
    per_event = {emit: round(found.total() / EVENTS, 2) for emit, found in counts.items()}
    print(json.dumps({"python": sys.version.split()[0], "calls_per_event": per_event}))
    for emit, found in counts.items():
        for code, number in found.most_common(most):
            print(f"{emit} {number / EVENTS:.2f} {code.co_qualname} {code.co_filename}")


if __name__ == "__main__":
    main()
