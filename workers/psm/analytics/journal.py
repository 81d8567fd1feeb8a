"""The journal of an account: what each event did to a position, as far as corrections need it."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.analytics.feed import Applied, PositionFacts
from psm.analytics.rows import JournalRow
from psm.analytics.worth import Held, number
from psm.contracts.position_keys import position_key
from psm.domain.money import ZERO, add, negate

CORRECTIONS = ("TradeBusted", "TradeAmended", "EventReversed")

SAME_COST = ("SplitApplied", "StockDividend")
"""Events after which a position has another size and cost what it cost before."""


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


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one event did to one position; of a correction, what it names and changes.

    Attributes:
        key: of the position; empty in a correction.
        size, before: signed, after and before the event.
        price: of the fill or settlement; else that at which it was opened, or its mark of then.
        fees, funding: that the event booked on the position's cycles, in its settle currency.
        fee: of it, the commission that the fill named.
        mae, mfe: of the cycle that it closed.
        target, quantity: of a correction, whose `price`, `side` and `fee` are changes.
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
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    mae: Decimal | None = None
    mfe: Decimal | None = None
    target: str | None = None
    quantity: Decimal | None = None
    fee: Decimal | None = None

    @property
    def is_fill(self) -> bool:
        """Whether it is a trade of the account's own."""
        return self.event_type == "TradeExecuted"


_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(Entry)


def written(account_id: str, n: int, entry: Entry) -> JournalRow:
    """Return an entry as it is kept."""
    return JournalRow(account_id=account_id, n=n, entry=_ENCODER.encode(entry).decode())


def read(rows: list[JournalRow]) -> list[Entry]:
    """Return the entries of rows, by their places, each once."""
    by_place = {row.n: row for row in rows}
    return [_DECODER.decode(by_place[n].entry) for n in sorted(by_place)]


def entry_of_correction(event: Event) -> Entry:
    """Return what a correction says."""
    said = event.said
    return Entry(
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
        fee=number(said.fee),
    )


def entries_of(event: Event, moved: list[tuple[PositionFacts, Held | None]]) -> list[Entry]:
    """Return what an event did to each position; nothing where only margin changed.

    Args:
        event: that was applied.
        moved: updates of positions, each with what was held before it; a flip has two.
    """
    by_key: dict[str, list[tuple[PositionFacts, Held | None]]] = {}
    for update, before in moved:
        key = position_key(update.symbol, update.position_side)  # type: ignore[arg-type]
        by_key.setdefault(key, []).append((update, before))
    found = [_entry(event, key, steps) for key, steps in sorted(by_key.items())]
    return [e for e in found if e.size != e.before or e.fees or e.funding]


_Steps = list[tuple[PositionFacts, Held | None]]


def _entry(event: Event, key: str, steps: _Steps) -> Entry:
    said, (last, _), before = event.said, steps[-1], steps[0][1]
    fees, funding = _paid(said, steps)
    closed = [update for update, _ in steps if update.change == "closed"]
    mae, mfe = (closed[0].cycle_mae, closed[0].cycle_mfe) if closed else (None, None)
    size = Decimal(last.size)
    return Entry(
        event_type=said.event_type,
        event_id=event.event_id,
        time=event.time,
        log_sequence=event.log_sequence,
        key=key,
        symbol=last.symbol,
        position_side=last.position_side,
        currency=last.currency or "",
        multiplier=Decimal(last.multiplier),
        inverse=(last.kind or "").startswith("inverse"),
        fill_id=said.fill_id,
        order_id=said.order_id,
        side=said.side,
        strategy=event.strategy,
        before=ZERO if before is None else before.size,
        size=negate(size) if last.side == "short" else size,
        price=_price(said, last, before),
        fees=fees,
        funding=funding,
        fee=number(said.fee),
        mae=number(mae),
        mfe=number(mfe),
    )


def _paid(said: Applied, steps: _Steps) -> tuple[Decimal, Decimal]:
    """Return by how much fees and funding of a position's cycles rose."""
    first, before = steps[0]
    if before is None and first.change != "opened":
        return _of_nothing(said)
    fees, funding = (
        (ZERO, ZERO) if before is None else (negate(before.fees), negate(before.funding))
    )
    for update, _ in steps:
        fees = add(fees, number(update.cycle_fees) or ZERO)
        funding = add(funding, number(update.cycle_funding) or ZERO)
    return fees, funding


def _price(said: Applied, last: PositionFacts, before: Held | None) -> Decimal | None:
    """Return the price at which a position moved; that of a delivery is not in the event."""
    if said.price is not None and (
        said.symbol == last.symbol or said.event_type == "TradeExecuted"
    ):
        return Decimal(said.price)
    told = last.entry_price if last.change == "opened" else None
    price = number(told or last.mark_price)
    return price if price is not None or before is None else before.mark


def _of_nothing(said: Applied) -> tuple[Decimal, Decimal]:
    """Return fees and funding of a position that is flat; a correction may find it was not."""
    amount = number(said.amount) or ZERO
    if said.event_type == "FeeCharged":
        return amount, ZERO
    return ZERO, amount if said.event_type == "FundingApplied" else ZERO
