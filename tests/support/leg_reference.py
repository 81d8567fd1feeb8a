"""The rules of legs and wallets written a second time: slow, in fractions, from the definitions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
from tests.support.events import Sent
from tests.support.reference import Held, Reference

ZERO = Fraction(0)
Leg = tuple[str, str]
"""Symbol, and `net`, `long` or `short`."""


class LegReference(Reference):
    """One account of a log of valid events on linear contracts, in order, in one currency."""

    def __init__(self, messages: list[Sent]) -> None:
        self.modes: dict[str, str] = {}
        self.waiting: dict[str, str] = {}
        self.isolated: dict[str, None] = {}
        self.wallets: dict[Leg, Fraction] = {}
        self.leverages: dict[str, Fraction] = {}
        self.legs: dict[Leg, Held] = {}
        self.reported: dict[Leg, tuple[Fraction, Fraction]] = {}
        self.older: dict[Leg, None] = {}
        super().__init__(messages)

    # --- modes -------------------------------------------------------------------------------

    def PositionModeChanged(self, _: str, p: dict[str, Any]) -> None:  # noqa: N802
        self.waiting[p.get("symbol", "")] = p["mode"]
        self._settle_modes()
        self._settle_modes()  # a symbol with a mode of its own concerns the account's no more

    def mode_of(self, symbol: str) -> str:
        """Return the mode that holds for a symbol."""
        return self.modes.get(symbol, self.modes.get("", "net"))

    def _settle_modes(self) -> None:
        for symbol, mode in sorted(self.waiting.items()):
            concerned = [
                held.size
                for (of, _), held in self.legs.items()
                if of == symbol or (not symbol and of not in self.modes)
            ]
            if mode == self.mode_of(symbol) or not any(concerned):
                self.modes[symbol] = mode
                del self.waiting[symbol]

    def leg_of(self, p: dict[str, Any]) -> Leg | None:
        """Return the leg that an event means, None where nobody can know."""
        symbol = p["symbol"]
        if self.mode_of(symbol) == "net":
            return symbol, "net"
        if "position_side" in p:
            return symbol, p["position_side"]
        held = [leg for leg, position in self.legs.items() if leg[0] == symbol and position.size]
        return held[0] if len(held) == 1 else None

    # --- legs --------------------------------------------------------------------------------

    def TradeExecuted(self, stream: str, p: dict[str, Any]) -> None:  # noqa: N802
        leg = self.leg_of(p) or (p["symbol"], "net")
        multiplier = Fraction(self.instruments[p["symbol"]].get("multiplier", 1))
        held = self.legs.setdefault(leg, Held(multiplier, "linear_perp"))
        signed = Fraction(p["quantity"]) * (1 if p["side"] == "buy" else -1)
        size, realized, price = held.size, held.realized, Fraction(p["price"])
        held.fill(signed, price)
        if not held.size or held.size * size <= 0:  # closed, or it is another one by now
            self.reported.pop(leg, None)
            self.older.pop(leg, None)
        self._note_change(leg)
        commission = Fraction(p.get("commission", 0))
        self.cash[stream] += held.realized - realized - commission
        self.fees[stream] += commission
        if leg[0] in self.isolated:
            wallet = self.wallets.get(leg, ZERO)
            if "isolated_margin" in p:
                wallet += Fraction(p["isolated_margin"])
            else:
                wallet = self._wallet_after(leg, wallet, size, signed, price * multiplier)
            self.wallets[leg] = wallet
        self._settle_modes()

    def _wallet_after(
        self, leg: Leg, wallet: Fraction, size: Fraction, signed: Fraction, each: Fraction
    ) -> Fraction:
        closing = min(abs(signed), abs(size)) if size * signed < 0 else ZERO
        if closing:
            wallet -= wallet * closing / abs(size)
        return wallet + (abs(signed) - closing) * each / self.leverages.get(leg[0], Fraction(1))

    def FundingApplied(self, stream: str, p: dict[str, Any]) -> None:  # noqa: N802
        payment, leg = Fraction(p["funding_payment"]), self.leg_of(p)
        self.cash[stream] += payment
        self.funding[stream] += payment
        if leg is not None:
            self._note_change(leg)
        if leg is not None and leg[0] in self.isolated and leg in self.legs and self.legs[leg].size:
            self.wallets[leg] = self.wallets.get(leg, ZERO) + payment

    # --- wallets -----------------------------------------------------------------------------

    def LeverageChanged(self, _: str, p: dict[str, Any]) -> None:  # noqa: N802
        self.leverages[p["symbol"]] = Fraction(p["leverage"])

    def MarginModeChanged(self, _: str, p: dict[str, Any]) -> None:  # noqa: N802
        for leg in self.reported:
            if leg[0] == p["symbol"]:
                self._note_change(leg)
        if p["mode"] == "cross":
            self.isolated.pop(p["symbol"], None)
            self.wallets = {leg: w for leg, w in self.wallets.items() if leg[0] != p["symbol"]}
            return
        self.isolated[p["symbol"]] = None
        if "amount" in p:
            self._put(p)

    def MarginTransferred(self, _: str, p: dict[str, Any]) -> None:  # noqa: N802
        if p["symbol"] in self.isolated:
            self._put(p)

    def MarginReported(self, _: str, p: dict[str, Any]) -> None:  # noqa: N802
        leg = self.leg_of(p) or (p["symbol"], "net")
        if leg in self.legs and self.legs[leg].size:
            self.reported[leg] = (Fraction(p["initial"]), Fraction(p["maintenance"]))
            self.older.pop(leg, None)

    def _note_change(self, leg: Leg) -> None:
        if leg in self.reported:
            self.older[leg] = None

    def _put(self, p: dict[str, Any]) -> None:
        leg = self.leg_of(p) or (p["symbol"], "net")
        self.wallets[leg] = self.wallets.get(leg, ZERO) + Fraction(p["amount"])
        self._note_change(leg)

    # --- figures -----------------------------------------------------------------------------

    def margins(self, rates: list[tuple[Fraction, Fraction]]) -> tuple[Fraction, Fraction]:
        """Return initial and maintenance margin of what has no wallet of its own.

        Args:
            rates: (floor of a tier, maintenance rate), ascending; margins do not jump.
        """
        initial = maintenance = ZERO
        for leg, held in self.legs.items():
            if leg[0] in self.isolated or not held.size:
                continue
            worth = abs(held.size) * self.marks.get(leg[0], held.last) * held.multiplier
            own, needed = worth / self.leverages.get(leg[0], Fraction(1)), ZERO
            for number, (floor, rate) in enumerate(rates):
                ends = rates[number + 1][0] if number + 1 < len(rates) else worth
                needed += max(ZERO, min(worth, ends) - floor) * rate
            own, needed = self.reported.get(leg, (own, needed))
            initial, maintenance = initial + own, maintenance + needed
        return initial, maintenance

    def gains(self, *, isolated: bool) -> Fraction:
        """Return what positions have not realized, those with a wallet or those without."""
        return sum(
            (
                held.unrealized(self.marks.get(leg[0]))
                for leg, held in self.legs.items()
                if (leg[0] in self.isolated) == isolated
            ),
            ZERO,
        )

    def whole(self, stream: str) -> Fraction:
        """Return the equity."""
        return self.cash[stream] + self.gains(isolated=True) + self.gains(isolated=False)

    def shared(self, stream: str) -> Fraction:
        """Return what positions without a wallet share."""
        return self.cash[stream] - sum(self.wallets.values()) + self.gains(isolated=False)


def decoded(sent: Sent) -> dict[str, Any]:
    """Return the envelope of a message."""
    found: dict[str, Any] = msgspec.json.decode(sent.data)
    return found
