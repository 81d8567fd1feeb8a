"""What settles and how: terms of options, settlements, what is delivered."""

from __future__ import annotations

from typing import Literal

import msgspec

from psm.contracts.fields import (
    Currency,
    Instant,
    Key,
    Payload,
    PositionSide,
    Positive,
    Price,
    Rates,
    Reference,
    Signed,
    Symbol,
)


class OptionTerms(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an option is an option on."""

    underlying: Symbol
    right: Literal["call", "put"]
    strike: Price
    expiry: Instant
    style: Literal["american", "european"] = "european"
    settlement: Literal["cash", "physical"] = "cash"


class DeliveredUnits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a physical settlement moved: `quantity` units of `symbol`, at `price` each.

    Received above zero, delivered below; of a defined option its right decides, and the sign may
    be left out.
    """

    symbol: Symbol
    quantity: Signed
    price: Price


class PositionSettled(Payload, frozen=True, kw_only=True):
    """The venue settled a position: closed it, or moved its gain to cash (session).

    `settlement_price` is the instrument's own value per unit in its quote; of an option that is
    what it pays, never the underlying's price, which may stand beside it. `quantity` is the part
    that was exercised, assigned or expired; all of it where it is left out. `fill_id` is that of
    the venue's own fill for what `deliver` says: the later trade is the same fact. What settles in
    another `settlement_currency` is paid in that coin at `underlying_price`.
    """

    symbol: Symbol
    settlement_price: Price
    kind: Literal["expiry", "session", "exercise", "assignment"]
    quantity: Positive | None = None
    underlying_price: Price | None = None
    deliver: DeliveredUnits | None = None
    settlement_currency: Currency | None = None
    fee: Signed | None = None
    fill_id: Key | None = None
    position_side: PositionSide | None = None
    isolated_margin: Signed | None = None
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None
