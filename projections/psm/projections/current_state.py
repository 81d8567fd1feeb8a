"""The projection `current_state`: the views behind the reads, under one checkpoint.

One checkpoint for all of them is what makes a read never torn: the same transaction that moves
a balance moves the positions, the margin and the orders that belong to it.
"""

from __future__ import annotations

from psm.projections.balances import BalancesView
from psm.projections.heads import ChainHeadsView
from psm.projections.margin import MarginView
from psm.projections.orders import OrdersView
from psm.projections.positions import PositionsView
from psm.projections.projection import Projection

CURRENT_STATE = Projection(
    name="current_state",
    version=3,
    views=(BalancesView(), PositionsView(), MarginView(), OrdersView(), ChainHeadsView()),
    keeps_heads=True,
)

PROJECTIONS: dict[str, Projection] = {CURRENT_STATE.name: CURRENT_STATE}
