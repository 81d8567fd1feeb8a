"""Files as rows: JSON with the place of each object, CSV with columns, XML without entities."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from json import decoder, scanner
from pathlib import Path
from typing import Any
from xml.parsers import expat

from psm.contracts.errors import ConfigError
from psm.workers.imports.rows import FilePlace, FileRow, FileRowError

MEGABYTES_MAX = 512
"""A larger file is split first: all of it is checked before anything is appended."""

_FIELD_MAX = 1 << 20


def read_text(path: Path, encoding: str = "utf-8-sig") -> str:
    """Return a file's text.

    Raises:
        ConfigError: it cannot be read, or is too large.
        FileRowError: it is not in that encoding.
    """
    try:
        if path.stat().st_size > MEGABYTES_MAX << 20:
            raise ConfigError(f"{path} has more than {MEGABYTES_MAX} MiB: split it by time")
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileRowError(
            FilePlace(str(path), line), f"is not {encoding}: save it as UTF-8"
        ) from error


def json_row(path: str, text: str) -> FileRow:
    """Return a JSON document as a row; a list becomes the field `list` of one.

    Raises:
        FileRowError: it is no JSON.
    """
    lines = _Lines(path, text)
    document = _decoded(lines, text)
    return document if isinstance(document, FileRow) else lines.row(0, {"list": document})


def csv_rows(
    path: str, text: str, *, delimiter: str = ",", skip_lines: int = 0
) -> tuple[list[str], Iterator[FileRow]]:
    """Return the header of a CSV file and its rows; lines that are empty are left out.

    Raises:
        FileRowError: there is no header, or, while rows are taken, one has another number of cells.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    csv.field_size_limit(_FIELD_MAX)
    for _ in range(skip_lines):
        next(reader, None)
    header = next(reader, None)
    if not header:
        raise FileRowError(FilePlace(path, skip_lines + 1), "there is no header")
    names = [name.strip() for name in header]
    return names, _cells(path, reader, names)


def xml_rows(path: str, text: str) -> list[FileRow]:
    """Return the elements of an XML file in order, each with its attributes.

    Raises:
        FileRowError: it is no XML, or declares entities.
    """
    found: list[FileRow] = []
    parser = expat.ParserCreate()

    def place() -> FilePlace:
        return FilePlace(path, parser.CurrentLineNumber, parser.CurrentColumnNumber + 1)

    def begun(name: str, attributes: Mapping[str, str]) -> None:
        found.append(FileRow(place=place(), kind=name, values=attributes))

    def declared(*_: object) -> None:
        # An entity may name other files, or grow without end.
        raise FileRowError(place(), "declares a document type; statements have none")

    parser.StartElementHandler = begun
    parser.StartDoctypeDeclHandler = declared
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        at = FilePlace(path, error.lineno, error.offset + 1)
        raise FileRowError(at, f"no XML: {expat.ErrorString(error.code)}") from error
    return found


def _cells(path: str, reader: Any, names: list[str]) -> Iterator[FileRow]:
    columns = {name: number for number, name in enumerate(names, 1)}
    before = reader.line_num
    try:
        for cells in reader:
            place, before = FilePlace(path, before + 1), reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(names):
                raise FileRowError(place, f"has {len(cells)} cells, the header {len(names)}")
            values = dict(zip(names, cells, strict=True))
            yield FileRow(place=place, kind="", values=values, columns=columns)
    except csv.Error as error:
        raise FileRowError(FilePlace(path, reader.line_num), f"no CSV: {error}") from error


class _Lines:
    """Places of a text by offset; offsets are asked in rising order for most of it."""

    def __init__(self, path: str, text: str) -> None:
        self._path, self._text = path, text
        self._offset, self._line = 0, 1

    def place(self, offset: int) -> FilePlace:
        if offset < self._offset:
            self._offset, self._line = 0, 1
        self._line += self._text.count("\n", self._offset, offset)
        self._offset = offset
        return FilePlace(self._path, self._line, offset - self._text.rfind("\n", 0, offset))

    def row(self, offset: int, values: dict[str, Any]) -> FileRow:
        return FileRow(place=self.place(offset), kind="", values=values)


def _decoded(lines: _Lines, text: str) -> Any:
    """Return a JSON document whose objects are rows and whose numbers are text."""
    plain = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_no_number)
    begins: list[tuple[int, dict[str, Any]]] = []

    def parse_object(begin: tuple[str, int], *rest: Any) -> Any:
        values, end = decoder.JSONObject(begin, *rest)  # type: ignore[attr-defined]
        begins.append((begin[1] - 1, values))
        return values, end

    plain.parse_object = parse_object  # type: ignore[attr-defined]
    plain.scan_once = scanner.py_make_scanner(plain)  # type: ignore[attr-defined]
    try:
        document = plain.decode(text)
    except json.JSONDecodeError as error:
        raise FileRowError(lines.place(error.pos), f"no JSON: {error.msg}") from error
    except (RecursionError, ValueError) as error:
        raise FileRowError(FilePlace(lines.place(0).file, 1), "no JSON that can be read") from error
    places = {id(values): lines.place(at) for at, values in sorted(begins, key=lambda b: b[0])}
    return _as_rows(document, places)


def _as_rows(value: Any, places: Mapping[int, FilePlace]) -> Any:
    if isinstance(value, dict):
        inner = {name: _as_rows(item, places) for name, item in value.items()}
        return FileRow(place=places[id(value)], kind="", values=inner)
    if isinstance(value, list):
        return [_as_rows(item, places) for item in value]
    return value


def _no_number(text: str) -> str:
    raise ValueError(text)
