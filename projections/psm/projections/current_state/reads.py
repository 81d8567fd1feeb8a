"""The statements of the reads: templates of `reads.sql`, with the columns that updates have."""

from __future__ import annotations

import msgspec

from psm.contracts.reconciliation import Difference, ReconciliationReported
from psm.contracts.updates import (
    TOLD_ONCE,
    VERSION_FIELDS,
    MarginUpdated,
    OrderUpdated,
    PositionUpdated,
    StateUpdated,
    figures_of,
)
from psm.projections.current_state.stale import account_pairs, stale_flags
from psm.projections.sql import expanded, load
from psm.projections.statements import as_of_pair, json_pairs

# Present only where an event had waited; the template chooses.
_OPTIONAL = "event_log_sequence"


ANSWER_FIGURES = tuple(
    name
    for name in ReconciliationReported.__struct_fields__
    if name not in (_OPTIONAL, "differences")
)
"""Fields of the answer to a report that its row has as columns of their own."""

_POSITION_KEY = (
    "CASE WHEN p.position_side <> 'net' OR p.symbol ~ '#(net|long|short)$'\n"
    "THEN p.symbol || '#' || p.position_side ELSE p.symbol END"
)
"""What `position_key` of the contracts gives, as SQL."""

READ_VIEWS: dict[str, tuple[str, ...]] = {
    "state": ("balances_view", "positions_view", "orders_view"),
    "positions": ("balances_view", "positions_view"),
    "orders": ("balances_view", "orders_view"),
    "margin": ("balances_view", "margin_view"),
    "reconciliation": ("reconciliation_view",),
}
"""Read -> views that its document is made of."""


def read_statements(
    *,
    state: type[msgspec.Struct] = StateUpdated,
    position: type[msgspec.Struct] = PositionUpdated,
    order: type[msgspec.Struct] = OrderUpdated,
    margin: type[msgspec.Struct] = MarginUpdated,
) -> dict[str, str]:
    """Return the statements by the name of the read; the documents have the updates' fields."""
    released = [name for name in state.__struct_fields__ if name not in TOLD_ONCE]
    always = [name for name in released if name != _OPTIONAL]
    variables = {
        "versions": json_pairs(state, VERSION_FIELDS, "b"),
        "as_of": as_of_pair("b"),
        "as_of_position": as_of_pair("p"),
        "as_of_asset": as_of_pair("a"),
        "state": account_pairs(state, always),
        "released_state": account_pairs(state, released),
        "position_key": _POSITION_KEY,
        "position_figures": json_pairs(position, figures_of(position), "p"),
        "order_figures": json_pairs(order, figures_of(order), "o"),
        "margin_figures": json_pairs(margin, figures_of(margin), "m"),
        "reconciliation": account_pairs(ReconciliationReported, ANSWER_FIGURES),
        "difference": ",\n".join(
            f"'{name}', e.difference->'{name}'" for name in Difference.__struct_fields__
        ),
    }
    variables |= {f"stale_{name}": stale_flags(views) for name, views in READ_VIEWS.items()}
    templates = dict(load(__package__, "reads"))
    variables["positions_of"] = expanded(templates.pop("positions_of"), variables)
    return {name: expanded(text, variables) for name, text in templates.items()}


READ_STATEMENTS = read_statements()
"""SQL of the reads by name, and of what a read waits for: `reached`."""
