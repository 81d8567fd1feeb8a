"""JSON rows as risk takes them offline: cases to decide, inputs of a size, tables of closes."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, get_args

import msgspec

from psm.contracts.errors import ConfigError, ContractError
from psm.domain.money import ZERO
from psm.risk.clusters import Closes
from psm.risk.decide import Decision, Restriction, RiskCase
from psm.risk.limits import NEEDS_HISTORY, Check, Limits
from psm.risk.sizing import Rule, SizingInputs
from psm.risk.state import Contract, ProposedOrder, RiskState

_PLACES_MAX = 60
_EXACT = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
_SYNONYMS: Mapping[str, str] = {
    "e": "entry", "s": "stop", "entry_price": "entry", "stop_price": "stop", "r": "risk",
    "risk_per_trade": "risk", "m": "multiplier", "fee_rate": "fee", "fees": "fee",
    "lot_size": "lot", "p": "price", "w": "weight", "notional": "money",
    "volatility": "sigma", "target_volatility": "target", "vol_target": "target",
    "k": "atr_multiple", "atr_mult": "atr_multiple", "avg_win": "average_win",
    "avg_loss": "average_loss", "n": "trades", "kelly_fraction": "fraction",
}  # fmt: skip
"""Names of the formulas beside those of `SizingInputs`, in lower case; W is the win rate."""
_RULE_NAMES: Mapping[str, Rule] = {
    "fixed_fractional": "fixed_fractional", "risk_per_trade": "fixed_fractional",
    "fixed_notional": "fixed_notional", "volatility_target": "volatility_target",
    "atr": "atr", "kelly": "kelly_capped", "kelly_capped": "kelly_capped",
    "inverse": "inverse", "inverse_contracts": "inverse",
}  # fmt: skip


class CaseRow(msgspec.Struct, kw_only=True):
    """One row of `psm risk decide`; numbers, counts too, are texts or exact JSON numbers."""

    state: RiskState
    order: ProposedOrder
    limits: dict[str, msgspec.Raw] = {}
    clusters: dict[str, str] = {}
    restricted: list[str | dict[str, str]] | dict[str, str] = []
    lots: dict[str, Decimal] = {}
    on_limit: str | None = None


def read_case(line: bytes) -> RiskCase:
    """Return the case of a row.

    Raises:
        ContractError: it is none; the text says which field, and what is known.
    """
    try:
        row = msgspec.json.decode(line, type=CaseRow, strict=False)
        limits = _limits(row)
        case = RiskCase(
            state=_with_lots(row.state, row.lots),
            limits=limits,
            order=row.order,
            clusters=row.clusters,
            restricted=_restricted(row.restricted),
        )
    except msgspec.ValidationError as error:
        raise ContractError("malformed_field", str(error)) from None
    except msgspec.DecodeError as error:
        raise ContractError("invalid_json", str(error)) from None
    _check_numbers(msgspec.to_builtins(case, builtin_types=(Decimal,)), "row")
    _check_values(case)
    return case


class CheckRow(Check, frozen=True, kw_only=True, omit_defaults=False):
    """A check with all of its fields, null where there is nothing."""


def decision_row(decision: Decision) -> Decision:
    """Return a decision as a row shows it."""
    rows = tuple(CheckRow(**msgspec.structs.asdict(check)) for check in decision.checks)
    return msgspec.structs.replace(decision, checks=rows)


def read_sizing(line: bytes) -> tuple[Rule, SizingInputs]:
    """Return rule and inputs of a row of `psm risk size`.

    Raises:
        ContractError: it is none.
    """
    try:
        row = _EXACT.decode(line)
    except msgspec.MsgspecError as error:
        raise ContractError("invalid_json", str(error)) from None
    named = str(row.pop("rule", "")).strip().lower().replace("-", "_").replace(" ", "_")
    if named not in _RULE_NAMES:
        known = ", ".join(get_args(Rule))
        text = f'there is no rule "{named}"; there are {known}'
        raise ContractError("malformed_field", text, "rule")
    given: dict[str, Any] = {}
    for name, value in row.items():
        if name in ("W", "win_rate"):
            field = "win_rate"
        else:
            field = _SYNONYMS.get(name.lower(), name.lower())
        if field not in SizingInputs.__struct_fields__:
            raise ContractError("malformed_field", f'"{name}" is no input of a size', name)
        given[field] = value
    if given.get("inverse") is None and str(given.pop("kind", "")) == "inverse":
        given["inverse"] = True
    try:
        inputs = msgspec.convert(given, SizingInputs, strict=False)
    except msgspec.ValidationError as error:
        raise ContractError("malformed_field", str(error)) from None
    _check_numbers(msgspec.to_builtins(inputs, builtin_types=(Decimal,)), "row")
    return _RULE_NAMES[named], inputs


def read_closes(text: str) -> Closes:
    """Return daily closes of a CSV: `date,BTC,ETH ...`, or `date,symbol,close`.

    Days that are left out are days without a price.

    Raises:
        ConfigError: a line is not of that form, or says a close that one before it said.
    """
    prices: dict[str, dict[date, Decimal]] = {}
    for number, day, symbol, cell in _cells(text):
        column = prices.setdefault(symbol, {})
        if not cell:
            continue
        if day in column:
            raise ConfigError(f"line {number}: {symbol} has two closes of {day}")
        column[day] = _price(cell, number)
    days = [day for column in prices.values() for day in column]
    if not days:
        raise ConfigError("the table of closes has no price")
    first, last = min(days), max(days)
    calendar = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return Closes(
        tuple(day.isoformat() for day in calendar),
        {symbol: [table.get(day) for day in calendar] for symbol, table in prices.items()},
    )


def _limits(row: CaseRow) -> Limits:
    known = Limits.__struct_fields__
    given = {}
    for name, value in row.limits.items():
        if name in known and name not in NEEDS_HISTORY:
            given[name] = value
        elif name not in NEEDS_HISTORY:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else f"; there are {', '.join(known)}"
            raise ContractError("malformed_field", f'"{name}" is no limit{hint}', f"limits.{name}")
    given = {name: value for name, value in given.items() if bytes(value) != b"null"}
    if row.on_limit is not None:
        given["on_limit"] = msgspec.Raw(msgspec.json.encode(row.on_limit))
    return msgspec.json.decode(msgspec.json.encode(given), type=Limits, strict=False)


def _with_lots(state: RiskState, lots: Mapping[str, Decimal]) -> RiskState:
    contracts = dict(state.contracts)
    for symbol, lot in lots.items():
        plain = contracts.get(symbol, Contract())
        contracts[symbol] = msgspec.structs.replace(plain, lot_size=lot)
    return msgspec.structs.replace(state, contracts=contracts)


def _restricted(given: Iterable[str | dict[str, str]] | dict[str, str]) -> dict[str, Restriction]:
    listed: dict[str, Any] = {}
    if isinstance(given, dict):
        listed = dict(given)
    else:
        for entry in given:
            if isinstance(entry, str):
                listed[entry] = "both"
            else:
                listed[entry.get("symbol", "")] = entry.get("side", "both")
    return msgspec.convert(listed, dict[str, Restriction])


def _check_numbers(value: Any, path: str) -> None:
    """Refuse what is no number that can be computed with exactly."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_numbers(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            _check_numbers(item, f"{path}[{place}]")
    elif isinstance(value, Decimal):
        exponent = value.as_tuple().exponent
        if not isinstance(exponent, int) or not -_PLACES_MAX < value.adjusted() < _PLACES_MAX:
            raise ContractError("malformed_field", f"{value} is no finite number in range", path)
        if exponent < -_PLACES_MAX:
            raise ContractError("malformed_field", f"{value} has too many decimals", path)


def _check_values(case: RiskCase) -> None:
    order = case.order
    for name, value in (("quantity", order.quantity), ("price", order.price)):
        if value is not None and value <= ZERO:
            raise ContractError("malformed_field", f"{value} is not above zero", f"order.{name}")
    for symbol, contract in case.state.contracts.items():
        if contract.lot_size is not None and contract.lot_size <= ZERO:
            raise ContractError("malformed_field", "a lot is above zero", f"lots.{symbol}")


def _cells(text: str) -> Iterator[tuple[int, date, str, str]]:
    """Yield line, day, symbol and close of each cell of a table, in either form."""
    table = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if row]
    header, rows = (table[0], table[1:]) if table else ([], [])
    long = [name.lower() for name in header[1:]] == ["symbol", "close"]
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise ConfigError(f"line {number}: {len(row)} cells, the header has {len(header)}")
        day = _day(row[0], number)
        cells = [(row[1], row[2])] if long else zip(header[1:], row[1:], strict=True)
        for symbol, cell in cells:
            yield number, day, symbol, cell


def _day(text: str, number: int) -> date:
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        raise ConfigError(f'line {number}: "{text}" is no day like 2026-01-31') from None


def _price(text: str, number: int) -> Decimal:
    try:
        value = Decimal(text)
    except ArithmeticError:
        raise ConfigError(f'line {number}: "{text}" is no number') from None
    if not value.is_finite() or value <= 0:
        raise ConfigError(f'line {number}: "{text}" is no price above zero')
    return value
