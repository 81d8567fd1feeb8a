"""`psm fold`: fold JSON lines without any server, streaming."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from psm.analytics.closes import PERIODS, PERIODS_MAX
from psm.contracts.errors import ConfigError
from psm.domain.market.slots import ValuationSlots, slots_of
from psm.workers.cli.shared.lines import LinesOutput, take_lines, tell_without_effect
from psm.workers.cli.shared.output import say_json
from psm.workers.replay.figures import FigureFolder, account_document
from psm.workers.replay.lines import DEFAULT_PARTITIONS, LineFolder


def fold(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)] = "-",
    /,
    *,
    state: Annotated[bool, Parameter(negative="")] = False,
    final: Annotated[bool, Parameter(negative="")] = False,
    partitions: int = DEFAULT_PARTITIONS,
    valuation_slots: str = str(ValuationSlots()),
    metrics: Annotated[bool, Parameter(negative="")] = False,
    periods: int | None = None,
    output: LinesOutput = None,
) -> int:
    """Fold JSON lines and print what each did, by the same rules as the live system.

    A line is {"subject": "trades.acc_001", "data": {envelope}}, optionally with "time" and
    "log_sequence", or a bare envelope. Left-out numbers, ids and times are filled in. Events of
    accounts stay in memory, about 1 KB each, as a bust or an amendment reads its account's again.
    "redacted": true with "event_hash" says that personal texts of "data" were blacked out: the hash
    is then that of the bytes as they were stored, and chain hashes are those of the log.

    Args:
        file: What to read, .gz too; - is standard input.
        state: Add the state after each line.
        final: Print only the end state of each account.
        partitions: Of the log; part of the subjects of updates.
        valuation_slots: Of the log; when marks publish: three periods in ms, and basis points.
        metrics: Print what each account made of it: daily closes, trades, performance.
        periods: Of metrics: days a year, 365 by default, or 252 where markets rest.
        output: Tell problems as JSON lines, too; results always are.
    """
    if partitions < 1:
        raise ConfigError("--partitions must be 1 or more")
    as_json = output is not None
    if metrics:
        if state or final or valuation_slots != str(ValuationSlots()):
            raise ConfigError("--state, --final and --valuation-slots are not for --metrics")
        year = PERIODS["1d"] if periods is None else periods
        if not 1 <= year <= PERIODS_MAX:
            raise ConfigError(f"--periods must be 1 to {PERIODS_MAX}")
        return _metrics(file, year, partitions, as_json=as_json)
    if periods is not None:
        raise ConfigError("--periods is for --metrics")
    folder = LineFolder(
        partitions=partitions,
        with_state=state and not final,
        slots=slots_of(valuation_slots),
    )
    return _fold(folder, file, final=final, as_json=as_json)


def _fold(folder: LineFolder, file: str, *, final: bool, as_json: bool) -> int:
    """Print what each line did, or the end states; return the exit code."""

    def take(line: bytes) -> None:
        result = folder.take(line)
        if result is not None and not final:
            _print(result, flush=file == "-")

    code = take_lines(file, take, as_json=as_json)
    if final:
        for document in folder.final():
            _print(document, flush=False)
    return code


def _metrics(file: str, periods: int, partitions: int, *, as_json: bool) -> int:
    """Print the figures of each account; return the exit code."""
    folder = FigureFolder(periods=periods, partitions=partitions)
    code = take_lines(file, folder.take, as_json=as_json)
    tell_without_effect(folder.without_effect(), as_json=as_json)
    for figures in folder.accounts():
        _print(account_document(figures), flush=False)
    return code


def _print(document: object, *, flush: bool) -> None:
    say_json(document, sys.stdout)
    if flush:  # somebody may be typing, or waiting for the answer to each line
        sys.stdout.flush()
