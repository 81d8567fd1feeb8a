"""What an event's effect depends on beside its own account."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.events import AccountEvent
from psm.domain.account import Account
from psm.domain.positions import Instrument, Position, undefined_instrument
from psm.domain.windows import digest16

DEFAULT_CURRENCY = "USDT"


def no_price(_: str) -> Decimal | None:
    """Know no mark."""
    return None


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What the books know when an event is applied.

    Attributes:
        instruments: defined before the event, by symbol.
        price_of: current mark of a symbol; only flags may depend on it, never the ledger.
        home: currency of the account, or the one it opens with.
    """

    instruments: Mapping[str, Instrument]
    price_of: Callable[[str], Decimal | None] = no_price
    home: str = DEFAULT_CURRENCY


def opening_currency(event: AccountEvent, instruments: Mapping[str, Instrument]) -> str:
    """Return the currency of an account that `event` opens: named, of its instrument, or USDT."""
    named = getattr(event, "currency", None)
    if named is not None:
        return str(named)
    instrument = instruments.get(getattr(event, "symbol", None) or "")
    return DEFAULT_CURRENCY if instrument is None else instrument.settle


def instrument_of(account: Account, symbol: str, setting: Setting) -> Instrument:
    """Return what a symbol is for this account.

    An open position keeps the definition it opened with; from flat it takes the current one.
    """
    held = account.positions.get(symbol)
    if held is not None and held.size:
        return held.instrument
    return current_instrument(symbol, setting)


def current_instrument(symbol: str, setting: Setting) -> Instrument:
    """Return what a symbol is for a position that opens now."""
    return setting.instruments.get(symbol) or undefined_instrument(symbol, setting.home)


def position_for(account: Account, symbol: str, setting: Setting, price: Decimal) -> Position:
    """Return the position an event acts on: the open one, or a flat one with its history."""
    held = account.positions.get(symbol)
    if held is not None and held.size:
        return held
    instrument = instrument_of(account, symbol, setting)
    if held is None:
        return Position(instrument=instrument, last_fill=price)
    return msgspec.structs.replace(held, instrument=instrument)


def new_key(account: Account, kind: str, field: str, value: str, symbol: str = "") -> bytes:
    """Return the packed business key.

    Raises:
        ContractError: reason `duplicate_<kind>`, the stream remembers it.
    """
    key = digest16(kind, symbol, value)
    if key in account.keys:
        of = f" of {symbol}" if symbol else ""
        raise ContractError(
            f"duplicate_{kind}",
            f"{field} {value}{of} was booked before under another event_id",
            f"payload.{field}",
        )
    return key
