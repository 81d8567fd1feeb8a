"""`psm fold`: fold JSON lines without any server, streaming."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import msgspec
from cyclopts import Parameter

from psm.contracts.errors import ConfigError
from psm.workers.fold_lines import DEFAULT_PARTITIONS, LineError, LineFolder

_PROBLEM = 1


def fold(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)] = "-",
    /,
    *,
    state: Annotated[bool, Parameter(negative="")] = False,
    final: Annotated[bool, Parameter(negative="")] = False,
    partitions: int = DEFAULT_PARTITIONS,
    valuation_interval_ms: int = 1000,
) -> int:
    """Fold JSON lines and print what each did, by the same rules as the live system.

    A line is {"subject": "trades.acc_001", "data": {envelope}}, optionally with "time" and
    "log_sequence", or a bare envelope. Left-out numbers, ids and times are filled in. Events of
    accounts stay in memory, about 1 KB each, as a bust or an amendment reads its account's again.

    Args:
        file: What to read; - is standard input.
        state: Add the state after each line.
        final: Print only the end state of each account.
        partitions: Of the log; part of the subjects of updates.
        valuation_interval_ms: Of the log; how often marks publish.
    """
    if file.startswith("-") and file != "-":
        raise ConfigError(f"unknown option {file}; see `psm fold --help`")
    for option, number in (
        ("--partitions", partitions),
        ("--valuation-interval-ms", valuation_interval_ms),
    ):
        if number < 1:
            raise ConfigError(f"{option} must be 1 or more")
    folder = LineFolder(
        partitions=partitions,
        with_state=state and not final,
        valuation_interval_ns=valuation_interval_ms * 1_000_000,
    )
    bad = 0
    with _opened(file) as lines:
        for line in lines:
            try:
                result = folder.take(line)
            except LineError as error:
                bad += 1
                print(f"psm: {error}", file=sys.stderr)
                continue
            if result is not None and not final:
                _print(result, flush=file == "-")
    if final:
        for document in folder.final():
            _print(document, flush=False)
    return _PROBLEM if bad else 0


def _print(document: object, *, flush: bool) -> None:
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    if flush:  # somebody may be typing, or waiting for the answer to each line
        sys.stdout.flush()


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        opened = Path(file).open("rb")  # noqa: SIM115 - only opening it may fail here
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    with opened:
        yield opened
