"""The projections `risk` and `rulebook`: what was decided, what holds, and by which rules.

Two, because two streams say it: each has a checkpoint in its own stream.
"""

from __future__ import annotations

from psm.projections.latest import LatestPerKey
from psm.projections.projection import Projection
from psm.projections.risk.entries import (
    DecisionEntry,
    GroupEntry,
    HaltEntry,
    LimitsEntry,
    StateEntry,
    columns_of_entry,
    entry_row,
)
from psm.projections.rows import Row
from psm.projections.source import RISK_RECORDS, RULES

DECISION, STATE = "risk.decision", "risk.state"
LIMITS, HALT, GROUPED = "rulebook.limits", "rulebook.halt", "rulebook.group"


def _is_forgotten(row: Row) -> bool:
    return bool(row["forgotten"])


RISK_DECISIONS = LatestPerKey(
    "risk_decisions",
    DECISION,
    DecisionEntry,
    key=("account_id", "risk_sequence"),
    columns=columns_of_entry(DecisionEntry),
    to_row=entry_row,
    place=("n", "risk_sequence"),
)
"""Every decision that was stored; none is ever changed."""

RISK_STATE = LatestPerKey(
    "risk_state",
    STATE,
    StateEntry,
    key=("entry",),
    is_gone=_is_forgotten,
    columns=columns_of_entry(StateEntry),
    to_row=entry_row,
    place=("n", "risk_sequence"),
)
"""Latches that hold, limits that are near, and the figures of the last decision."""

RISK_LIMITS = LatestPerKey(
    "risk_limits",
    LIMITS,
    LimitsEntry,
    key=("scope", "version"),
    columns=columns_of_entry(LimitsEntry),
    to_row=entry_row,
    place=("version", "rulebook_sequence"),
)
"""Every version of every scope's limits, and what became of it."""

RISK_HALTS = LatestPerKey(
    "risk_halts",
    HALT,
    HaltEntry,
    key=("scope", "halt_hash"),
    columns=columns_of_entry(HaltEntry),
    to_row=entry_row,
    place=("set_sequence", "rulebook_sequence"),
)
"""Every halt that a person set, and who lifted it."""

RISK_GROUPS = LatestPerKey(
    "risk_groups",
    GROUPED,
    GroupEntry,
    key=("group_name",),
    columns=columns_of_entry(GroupEntry),
    to_row=entry_row,
    place=("rulebook_sequence", "rulebook_sequence"),
)
"""Every group, and which accounts are in it."""

RISK = Projection(name="risk", version=1, source=RISK_RECORDS, views=(RISK_DECISIONS, RISK_STATE))

RULEBOOK = Projection(
    name="rulebook", version=1, source=RULES, views=(RISK_LIMITS, RISK_HALTS, RISK_GROUPS)
)
