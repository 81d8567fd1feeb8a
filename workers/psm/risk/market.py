"""Marks and instruments as the log tells them, and what one of a symbol is worth by them.

The tables are the domain's own, folded by its own rules without any account: a mark that the log
refuses, or that comes late, is none here either, and a rate is the rate of the accounts.
"""

from __future__ import annotations

from decimal import Decimal

from psm.contracts import codec, registry
from psm.contracts.subjects import head_of
from psm.contracts.table_events import InstrumentDefined
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.market.instrument import Instrument
from psm.domain.market.mark import Mark
from psm.domain.market.rates import market_rate
from psm.domain.messages import LogMessage
from psm.domain.money import ONE, multiply, quotient
from psm.risk.messages import Stored
from psm.risk.state import Contract

HEADS = ("marks", "instruments")
"""First tokens of the subjects that are taken."""


class MarketView:
    """The market up to a place of the log.

    Attributes:
        position: log sequence up to which everything of it was taken: M.
    """

    def __init__(self) -> None:
        self._books = Books(partitions=1, publishing=False)
        self._contracts: dict[str, Contract] = {}
        self.position = 0

    def take(self, message: Stored) -> str | None:
        """Take a message of `marks.*` or `instruments.*`; return the symbol that changed."""
        if message.sequence <= self._books.position or head_of(message.subject) not in HEADS:
            return None
        self.position = max(self.position, message.sequence)
        folded = fold(self._books, _logged(message), emit="nothing")
        if getattr(folded, "outcome", None) != "applied":
            return None
        envelope = codec.decode_envelope(message.data)
        payload = registry.codec_for(envelope).decode(envelope.payload)
        symbol: str = getattr(payload, "symbol", "")
        if isinstance(payload, InstrumentDefined):
            self._contracts[symbol] = _contract(payload)
        return symbol

    def reach(self, position: int) -> None:
        """Take it that the log has nothing more of the market up to a place."""
        self.position = max(self.position, position)

    def mark(self, symbol: str) -> Mark | None:
        """Return the current mark of a symbol."""
        return self._books.market.marks.get(symbol)

    def prices(self) -> dict[str, Decimal]:
        """Return the price of every symbol that has a mark."""
        return {symbol: mark.price for symbol, mark in self._books.market.marks.items()}

    def instrument(self, symbol: str) -> Instrument | None:
        """Return what a symbol is; None where nobody defined it."""
        return self._books.market.instruments.get(symbol)

    def contract(self, symbol: str) -> Contract:
        """Return grid and multiplier of a symbol; of one that is not defined the plain one."""
        return self._contracts.get(symbol, _PLAIN)

    def rate(self, asset: str, home: str | None) -> Decimal | None:
        """Return account currency per unit of an asset; None where no mark says it."""
        return ONE if asset == home else market_rate(self._books.market, asset, home)

    def settles(self, symbol: str, home: str) -> str:
        """Return the currency that a symbol is settled in; of one that nobody defined `home`."""
        instrument = self.instrument(symbol)
        return home if instrument is None else instrument.settle

    def worth(self, symbol: str, price: Decimal | None, home: str | None) -> Decimal | None:
        """Return what one of a symbol is worth at a price, in a currency; None if unknown.

        An undefined symbol settles in the currency that is asked for, as it does in the accounts.
        """
        if price is None:
            return None
        instrument = self.instrument(symbol)
        if instrument is None:
            return price
        rate = self.rate(instrument.settle, home)
        if rate is None:
            return None
        if instrument.inverse:
            return multiply(quotient(instrument.multiplier, price), rate) if price > 0 else None
        return multiply(multiply(price, instrument.multiplier), rate)

    def unit(self, symbol: str, home: str | None) -> Decimal | None:
        """Return what one of a symbol is worth at its mark."""
        mark = self.mark(symbol)
        return None if mark is None else self.worth(symbol, mark.price, home)


_PLAIN = Contract(initial_margin_rate=ONE)


def _contract(payload: InstrumentDefined) -> Contract:
    """Return what orders must keep to; a first tier without a leverage asks for all of it."""
    leverage = payload.margin_tiers[0].max_leverage if payload.margin_tiers else None
    return Contract(
        multiplier=payload.multiplier,
        lot_size=payload.quantity_increment,
        tick_size=payload.price_increment,
        initial_margin_rate=ONE if leverage is None else quotient(ONE, leverage),
    )


def _logged(message: Stored) -> LogMessage:
    return LogMessage(
        log_sequence=message.sequence,
        subject=message.subject,
        time=message.time * 1000,
        data=message.data,
    )
