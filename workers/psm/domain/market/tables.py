"""The market as a log tells it: marks, instruments, collateral, rules, the valuation clock.

Belongs to no account, and is the same in every partition.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.table_events import InstrumentDefined
from psm.domain.market.collateral import Collateral
from psm.domain.market.instrument import Instrument
from psm.domain.market.mark import Mark
from psm.domain.market.slots import MINUTE, ValuationSlots

_FIXED = ("kind", "base", "quote", "settle", "multiplier", "signed_price", "option")
"""What the first definition of a symbol decides for good."""


@lru_cache(maxsize=4096)
def pair_of(one: str, other: str) -> str:
    """Return the name of a pair of currencies, whichever is quoted in the other; no symbol's."""
    first, second = (one, other) if one < other else (other, one)
    return f"\0{first}\0{second}"


def is_convertible(instrument: Instrument) -> bool:
    """Return whether marks of an instrument may be a rate between its base and its quote."""
    kind = instrument.kind
    return kind in ("spot", "equity", "inverse_perp") or (
        kind == "linear_perp" and instrument.multiplier == 1
    )


class Tables(msgspec.Struct, frozen=True, kw_only=True):
    """The market at one log sequence, as a checkpoint keeps it."""

    marks: dict[str, Mark]
    instruments: dict[str, Instrument]
    defined_at: dict[str, int]
    numbers: dict[str, int]
    clock: int = 0
    marked_at: int | None = None
    latest: int = 0
    closing: list[tuple[int, int]] = []
    closed_through: int | None = None
    rules_enabled: list[tuple[int, int]] = []
    marks_taken: dict[str, int] = {}
    collateral: dict[str, Collateral] = {}


class Market:
    """Marks, instruments, rules and clock, as of the last message folded.

    Attributes:
        marks: current mark by symbol.
        marks_taken: how many marks each symbol has had.
        instruments: definitions by symbol.
        defined_at: log sequence of each symbol's first definition.
        collateral: terms of assets as security, those that were defined.
        numbers: last `sequence_number` per subject of definitions and of control messages.
        pairs: instruments that may convert, by their pair of assets, the one defined first first.
        rules: what messages are judged by from here on; rules 1 hold from the start.
        rules_enabled: (log sequence, rules version) of every change of the rules.
        clock: the valuation clock, ns: sum of the forward steps between the times of successive
            `marks.*` messages, each at most the middle period.
        marked_at: time of the last `marks.*` message, ns; None before the first.
        latest: highest of these times: log time as every partition sees it.
        closing: (minute, clock) at the first mark in each minute whose accounts may not have told
            their closes.
        closed_through: end of the last minute of which all closes are told; None before the first.
    """

    __slots__ = (
        "clock",
        "closed_through",
        "closing",
        "collateral",
        "defined_at",
        "instruments",
        "latest",
        "marked_at",
        "marks",
        "marks_taken",
        "numbers",
        "pairs",
        "rules",
        "rules_enabled",
    )

    def __init__(self) -> None:
        self.marks: dict[str, Mark] = {}
        self.marks_taken: dict[str, int] = {}
        self.instruments: dict[str, Instrument] = {}
        self.defined_at: dict[str, int] = {}
        self.collateral: dict[str, Collateral] = {}
        self.numbers: dict[str, int] = {}
        self.pairs: dict[str, list[str]] = {}
        self.rules = 1
        self.rules_enabled: list[tuple[int, int]] = []
        self.clock = 0
        self.marked_at: int | None = None
        self.latest = 0
        self.closing: list[tuple[int, int]] = []
        self.closed_through: int | None = None

    def set_mark(self, symbol: str, mark: Mark) -> None:
        """Replace a symbol's mark."""
        self.marks[symbol] = mark
        count = self.marks_taken.get(symbol, 0)
        count += 1
        self.marks_taken[symbol] = count

    def define(self, event: InstrumentDefined, log_sequence: int) -> bool:
        """Take in a definition; return whether it is the symbol's first.

        Raises:
            ContractError: reason `instrument_conflict`: it changes what the first one decided.
        """
        instrument = Instrument(
            symbol=event.symbol,
            kind=event.kind,
            base=event.base,
            quote=event.quote,
            settle=event.settle,
            multiplier=event.multiplier,
            signed_price=event.signed_price,
            margin_tiers=event.margin_tiers,
            option=event.option,
        )
        first = self.instruments.get(event.symbol)
        for name in _FIXED:
            if first is not None and getattr(first, name) != getattr(instrument, name):
                raise ContractError(
                    "instrument_conflict",
                    f"{name} is another one since the symbol's first definition",
                    f"payload.{name}",
                )
        self.defined_at.setdefault(event.symbol, log_sequence)
        self.instruments[event.symbol] = instrument
        if first is None:
            self._pair(instrument)
        return first is None

    def learn(self, log_sequence: int, instrument: Instrument) -> None:
        """Take over a definition from another market."""
        self.defined_at[instrument.symbol] = log_sequence
        self.instruments[instrument.symbol] = instrument
        self._pair(instrument)

    def secure(self, terms: Collateral) -> None:
        """Take in the terms of an asset as security; the last ones count."""
        self.collateral[terms.asset] = terms

    def _pair(self, instrument: Instrument) -> None:
        """Find an instrument by its assets from now on, where its mark is a rate between them."""
        if is_convertible(instrument):
            pair = pair_of(instrument.base, instrument.quote)
            self.pairs.setdefault(pair, []).append(instrument.symbol)

    def take_number(self, subject: str, number: int | None) -> None:
        """Remember the last number of a subject."""
        if number is not None:
            self.numbers[subject] = number

    def enable_rules(self, log_sequence: int, version: int) -> None:
        """Judge by other rules from this log sequence on."""
        self.rules_enabled.append((log_sequence, version))
        self.rules = version

    def minute(self, time: int) -> int:
        """Return the minute of log time that a message of this time is in."""
        return max(self.latest, time) // MINUTE

    def clock_after(self, time: int, slots: ValuationSlots) -> int:
        """Return what the valuation clock is after a mark of this time."""
        if self.marked_at is None:
            return self.clock
        return self.clock + min(max(0, time - self.marked_at), slots.mid)

    def advance_clock(self, time: int, slots: ValuationSlots) -> None:
        """Move the clock on at a mark of this time, and see which minutes are complete.

        An account that changed before the first mark past a minute reaches a slow slot, at which
        it tells its close, within one slow period of that mark.
        """
        self.clock = self.clock_after(time, slots)
        before, minute = self.latest // MINUTE, self.minute(time)
        if self.marked_at is None or minute > before:
            self.closing.append((minute, self.clock))
        self.marked_at, self.latest = time, max(self.latest, time)
        while self.closing and self.clock - self.closing[0][1] >= slots.slow:
            minute, _ = self.closing.pop(0)
            self.closed_through = minute * MINUTE

    def tables(self) -> Tables:
        """Return a copy of everything."""
        return Tables(
            marks=dict(self.marks),
            instruments=dict(self.instruments),
            defined_at=dict(self.defined_at),
            numbers=dict(self.numbers),
            clock=self.clock,
            marked_at=self.marked_at,
            latest=self.latest,
            closing=list(self.closing),
            closed_through=self.closed_through,
            rules_enabled=list(self.rules_enabled),
            marks_taken=dict(self.marks_taken),
            collateral=dict(self.collateral),
        )

    def restore(self, tables: Tables) -> None:
        """Take in everything that a checkpoint kept."""
        self.marks = dict(tables.marks)
        self.marks_taken = dict(tables.marks_taken)
        self.collateral = dict(tables.collateral)
        self.instruments = dict(tables.instruments)
        self.defined_at = dict(tables.defined_at)
        self.pairs = {}
        for _, symbol in sorted((at, symbol) for symbol, at in self.defined_at.items()):
            self._pair(self.instruments[symbol])
        self.numbers = dict(tables.numbers)
        self.rules_enabled = list(tables.rules_enabled)
        if self.rules_enabled:
            _, self.rules = self.rules_enabled[-1]
        self.clock, self.marked_at, self.latest = tables.clock, tables.marked_at, tables.latest
        self.closing, self.closed_through = list(tables.closing), tables.closed_through
