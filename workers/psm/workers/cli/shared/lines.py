"""Lines of a file or of standard input, as the commands without a server read them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from psm.contracts.errors import ConfigError, ContractError
from psm.workers.cli.shared.output import say, say_json
from psm.workers.replay.lines import LineError, opened

_PROBLEM = 1
_NAMED = 5


LinesOutput = Annotated[Literal["json", "jsonl"] | None, Parameter(name=["--output", "-o"])]
"""Of commands whose results are JSON lines in any case; problems are, where it is given."""


def answer_lines(file: str, answer: Callable[[bytes], Any], *, as_json: bool = False) -> int:
    """Print the document that each line is answered with; say which lines are none.

    Returns:
        Exit code: 1 if a line was none, after the others were answered.
    """
    numbers = count(1)

    def take(line: bytes) -> None:
        number = next(numbers)
        if line.strip():
            try:
                document = answer(line)
            except ContractError as error:
                raise LineError(number, error) from error
            say_json(document, sys.stdout)
            if file == "-":  # somebody may be typing, or waiting for the answer to each line
                sys.stdout.flush()

    return take_lines(file, take, as_json=as_json)


def take_lines(file: str, take: Callable[[bytes], object], *, as_json: bool = False) -> int:
    """Hand on the lines of a file one by one; say which are none.

    Returns:
        Exit code: 1 if a line was none, after the others were taken.
    """
    bad = 0
    with opened_lines(file) as lines:
        for line in lines:
            try:
                take(line)
            except LineError as error:
                bad += 1
                _report(error, as_json=as_json)
    return _PROBLEM if bad else 0


def tell_without_effect(found: Mapping[str, Sequence[int]], *, as_json: bool) -> None:
    """Say of which events figures know nothing, for these did nothing: their own lines tell why."""
    for what, places in found.items():
        if as_json:
            say_json({"without_effect": what, "log_sequences": list(places)}, sys.stderr)
        else:
            named = ", ".join(str(place) for place in places[:_NAMED])
            more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
            say(f"psm: without effect: {what}, log sequence {named}{more}", sys.stderr)


def _report(error: LineError, *, as_json: bool) -> None:
    if as_json:
        cause = error.cause
        told = {"error": cause.detail, "line": error.line}
        say_json({**told, "reason": cause.reason, "field": cause.field}, sys.stderr)
    else:
        say(f"psm: {error}", sys.stderr)


@contextmanager
def opened_lines(file: str) -> Iterator[Iterable[bytes]]:
    """Open what is to be read: a path, gzipped if it ends in .gz, or - for standard input.

    Raises:
        ConfigError: it cannot be read, or is an option that nobody knows.
    """
    if file == "-":
        yield sys.stdin.buffer
        return
    if file.startswith("-"):
        raise ConfigError(f"unknown option {file}; see --help")
    with opened(Path(file)) as lines:
        yield lines
