"""Golden logs: recorded streams, and what was known about every account after each message.

Run as a module it folds a log and prints the records; the tests do that in processes of their own.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from psm.workers.replay.lines import LineResult, fold_lines

FOLDER = Path(__file__).parent.parent / "replay" / "golden"
FIGURES = (
    *("sequence_number", "status", "flags", "cash", "realized_pnl", "fees", "funding"),
    *("equity", "unrealized_pnl", "margin_maintenance", "peak_equity"),
    *("chain_hash", "ledger_hash", "state_hash"),
)
POSITION_FIGURES = ("size", "side", "entry_price", "realized_pnl")

Record = dict[str, Any]


def records(lines: Iterable[bytes]) -> Iterator[Record]:
    """Yield one record per message: outcome, digest of the updates, state of who it touched."""
    for result in fold_lines(lines, with_state=True):
        assert isinstance(result, LineResult), result
        states = result.states if isinstance(result.states, list) else [result.state]
        published = b"\n".join(bytes(update.data) for update in result.updates)
        yield {
            "log_sequence": result.log_sequence,
            "subject": result.subject,
            "outcome": result.outcome,
            "reason": result.reason,
            "accounts": {s["account_id"]: _figures(s) for s in states if isinstance(s, dict)},
            "updates": len(result.updates),
            "published": hashlib.sha256(published).hexdigest(),
        }


def _figures(state: Record) -> Record:
    positions = {
        symbol: {name: position[name] for name in POSITION_FIGURES}
        for symbol, position in state["positions"].items()
    }
    return {**{name: state[name] for name in FIGURES}, "positions": positions}


def first_difference(expected: Sequence[Record], found: Sequence[Record]) -> str | None:
    """Return the first message and the field in it that is not as expected."""
    for before, after in zip(expected, found, strict=False):
        path = _differs(before, after)
        if path is not None:
            return f"log sequence {before['log_sequence']} ({before['subject']}): {path}"
    if len(expected) != len(found):
        return f"{len(expected)} messages expected, {len(found)} folded"
    return None


def _differs(expected: Any, found: Any, path: str = "") -> str | None:
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in {**expected, **found}:
            inner = _differs(expected.get(name), found.get(name), f"{path}.{name}".lstrip("."))
            if inner is not None:
                return inner
        return None
    return None if expected == found else f"{path} is {found!r}, expected {expected!r}"


def main() -> None:
    """Print the records of the log on the command line."""
    with Path(sys.argv[1]).open("rb") as lines:
        for record in records(lines):
            sys.stdout.buffer.write(msgspec.json.encode(record) + b"\n")


if __name__ == "__main__":
    main()
