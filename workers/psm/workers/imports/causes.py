"""Causes of differences between venue and account, as far as the venue's own files tell. Pure.

What was there before their first record, records after the report, the one record whose amount is
the difference. Otherwise it is not known, and said so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import accumulate

import msgspec

from psm.contracts.codec import canonical_decimal
from psm.workers.imports.facts import Found, VenueFact, VenueInstrument
from psm.workers.imports.rows import rfc3339

_OUT = ("FeeCharged", "TaxCharged", "CashWithdrawn", "TransferredOut")
_BEFORE = "were there before the first record of these files"
_PAID_IN_FULL = ("spot", "equity")


class _Figure(msgspec.Struct, frozen=True):
    """One figure that the venue reports and the account has."""

    name: str
    venue: Decimal
    booked: Decimal

    @property
    def difference(self) -> Decimal:
        return self.venue - self.booked


class Causes:
    """Finds what explains a difference."""

    def __init__(self, found: Found, facts: Sequence[VenueFact], *, later: bool) -> None:
        """Nothing is looked for yet.

        Args:
            found: all that the files say.
            facts: those of the files, in order, each once.
            later: whether the account has events after the report.
        """
        self._found, self._facts, self._later = found, facts, later
        self._opening = {**_before_fills(facts), **found.opening}

    def of(self, what: str, name: str, venue: Decimal, booked: Decimal) -> str:
        """Return the cause of a difference.

        Args:
            what: is compared, as `Difference` names it.
            name: asset or symbol.
            venue: as reported.
            booked: as the account has it.
        """
        if self._later:
            return "the account has events after the report"
        if what.endswith(".entry_price"):
            return self._of_price(name)
        figure = _Figure(name, venue, booked)
        looks = (self._there_before, self._after_report, self._one_record, self._in_part)
        causes = (look(figure) for look in looks)
        return next((cause for cause in causes if cause), None) or self._not_known(figure.name)

    def _there_before(self, figure: _Figure) -> str | None:
        opening = self._opening.get(figure.name)
        if opening is None and figure.booked < 0 <= figure.venue:
            # More left than ever came.
            opening = -self._lowest(figure.name)
        return f"{canonical_decimal(opening)} {_BEFORE}" if opening == figure.difference else None

    def _after_report(self, figure: _Figure) -> str | None:
        as_of = self._found.as_of_us
        late = [
            moved
            for fact, moved in self._moved(figure.name)
            if as_of is not None and fact.time_us > as_of
        ]
        if not late or sum(late, Decimal(0)) != -figure.difference:
            return None
        return f"{len(late)} records are later than the report"

    def _one_record(self, figure: _Figure) -> str | None:
        for fact, moved in self._moved(figure.name):
            if moved == -figure.difference:
                return (
                    f"the amount of one record, {fact.event_type} of {rfc3339(fact.time_us)} at "
                    f"{fact.place}, which the venue does not count"
                )
        return None

    def _in_part(self, figure: _Figure) -> str | None:
        opening = self._opening.get(figure.name)
        return None if opening is None else f"in part: {canonical_decimal(opening)} {_BEFORE}"

    def _not_known(self, name: str) -> str:
        if not any(name in _touched(fact, self._found.instruments) for fact in self._facts):
            return f"no record here moves {name}: it was there before, or a file is missing"
        if self._found.skipped:
            return "not known; rows were left out: " + ", ".join(sorted(self._found.skipped))
        return "not known: a record is missing in the files, or was booked differently"

    def _of_price(self, name: str) -> str:
        if any(fact.event_type == "PositionTransferredIn" for fact, _ in self._moved(name)):
            return "the venue keeps the cost from before the transfer; the account its value then"
        if name in self._opening:
            return "the position was there before the first record of these files"
        return "not known: the venue may count fees into it, or have another cost method"

    def _lowest(self, name: str) -> Decimal:
        """Return the lowest that the records alone would have led to."""
        moves = (moved for _, moved in self._moved(name))
        return min(accumulate(moves, initial=Decimal(0)))

    def _moved(self, name: str) -> Iterable[tuple[VenueFact, Decimal]]:
        """Yield the records that move an asset or a position, and by how much."""
        for fact in self._facts:
            for moved_name, moved in _movements(fact, self._found.instruments):
                if moved_name == name:
                    yield fact, moved


def _movements(
    fact: VenueFact, instruments: Mapping[str, VenueInstrument]
) -> Iterable[tuple[str, Decimal]]:
    """Yield what a fact moves: assets, and positions by their symbols."""
    payload = fact.payload
    amount = _first(payload, "amount", "funding_payment")
    if amount:
        yield payload.get("currency", ""), -amount if fact.event_type in _OUT else amount
    if "from_amount" in payload:
        yield from _exchanged(payload)
    quantity = _first(payload, "quantity")
    if quantity:
        out = payload.get("side") == "sell" or fact.event_type == "PositionTransferredOut"
        yield from _traded(fact, -quantity if out else quantity, instruments)
    commission = _first(payload, "commission")
    if commission:
        yield payload.get("commission_currency", ""), -commission


def _first(payload: Mapping[str, str], *names: str) -> Decimal:
    """Return the first of these numbers that a payload has; 0 if it has none."""
    return next((Decimal(payload[name]) for name in names if name in payload), Decimal(0))


def _exchanged(payload: Mapping[str, str]) -> Iterable[tuple[str, Decimal]]:
    yield payload["from"], -Decimal(payload["from_amount"])
    yield payload["to"], Decimal(payload["to_amount"])
    if payload.get("fee"):
        yield payload["fee_currency"], -Decimal(payload["fee"])


def _traded(
    fact: VenueFact, size: Decimal, instruments: Mapping[str, VenueInstrument]
) -> Iterable[tuple[str, Decimal]]:
    symbol = fact.payload["symbol"]
    instrument = instruments.get(symbol)
    yield (instrument.base if instrument and instrument.kind == "spot" else symbol), size
    price = fact.payload.get("price")
    if price and instrument is not None and instrument.kind in _PAID_IN_FULL:
        yield instrument.quote, -size * Decimal(price) * instrument.multiplier


def _touched(fact: VenueFact, instruments: Mapping[str, VenueInstrument]) -> set[str]:
    """Return every asset and symbol that a fact may move."""
    symbol = fact.payload.get("symbol", "")
    instrument = instruments.get(symbol)
    named = {symbol, *(name for name, _ in _movements(fact, instruments))}
    return named if instrument is None else named | {instrument.settle}


def _before_fills(facts: Sequence[VenueFact]) -> dict[str, Decimal]:
    """Return where positions stood before their first fill, as the venue tells it."""
    first: dict[str, Decimal] = {}
    for fact in facts:
        if fact.link is not None:
            first.setdefault(fact.link.symbol, fact.link.before)
    return {symbol: size for symbol, size in first.items() if size}
