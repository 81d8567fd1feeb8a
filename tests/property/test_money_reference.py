"""Money, coins and corrections over random logs: the rules written twice agree."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from tests.support.domain import Log
from tests.support.money_reference import CONTRACT, HOME, MoneyReference
from tests.support.money_traffic import MoneyTraffic

from psm.domain.account import Account
from psm.domain.ledger.effect import TotalName
from psm.domain.ledger.orders import average_price
from psm.domain.ledger.positions import signed_cost

NEAR = Fraction(1, 10**12)
"""What 18 decimals of a booked value leave."""
TOTALS: tuple[TotalName, ...] = (
    *("deposits", "withdrawals", "transfers", "interest", "adjustments", "fees", "funding"),
    *("taxes", "losses_covered", "realized_pnl", "unknown_cost"),
)


def near(ours: Decimal | None, theirs: Fraction) -> bool:
    """Return whether two figures agree but for rounding."""
    return ours is not None and abs(Fraction(ours) - theirs) <= NEAR * (1 + abs(theirs))


@given(st.integers(0, 2**32))
def test_reference_agrees(seed: int) -> None:
    """Fractions and the rules as they are written give the same account, after corrections too."""
    messages = MoneyTraffic(seed).sent
    log, matches = Log(), []
    for sent in messages:
        seen = log.when(sent)
        assert seen.outcome not in ("refused", "rejected"), (seen.reason, sent)
        matches += [p["matches"] for p in seen.payloads("ReconciliationReported")]
    account, theirs = log.account(), MoneyReference(messages)
    assert not account.delivery.parked
    assert matches == theirs.reports
    _compare_ledgers(account, theirs)
    _compare_values(account, theirs)


def _compare_ledgers(account: Account, theirs: MoneyReference) -> None:
    ledger = account.ledger
    assert near(ledger.cash[HOME], theirs.money)
    for name, coins in theirs.held.items():
        ours = ledger.holding(name)
        assert (Fraction(ours.quantity), ours.cost.unknown) == (coins.quantity, coins.unknown)
        assert near(ours.cost.amount, coins.cost), name
    for name in TOTALS:
        assert near(ledger.total(name), theirs.sums.get(name, Fraction(0))), name
    position = ledger.positions.get(CONTRACT)
    if position is not None:
        assert Fraction(position.size) == theirs.contract.size
        assert near(signed_cost(position), theirs.contract.size * theirs.contract.entry)
    for name, order in theirs.orders.items():
        known = ledger.orders.by_id[name]
        average = average_price(known)
        assert (Fraction(known.filled_quantity), known.status) == (order.filled, order.status)
        assert order.average is None or near(average, order.average)


def _compare_values(account: Account, theirs: MoneyReference) -> None:
    valuation, own = account.value(), account.valuation.performance
    assert near(valuation.equity, theirs.equity())
    assert near(valuation.collateral, theirs.collateral())
    assert near(valuation.margin_maintenance, theirs.maintenance())
    assert near(own.flows, theirs.flows)
    assert own.epoch == 1
    assert near(own.nav(valuation.equity), theirs.nav())
    assert near(own.peak, theirs.peak * theirs.units)
    assert near(own.max_drawdown(), theirs.deepest)
