"""The projection `current_state`: the views behind the reads, under one checkpoint.

One checkpoint for all of them is what makes a read never torn: the same transaction that moves
a balance moves the positions, the margin and the orders that belong to it.
"""

from __future__ import annotations

from psm.projections.current_state.balances import BalancesView
from psm.projections.current_state.chain_heads import CHAIN_HEADS
from psm.projections.current_state.margin import MARGIN_VIEW
from psm.projections.current_state.orders import ORDERS_VIEW
from psm.projections.current_state.positions import POSITIONS_VIEW
from psm.projections.current_state.reconciliation import RECONCILIATION_VIEW
from psm.projections.projection import Projection
from psm.projections.source import COMMITTED_UPDATES

CURRENT_STATE = Projection(
    name="current_state",
    version=6,
    source=COMMITTED_UPDATES,
    views=(
        BalancesView(),
        POSITIONS_VIEW,
        MARGIN_VIEW,
        ORDERS_VIEW,
        RECONCILIATION_VIEW,
        CHAIN_HEADS,
    ),
    keeps_heads=True,
)
