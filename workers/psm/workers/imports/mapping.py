"""A mapping file: how rows of a CSV file become facts, in TOML.

`docs/importers.md` has its schema, `examples/imports` has files to start from.
"""

from __future__ import annotations

import tomllib
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from psm.contracts.errors import ConfigError
from psm.contracts.registry import ACCOUNT_EVENTS

Sign = Literal["keep", "absolute", "negate"]
_TYPES = {payload.__name__: payload for payload in ACCOUNT_EVENTS}
_NUMBERS = ("s", "ms", "us")
_ISO = "iso"


class Column(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a field comes from: a column, or the same value in every row.

    Attributes:
        column: name in the header.
        value: what it is in every row.
        map: what a cell stands for; a cell that is not in it is an error.
        replace: text to replace in a cell.
        sign: of a number: `keep` it, its `absolute` value, or `negate` it.
        optional: an empty cell leaves the field out.
    """

    column: str | None = None
    value: str | None = None
    map: dict[str, str] = {}
    replace: dict[str, str] = {}
    sign: Sign = "keep"
    optional: bool = False


Given = str | Column


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows that become events of one type.

    Attributes:
        type: of the event.
        when: cells that a row must have for it: column to one of these values.
        positive: column whose number has to be above zero (`true`) or below (`false`).
        id: column that names the record; without one a row is known by what it says.
        fields: of the payload.
        rates: asset to what one unit of it was worth in the account's currency.
    """

    type: str
    when: dict[str, list[str]] = {}
    positive: dict[str, bool] = {}
    id: str | None = None
    fields: dict[str, Given]
    rates: dict[str, Given] = {}


class Skip(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows that say nothing of their own."""

    when: dict[str, list[str]]
    reason: str


class Balance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Column with the balance behind a row, for the comparison; the last one by time counts."""

    asset: Given
    column: str


class Defined(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a symbol is."""

    kind: str
    base: str
    quote: str
    settle: str | None = None
    multiplier: str = "1"


class Mapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole mapping file.

    Attributes:
        venue: name of who wrote the file; part of every id.
        delimiter, encoding, skip_lines: of the file.
        decimal: sign before the fraction of a number.
        thousands: sign between thousands, which is left out.
        time: format of times as in `strptime`, or `iso`, `s`, `ms`, `us`.
        timezone: of times that say none, such as `Europe/Berlin`.
        time_column: when it happened.
        account_column: with the venue's number of the account; never written.
        event: rules, of which the first that fits a row counts.
        skip: rows to leave out.
        balance: for the comparison.
        instrument: what symbols are.
    """

    venue: str
    time_column: str
    time: str = _ISO
    timezone: str = "UTC"
    delimiter: str = ","
    encoding: str = "utf-8-sig"
    skip_lines: int = 0
    decimal: Literal[".", ","] = "."
    thousands: str = ""
    account_column: str | None = None
    event: list[Rule]
    skip: list[Skip] = []
    balance: list[Balance] = []
    instrument: dict[str, Defined] = {}

    @property
    def zone(self) -> tzinfo:
        """The zone of times that say none."""
        return UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)

    @property
    def columns(self) -> set[str]:
        """Every column that it names."""
        named = {self.time_column}
        named |= {self.account_column} if self.account_column else set()
        for rule in self.event:
            named |= {*rule.when, *rule.positive, *([rule.id] if rule.id else [])}
            given = (*rule.fields.values(), *rule.rates.values())
            named |= {name for name in map(_column_of, given) if name}
        for skip in self.skip:
            named |= set(skip.when)
        for balance in self.balance:
            named |= {balance.column, _column_of(balance.asset) or balance.column}
        return named


def read_mapping(path: Path) -> Mapping:
    """Return a mapping file.

    Raises:
        ConfigError: it cannot be read, or says what cannot be; the text names the place.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
        mapping = msgspec.convert(document, Mapping)
    except OSError as error:
        raise ConfigError(f"cannot read the mapping {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error
    for problem in _problems(mapping):
        raise ConfigError(f"{path}: {problem}")
    return mapping


def _problems(mapping: Mapping) -> list[str]:
    found = []
    if not mapping.event:
        found.append("has no [[event]]: nothing would be imported")
    if len(mapping.delimiter) != 1:
        found.append("delimiter must be one character")
    try:
        mapping.zone.utcoffset(None)
    except (ZoneInfoNotFoundError, ValueError):
        found.append(f"timezone {mapping.timezone} is not known; write such as Europe/Berlin")
    if mapping.time not in (_ISO, *_NUMBERS) and "%" not in mapping.time:
        found.append(f"time {mapping.time!r} must be iso, s, ms, us or such as %Y-%m-%d %H:%M:%S")
    for number, rule in enumerate(mapping.event, 1):
        found += [f"event {number}: {problem}" for problem in _rule_problems(rule)]
    return found


def _rule_problems(rule: Rule) -> list[str]:
    payload = _TYPES.get(rule.type)
    if payload is None:
        return [f"there is no event type {rule.type} of an account"]
    fields = {field.encode_name: field for field in msgspec.structs.fields(payload)}
    found = [f"{rule.type} has no field {name}" for name in rule.fields if name not in fields]
    found += [
        f"{rule.type} needs {name}"
        for name, field in fields.items()
        if field.required and name not in rule.fields
    ]
    for name, given in {**rule.fields, **rule.rates}.items():
        if isinstance(given, Column) and (given.column is None) == (given.value is None):
            found.append(f"{name} needs either a column or a value")
        if isinstance(given, Column) and given.map:
            found += _map_problems(rule.type, name, given)
    return found


def _map_problems(event_type: str, name: str, given: Column) -> list[str]:
    """Return what a cell is mapped to that the event does not know."""
    field = next(
        (f for f in msgspec.structs.fields(_TYPES[event_type]) if f.encode_name == name), None
    )
    allowed = get_args(field.type) if field is not None else ()
    if not allowed or not all(isinstance(value, str) for value in allowed):
        return []
    return [
        f"{name} may be {', '.join(allowed)}, not {value}"
        for value in given.map.values()
        if value not in allowed
    ]


def _column_of(given: Given) -> str | None:
    return given if isinstance(given, str) else given.column


def column_of(given: Given) -> Column:
    """Return a field's source in its long form; a text is the name of a column."""
    return Column(column=given) if isinstance(given, str) else given
