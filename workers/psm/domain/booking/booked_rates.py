"""Rates by which an event's amounts are booked: what it states, else what marks and fills say.

A stated rate is a fact and over every mark, for the booking of its event alone: cost and totals.
What an account is worth, its flows, net asset value and peak are always at the rate that values the
holding right after the message, which is `AccountPrices.rate`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from psm.contracts.fields import Payload
from psm.domain.booking.context import EventContext
from psm.domain.market.rates import RateStep, rate_of
from psm.domain.money import ONE, booked_value, multiply_wide, rounded_rate

RateSource = Literal["own", "stated", "table", "fill"]
"""Of the account currency itself; of the event; of the market's marks; of an own last fill."""


class BookedRate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Account currency per unit, with at most 34 digits, and where it came from.

    Attributes:
        steps: what it is made of, where marks or fills gave it.
    """

    value: Decimal
    source: RateSource
    steps: tuple[RateStep, ...] = ()


_OWN = BookedRate(value=ONE, source="own")


def rate_for(event: Payload, context: EventContext, asset: str) -> BookedRate | None:
    """Return the rate by which `event` books an asset; None where it is unrated.

    Stated null is unrated, whatever marks say; of the account currency itself the rate is 1.
    """
    if asset == context.home:
        return _OWN
    stated: dict[str, Decimal | None] | None = getattr(event, "rates", None)
    if stated is not None and asset in stated:
        value = stated[asset]
        return None if value is None else BookedRate(value=rounded_rate(value), source="stated")
    steps = context.prices.rate_steps(asset, context.home)
    if not steps:
        return None
    source: RateSource = "fill" if steps[0].kind == "fill" else "table"
    return BookedRate(value=rate_of(steps), source=source, steps=steps)


def value_of(amount: Decimal, rate: BookedRate) -> Decimal:
    """Return the value of an amount in the account currency, with 18 decimals, half-even.

    An amount of the account currency is its own value, and never rounded.
    """
    if rate.source == "own":
        return amount
    return booked_value(multiply_wide(amount, rate.value))
