"""The rules of marks written a second time: slow, in fractions, looking at everything every time.

After each message every account is valued whole, from its positions and the marks, and its minutes,
peak, warnings and excursions are taken from that. What must be published follows from these values
and from what was published before, with nothing remembered that could be computed again. Accounts
hold linear contracts in one currency, in net and hedge mode, cross and isolated.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
from tests.support.leg_reference import Leg, LegReference
from tests.support.reference import Held

from psm.contracts.position_keys import position_key

ZERO = Fraction(0)
MS = 1_000_000
MINUTE = 60_000 * MS
LEVELS = (("0.5", Fraction(1, 2)), ("0.8", Fraction(4, 5)), ("1.0", Fraction(1)))
FLOWS = {"CashDeposited": 1, "CashWithdrawn": -1}

Seen = dict[str, Any]
"""Figures of an update: fractions by name; `closed` is a list of such."""
Crossed = tuple[Leg | None, str]
"""An isolated leg, or None for the account, and a level."""
Told = tuple[str, str, Seen]
"""Event type, key of the position or level where there is one, and figures."""


def phase_of(stream: str) -> int:
    """Return where an account's slots lie, ns: FNV-1a, 32 bit."""
    found = 2_166_136_261
    for byte in f"slot.{stream}".encode():
        found = (found ^ byte) * 16_777_619 % 2**32
    return found * MS


class Cycle(msgspec.Struct):
    """From flat to flat: what was realized before it, its worst and its best."""

    base: Fraction = ZERO
    worst: Fraction = ZERO
    best: Fraction = ZERO


class NaiveAccount(LegReference):
    """One account, valued whole after every message."""

    def __init__(self, stream: str) -> None:
        super().__init__([])
        self.stream = stream
        self.units: Fraction | None = None
        self.peak = self.deepest = self.flows = ZERO
        self.cycles: dict[Leg, Cycle] = {}
        self.warned: dict[Leg | None, list[str]] = {}
        """Levels that are disarmed, of the account (None) and of isolated legs."""

    @property
    def worth(self) -> Fraction:
        """All it is worth."""
        return self.whole(self.stream) if self.stream in self.cash else ZERO

    def open_legs(self, symbol: str | None = None) -> list[Leg]:
        """Return the legs that are open, of one symbol or of all."""
        return [leg for leg, held in self.legs.items() if held.size and symbol in (None, leg[0])]

    def take(self, kind: str, payload: dict[str, Any]) -> list[Crossed]:
        """Take an event or a mark in and look at everything; return the levels crossed."""
        before, sizes = self.worth, {leg: held.size for leg, held in self.legs.items()}
        getattr(self, kind)(self.stream, payload)
        for leg, held in self.legs.items():
            was = sizes.get(leg, ZERO)
            if was * held.size < 0 or (held.size and not was):
                self.cycles[leg] = Cycle(base=held.realized)
        if kind in FLOWS:
            self._flow(before, FLOWS[kind] * Fraction(payload["amount"]))
        return self._look()

    def _flow(self, before: Fraction, flow: Fraction) -> None:
        self.flows += flow
        if before > 0 and before + flow > 0:
            if self.units is not None:
                self.units *= (before + flow) / before
                self.peak *= (before + flow) / before
        else:
            self.units = None
            self._rise(before + flow)

    def _rise(self, equity: Fraction) -> None:
        if self.units is None:
            if equity > 0:
                self.units, self.peak, self.deepest = equity, equity, ZERO
            return
        self.peak = max(self.peak, equity)
        self.deepest = max(self.deepest, 1 - equity / self.peak)

    def _look(self) -> list[Crossed]:
        self._rise(self.worth)
        for leg, held in self.legs.items():
            cycle = self.cycles.get(leg)
            if cycle is not None:
                stands = held.realized - cycle.base + self.gain(leg)
                cycle.worst, cycle.best = min(cycle.worst, stands), max(cycle.best, stands)
        own = [leg for leg in self.open_legs() if leg[0] in self.isolated]
        cross = [leg for leg in self.open_legs() if leg[0] not in self.isolated]
        crossed = self._crossed(None, self.maintenance(), self.shared(self.stream), bool(cross))
        for leg in sorted(own, key=key_of):
            crossed += self._crossed(leg, self.needed(leg), self.stands_on(leg), True)
        self.warned = {
            leg: levels
            for leg, levels in self.warned.items()
            if leg is None or (levels and leg in own)
        }
        return crossed

    def _crossed(
        self, leg: Leg | None, needed: Fraction, there: Fraction, owing: bool
    ) -> list[Crossed]:
        ruined = owing and there <= 0
        ratio = needed / there if there > 0 else ZERO
        before, after = self.warned.get(leg, []), list[str]()
        for name, level in LEVELS:
            above = ruined or ratio >= level
            if above or (name in before and ratio >= level * Fraction(95, 100)):
                after.append(name)
        self.warned[leg] = after
        new = [name for name in after if name not in before and (not ruined or name == "1.0")]
        return [(leg, name) for name in new]

    # --- figures -----------------------------------------------------------------------------

    def price(self, leg: Leg) -> Fraction:
        """Return the mark, or the account's own last fill."""
        return self.marks.get(leg[0], self.legs[leg].last)

    def gain(self, leg: Leg) -> Fraction:
        """Return what a leg gained that is not realized."""
        return self.legs[leg].unrealized(self.marks.get(leg[0]))

    def notional(self, leg: Leg) -> Fraction:
        """Return what a leg stands for."""
        held: Held = self.legs[leg]
        return abs(held.size * self.price(leg) * held.multiplier)

    def needed(self, leg: Leg) -> Fraction:
        """Return the maintenance margin: of each tier its rate of the part that lies in it."""
        value, found = self.notional(leg), ZERO
        tiers = self.instruments[leg[0]]["margin_tiers"]
        for number, tier in enumerate(tiers):
            floor = Fraction(tier["notional_floor"])
            end = [Fraction(one["notional_floor"]) for one in tiers[number + 1 : number + 2]]
            part = max(ZERO, min([value, *end]) - floor)
            found += part * Fraction(tier["maintenance_rate"])
        return found

    def stands_on(self, leg: Leg) -> Fraction:
        """Return what an isolated leg has for itself."""
        return self.wallets.get(leg, ZERO) + self.gain(leg)

    def maintenance(self) -> Fraction:
        """Return what the legs without wallets need."""
        legs = [leg for leg in self.open_legs() if leg[0] not in self.isolated]
        return sum(map(self.needed, legs), ZERO)

    def margin(self) -> tuple[Fraction | None, ...]:
        """Return the figures whose change makes a `MarginUpdated`."""
        cross = [leg for leg in self.open_legs() if leg[0] not in self.isolated]
        initial = sum((self.notional(g) / self.leverages.get(g[0], 1) for g in cross), ZERO)
        gross = sum(map(self.notional, self.open_legs()), ZERO)
        there, equity, needed = self.shared(self.stream), self.worth, self.maintenance()
        ratio = needed / there if there > 0 else None
        leverage = gross / equity if equity > 0 else None
        return equity, initial, needed, max(ZERO, there - initial), ratio, leverage

    def state(self) -> Seen:
        """Return figures of a `StateUpdated`."""
        known = self.units is not None
        return {
            "equity": self.worth,
            "nav": self.worth / self.units if self.units else None,
            "flows": self.flows,
            "peak_equity": self.peak if known else None,
            "max_drawdown": self.deepest if known else None,
        }

    def position(self, leg: Leg) -> Seen:
        """Return figures of a `PositionUpdated`."""
        cycle = self.cycles[leg]
        return {
            "mark_price": self.price(leg),
            "unrealized_pnl": self.gain(leg),
            "cycle_mae": cycle.worst,
            "cycle_mfe": cycle.best,
        }

    @property
    def near(self) -> bool:
        """Whether it or one of its isolated legs is half way to liquidation, and not there."""
        return any(map(is_near, self.warned.values()))

    def near_legs(self) -> list[Leg]:
        """Return the isolated legs that are near."""
        return [leg for leg, levels in self.warned.items() if leg and is_near(levels)]


def is_near(levels: list[str]) -> bool:
    """Return whether half way is crossed and the end is not."""
    return "0.5" in levels and "1.0" not in levels


def key_of(leg: Leg) -> str:
    """Return the key of a leg as texts have it."""
    return position_key(*leg)  # type: ignore[arg-type]
