"""The ledger agrees with other people's ledgers on the same fills.

The vectors were made by `scripts/make_differential.py`, which calls the libraries themselves.
Tolerances: backtrader's position takes fractions here, so its entry
agrees to 1e-25 (its closed part is a float at times: 1e-9); nautilus_trader keeps a
float entry (1e-9) and rounds money to 8 decimals at every booking (half a unit each);
empyrical counts in floats (1e-9). A reference in fractions stands beside them, at 1e-25.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from tests.support.domain import Log
from tests.support.events import deposit, event, instrument, opened, trade

from psm.domain.ledger.positions import entry_price

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors.json").read_text())
EXACT = Fraction(1, 10**25)
FLOAT = Fraction(1, 10**9)
BOOKING = Fraction(1, 10**8)

State = tuple[Fraction, Fraction, Fraction]
"""Signed size, entry price (0 when flat), realized PnL."""


def folded(fills: list[list[str]], **defined: Any) -> list[State]:
    """Return what this ledger makes of the fills."""
    log = Log()
    log.when(instrument(1, "X", **defined), opened(1))
    states = []
    for number, (side, quantity, price) in enumerate(fills, 2):
        assert log.when(trade(number, side, quantity, price, "X")).outcome == "applied"
        position = log.account().ledger.positions["X"]
        entry = entry_price(position) or 0
        states.append((Fraction(position.size), Fraction(entry), Fraction(position.realized_pnl)))
    return states


def rational(fills: list[list[str]], *, inverse: bool) -> list[State]:
    """Return the same by definition, in fractions: open size and its cost (value, inverse coin)."""
    size = cost = realized = Fraction(0)
    states: list[State] = []
    for side, quantity, at in fills:
        signed, price = Fraction(quantity) * (1 if side == "buy" else -1), Fraction(at)
        unit = 1 / price if inverse else price
        if size * signed < 0:
            part = min(abs(signed), abs(size))
            gain = part * unit - cost * part / abs(size)
            realized += gain if (size > 0) != inverse else -gain
            cost -= cost * part / abs(size)
            left = abs(signed) - part
            size += part if signed > 0 else -part
            signed = left if signed > 0 else -left
        size, cost = size + signed, cost + abs(signed) * unit
        entry = Fraction(0)
        if size:
            entry = abs(size) / cost if inverse else cost / abs(size)
        states.append((size, entry, realized))
    return states


def agree(found: State, expected: State, relative: Fraction, absolute: Fraction) -> bool:
    """Whether size is equal, and entry and realized PnL are within tolerance."""
    near = [
        abs(one - other) <= relative * abs(other) + absolute
        for one, other in zip(found[1:], expected[1:], strict=True)
    ]
    return found[0] == expected[0] and all(near)


def numbers(rows: list[list[str]]) -> list[State]:
    """Return the states of a vector."""
    return [(Fraction(a), Fraction(b), Fraction(c)) for a, b, c in rows]


@pytest.mark.parametrize("case", range(len(VECTORS["linear"])))
def test_linear_positions_agree(case: int) -> None:
    """Size, entry and realized PnL after every fill, flips included."""
    vector = VECTORS["linear"][case]
    found = folded(vector["fills"])
    exact = rational(vector["fills"], inverse=False)
    traded = numbers(vector["backtrader"])
    booked = numbers(vector["nautilus"])
    for n, state in enumerate(found):
        assert agree(state, exact[n], EXACT, EXACT * 10**6)
        assert agree(state, (traded[n][0], traded[n][1], exact[n][2]), EXACT, EXACT * 10**6)
        # backtrader's own sum of closed parts: the caller multiplies, in fractions.
        assert abs(state[2] - traded[n][2]) <= FLOAT * (1 + abs(traded[n][2]))
        assert agree(state, booked[n], FLOAT, BOOKING * (n + 1))


@pytest.mark.parametrize("case", range(len(VECTORS["inverse"])))
def test_inverse_positions_agree(case: int) -> None:
    """Opened once and closed in parts: size, entry and realized coin after every fill."""
    vector = VECTORS["inverse"][case]
    found = folded(vector["fills"], kind="inverse_perp", quote="USD", settle="BTC")
    exact = rational(vector["fills"], inverse=True)
    booked = numbers(vector["nautilus"])
    for n, state in enumerate(found):
        assert agree(state, exact[n], EXACT, EXACT)
        assert agree(state, booked[n], FLOAT, BOOKING * (n + 1))


@pytest.mark.parametrize("case", range(len(VECTORS["linear"])))
def test_inverse_entries_are_harmonic(case: int) -> None:
    """Inverse contracts that average and flip agree with the definition in fractions."""
    fills = VECTORS["linear"][case]["fills"]
    found = folded(fills, kind="inverse_perp", quote="USD", settle="BTC")
    for state, expected in zip(found, rational(fills, inverse=True), strict=True):
        assert agree(state, expected, EXACT, EXACT)


@pytest.mark.parametrize("case", range(len(VECTORS["drawdown"])))
def test_the_deepest_drawdown_agrees(case: int) -> None:
    """The worst drawdown of every prefix of an equity curve is empyrical's."""
    vector = VECTORS["drawdown"][case]
    log, worst = Log(), Fraction(0)
    log.when(opened(1), deposit(2, vector["equity"][0]))
    for n, (before, after) in enumerate(zip(vector["equity"], vector["equity"][1:], strict=False)):
        change = Fraction(after) - Fraction(before)
        text = f"{float(change):.2f}"
        payload = {"amount": text, "reason": "gain", "actor": "market"}
        seen = log.when(event("CashAdjusted", payload, n + 3))
        state = seen.payload("StateUpdated")
        assert Fraction(state["equity"]) == Fraction(after)
        worst = min(worst, -Fraction(state["drawdown"]))
        assert abs(worst - Fraction(vector["empyrical"][n])) <= FLOAT


def test_the_versions_are_stated() -> None:
    """The vectors say which releases made them."""
    assert sorted(VECTORS["versions"]) == ["backtrader", "empyrical-reloaded", "nautilus_trader"]
