"""CSV files of anybody, by a mapping file."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

import msgspec

from psm.contracts.registry import ACCOUNT_EVENTS
from psm.workers.imports.facts import Found, VenueInstrument
from psm.workers.imports.mapping import Balance, Given, Mapping, Rule, column_of
from psm.workers.imports.rows import FilePlace, FileRow, FileRowError, micros

_PER_UNIT = {"s": 1_000_000, "ms": 1000, "us": 1}
_PERSONS = ("counterparty",)
_TEXTS = {
    (payload.__name__, field.encode_name): not _is_decimal
    for payload in ACCOUNT_EVENTS
    for field in msgspec.structs.fields(payload)
    for _is_decimal in ["Decimal" in str(field.type)]
}


class Mapped:
    """Takes the rows of a file by its mapping."""

    def __init__(self, mapping: Mapping, found: Found) -> None:
        self._mapping, self._found = mapping, found
        for symbol, defined in mapping.instrument.items():
            found.instruments[symbol] = VenueInstrument(
                symbol=symbol,
                kind=defined.kind,
                base=defined.base,
                quote=defined.quote,
                settle=defined.settle or defined.quote,
                multiplier=Decimal(defined.multiplier),
                venue=mapping.venue,
            )

    def parse(self, path: str, header: list[str], rows: Iterable[FileRow]) -> None:
        """Take a file.

        Raises:
            FileRowError: the header lacks a column of the mapping.
        """
        missing = sorted(self._mapping.columns - set(header))
        if missing:
            line = self._mapping.skip_lines + 1
            raise FileRowError(
                FilePlace(path, line), f"the header has no column {', '.join(missing)}"
            )
        self._found.read(rows, lambda row, into: self._take(row, into))

    def _take(self, row: FileRow, found: Found) -> None:
        if self._mapping.account_column is not None:
            found.owners.add(row.text(self._mapping.account_column))
        time = self._time(row)
        for skip in self._mapping.skip:
            if _fits(row, skip.when):
                found.skipped[skip.reason] += 1
                break
        else:
            self._event(row, found, time)
        for balance in self._mapping.balance:
            self._balance(row, found, balance, time)

    def _event(self, row: FileRow, found: Found, time: int) -> None:
        rule = next((rule for rule in self._mapping.event if self._is_of(row, rule)), None)
        if rule is None:
            raise row.error("fits no [[event]] and no [[skip]] of the mapping")
        payload: dict[str, str | Decimal] = {}
        person: dict[str, str] = {}
        for name, given in rule.fields.items():
            value = self._value(row, given, text=_TEXTS[rule.type, name])
            if name in _PERSONS and isinstance(value, str):
                person[name] = value
            elif value is not None:
                payload[name] = value
        rates = {
            asset: rate
            for asset, given in rule.rates.items()
            for rate in [self._value(row, given, text=False)]
            if isinstance(rate, Decimal)
        }
        named = {self._asset(row, asset): rate for asset, rate in rates.items()}
        record = None
        if rule.id is not None and row.has(rule.id):
            record = f"{rule.type}:{row.text(rule.id)}"
            self._name(rule, payload, row.text(rule.id))
        found.add(row, time, rule.type, record, payload, rates=named, person=person)

    def _asset(self, row: FileRow, asset: str) -> str:
        """Return an asset of `rates`; in braces it is a column."""
        return row.text(asset[1:-1]) if asset.startswith("{") else asset

    def _name(self, rule: Rule, payload: dict[str, str | Decimal], record: str) -> None:
        """Let the record's name be its business key, where the event has one and none is given."""
        for name in ("fill_id", "transfer_id", "reference"):
            if (rule.type, name) in _TEXTS and name not in rule.fields:
                payload[name] = record
                return

    def _is_of(self, row: FileRow, rule: Rule) -> bool:
        return _fits(row, rule.when) and all(
            (self._number(row, column) > 0) == above
            for column, above in rule.positive.items()
            if row.has(column)
        )

    def _value(self, row: FileRow, given: Given, *, text: bool) -> str | Decimal | None:
        source = column_of(given)
        if source.column is None:
            assert source.value is not None
            return source.value if text else row.number("value", source.value)
        if not row.has(source.column):
            if source.optional:
                return None
            raise row.error("is empty", source.column)
        if not text:
            number = self._number(row, source.column)
            return {"keep": number, "absolute": abs(number), "negate": -number}[source.sign]
        cell = row.text(source.column)
        for old, new in source.replace.items():
            cell = cell.replace(old, new)
        if source.map and cell not in source.map:
            raise row.error(f"{cell[:40]!r} is none of {', '.join(source.map)}", source.column)
        return source.map.get(cell, cell)

    def _number(self, row: FileRow, column: str) -> Decimal:
        text = row.text(column)
        if self._mapping.thousands:
            text = text.replace(self._mapping.thousands, "")
        if self._mapping.decimal != ".":
            text = text.replace(self._mapping.decimal, ".")
        return row.number(column, text)

    def _time(self, row: FileRow) -> int:
        column, form = self._mapping.time_column, self._mapping.time
        if form in _PER_UNIT:
            number = row.decimal(column) * _PER_UNIT[form]
            return int(number)
        if form != "iso":
            return row.time(column, form, zone=self._mapping.zone)
        try:
            time = datetime.fromisoformat(row.text(column))
        except ValueError as error:
            raise row.error("is no ISO 8601 time", column) from error
        return micros(time if time.tzinfo else time.replace(tzinfo=self._mapping.zone))

    def _balance(self, row: FileRow, found: Found, balance: Balance, time: int) -> None:
        if not row.has(balance.column):
            return
        asset = self._value(row, balance.asset, text=True)
        assert isinstance(asset, str)
        found.after(asset, self._number(row, balance.column), time)


def _fits(row: FileRow, when: dict[str, list[str]]) -> bool:
    return all((row.optional(column) or "") in values for column, values in when.items())
