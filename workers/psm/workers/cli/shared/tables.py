"""Tables as lines of text: as many columns as the width has room for, the rest folded below.

Columns come by importance. One that does not fit is not dropped: its values stand under their row,
each with its name, so that nothing is ever cut off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from rich.cells import cell_len, chop_cells

from psm.adapters.terminal import printable

_BETWEEN = "  "
_INDENT = "    "
_NARROWEST = 8
_LONG = 24
_NEVER = 1_000_000
_BELOW = "↓"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], width: int) -> Iterator[str]:
    """Yield the lines of a table; its first line names the columns that fit."""
    cells = [[cell(value) for value in row] for row in rows]
    widths = _widths(columns, cells, width)
    shown = _fitting(widths, width)
    widths[0] = min(widths[0], max(width, _NARROWEST))
    right = {index for index in shown if _is_numeric([row[index] for row in rows])}
    yield _line([columns[index] for index in shown], shown, widths, right)
    yield _BETWEEN.join("─" * widths[index] for index in shown)
    for row in cells:
        first, *more = chop_cells(row[0], widths[0]) or [""]
        placed = {index for index in shown[1:] if cell_len(row[index]) <= widths[index]}
        texts = [row[index] if index in placed else _BELOW for index in shown[1:]]
        yield _line([first, *texts], shown, widths, right)
        yield from more
        yield from _wrapped(_folded(columns, row, {0, *placed}), width)


def pairs(rows: Sequence[tuple[str, Any]], width: int) -> Iterator[str]:
    """Yield the lines of one document, a name and its value a line; long values go on below."""
    named = max((cell_len(name) for name, _ in rows), default=0) + len(_BETWEEN)
    room = max(width - named, _NARROWEST)
    for name, value in rows:
        first, *more = chop_cells(cell(value), room) or [""]
        yield f"{_padded(name, named)}{first}".rstrip()
        yield from (" " * named + part for part in more)


def cell(value: Any) -> str:
    """Return a value as it stands in a table, on one line."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (dict, list, tuple)):
        value = msgspec.json.encode(value).decode()
    return printable(str(value)).replace("\n", "\\n").replace("\t", "\\t")


def _widths(columns: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the room of each column; where not all have it, a few long values take it from none.

    Those stand below their row instead.
    """
    by_column = list(zip(columns, *cells, strict=True))
    widths = [_width(column, None) for column in by_column]
    if sum(widths) + len(_BETWEEN) * (len(widths) - 1) > width:
        widths[1:] = [_width(column, _LONG) for column in by_column[1:]]
    return widths


def _width(column: Sequence[str], longest: int | None) -> int:
    """Return the room a column needs for its name and its values.

    With a limit, values beyond it do not count; a column that has no others gets no room.
    """
    name, *values = map(cell_len, column)
    counted = [value for value in values if longest is None or value <= longest]
    return max([name, *counted]) if counted or not values else _NEVER


def _fitting(widths: Sequence[int], width: int) -> list[int]:
    """Return the columns that have room beside each other; the first is always one of them."""
    shown, left = [0], width - widths[0]
    for index, needed in enumerate(widths[1:], start=1):
        if len(_BETWEEN) + needed <= left:
            shown.append(index)
            left -= len(_BETWEEN) + needed
    return shown


def _folded(columns: Sequence[str], row: Sequence[str], placed: set[int]) -> list[str]:
    """Return name and value of what did not find a place in the row itself."""
    return [
        f"{name} {value}"
        for index, (name, value) in enumerate(zip(columns, row, strict=True))
        if index not in placed and value != "-"
    ]


def _line(
    texts: Sequence[str], shown: Sequence[int], widths: Sequence[int], right: set[int]
) -> str:
    placed = (
        _padded(text, widths[index], right=index in right)
        for text, index in zip(texts, shown, strict=True)
    )
    return _BETWEEN.join(placed).rstrip()


def _padded(text: str, width: int, *, right: bool = False) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def _wrapped(items: Sequence[str], width: int) -> Iterator[str]:
    """Yield the items indented, as many on a line as there is room for."""
    room = max(width - len(_INDENT), _NARROWEST)
    line = ""
    for item in items:
        joined = f"{line}{_BETWEEN}{item}" if line else item
        if cell_len(joined) <= room:
            line = joined
            continue
        if line:
            yield _INDENT + line
        name, _, value = item.partition(" ")
        full = [item] if cell_len(item) <= room else [name, *chop_cells(value, room)]
        line = full.pop()
        yield from (_INDENT + part for part in full)
    if line:
        yield _INDENT + line


def _is_numeric(values: Sequence[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(map(_is_number, known))


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value.lstrip("-")[:1].isdigit() and set(value) <= set("-0123456789.")
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
