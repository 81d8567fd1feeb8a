"""Spools a golden file: `python -m scripts.mutation.spooling FILE FOLDER` prints the spools' names.

A process of its own: nothing of the domain may be imported where mutants are run. A file holds one
log, or short ones in a row: where a log sequence does not rise the next log begins.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from psm.workers.proof.validation.run import spooled
from psm.workers.replay.lines import LineFolder, opened


class _Placed(msgspec.Struct):
    log_sequence: int | None = None


def logs_of(path: Path) -> Iterator[list[bytes]]:
    """Yield the lines of every log in a golden file."""
    decoder, log, last = msgspec.json.Decoder(_Placed), list[bytes](), 0
    with opened(path) as lines:
        for line in lines:
            place = decoder.decode(line).log_sequence
            if place is not None and place <= last:
                yield log
                log = []
            last = place or last
            log.append(line)
    yield log


def spool_logs(path: Path, folder: Path) -> list[str]:
    """Spool every log of a golden file; return the spools in their order."""
    name, found = path.name.partition(".")[0], []
    for number, lines in enumerate(logs_of(path)):
        target, reader = folder / f"{name}.{number:04d}.spool", LineFolder(partitions=16)
        with target.open("wb") as file:
            for message in map(reader.read, lines):
                if message is not None:
                    spooled(file, message)
        found.append(str(target))
    return found


if __name__ == "__main__":
    print("\n".join(spool_logs(Path(sys.argv[1]), Path(sys.argv[2]))))
