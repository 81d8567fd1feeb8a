"""What commands print: results on stdout in the format asked for, everything else on stderr.

A command takes `*, output: Output = DEFAULT_OUTPUT` and gains `-o table|json|jsonl`, `--quiet` and
`--no-color`. Tables are for people; json and jsonl are exact and stable. All text goes through
`say` and `say_json`, because what others sent may not command the terminal.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal, Protocol

import msgspec
from cyclopts import Parameter

from psm.adapters.terminal import is_plain, printable, printable_json
from psm.workers.cli.shared import tables

if TYPE_CHECKING:
    from rich.console import Console

_WIDE = 10_000

Reached = Callable[[int, int], None]
"""Called with the position that a reader has reached, and with the last one that it will."""


class Steps(Protocol):
    """A running progress bar."""

    def advance(self, count: int = 1) -> None:
        """Say that `count` more steps are done."""

    def total(self, count: int) -> None:
        """Correct the number of steps expected."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Output:
    """How a command prints.

    Attributes:
        format: table for people, json for one document, jsonl for a document a line.
        quiet: only results: no notes, no progress.
        no_color: no colour, bold or other escape; NO_COLOR in the environment does the same.
    """

    format: Annotated[
        Literal["table", "json", "jsonl"], Parameter(name=["--output", "-o"], help="Format.")
    ] = "table"
    quiet: Annotated[
        bool, Parameter(name=["--quiet", "-q"], negative="", help="Only the result.")
    ] = False
    no_color: Annotated[
        bool, Parameter(name="--no-color", negative="", help="Plain text; as NO_COLOR does.")
    ] = False

    def document(self, document: Mapping[str, Any] | msgspec.Raw) -> None:
        """Print one result; raw JSON keeps its digits, and is never printed as a table."""
        if self.format == "table" and not isinstance(document, msgspec.Raw):
            self.lines(*tables.pairs(list(document.items()), _width(sys.stdout)))
        else:
            self._json(document, indent=self.format == "json")

    def line_document(self, document: Mapping[str, Any]) -> None:
        """Print one of many results that come one after the other: as one line of JSON."""
        self._json(document, indent=False)

    def rows(self, rows: Iterable[Mapping[str, Any] | msgspec.Raw], columns: Sequence[str]) -> None:
        """Print many results; `columns` names the ones a table shows, the most important first.

        Raw JSON keeps its digits, and is never printed as a table.
        """
        if self.format == "table":
            given = (row for row in rows if not isinstance(row, msgspec.Raw))
            cells = [[row.get(name) for name in columns] for row in given]
            self.lines(*tables.table(columns, cells, _width(sys.stdout)))
        elif self.format == "json":
            self._json(list(rows), indent=True)
        else:
            for row in rows:
                self._json(row, indent=False)

    def note(self, text: str) -> None:
        """Tell the person something that is no part of the result."""
        if not self.quiet:
            say(text, sys.stderr)

    def console(self, file: IO[str]) -> Console:
        """Return a rich console on `file` that honours NO_COLOR, --no-color and pipes."""
        from rich.console import Console

        # Without a colour system there is no bold either, and no escape at all.
        return Console(file=file, color_system=None if self._plain else "auto", width=_width(file))

    def clear(self) -> None:
        """Begin a new picture where a person looks on; elsewhere pictures follow each other."""
        if sys.stdout.isatty() and not self._plain:
            self.console(sys.stdout).clear()

    @contextmanager
    def progress(self, label: str, total: int | None = None) -> Iterator[Steps]:
        """Show a bar with rate and time left on stderr while the block runs.

        Nothing is shown when stderr is no terminal, with `--quiet`, or where no escapes are wanted.
        """
        if self.quiet or self._plain or not sys.stderr.isatty():
            yield _Silent()
            return
        from rich import progress as bars

        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[rate]}"),
            bars.TimeRemainingColumn(),
        )
        with bars.Progress(*columns, console=self.console(sys.stderr), transient=True) as bar:
            yield _Bar(bar, bar.add_task(label, total=total, rate=""))

    @contextmanager
    def following(self, label: str) -> Iterator[Reached]:
        """Show how far a reader is; the block gets a function to call with position and end."""
        with self.progress(label) as bar:
            before = 0

            def reached(position: int, last: int) -> None:
                nonlocal before
                bar.total(last)
                bar.advance(position - before)
                before = position

            yield reached

    def lines(self, *lines: str) -> None:
        """Print text for people as it stands; a pipe gets whole lines."""
        say("\n".join(lines), sys.stdout)

    def failure(self, text: str, **facts: Any) -> None:
        """Report a problem on stderr: as a line, or with json and jsonl as a document."""
        if self.format == "table":
            say(text, sys.stderr)
        else:
            say_json({"error": text, **facts}, sys.stderr)

    def _json(self, value: Any, *, indent: bool) -> None:
        say_json(value, sys.stdout, indent=indent)

    @property
    def _plain(self) -> bool:
        return self.no_color or is_plain()


def say(text: str, file: IO[str]) -> None:
    """Print lines for people; what in them would command a terminal is written out."""
    file.write(printable(text) + "\n")


def say_json(value: Any, file: IO[str], *, indent: bool = False) -> None:
    """Print a JSON document that commands no terminal either."""
    data = msgspec.json.encode(value)
    text = (msgspec.json.format(data, indent=2) if indent else data).decode()
    file.write(printable_json(text) + "\n")


DEFAULT_OUTPUT = Output()
"""For signatures: `*, output: Output = DEFAULT_OUTPUT`."""


class _Silent:
    """Progress nobody watches."""

    def advance(self, count: int = 1) -> None:
        del count

    def total(self, count: int) -> None:
        del count


class _Bar:
    """Progress on a terminal."""

    def __init__(self, bar: Any, task: Any) -> None:
        self._bar = bar
        self._task = task

    def advance(self, count: int = 1) -> None:
        speed = self._bar.tasks[0].speed or 0
        self._bar.update(self._task, advance=count, rate=f"{speed:,.0f}/s")

    def total(self, count: int) -> None:
        self._bar.update(self._task, total=count)


def _width(file: IO[str]) -> int:
    """Return how many letters fit on a line."""
    if not file.isatty():
        return _WIDE  # a pipe has no width: wrapping there would break `grep` and `awk`
    return shutil.get_terminal_size().columns
