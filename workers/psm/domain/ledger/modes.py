"""Position modes: whether fills net into one position per symbol, or into a leg for each side."""

from __future__ import annotations

from collections.abc import Callable

from psm.contracts.margin_events import PositionMode


class PositionModes:
    """Position modes of one account.

    Attributes:
        own: by symbol; the empty symbol stands for the account.
        waiting: those asked for while there were open positions, likewise.
    """

    __slots__ = ("own", "waiting")

    def __init__(
        self,
        own: dict[str, PositionMode] | None = None,
        waiting: dict[str, PositionMode] | None = None,
    ) -> None:
        self.own = {} if own is None else own
        self.waiting = {} if waiting is None else waiting

    def copy(self) -> PositionModes:
        """Return the same modes, to be changed apart."""
        return PositionModes(dict(self.own), dict(self.waiting))

    def of(self, symbol: str) -> PositionMode:
        """Return the mode of a symbol: its own, else the account's, else net."""
        return self.own.get(symbol) or self.own.get("", "net")

    def ask(self, symbol: str, mode: PositionMode) -> None:
        """Ask for a mode: at once where it is that already, else when its positions are flat."""
        if self.of(symbol) == mode:
            self.own[symbol] = mode
            self.waiting.pop(symbol, None)
        else:
            self.waiting[symbol] = mode

    def rename(self, old: str, new: str) -> None:
        """Let a new symbol have the modes of an old one."""
        for modes in (self.own, self.waiting):
            if old in modes:
                modes[new] = modes.pop(old)

    def settle(self, is_flat: Callable[[str], bool]) -> None:
        """Let what waits and is flat by now take effect."""
        for symbol in sorted(self.waiting):
            if is_flat(symbol):
                self.own[symbol] = self.waiting.pop(symbol)
