"""Events of how positions are kept: in legs or netted, with shared margin or a wallet of their own.

`isolated_margin`, wherever it stands, is what moved into the position's wallet, out of it below
zero, as the venue reports it; without it the fold follows its rule.
"""

from __future__ import annotations

from typing import Literal

from psm.contracts.fields import (
    Instant,
    MarginMode,
    NotNegative,
    Payload,
    PositionSide,
    Reference,
    Signed,
    Symbol,
)

PositionMode = Literal["net", "hedge"]


class PositionModeChanged(Payload, frozen=True, kw_only=True):
    """Fills net into one position per symbol from here on, or each side has a leg of its own.

    Of one symbol, or of all that have no mode of their own. It waits until those are flat.
    """

    mode: PositionMode
    symbol: Symbol | None = None
    effective_at: Instant | None = None


class MarginModeChanged(Payload, frozen=True, kw_only=True):
    """A symbol's positions share the account's margin, or have a wallet each.

    `amount` is what went into the wallet of an open position.
    """

    symbol: Symbol
    mode: MarginMode
    position_side: PositionSide | None = None
    amount: NotNegative | None = None
    isolated_margin: Signed | None = None
    effective_at: Instant | None = None


class MarginTransferred(Payload, frozen=True, kw_only=True):
    """Money went into a position's own wallet, or out of it below zero."""

    symbol: Symbol
    amount: Signed
    position_side: PositionSide | None = None
    reference: Reference | None = None
    effective_at: Instant | None = None


class MarginReported(Payload, frozen=True, kw_only=True):
    """The venue's own margin of an open position, in its settle currency; no money moves.

    It stands in place of leverage and tiers, also after the position changed, flagged then.
    """

    symbol: Symbol
    initial: NotNegative
    maintenance: NotNegative
    position_side: PositionSide | None = None
    reference: Reference | None = None
    effective_at: Instant | None = None
