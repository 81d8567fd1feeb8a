"""Keys of positions as texts: how state documents name them, in net and in hedge mode.

The key of a position is its symbol and its side as one text: `BTC-PERP` for the net position,
`BTC-PERP#long` and `BTC-PERP#short` for the legs of hedge mode. No two pairs have one text: a net
position whose symbol itself ends like a leg's key is written with `#net` after it.
"""

from __future__ import annotations

from psm.contracts.fields import PositionSide

_SIDES: tuple[PositionSide, ...] = ("net", "long", "short")
_ENDINGS = tuple(f"#{side}" for side in _SIDES)


def position_key(symbol: str, position_side: PositionSide = "net") -> str:
    """Return the key of a position as one text."""
    if position_side == "net" and not ("#" in symbol and symbol.endswith(_ENDINGS)):
        return symbol
    return f"{symbol}#{position_side}"


def symbol_of(key: str) -> str:
    """Return the symbol in a position's key."""
    return key if "#" not in key else parts_of(key)[0]


def parts_of(key: str) -> tuple[str, PositionSide]:
    """Return symbol and side of a position's key."""
    for side in _SIDES:
        if key.endswith(f"#{side}"):
            return key[: -len(side) - 1], side
    return key, "net"
