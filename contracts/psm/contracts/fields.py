"""The kinds of fields that payloads have: decimals with a sign, names, texts, instants."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from psm.contracts import limits

_NUMBER = r"[0-9]{1,18}(\.[0-9]{1,18})?$"

Signed = Annotated[
    Decimal, Meta(extra={"sign": "any"}, extra_json_schema={"pattern": f"^-?{_NUMBER}"})
]
Positive = Annotated[
    Decimal,
    Meta(
        description="more than zero",
        extra={"sign": "positive"},
        extra_json_schema={"pattern": f"^(?=.*[1-9]){_NUMBER}", "exclusiveMinimum": 0},
    ),
]
NotNegative = Annotated[
    Decimal,
    Meta(
        description="zero or more",
        extra={"sign": "not_negative"},
        extra_json_schema={"pattern": f"^{_NUMBER}", "minimum": 0},
    ),
]
Price = Annotated[
    Decimal,
    Meta(
        description="may be zero, and below zero where the instrument says `signed_price`",
        extra={"sign": "any"},
        extra_json_schema={"pattern": f"^-?{_NUMBER}"},
    ),
]
Number = Annotated[int, Meta(ge=1, le=limits.INTEGER)]
Symbol = Annotated[str, Meta(min_length=1, max_length=limits.SYMBOL_BYTES, examples=["BTC-PERP"])]
Currency = Annotated[str, Meta(min_length=1, max_length=limits.CURRENCY_BYTES, examples=["USDT"])]
Key = Annotated[str, Meta(min_length=1, max_length=limits.KEY_BYTES)]
Identifier = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=limits.IDENTIFIER_CHARACTERS,
        description="opaque: updates repeat it, so it must not name anybody",
        extra={"unit": "characters"},
        extra_json_schema={"x-psm-opaque": "^[A-Za-z0-9._:-]{1,64}$"},
    ),
]
"""Name of a fact; one with another look than the mark asks for is booked all the same."""
Reference = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=limits.IDENTIFIER_CHARACTERS,
        description="the venue's own name of this fact; opaque, booked once",
        examples=["0x5f1c0a"],
        extra={"unit": "characters"},
        extra_json_schema={"x-psm-opaque": "^[A-Za-z0-9._:-]{1,128}$"},
    ),
]
Instant = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        description="when it happened at the venue; explains, decides nothing",
        extra_json_schema={"format": "date-time"},
    ),
]
Day = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=32,
        description="a date of the venue's calendar; explains, decides nothing",
        extra_json_schema={"format": "date"},
    ),
]
Rates = Annotated[
    dict[Symbol, NotNegative | None],
    Meta(
        max_length=limits.RATES,
        description=(
            "account currency per unit, by asset, share or option, its multiplier included: a fact,"
            " over every mark, for the booking of this event; null where there was none"
        ),
        examples=[{"BTC": "50000", "XYZ": None}],
    ),
]
InstrumentKind = Literal[
    "linear_perp", "inverse_perp", "linear_future", "inverse_future", "spot", "equity", "option"
]
PositionSide = Literal["net", "long", "short"]
MarginMode = Literal["cross", "isolated"]
PositionClass = Literal["asset", "contract", "share"]
Text = Annotated[str, Meta(max_length=limits.TEXT_BYTES)]


class Payload(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of every payload."""
