"""Write the golden logs: `python -m scripts.make_golden_ledger`.

Each is a seeded random log with the hashes after every message, as gzipped JSON lines under
tests/replay/golden/. Run it when the canonical form changes, and say so in the changelog.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import msgspec
from tests.replay.golden import FOLDER, Golden, observed
from tests.support import make_snapshots
from tests.support.domain import Log
from tests.support.market import KINDS, Market

EVENTS = 1_100
SEED = 20_251_212


def golden_log(kind: str) -> list[Golden]:
    """Return the lines of the golden log of one kind."""
    author = Market(seed=SEED, length=EVENTS, symbols=KINDS[kind]).author()
    log = Log()
    lines = []
    for sent in author.sent:
        log.when(sent)
        time = log.messages[log.books.position].time
        seen = observed(log.books)
        lines.append(Golden(subject=sent.subject, time=time, data=sent.data.decode(), seen=seen))
    return lines


def write(path: Path, lines: list[Golden]) -> None:
    """Write a golden log; what did not change since the line before is left out."""
    encoded: list[bytes] = []
    before: dict[str, dict[str, Any]] = {}
    for line in lines:
        changed = {a: seen for a, seen in line.seen.items() if before.get(a) != seen}
        before = line.seen
        encoded.append(msgspec.json.encode(msgspec.structs.replace(line, seen=changed)))
    # No name and no time in the header: the same log gives the same file.
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(b"\n".join(encoded) + b"\n")


def main() -> None:
    """Write all golden logs, and the snapshots that are recorded of some."""
    for kind in KINDS:
        write(FOLDER / f"{kind}.jsonl.gz", golden_log(kind))
    make_snapshots.main()


if __name__ == "__main__":
    main()
