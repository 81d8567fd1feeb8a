"""What issuers do to what is held: dividends, spin-offs, mergers, other symbols."""

from __future__ import annotations

from psm.contracts.fields import (
    Currency,
    Day,
    Instant,
    Key,
    NotNegative,
    Payload,
    PositionSide,
    Positive,
    Rates,
    Reference,
    Signed,
    Symbol,
)


class DividendPaid(Payload, frozen=True, kw_only=True):
    """A cash dividend, received when positive; shorts pay. `amount` is what arrived.

    `tax` was withheld before it arrived, so the dividend was both together; in another
    `tax_currency` it is taken from that one. `gross`, `per_share` and `ex_date` explain.
    """

    symbol: Symbol
    amount: Signed
    currency: Currency | None = None
    gross: Signed | None = None
    tax: Signed | None = None
    tax_currency: Currency | None = None
    per_share: Signed | None = None
    ex_date: Day | None = None
    kind: Key | None = None
    position_side: PositionSide | None = None
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class SymbolChanged(Payload, frozen=True, kw_only=True):
    """What was `symbol` is `new_symbol` from here on: the same thing under another name.

    Later events of the account may say either. `new_symbol` equal to `symbol` ends that: the name
    is another thing's by now.
    """

    symbol: Symbol
    new_symbol: Symbol
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class SpinOff(Payload, frozen=True, kw_only=True):
    """`numerator` units of `new_symbol` came for each `denominator` held, and a part of the cost.

    The part is `cost`, or the share `cost_share` of what `symbol` cost. `quantity_after` is how
    many units the venue shows as received; `cash_in_lieu` pays for the fraction that is missing.
    """

    symbol: Symbol
    new_symbol: Symbol
    numerator: Positive
    denominator: Positive
    cost: NotNegative | None = None
    cost_share: NotNegative | None = None
    quantity_after: NotNegative | None = None
    cash_in_lieu: Signed | None = None
    currency: Currency | None = None
    position_side: PositionSide | None = None
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class Merged(Payload, frozen=True, kw_only=True):
    """Every unit of `symbol` went, for `cash`, for units of `new_symbol`, or for both.

    `numerator` units came for each `denominator` held, with the cost that `cash` left.
    `quantity_after` is how many the venue shows as received; `cash_in_lieu` pays for the fraction
    that is missing. Amounts are signed from the account's view.
    """

    symbol: Symbol
    new_symbol: Symbol | None = None
    numerator: Positive | None = None
    denominator: Positive | None = None
    cash: Signed | None = None
    quantity_after: NotNegative | None = None
    cash_in_lieu: Signed | None = None
    currency: Currency | None = None
    position_side: PositionSide | None = None
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None
