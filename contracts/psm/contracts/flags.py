"""Flags: opinions about booked facts, as updates and documents carry them. Only added to."""

from __future__ import annotations

VIEW_STALE = "view_stale"
"""Of a document that lacks the last update of a key, because the key is in quarantine."""

FLAGS = (
    "defined_late",
    "fill_after_cancel",
    "fill_out_of_reach",
    "funding_mismatch",
    "instrument_undefined",
    "isolated_liquidatable",
    "leg_unknown",
    "leverage_limit_exceeded",
    "liquidatable",
    "margin_unknown",
    "not_isolated",
    "overclose",
    "overdraft",
    "overfill",
    "peak_not_restated",
    "position_mode_waiting",
    "position_side_ignored",
    "rate_from_derivative",
    "rate_missing",
    "reduce_only_opened",
    "valuation_failed",
    VIEW_STALE,
)
"""Every flag, ascending: those that the fold gives, and `VIEW_STALE`, which reads add."""
