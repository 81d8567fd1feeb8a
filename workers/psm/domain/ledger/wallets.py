"""Wallets: what isolated positions set aside of the holding that they settle in.

A wallet is an earmark: quantity and cost stay with the holding. Positions of one symbol share the
mode; each has a wallet of its own, known by its key.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from psm.contracts.fields import MarginMode
from psm.domain.money import ZERO

WalletChange = tuple[str, Decimal]
"""Key of a position, and what goes into its wallet; out of it below zero."""


class Wallets:
    """Wallets of one account.

    Attributes:
        symbols: those in isolated margin.
        amounts: by position key; none that is zero.
    """

    __slots__ = ("amounts", "symbols")

    def __init__(
        self, symbols: Iterable[str] = (), amounts: dict[str, Decimal] | None = None
    ) -> None:
        self.symbols: dict[str, None] = dict.fromkeys(symbols)
        self.amounts = {} if amounts is None else amounts

    def copy(self) -> Wallets:
        """Return the same wallets, to be changed apart."""
        return Wallets(self.symbols, dict(self.amounts))

    def of(self, key: str) -> Decimal:
        """Return what a position has set aside; below zero where it lost more."""
        return self.amounts.get(key, ZERO)

    def put(self, amounts: dict[str, Decimal]) -> None:
        """Replace wallets."""
        for key, amount in amounts.items():
            if amount:
                self.amounts[key] = amount
            else:
                self.amounts.pop(key, None)

    def rename(self, old: str, new: str) -> None:
        """Let a new symbol have the margin mode of an old one."""
        if self.symbols.pop(old, "") is None:
            self.symbols[new] = None

    def set_mode(self, symbol: str, mode: MarginMode) -> None:
        """Keep the positions of a symbol in this margin mode from now on."""
        if mode == "isolated":
            self.symbols[symbol] = None
        else:
            self.symbols.pop(symbol, None)
