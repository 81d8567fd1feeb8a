"""The journal of an account: what each event did to a position, as far as corrections need it."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.analytics.feed import Applied, PositionFacts
from psm.analytics.rows import JournalRow
from psm.analytics.unit_costs import NOTHING, SAME_COST, unit_costs
from psm.analytics.worth import Held, HeldChange, number
from psm.domain.money import ONE, ZERO, absolute, add, multiply_wide, subtract

CORRECTIONS = ("TradeBusted", "TradeAmended", "EventReversed")

DEPENDENT = (
    "AssetsExchanged",
    "Merged",
    "PositionAdjusted",
    "PositionModeChanged",
    "PositionSettled",
    "PositionTransferredIn",
    "PositionTransferredOut",
    "ReturnOfCapital",
    "SpinOff",
    "SplitApplied",
    "StockDividend",
    "SymbolChanged",
)
"""Events that do to a position what depends on it.

In a corrected past they may do something else, or nothing, or what they did not as they came, and
updates tell rounded what they did: the journal cannot say what follows.
"""

_PAID = ("TradeExecuted", "FeeCharged", "FundingApplied")
"""Events that move what a position has paid, and nothing of it elsewhere."""

_SAME_PRICE = Decimal("1e-12")
"""Part of a price by which one that follows from rounded figures may differ."""


class Event(msgspec.Struct, frozen=True):
    """The event behind an input.

    Attributes:
        time: log time, ns.
        strategy: of its order; None where none is named.
    """

    account_id: str
    event_id: str
    time: int
    log_sequence: int
    strategy: str | None
    said: Applied


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one event did to one position; of a correction, what it names and changes.

    Attributes:
        key: of the position, empty for none; of a correction, to which it moved a fill, if to
            another leg.
        size, before: signed, after and before the event.
        price: of the fill or settlement; else that at which units came, or its mark of then.
        exit, grown, shift: of no fill, what it did to units: as `UnitCosts` says.
        fees, funding: that the event booked on the position, in its settle currency; of a
            correction, by how much it changed the fees.
        mae, mfe: of the cycle that it closed.
        target, quantity: of a correction, whose `price` and `side` are changes.
    """

    event_type: str
    event_id: str
    time: int
    log_sequence: int
    key: str = ""
    symbol: str | None = None
    position_side: str = "net"
    currency: str = ""
    multiplier: Decimal = Decimal(1)
    inverse: bool = False
    fill_id: str | None = None
    order_id: str | None = None
    side: str | None = None
    strategy: str | None = None
    before: Decimal = ZERO
    size: Decimal = ZERO
    price: Decimal | None = None
    exit: Decimal | None = None
    grown: Decimal | None = None
    shift: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    mae: Decimal | None = None
    mfe: Decimal | None = None
    target: str | None = None
    quantity: Decimal | None = None

    @property
    def is_fill(self) -> bool:
        """Whether it is a trade of the account's own."""
        return self.event_type == "TradeExecuted"

    @property
    def is_restating(self) -> bool:
        """Whether units of the position are others, or cost something else, and none was traded."""
        is_other = self.event_type in SAME_COST or bool(self.shift)
        return is_other and bool(self.before) and bool(self.size)


_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(JournalEntry)


def written(account_id: str, n: int, entry: JournalEntry) -> JournalRow:
    """Return an entry as it is kept."""
    return JournalRow(account_id=account_id, n=n, entry=_ENCODER.encode(entry).decode())


def read(rows: list[JournalRow]) -> list[JournalEntry]:
    """Return the entries of rows, by their places, each once."""
    by_place = {row.n: row for row in rows}
    return [_DECODER.decode(by_place[n].entry) for n in sorted(by_place)]


def entry_of_nothing(event: Event) -> JournalEntry:
    """Return that an event came which did nothing, and in a corrected past might."""
    return JournalEntry(
        event_type=event.said.event_type,
        event_id=event.event_id,
        time=event.time,
        log_sequence=event.log_sequence,
        symbol=event.said.symbol,
    )


def entry_of_correction(event: Event, moved: list[HeldChange]) -> JournalEntry:
    """Return what a correction says, by how much it changed fees, and to which leg a fill went."""
    said, fees, key = event.said, ZERO, ""
    for one in moved:
        fees = add(fees, _rise(one.paid[0], one.update.fees))
        if one.update.position_side == said.position_side:
            key = one.key
    return JournalEntry(
        event_type=said.event_type,
        event_id=event.event_id,
        time=event.time,
        log_sequence=event.log_sequence,
        symbol=said.symbol,
        order_id=said.order_id,
        side=said.side,
        target=said.target,
        quantity=number(said.quantity),
        price=number(said.price),
        fees=fees,
        key=key,
    )


def entries_of(event: Event, moved: list[HeldChange]) -> list[JournalEntry]:
    """Return what an event did to each position; nothing where only margin changed.

    Args:
        event: that was applied.
        moved: what it did to positions; to one that it flipped, twice.
    """
    by_key: dict[str, list[HeldChange]] = {}
    for one in moved:
        by_key.setdefault(one.key, []).append(one)
    found = [_entry(event, key, steps) for key, steps in sorted(by_key.items())]
    return [e for e in found if e.size != e.before or e.fees or e.funding or e.shift or e.grown]


def _entry(event: Event, key: str, steps: list[HeldChange]) -> JournalEntry:
    said, last, after, before = event.said, steps[-1].update, steps[-1].after, steps[0].before
    fees, funding = _paid(said, steps)
    closed = next((step.update for step in steps if step.update.change == "closed"), None)
    costs = NOTHING if said.event_type in _PAID else unit_costs(said.event_type, steps)
    return JournalEntry(
        event_type=said.event_type,
        event_id=event.event_id,
        time=event.time,
        log_sequence=event.log_sequence,
        key=key,
        symbol=last.symbol,
        position_side=last.position_side,
        currency=last.currency or "",
        multiplier=ONE if last.multiplier == "1" else Decimal(last.multiplier),
        inverse=last.kind is not None and last.kind.startswith("inverse"),
        fill_id=said.fill_id,
        order_id=said.order_id,
        side=said.side,
        strategy=event.strategy,
        before=ZERO if before is None else before.size,
        size=ZERO if after is None else after.size,
        price=_price(said, last, before, _exact(costs.came, said)),
        exit=_exact(costs.exit, said),
        grown=costs.grown,
        shift=costs.shift,
        fees=fees,
        funding=funding,
        mae=None if closed is None else number(closed.cycle_mae),
        mfe=None if closed is None else number(closed.cycle_mfe),
    )


def _paid(said: Applied, steps: list[HeldChange]) -> tuple[Decimal, Decimal]:
    """Return by how much fees and funding of a position rose, also of one that is flat.

    A position that goes on under another symbol brings those of its cycle.
    """
    first, last = steps[0], steps[-1].update
    if said.event_type in _PAID:
        return _rise(first.paid[0], last.fees), _rise(first.paid[1], last.funding)
    fees, funding = ZERO, ZERO
    for step in steps:
        fees = add(fees, number(step.update.cycle_fees) or ZERO)
        funding = add(funding, number(step.update.cycle_funding) or ZERO)
    before = first.before
    if before is None:
        return fees, funding
    return subtract(fees, Decimal(before.fees)), subtract(funding, Decimal(before.funding))


def _rise(before: str, after: str | None) -> Decimal:
    return ZERO if after == before else subtract(number(after) or ZERO, Decimal(before))


def _exact(price: Decimal | None, said: Applied) -> Decimal | None:
    """Return the price that an event names, if it is the one that follows from what was told."""
    named = number(said.price)
    if price is None or named is None:
        return price
    apart = absolute(subtract(price, named))
    return named if apart <= absolute(multiply_wide(named, _SAME_PRICE)) else price


def _price(
    said: Applied, last: PositionFacts, before: Held | None, came: Decimal | None
) -> Decimal | None:
    """Return the price at which units moved, as told or as the event says it."""
    if came is not None:
        return came
    if said.price is not None and (
        said.symbol == last.symbol or said.event_type == "TradeExecuted"
    ):
        return Decimal(said.price)
    price = number(last.mark_price)
    return price if price is not None or before is None else before.mark
