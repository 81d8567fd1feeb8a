"""Rows of files as venues write them, JSON, CSV and XML alike, each with where it stands.

All scalars are text, so that no number passes through a binary float. What a row lacks, or holds in
another form, is a `FileRowError` that names file, line, column and field.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from psm.contracts.errors import PSMError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROS = 1_000_000
_LETTERS = "0123456789.-+eE"


class FilePlace(msgspec.Struct, frozen=True, order=True):
    """Where a row begins; the first line and the first column are 1."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class FileRowError(PSMError):
    """A row that cannot be imported; the text begins with where it is."""

    def __init__(self, place: FilePlace, text: str) -> None:
        super().__init__(f"{place}: {text}")
        self.place = place


class FileRow(msgspec.Struct, frozen=True, kw_only=True):
    """One record of a file.

    Attributes:
        place: where it begins.
        kind: element of XML, path of JSON, empty for CSV.
        values: text, None, bool, or for JSON a nested row or a list, by field.
        columns: number of each field's column, where the file has columns.
    """

    place: FilePlace
    kind: str
    values: Mapping[str, Any]
    columns: Mapping[str, int] = {}

    def error(self, text: str, field: str | None = None) -> FileRowError:
        """Return an error about this row, or about one of its fields."""
        column = self.columns.get(field or "", self.place.column)
        named = f"{field}: " if field else ""
        return FileRowError(FilePlace(self.place.file, self.place.line, column), named + text)

    def has(self, field: str) -> bool:
        """Return whether a field is there and holds something."""
        return self.values.get(field) not in (None, "")

    def text(self, field: str) -> str:
        """Return a field's text; it may not be empty."""
        value = self.values.get(field)
        if value is None or value == "":
            raise self.error("is missing or empty", field)
        if not isinstance(value, str):
            raise self.error("is no text or number", field)
        return value.strip()

    def optional(self, field: str) -> str | None:
        """Return a field's text, or None where it has none."""
        return self.text(field) if self.has(field) else None

    def decimal(self, field: str) -> Decimal:
        """Return a number."""
        return self.number(field, self.text(field))

    def decimal_or(self, field: str, default: Decimal = Decimal(0)) -> Decimal:
        """Return a number, or the default where the field is empty."""
        return self.decimal(field) if self.has(field) else default

    def number(self, field: str, text: str) -> Decimal:
        """Return the number that a text of this row says."""
        try:
            value = Decimal(text) if text.strip(_LETTERS) == "" else None
        except InvalidOperation:
            value = None
        if value is None or not value.is_finite():
            raise self.error(f"{text[:40]!r} is no number", field)
        return value

    def flag(self, field: str) -> bool:
        """Return a truth value."""
        value = self.values.get(field)
        if isinstance(value, bool):
            return value
        if value in ("true", "false"):
            return bool(value == "true")
        raise self.error("is neither true nor false", field)

    def millis(self, field: str) -> int:
        """Return a time that is given in milliseconds since 1970, in microseconds."""
        text = self.text(field)
        if not text.isdecimal():
            raise self.error(f"{text[:40]!r} is no time in milliseconds", field)
        return int(text) * 1000

    def time(self, field: str, *formats: str, zone: tzinfo = UTC) -> int:
        """Return a time in microseconds since 1970, read by the first format that fits."""
        return self.moment(field, self.text(field), *formats, zone=zone)

    def moment(self, field: str, text: str, *formats: str, zone: tzinfo = UTC) -> int:
        """Return the time that a text of this row says."""
        for form in formats:
            try:
                return micros(datetime.strptime(text, form).replace(tzinfo=zone))
            except ValueError:
                continue
        raise self.error(f"{text[:40]!r} is no time like {datetime_like(formats[0])}", field)

    def inner(self, field: str) -> FileRow:
        """Return a nested row."""
        value = self.values.get(field)
        if not isinstance(value, FileRow):
            raise self.error("is no object", field)
        return value

    def rows(self, field: str) -> list[FileRow]:
        """Return a list of nested rows."""
        value = self.values.get(field)
        if not isinstance(value, list) or not all(isinstance(item, FileRow) for item in value):
            raise self.error("is no list of objects", field)
        return value


def micros(time: datetime) -> int:
    """Return an aware time in microseconds since 1970."""
    passed = time - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * _MICROS + passed.microseconds


def rfc3339(time_us: int) -> str:
    """Return microseconds since 1970 as events write times: in UTC, no needless zeros."""
    seconds, fraction = divmod(time_us, _MICROS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f"{fraction:06d}".rstrip("0")
    return f"{text}.{digits}Z" if digits else f"{text}Z"


def datetime_like(form: str) -> str:
    """Return an example of a time format."""
    return datetime(2026, 1, 31, 13, 45, 59, tzinfo=UTC).strftime(form)
