"""What commands print: results on stdout in the format asked for, everything else on stderr.

A command takes `*, output: Output = DEFAULT_OUTPUT` and gains `-o table|json|jsonl`, `--quiet` and
`--no-color`. Tables are for people; json and jsonl are exact and stable.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal, Protocol

import msgspec
from cyclopts import Parameter

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
        no_color: never colour; NO_COLOR in the environment does the same.
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
            self._table(("", ""), ((name, value) for name, value in document.items()), head=False)
        else:
            self._json(document, indent=self.format == "json")

    def rows(self, rows: Iterable[Mapping[str, Any] | msgspec.Raw], columns: Sequence[str]) -> None:
        """Print many results; `columns` names the ones a table shows, in order.

        Raw JSON keeps its digits, and is never printed as a table.
        """
        if self.format == "table":
            given = (row for row in rows if not isinstance(row, msgspec.Raw))
            self._table(columns, ([row.get(name) for name in columns] for row in given))
        elif self.format == "json":
            self._json(list(rows), indent=True)
        else:
            for row in rows:
                self._json(row, indent=False)

    def note(self, text: str) -> None:
        """Tell the person something that is no part of the result."""
        if not self.quiet:
            self.console(sys.stderr).print(text, highlight=False, markup=False)

    def console(self, file: IO[str]) -> Console:
        """Return a rich console on `file` that honours NO_COLOR, --no-color and pipes."""
        from rich.console import Console

        # A pipe has no width: wrapping or cutting there would break `grep` and `awk`.
        width = None if file.isatty() else _WIDE
        return Console(file=file, no_color=True if self.no_color else None, width=width)

    @contextmanager
    def progress(self, label: str, total: int | None = None) -> Iterator[Steps]:
        """Show a bar with rate and time left on stderr while the block runs.

        Nothing is shown when stderr is no terminal, or with `--quiet`.
        """
        if self.quiet or not sys.stderr.isatty():
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

    def _json(self, value: Any, *, indent: bool) -> None:
        data = msgspec.json.encode(value)
        sys.stdout.write((msgspec.json.format(data, indent=2) if indent else data).decode() + "\n")

    def _table(
        self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, head: bool = True
    ) -> None:
        from rich.box import SIMPLE
        from rich.table import Table
        from rich.text import Text

        cells = [list(row) for row in rows]
        table = Table(box=SIMPLE if head else None, show_header=head, pad_edge=False)
        for index, name in enumerate(columns):
            column = [row[index] for row in cells if row[index] is not None]
            numeric = head and bool(column) and all(map(_is_number, column))
            table.add_column(Text(name), justify="right" if numeric else "left", no_wrap=numeric)
        for row in cells:
            # Text, not markup: a value with brackets is data.
            table.add_row(*(Text(_cell(value)) for value in row))
        self.console(sys.stdout).print(table)


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


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (dict, list, tuple)):
        return msgspec.json.encode(value).decode()
    return str(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value.lstrip("-")[:1].isdigit() and set(value) <= set("-0123456789.")
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
