"""Write recorded snapshots of the form of today: `python -m tests.support.make_snapshots`.

Only before that form is frozen, or for a new form. What is in git of an older form is never written
again: it stands for the snapshots that are out there.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
from tests.support.domain import Log
from tests.support.golden import FOLDER as LOGS

from psm.domain.books import Books
from psm.domain.messages import LogMessage
from psm.domain.snapshot import SNAPSHOT_FORM, dump_account, dump_checkpoint
from psm.workers.replay.lines import DEFAULT_PARTITIONS, LineFolder

FOLDER = Path(__file__).parents[1] / "replay" / "snapshots"
SOURCES = ("linear", "repairs", "everything")
HASH = b"h" * 32


class RecordedSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What was saved of one account, or of the tables where there is no account."""

    account: str | None
    data: bytes


class RecordedBooks(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was saved behind one message of a golden log."""

    log: str
    log_sequence: int
    saved: list[RecordedSnapshot]


def messages(log: str) -> list[LogMessage]:
    """Return the messages of a golden log."""
    path = next(LOGS.glob(f"{log}.jsonl*"))
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    reader = LineFolder()
    found = (reader.read(line) for line in data.splitlines(keepends=True))
    return [message for message in found if message is not None]


def folded(found: list[LogMessage], books: Books | None = None) -> Log:
    """Return a log with these messages folded."""
    log = Log(books=books or Books(partitions=DEFAULT_PARTITIONS))
    for message in found:
        log.take(message)
    return log


def recorded(log: str, part: int) -> RecordedBooks:
    """Return what is saved after a third or two of a log."""
    every = messages(log)
    books = folded(every[: len(every) * part // 3]).books
    saved = [RecordedSnapshot(account=None, data=dump_checkpoint(books, books.position, HASH))]
    for stream_id, account in sorted(books.accounts.items()):
        data = dump_account(account, books.position, HASH)
        saved.append(RecordedSnapshot(account=stream_id, data=data))
    return RecordedBooks(log=log, log_sequence=books.position, saved=saved)


def main() -> None:
    """Write the recorded snapshots of the form of today."""
    folder = FOLDER / f"form_{SNAPSHOT_FORM}"
    folder.mkdir(parents=True, exist_ok=True)
    for log in SOURCES:
        for part in (1, 2):
            data = msgspec.json.encode(recorded(log, part))
            (folder / f"{log}_{part}.json").write_bytes(data + b"\n")


if __name__ == "__main__":
    main()
