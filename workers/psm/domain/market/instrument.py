"""Instruments: definitions of symbols, and the stand-in for one that has none."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.fields import InstrumentKind, PositionClass
from psm.contracts.settlements import OptionTerms
from psm.contracts.table_events import MarginTier
from psm.domain.market.margin_tiers import Tier, known_tiers
from psm.domain.money import ONE


class Instrument(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Definition of a symbol. `defined` is False for the stand-in: linear, multiplier 1."""

    symbol: str
    kind: InstrumentKind
    base: str
    quote: str
    settle: str
    multiplier: Decimal = ONE
    signed_price: bool = False
    margin_tiers: tuple[MarginTier, ...] = ()
    option: OptionTerms | None = None
    defined: bool = True

    @property
    def inverse(self) -> bool:
        """Quoted in the base coin's reciprocal: cost and value are quantity / price."""
        return self.kind in ("inverse_perp", "inverse_future")

    def check_price(self, price: Decimal, field: str) -> None:
        """Refuse a price that this instrument cannot have.

        Raises:
            ContractError: reason `invalid_payload`.
        """
        if price > 0 or (not self.inverse and (not price or self.signed_price)):
            return
        least = "above zero: it is inverse" if self.inverse else "zero or more: it is not signed"
        name = field.rpartition(".")[2]
        raise ContractError("invalid_payload", f"{name} must be {least}", field)

    @property
    def is_pair(self) -> bool:
        """Exchanges two assets, and is nothing that can be held itself."""
        return self.kind == "spot"

    @property
    def full_notional(self) -> bool:
        """Cash moves by the whole notional (pairs, shares, options); others move only PnL."""
        return self.kind in ("spot", "equity", "option")

    def renamed(self, symbol: str) -> Instrument:
        """Return the same thing under another symbol; a base named as the old one follows."""
        base = symbol if self.base == self.symbol else self.base
        return msgspec.structs.replace(self, symbol=symbol, base=base)

    @property
    def position_class(self) -> PositionClass:
        """Class of a position in it: a share is fully paid, a contract is not."""
        return "share" if self.full_notional else "contract"

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The margin tiers from notional 0 on, made continuous."""
        return known_tiers(self.symbol, self.margin_tiers)


@lru_cache(maxsize=4096)
def undefined_instrument(symbol: str, settle: str) -> Instrument:
    """Return what stands in for an instrument that is not defined yet."""
    return Instrument(
        symbol=symbol, kind="linear_perp", base=symbol, quote=settle, settle=settle, defined=False
    )
