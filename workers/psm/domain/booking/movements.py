"""Movements of assets that one event makes: quantities, costs, and totals in the account currency.

The account currency moves by its amount. Any other asset is acquired or disposed of at a value:
what the event states as its rate, else its rate at that log sequence, rounded once to 18 decimals.
What a disposal brings beyond its cost is realized; where the cost is unknown it is a flow at cost.
An amount that nothing values leaves at its cost as far as it is held, and counts 0 beyond that.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.fields import Payload
from psm.domain.booking.booked_rates import rate_for, value_of
from psm.domain.booking.context import EventContext
from psm.domain.ledger.booked_flows import BookedFlow
from psm.domain.ledger.effect import Effect, TotalName
from psm.domain.ledger.holdings import (
    NO_COST,
    AssetHolding,
    Cost,
    Traded,
    left_with,
    moved_at_cost,
    parts,
    traded,
)
from psm.domain.ledger.ledger import Ledger
from psm.domain.money import ZERO, add, negate, scaled, subtract

FlowTotal = Literal["deposits", "withdrawals", "transfers"]


class Leg(msgspec.Struct, frozen=True, gc=False):
    """One side of a trade: how much of something came (above zero) or went.

    Attributes:
        asset: what; of shares their symbol.
        amount: signed.
        quote: what shares are quoted in; None for an asset.
    """

    asset: str
    amount: Decimal
    quote: str | None = None

    @property
    def key(self) -> str:
        """Key among the holdings; shares and assets may have the same name."""
        return self.asset if self.quote is None else share_key(self.asset)


_SHARE = "\0"


def share_key(symbol: str) -> str:
    """Return the key under which movements keep the cost of shares quoted in a foreign asset."""
    return f"{_SHARE}{symbol}"


class Movements:
    """Collects what one event moves; nothing in the ledger changes."""

    __slots__ = (
        "_cash",
        "_context",
        "_event",
        "_holdings",
        "_ledger",
        "_totals",
        "flows",
        "home",
        "legs",
    )  # fmt: skip

    def __init__(self, ledger: Ledger, context: EventContext, event: Payload) -> None:
        self.home = context.home
        self.flows: list[tuple[str, Decimal]] = []
        self.legs: list[tuple[str, Decimal]] = []
        self._ledger = ledger
        self._context = context
        self._event = event
        self._cash: list[tuple[str, Decimal]] = []
        self._holdings: dict[str, AssetHolding] = {}
        self._totals: list[tuple[TotalName, Decimal]] = []

    def effect(self, **others: Any) -> Effect:
        """Return all of it as an effect, with what else the event does."""
        costs: tuple[tuple[str, Cost], ...] = ()
        if self._holdings:
            held = self._holdings.items()
            costs = tuple([(key, one.cost) for key, one in held if not key.startswith(_SHARE)])
        return Effect(
            cash=tuple(self._cash),
            costs=costs,
            totals=tuple(self._totals),
            flows=tuple(self.flows),
            legs=tuple(self.legs),
            **others,
        )

    # --- value --------------------------------------------------------------------------------

    def value(self, asset: str, amount: Decimal) -> Decimal | None:
        """Return what an amount is worth, signed; None where it has no rate."""
        rate = rate_for(self._event, self._context, asset)
        return None if rate is None else value_of(amount, rate)

    def states_rate(self, asset: str) -> bool:
        """Return whether the event says what a unit is worth, or that nobody knows."""
        return asset in (getattr(self._event, "rates", None) or {})

    def trade_value(self, base: Leg, quote: Leg) -> Decimal | None:
        """Return what the base of a trade is booked at, signed as its amount; None: no rate.

        Its leg in the account currency says it, else a stated rate of the quote, of the base, else
        the rate of the quote, of the base.
        """
        rates = [(leg, rate_for(self._event, self._context, leg.asset)) for leg in (quote, base)]
        for sources in (("own",), ("stated",), ("table", "fill")):
            for leg, rate in rates:
                if rate is not None and rate.source in sources:
                    value = value_of(leg.amount, rate)
                    return value if leg is base else negate(value)
        return None

    # --- movements ----------------------------------------------------------------------------

    def earn(self, asset: str, amount: Decimal, name: TotalName) -> None:
        """Book performance, received above zero, into a total."""
        if asset == self.home:
            self._cash.append((asset, amount))
            self.count(name, amount)
            return
        self.count(name, self._moved(asset, amount, self.value(asset, amount)))

    def pay(
        self, asset: str, amount: Decimal, name: TotalName, *, at: Decimal | None = None
    ) -> None:
        """Book a cost, a rebate below zero, into a total; `at` a value where a trade has it."""
        going = negate(amount)
        if asset == self.home:
            self._cash.append((asset, going))
            self.count(name, amount)
            return
        value = self.value(asset, going) if at is None else negate(at)
        self.count(name, negate(self._moved(asset, going, value)))

    def take(self, asset: str, amount: Decimal) -> Decimal:
        """Move an asset at its value without a total; return that value, signed."""
        return self._moved(asset, amount, self.value(asset, amount))

    def cash(self, asset: str, amount: Decimal) -> None:
        """Move a quantity alone; its cost and totals are booked apart. Units of shares are none."""
        if not asset.startswith(_SHARE):
            self._cash.append((asset, amount))

    def count(self, name: TotalName, amount: Decimal) -> None:
        """Add to a lifetime sum."""
        if amount:
            self._totals.append((name, amount))

    def flow(
        self,
        asset: str,
        amount: Decimal,
        name: FlowTotal,
        *,
        cost: Cost | None,
        back: bool = False,
    ) -> BookedFlow | None:
        """Book an external flow of money or of an asset, in above zero; return what to remember.

        Args:
            asset: that moves.
            amount: signed.
            name: total that takes the flow at cost.
            cost: magnitude that is stated, or was booked; None: none.
            back: whether it is the opposite of an earlier one.
        """
        booked = self.arrive(asset, amount, cost, coming=amount > 0, back=back)
        self.count(name, negate(booked.amount) if name == "withdrawals" else booked.amount)
        return None if asset == self.home else BookedFlow.of(amount, booked)

    def arrive(
        self,
        asset: str,
        amount: Decimal,
        cost: Cost | None,
        *,
        coming: bool,
        back: bool = False,
    ) -> Cost:
        """Take in or give away an asset; return the flow at cost, signed.

        What is added away from zero has the given cost, else its value. What is taken from the
        holding leaves at its cost, and what goes `back` at the given one; but where something that
        comes covers the other side that is a trade at its value, else at the given cost.
        """
        self.flows.append((asset, amount))
        if asset == self.home:
            if cost is not None:
                raise ContractError(
                    "invalid_payload", f"{asset} is the account currency: it costs its amount",
                    "payload.cost",
                )  # fmt: skip
            self._cash.append((asset, amount))
            return Cost(amount)
        if cost is not None and cost.unknown:
            return self.arrive_at(asset, amount, None, None, coming=coming)
        value, stated = self.value(asset, amount), None
        if cost is not None:
            stated = cost.amount if amount > 0 else negate(cost.amount)
        return self.arrive_at(asset, amount, value, stated, coming=coming, back=back)

    def arrive_at(
        self,
        key: str,
        amount: Decimal,
        value: Decimal | None,
        stated: Decimal | None,
        *,
        coming: bool,
        back: bool = False,
    ) -> Cost:
        """Do so at a signed value and a signed stated cost, which may both be unknown.

        Of what goes `back` where it came from the stated cost leaves.
        """
        holding = self._holding(key)
        closing, opening = parts(holding.quantity, amount)
        booked = NO_COST
        if closing:
            covering = stated if value is None else value
            given = covering if coming else stated if back else None
            part = None if given is None else _part(given, closing, amount)
            holding, booked = self._closed(holding, closing, part, covers=coming)
        if opening:
            own = value if stated is None else stated
            if own is not None and closing:
                own = subtract(own, scaled(own, closing, amount))
            holding = moved_at_cost(holding, opening, own).holding
            booked = Cost(add(booked.amount, own or ZERO), booked.unknown or own is None)
        self._put(key, amount, holding)
        return booked

    def _closed(
        self, holding: AssetHolding, closing: Decimal, given: Decimal | None, *, covers: bool
    ) -> tuple[AssetHolding, Cost]:
        """Return the holding after the part of a flow that takes from it, and its flow at cost.

        What covers the other side trades at the given value; what leaves takes the given cost
        along. Without one its share of the cost leaves.
        """
        if covers and given is not None:
            done = traded(holding, closing, given)
            self._realize(holding, done)
            return done.holding, Cost(given)
        left = left_with(holding, closing, given)
        unknown = given is None and holding.cost.unknown
        return left.holding, Cost(negate(left.released), unknown)

    def exchange(self, base: Leg, quote: Leg, value: Decimal | None) -> None:
        """Book both legs of a trade at the signed value of its base.

        Without a value the cost of what went goes over to what came.
        """
        if value is None:
            self._carry(base, quote)
            return
        for leg, booked in ((base, value), (quote, negate(value))):
            if leg.amount:
                self.note_leg(leg.quote or leg.asset, booked)
            self._moved(leg.key, leg.amount, booked)

    def note_leg(self, rated_by: str, value: Decimal) -> None:
        """Note what one side of an exchange is worth: a flow where nothing rates it afterwards."""
        if rated_by != self.home:
            self.legs.append((rated_by, value))

    def note_became(self, gone: Leg, came: Leg, paid: Decimal = ZERO) -> None:
        """Note that one thing became another one and money, which is neither a gain nor a loss."""
        value = self.value(gone.asset, gone.amount)
        if value is None:
            value = self.value(came.asset, came.amount)
            value = None if value is None else add(value, paid)
        if value is not None:
            self.note_leg(gone.asset, negate(value))
            self.note_leg(came.asset, subtract(value, paid))

    def come_at_cost(self, key: str, amount: Decimal, cost: Cost) -> None:
        """Take in units with their signed cost; what covers the other side trades at that cost.

        The account currency costs its amount: what came for another cost realizes the difference.
        """
        if key == self.home:
            self._cash.append((key, amount))
            self.realize(subtract(amount, cost.amount), unknown=cost.unknown)
            return
        held = self._holding(key)
        done = traded(held, amount, cost.amount)
        self._realize(held, done)
        after = done.holding
        if cost.unknown and done.opened:
            after = AssetHolding(after.quantity, Cost(after.cost.amount, True))
        self._put(key, amount, after)

    def adjust(self, key: str, amount: Decimal, cost: Decimal | None) -> None:
        """Correct a holding by hand: what goes leaves at its cost.

        Args:
            key: of the holding.
            amount: signed.
            cost: signed, of all of it, of which what is added away from zero has its part.
        """
        if key == self.home:
            self._cash.append((key, amount))
            self.count("adjustments", amount)
            return
        before = self._holding(key)
        closing, opening = parts(before.quantity, amount)
        added = cost if opening else ZERO
        if closing and opening and cost is not None:
            added = subtract(cost, scaled(cost, closing, amount))
        done = moved_at_cost(before, amount, added)
        self.count("adjustments", subtract(added or ZERO, done.released))
        self._put(key, amount, done.holding)

    def rescale(self, key: str, quantity: Decimal, cost: Decimal) -> None:
        """Restate a holding, such as after a split; its cost is given."""
        before = self._holding(key)
        unknown = before.cost.unknown and bool(quantity)
        self._put(
            key, subtract(quantity, before.quantity), AssetHolding(quantity, Cost(cost, unknown))
        )

    def holding(self, key: str) -> AssetHolding:
        """Return a holding as the movements so far leave it."""
        return self._holding(key)

    def hold(self, key: str, holding: AssetHolding) -> None:
        """Say what is held before anything moves: of shares, which the ledger has by position."""
        self._holdings[key] = holding

    def realize(self, amount: Decimal, *, unknown: bool) -> None:
        """Count what a disposal brought beyond its cost: a flow at cost where that is unknown."""
        self.count("unknown_cost" if unknown else "realized_pnl", amount)

    def _carry(self, base: Leg, quote: Leg) -> None:
        """Book a trade in which nothing has a rate."""
        going, coming = (base, quote) if base.amount < 0 else (quote, base)
        before = self._holding(going.key)
        gone = moved_at_cost(before, going.amount, None)
        self._put(going.key, going.amount, gone.holding)
        held = self._holding(coming.key)
        done = traded(held, coming.amount, gone.released)
        self._realize(held, done)
        after = done.holding
        if after.quantity and (before.cost.unknown or gone.opened):
            after = AssetHolding(after.quantity, Cost(after.cost.amount, True))
        self._put(coming.key, coming.amount, after)

    def _moved(self, asset: str, amount: Decimal, value: Decimal | None) -> Decimal:
        """Move an asset at a signed value; return what of it counts."""
        if asset == self.home or not amount:
            self.cash(asset, amount)
            if value and not amount:  # the other side of a trade came, or went, for nothing
                self.realize(negate(value), unknown=False)
            return amount
        before = self._holding(asset)
        if value is None:
            done = moved_at_cost(before, amount, None)
            self._put(asset, amount, done.holding)
            return negate(done.released)
        done = traded(before, amount, value)
        self._realize(before, done)
        self._put(asset, amount, done.holding)
        return value

    def _realize(self, before: AssetHolding, done: Traded) -> None:
        self.realize(done.realized, unknown=before.cost.unknown)

    def _holding(self, asset: str) -> AssetHolding:
        known = self._holdings.get(asset)
        return self._ledger.holding(asset) if known is None else known

    def _put(self, key: str, amount: Decimal, holding: AssetHolding) -> None:
        self.cash(key, amount)
        self._holdings[key] = holding


def _part(whole: Decimal, closing: Decimal, amount: Decimal) -> Decimal:
    """Return the part of a signed value that so much of a movement has."""
    return whole if closing == amount else scaled(whole, closing, amount)
