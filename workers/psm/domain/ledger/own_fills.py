"""An account's own last fill in each spot pair: the last thing that may say what an asset is worth.

Kept apart from what the account holds: a pair that was sold out long ago still has a price.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.domain.market.instrument import Instrument
from psm.domain.money import multiply, scaled


class OwnFill(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The account's last fill in a spot pair.

    Attributes:
        price: of one unit of the base in the quote.
        number: a later fill has a higher one.
    """

    base: str
    quote: str
    price: Decimal
    number: int = 0


OwnFills = dict[str, OwnFill]
"""By symbol, the oldest first."""


def own_fill(instrument: Instrument, price: Decimal) -> OwnFill | None:
    """Return the last fill that a trade in an instrument makes; None where it is not a spot one."""
    if instrument.kind != "spot":
        return None
    if instrument.multiplier != 1:
        price = multiply(price, instrument.multiplier)
    return OwnFill(base=instrument.base, quote=instrument.quote, price=price)


def note_fill(fills: OwnFills, symbol: str, fill: OwnFill) -> None:
    """Make a fill the latest one."""
    last = next(reversed(fills.values()), None)
    number = 1 if last is None else last.number + 1
    fills.pop(symbol, None)
    fills[symbol] = msgspec.structs.replace(fill, number=number)


def split_fill(fills: OwnFills, symbol: str, new: Decimal, old: Decimal) -> bool:
    """Restate a price where `new` units stand for `old` ones; return whether there is one."""
    fill = fills.get(symbol)
    if fill is None:
        return False
    fills[symbol] = msgspec.structs.replace(fill, price=scaled(fill.price, old, new))
    return True
