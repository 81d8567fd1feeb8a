"""What must be published because of marks, from figures of `marks_reference`: the rules as written.

Every account is looked at after every mark.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import msgspec
from tests.support.leg_reference import Leg
from tests.support.marks_reference import (
    MINUTE,
    MS,
    Crossed,
    NaiveAccount,
    Seen,
    Told,
    key_of,
    phase_of,
)

from psm.domain.market.slots import ValuationSlots


class Unsaid:
    """What one account did not say yet."""

    def __init__(self) -> None:
        self.changed = False
        self.equity: Fraction | None = None
        self.margin: tuple[Fraction | None, ...] | None = None
        self.legs: dict[Leg, int] = {}
        """Those that a mark changed since they were told: the clock of then."""
        self.since = 0
        """The clock when a mark changed the account first since it was told."""
        self.minutes: dict[Leg | None, int] = {}
        """Of account (None) and legs: in which minute they changed last, if it is not closed."""
        self.closes: dict[Leg | None, list[Seen]] = {}


class NaivePublisher:
    """Takes a log in and says what a mark must make every account publish."""

    def __init__(self, slots: ValuationSlots) -> None:
        self.slots = slots
        self.clock = self.latest = 0
        self.marked_at: int | None = None
        self.numbers: dict[str, int] = {}
        self.accounts: dict[str, NaiveAccount] = {}
        self.unsaid: dict[str, Unsaid] = {}
        self.instruments: dict[str, dict[str, Any]] = {}
        self.marks: dict[str, Fraction] = {}
        self.crossed: list[Crossed] = []

    def define(self, payload: dict[str, Any]) -> None:
        """Take a definition in."""
        self.instruments[payload["symbol"]] = payload

    def mark(self, data: bytes, time: int) -> dict[str, list[Told]]:
        """Take a mark in, or bytes that are none; return what each account must publish."""
        minute, crossed = max(self.latest, time) // MINUTE, dict[str, list[Crossed]]()
        moved = self._moved(data)
        before = self.clock
        if self.marked_at is not None:
            self.clock += min(max(0, time - self.marked_at), self.slots.mid_ms * MS)
        self.marked_at, self.latest = time, max(self.latest, time)
        for stream, account in self.accounts.items():
            legs = account.open_legs(moved["symbol"]) if moved else []
            if legs:
                self._begin(stream, legs, minute)
            if moved:
                crossed[stream] = account.take("MarkPriceUpdated", moved)
            if legs:
                self._note(self.unsaid[stream], legs)
        told = {
            stream: self._due(stream, before, crossed.get(stream, []))
            for stream in sorted(self.accounts)
        }
        return {stream: found for stream, found in told.items() if found}

    def event(
        self, stream: str, kind: str, payload: dict[str, Any], time: int, touched: Iterable[Leg]
    ) -> Seen:
        """Take an applied event in, which published these legs; return what it says of the state.

        The levels that it crossed are in `crossed` then.
        """
        if stream not in self.accounts:
            account = self.accounts[stream] = NaiveAccount(stream)
            account.instruments, account.marks = self.instruments, dict(self.marks)
            self.unsaid[stream] = Unsaid()
        account, waiting = self.accounts[stream], self.unsaid[stream]
        legs = list(touched)
        self._begin(stream, legs, max(self.latest, time) // MINUTE)
        self.crossed = account.take(kind, payload)
        if None in waiting.minutes and not account.open_legs() and account.cash[stream] >= 0:
            self._close(stream, None)
        for leg in legs:
            self._tell_leg(stream, leg)
            if not account.legs[leg].size:
                waiting.minutes.pop(leg, None)
        return self._tell(stream)

    # --- changes and minutes -------------------------------------------------------------------

    def _moved(self, data: bytes) -> dict[str, Any] | None:
        """Return the payload of a mark that is new and at another price."""
        try:
            body = msgspec.json.decode(data)
        except msgspec.DecodeError:
            return None
        payload, number = body["payload"], body["sequence_number"]
        symbol, price = payload["symbol"], Fraction(payload["price"])
        if number <= self.numbers.get(symbol, 0):
            return None
        self.numbers[symbol] = number
        same = self.marks.get(symbol) == price
        self.marks[symbol] = price
        return None if same else payload

    def _note(self, waiting: Unsaid, legs: list[Leg]) -> None:
        if not waiting.changed:
            waiting.changed, waiting.since = True, self.clock
        for leg in legs:
            waiting.legs.setdefault(leg, self.clock)

    def _begin(self, stream: str, legs: list[Leg], minute: int) -> None:
        minutes = self.unsaid[stream].minutes
        minute = max(minutes.get(None, minute), minute)
        self._close_older(stream, [*minutes], minute)
        for leg in (None, *legs):
            minutes[leg] = minute

    def _close_older(self, stream: str, of: Iterable[Leg | None], minute: int) -> None:
        for leg in of:
            if self.unsaid[stream].minutes.get(leg, minute) < minute:
                self._close(stream, leg)

    def _close(self, stream: str, leg: Leg | None) -> None:
        waiting, account = self.unsaid[stream], self.accounts[stream]
        figures = account.state() if leg is None else account.position(leg)
        end = Fraction((waiting.minutes.pop(leg) + 1) * MINUTE)
        waiting.closes.setdefault(leg, []).append({"bucket_end": end, **figures})

    # --- publishing ----------------------------------------------------------------------------

    def _due(self, stream: str, before: int, crossed: list[Crossed]) -> list[Told]:
        account, waiting = self.accounts[stream], self.unsaid[stream]
        legs = self._legs_due(stream, before)
        if legs is None and not crossed:
            return []
        told: list[Told] = [
            ("PositionUpdated", key_of(leg), self._tell_leg(stream, leg))
            for leg in sorted(legs or [], key=key_of)
        ]
        if account.margin() != waiting.margin:
            told.append(("MarginUpdated", "", {}))
        told += [
            ("MarginWarning", level if leg is None else f"{key_of(leg)} {level}", {})
            for leg, level in crossed
        ]
        return [*told, ("StateUpdated", "", self._tell(stream))]

    def _legs_due(self, stream: str, before: int) -> list[Leg] | None:
        """Return what is due at slots beside margin and state; None where these are not due."""
        account, waiting = self.accounts[stream], self.unsaid[stream]
        if self._reaches(stream, self.slots.slow_ms, before):
            self._close_older(stream, [*waiting.minutes], self.latest // MINUTE)
            if not (waiting.changed or waiting.legs or waiting.closes):
                return None
            return [leg for leg in account.legs if leg in waiting.legs or leg in waiting.closes]
        near = [leg for leg in account.near_legs() if leg in waiting.legs]
        unsaid = near or (account.near and waiting.changed)
        if unsaid and self._reaches(stream, self.slots.fast_ms, before):
            return near
        away = waiting.changed and self._is_away(account.worth, waiting.equity)
        return [] if away and self._reaches(stream, self.slots.mid_ms, before) else None

    def _reaches(self, stream: str, period_ms: int, before: int) -> bool:
        """Return whether a slot lies behind a time of the clock and not behind the one of now."""
        period, phase = period_ms * MS, phase_of(stream)
        number = (before - phase) // period + 1
        return before < phase + number * period <= self.clock

    def _is_away(self, equity: Fraction, said: Fraction | None) -> bool:
        if said is None:
            return True
        if said == 0:
            return equity != 0
        return abs(equity - said) / abs(said) >= Fraction(self.slots.move_bps, 10_000)

    def _tell(self, stream: str) -> Seen:
        account, waiting = self.accounts[stream], self.unsaid[stream]
        waiting.changed, waiting.equity, waiting.margin = False, account.worth, account.margin()
        return {**account.state(), "closed": waiting.closes.pop(None, [])}

    def _tell_leg(self, stream: str, leg: Leg) -> Seen:
        account, waiting = self.accounts[stream], self.unsaid[stream]
        waiting.legs.pop(leg, None)
        return {**account.position(leg), "closed": waiting.closes.pop(leg, [])}
