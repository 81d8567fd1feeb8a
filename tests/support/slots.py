"""Slots of the valuation clock for tests: one period, at which any change is published."""

from __future__ import annotations

from typing import Any

from psm.domain.market.slots import ValuationSlots


def even_slots(period_ms: int, move_bps: int = 0) -> ValuationSlots:
    """Return slots whose three periods are one: at each of them everything is published."""
    return ValuationSlots(fast_ms=period_ms, mid_ms=period_ms, slow_ms=period_ms, move_bps=move_bps)


def slots_settings(slots: ValuationSlots) -> dict[str, Any]:
    """Return the fields of `Settings` that stand for slots."""
    return {
        "valuation_fast_ms": slots.fast_ms,
        "valuation_mid_ms": slots.mid_ms,
        "valuation_slow_ms": slots.slow_ms,
        "valuation_move_bps": slots.move_bps,
    }


def slots_env(slots: ValuationSlots) -> dict[str, str]:
    """Return the environment of a process of a log with these slots."""
    return {f"PSM_{name.upper()}": str(value) for name, value in slots_settings(slots).items()}
