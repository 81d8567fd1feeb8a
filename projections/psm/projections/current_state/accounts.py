"""The statements that list accounts, by what they are sorted by."""

from __future__ import annotations

from typing import Literal

from psm.contracts.updates import VERSION_FIELDS, MarginUpdated, StateUpdated
from psm.projections.current_state.stale import account_pairs, stale_flags
from psm.projections.sql import expanded, load
from psm.projections.statements import as_of_pair, json_pairs

AccountOrder = Literal["account", "drawdown", "margin", "equity"]

STATE_FIGURES = (
    "flags", "equity", "unrealized_pnl", "realized_pnl_net", "peak_equity", "drawdown",
    "exposure_gross", "exposure_net", "leverage", "open_positions", "open_orders",
)  # fmt: skip
"""Figures of an account's last `StateUpdated` that a list shows."""

LISTED_MARGIN = ("margin_maintenance", "margin_available", "margin_ratio")
"""Figures of its last `MarginUpdated` that a list shows."""

_VIEWS = ("balances_view", "positions_view", "orders_view", "margin_view")
_UNKNOWN_LAST = "'Infinity'"
_PLACES = {
    "drawdown": f"coalesce(-b.drawdown, {_UNKNOWN_LAST})",
    # There is no ratio to an equity that is used up: such an account is beyond every other.
    "margin": (
        "CASE WHEN b.equity <= 0 AND b.open_positions > 0 THEN '-Infinity'\n"
        f"    ELSE coalesce(-m.margin_ratio, {_UNKNOWN_LAST}) END"
    ),
    "equity": f"coalesce(b.equity, {_UNKNOWN_LAST})",
}


def account_statements() -> dict[AccountOrder, str]:
    """Return the statements; each gives document, place and account id of every row."""
    templates = load(__package__, "accounts")
    variables = {
        "figures": account_pairs(StateUpdated, (*VERSION_FIELDS, *STATE_FIGURES)),
        "margin_figures": json_pairs(MarginUpdated, LISTED_MARGIN, "m"),
        "as_of": as_of_pair("b"),
        "stale": stale_flags(_VIEWS),
    }
    statements: dict[AccountOrder, str] = {
        "account": expanded(templates["accounts_by_id"], variables)
    }
    for order in ("drawdown", "margin", "equity"):
        place = {"place": _PLACES[order]}
        statements[order] = expanded(templates["accounts"], variables | place)
    return statements


ACCOUNT_STATEMENTS = account_statements()
"""SQL by what the accounts are sorted by."""
