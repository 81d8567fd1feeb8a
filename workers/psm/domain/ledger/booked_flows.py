"""What flows in kind were booked at, by their identity: a reversal of one needs it.

Of money in the account currency nothing is kept: it is booked at its amount.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.contracts import limits
from psm.domain.ledger.holdings import NO_COST, Cost
from psm.domain.money import absolute, scaled


class BookedFlow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A flow of an asset, of shares or of contracts as it was booked; magnitudes.

    Attributes:
        amount: how much came or went.
        cost: the flow at cost, in the account currency.
        own: of shares the same in their quote, with multiplier.
        entry_price: of contracts.
    """

    amount: Decimal
    cost: Cost = NO_COST
    own: Decimal | None = None
    entry_price: Decimal | None = None

    @classmethod
    def of(cls, amount: Decimal, cost: Cost, own: Decimal | None = None) -> BookedFlow:
        """Return what is remembered of a flow; signs are left out."""
        magnitude = Cost(absolute(cost.amount), cost.unknown)
        return cls(
            amount=absolute(amount), cost=magnitude, own=None if own is None else absolute(own)
        )

    def part(self, amount: Decimal) -> BookedFlow:
        """Return what so much of it was booked at: the same for every part."""
        cost = Cost(scaled(self.cost.amount, amount, self.amount), self.cost.unknown)
        own = None if self.own is None else scaled(self.own, amount, self.amount)
        return msgspec.structs.replace(self, amount=amount, cost=cost, own=own)


BookedFlows = dict[bytes, BookedFlow]
"""By identity, the oldest first."""


def note_flow(flows: BookedFlows, key: bytes, flow: BookedFlow) -> None:
    """Remember a flow, and forget the oldest beyond as many as identities are remembered."""
    flows.pop(key, None)
    flows[key] = flow
    while len(flows) > limits.REMEMBERED:
        del flows[next(iter(flows))]
