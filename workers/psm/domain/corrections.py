"""Busts and amendments: the books as if the fill never happened, or had happened as amended.

The account's whole stream is read again. Which message took which place follows from the sequence
rules and is proven by the hash chain; which places were refused, the account remembers. The events
of the corrected symbol are then booked twice from nothing, with the corrections so far and with the
new one, and the difference is the effect. That the first booking gives exactly the position in the
books is checked each time. Outcomes, used keys, peak and published updates are never revisited.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

import msgspec

from psm.contracts.envelope import chain_next, chain_start
from psm.contracts.errors import ContractError, InvariantError
from psm.contracts.events import AccountEvent, TradeAmended, TradeBusted, TradeExecuted
from psm.domain import orders
from psm.domain.account import Account
from psm.domain.effect import Effect, TotalName
from psm.domain.evolve import evolve
from psm.domain.money import ZERO, subtract
from psm.domain.positions import Instrument, Position, Step
from psm.domain.setting import Setting
from psm.domain.windows import KeyWindow

Correction = TradeBusted | TradeAmended
_Key = TypeVar("_Key", str, tuple[str, TotalName])


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One event that took a place in the stream.

    Attributes:
        log_sequence: at which it was folded; for a released event that of the releasing message.
        event: None where the payload cannot be read; such a place is a refused one.
    """

    number: int
    event_id: str
    event_hash: bytes
    log_sequence: int
    event: AccountEvent | None


class _Booked(msgspec.Struct):
    """What the events of one symbol add up to."""

    position: Position | None
    cash: dict[str, Decimal]
    totals: dict[tuple[str, TotalName], Decimal]


class Corrector:
    """Corrects fills of one account, given every place its stream has so far."""

    def __init__(
        self,
        account: Account,
        places: Sequence[Place],
        instruments: Mapping[str, Instrument],
        defined_at: Mapping[str, int],
    ) -> None:
        self._account = account
        self._instruments = instruments
        self._defined_at = defined_at
        refused = frozenset(account.refused)
        self._applied = [p for p in places if p.event is not None and p.number not in refused]
        _check_chain(account, places)

    def effect(self, correction: Correction) -> Effect:
        """Return what a bust or an amendment changes.

        Raises:
            ContractError: reason `unknown_trade` or `invalid_payload`.
            InvariantError: booking the stream again does not give the position in the books.
        """
        corrected: dict[str, TradeExecuted | None] = {}
        for place in self._applied:
            if isinstance(place.event, Correction):
                self._correct(corrected, place.event, place.number)
        before = dict(corrected)
        old = self._correct(corrected, correction, self._account.version + 1)
        symbol = old.symbol
        was, after = self._book(symbol, before), self._book(symbol, corrected)
        self._check_position(symbol, was.position)
        return Effect(
            cash=tuple(_difference(was.cash, after.cash)),
            totals=tuple((c, n, v) for (c, n), v in _difference(was.totals, after.totals)),
            steps=(self._step(symbol, after.position),),
            orders=self._order(old.order_id, corrected),
        )

    def _correct(
        self,
        corrected: dict[str, TradeExecuted | None],
        correction: Correction,
        number: int,
    ) -> TradeExecuted:
        """Note the correction at place `number`; return the trade as it was before."""
        event_id, original = self._target(correction, number)
        current = corrected.get(event_id, original)
        if current is None:
            raise ContractError("unknown_trade", f"trade {event_id} was busted before", None)
        new: TradeExecuted | None = None
        if isinstance(correction, TradeAmended):
            changes = {
                name: value
                for name in ("quantity", "price", "commission")
                if (value := getattr(correction, name)) is not None
            }
            if not changes:
                raise ContractError(
                    "invalid_payload", "quantity, price or commission must be given", "payload"
                )
            new = msgspec.structs.replace(current, **changes)
        corrected[event_id] = new
        return current

    def _target(self, correction: Correction, number: int) -> tuple[str, TradeExecuted]:
        """Return the trade that a correction at place `number` means: one that came before it."""
        if (correction.fill_id is None) == (correction.event_id is None):
            raise ContractError(
                "invalid_payload", "either fill_id or event_id must name the trade", "payload"
            )
        found = [
            (place.event_id, place.event)
            for place in self._applied
            if isinstance(place.event, TradeExecuted)
            and place.number < number
            and (
                place.event.fill_id == correction.fill_id
                if correction.event_id is None
                else place.event_id == correction.event_id.lower()
            )
        ]
        if not found:
            name = correction.fill_id or correction.event_id
            raise ContractError("unknown_trade", f"no booked trade is named {name}")
        if len(found) > 1:
            raise ContractError(
                "unknown_trade", f"fill_id {correction.fill_id} is not unique: give the event_id"
            )
        return found[0]

    def _book(self, symbol: str, corrected: Mapping[str, TradeExecuted | None]) -> _Booked:
        """Book every applied event of a symbol from nothing."""
        scratch = Account(self._account.stream_id)
        scratch.currency = self._account.currency
        for place in self._applied:
            event = place.event
            if getattr(event, "symbol", None) != symbol or isinstance(event, Correction):
                continue
            if isinstance(event, TradeExecuted):
                event = corrected.get(place.event_id, event)
                if event is None:
                    continue
                event = msgspec.structs.replace(event, order_id=None)
            assert event is not None
            scratch.keys = KeyWindow()  # outcomes are not revisited
            scratch.commit(evolve(scratch, event, self._setting(symbol, place.log_sequence)))
        return _Booked(scratch.positions.get(symbol), scratch.cash, scratch.totals)

    def _setting(self, symbol: str, log_sequence: int) -> Setting:
        """Return what was defined when the event was folded."""
        instrument = self._instruments.get(symbol)
        if instrument is None or self._defined_at.get(symbol, 0) > log_sequence:
            return Setting(instruments={})
        return Setting(instruments={symbol: instrument})

    def _check_position(self, symbol: str, position: Position | None) -> None:
        held = self._account.positions.get(symbol)
        same = held is position or (
            held is not None
            and position is not None
            and msgspec.structs.replace(held, instrument=position.instrument) == position
        )
        if not same:
            raise InvariantError(
                f"{self._account.stream_id}: booking {symbol} again does not give the position "
                "in the books"
            )

    def _step(self, symbol: str, position: Position | None) -> Step:
        held = self._account.positions[symbol]
        if position is None:
            empty = Position(instrument=held.instrument, last_fill=held.last_fill)
            return Step(position=empty, change="adjusted", forgotten=True)
        # The definition it opened with, its margin tiers too; unless it opened before there was
        # one and the correction took or brought the flip that took up the definition.
        same = position.instrument.defined == held.instrument.defined
        if held.size and position.size and same:
            position = msgspec.structs.replace(position, instrument=held.instrument)
        return Step(position=position, change="adjusted")

    def _order(
        self, order_id: str | None, corrected: Mapping[str, TradeExecuted | None]
    ) -> tuple[orders.Order, ...]:
        """Return the trade's order as all its events tell, with the corrections."""
        known = self._account.orders.get(order_id or "")
        if known is None:
            return ()
        order: orders.Order | None = None
        for place in self._applied:
            event = place.event
            if isinstance(event, TradeExecuted):
                event = corrected.get(place.event_id, event)
            if event is not None:
                order = orders.told_again(order, event, known.order_id)
        return (orders.gone(known) if order is None else order,)


def _check_chain(account: Account, places: Sequence[Place]) -> None:
    """The places must be those whose hashes the account's chain is made of."""
    chain = chain_start(account.stream_id)
    for place in places:
        chain = chain_next(chain, place.event_hash)
    if chain != account.chain_hash:
        raise InvariantError(
            f"{account.stream_id}: the stream read again has another hash chain: the log changed"
        )


def _difference(
    was: Mapping[_Key, Decimal], after: Mapping[_Key, Decimal]
) -> list[tuple[_Key, Decimal]]:
    """Return by how much each amount changed, ascending by key."""
    keys = sorted({**was, **after})
    changes = [(key, subtract(after.get(key, ZERO), was.get(key, ZERO))) for key in keys]
    return [(key, amount) for key, amount in changes if amount]
