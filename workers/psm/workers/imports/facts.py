"""What files of a venue say: facts that become events, balances and positions to compare with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from psm.contracts.codec import canonical_decimal
from psm.contracts.fields import PositionSide
from psm.workers.imports.rows import FilePlace, FileRow, FileRowError

ERRORS_MAX = 20


class VenueFact(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened at the venue.

    Attributes:
        time_us: when, by the venue's clock, in microseconds since 1970.
        event_type: of the event that it becomes.
        payload: of that event, numbers as text; assets are always named.
        record: what the venue calls it, unique per venue account; None where it has no name, then
            it is known by what it says and its ordinal among equal ones.
        place: of its row.
        rates: account currency per unit of an asset, as far as the row says so.
        link: where a position stood before and after, by the venue; orders what has one time.
        person: foreign identities of the row, by field; written as pseudonyms.
    """

    time_us: int
    event_type: str
    payload: Mapping[str, Any]
    record: str | None
    place: FilePlace
    rates: Mapping[str, Decimal] = {}
    link: Link | None = None
    person: Mapping[str, str] = {}


class Link(msgspec.Struct, frozen=True):
    """A fill between two sizes of a position, both as the venue tells them."""

    symbol: str
    before: Decimal
    after: Decimal


class VenueInstrument(msgspec.Struct, frozen=True, kw_only=True):
    """What the files say of a symbol; the payload of its `InstrumentDefined`."""

    symbol: str
    kind: str
    base: str
    quote: str
    settle: str
    multiplier: Decimal = Decimal(1)
    venue: str | None = None
    more: Mapping[str, Any] = {}

    def payload(self) -> dict[str, Any]:
        """Return the payload of its definition."""
        fields = {
            "symbol": self.symbol,
            "kind": self.kind,
            "base": self.base,
            "quote": self.quote,
            "settle": self.settle,
            "multiplier": canonical_decimal(self.multiplier),
            **self.more,
        }
        return fields if self.venue is None else {**fields, "venue": self.venue}


class ReportedPosition(msgspec.Struct, frozen=True, kw_only=True):
    """A position as the venue reports it; short is negative."""

    quantity: Decimal
    entry_price: Decimal | None = None


class Found:
    """Everything that files say, while they are read.

    Attributes:
        facts: in the order of the files.
        balances: quantity by asset, as the venue reports it.
        positions: by symbol and side.
        instruments: by symbol.
        owners: names that the files give the account; foreign, never to be written.
        currency: of the account, where the files say.
        opening: what was there before the first record, by asset or symbol: why a comparison may
            differ.
        running: time and balance behind the last record that shows one, by asset.
        whole: `balances`, `positions`, where the files report all there are: none means zero.
        undefined: symbols that only a definition tells, and where each was met first.
        skipped: rows that say nothing of their own, by reason.
        errors: rows that cannot be imported.
        as_of_us: time of the report; None where no file has one.
    """

    def __init__(self) -> None:
        self.facts: list[VenueFact] = []
        self.balances: dict[str, Decimal] = {}
        self.positions: dict[tuple[str, PositionSide], ReportedPosition] = {}
        self.instruments: dict[str, VenueInstrument] = {}
        self.owners: set[str] = set()
        self.currency: str | None = None
        self.opening: dict[str, Decimal] = {}
        self.running: dict[str, tuple[int, Decimal]] = {}
        self._began: dict[str, int] = {}
        self._hedged: dict[str, tuple[int, FileRow]] = {}
        self.whole: set[str] = set()
        self.undefined: dict[str, FilePlace] = {}
        self.skipped: Counter[str] = Counter()
        self.errors: list[FileRowError] = []
        self.as_of_us: int | None = None

    def add(
        self,
        row: FileRow,
        time_us: int,
        event_type: str,
        record: str | None,
        payload: Mapping[str, Any],
        **more: Any,
    ) -> None:
        """Take a fact of a row; what of its payload is None is left out.

        Args:
            row: where it stands.
            time_us: when it happened.
            event_type: of the event that it becomes.
            record: its name at the venue.
            payload: of that event; numbers may still be numbers.
            more: further fields of the fact.
        """
        written = {
            name: canonical_decimal(value) if isinstance(value, Decimal) else value
            for name, value in payload.items()
            if value is not None
        }
        self.facts.append(
            VenueFact(
                time_us=time_us,
                event_type=event_type,
                payload=written,
                record=record,
                place=row.place,
                **more,
            )
        )

    def reported(self, time_us: int) -> None:
        """Take the time of a report; the latest counts."""
        self.as_of_us = max(time_us, self.as_of_us or 0)

    def balance(self, asset: str, quantity: Decimal) -> None:
        """Take a balance; parts of one asset, such as two wallets, add up."""
        self.balances[asset] = self.balances.get(asset, Decimal(0)) + quantity

    def after(self, asset: str, quantity: Decimal, time_us: int) -> None:
        """Take the balance that a row shows behind itself; the last one by time counts."""
        known = self.running.get(asset)
        if known is None or time_us >= known[0]:
            self.running[asset] = (time_us, quantity)
            self.reported(time_us)

    def before(self, asset: str, quantity: Decimal, time_us: int) -> None:
        """Take the balance that stood before a row; the first one by time counts."""
        known = self._began.get(asset)
        if known is None or time_us < known:
            self._began[asset] = time_us
            self.opening[asset] = quantity

    @property
    def reported_balances(self) -> dict[str, Decimal]:
        """Balances to compare with: those of a report, else those behind the last record."""
        running = {asset: quantity for asset, (_, quantity) in self.running.items()}
        return {**running, **self.balances}

    def position(
        self, symbol: str, reported: ReportedPosition, side: PositionSide | None = None
    ) -> None:
        """Take a position; `side` is its leg in hedge mode."""
        self.positions[symbol, side or "net"] = reported

    def leg(self, row: FileRow, symbol: str, time_us: int) -> None:
        """Take that a fill names a leg, so that the symbol is in hedge mode from then on."""
        known = self._hedged.get(symbol)
        if known is None or time_us < known[0]:
            self._hedged[symbol] = (time_us, row)

    def finish(self) -> None:
        """Add the facts that follow from all files together."""
        for symbol, (time_us, row) in sorted(self._hedged.items()):
            payload = {"mode": "hedge", "symbol": symbol}
            self.add(row, time_us, "PositionModeChanged", f"mode:hedge:{symbol}", payload)

    def read(self, rows: Iterable[FileRow], take: Callable[[FileRow, Found], None]) -> None:
        """Take rows one by one; a bad one is kept as an error, up to `ERRORS_MAX` of them."""
        for row in rows:
            try:
                take(row, self)
            except FileRowError as error:
                self.errors.append(error)
                if len(self.errors) >= ERRORS_MAX:
                    return


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of record of a venue.

    Attributes:
        name: for people.
        fields: those by which a record of this kind is known.
        take: adds what a row says.
        absent: fields that a record of this kind does not have.
    """

    name: str
    fields: frozenset[str]
    take: Callable[[FileRow, Found], None]
    absent: frozenset[str] = frozenset()

    def fits(self, row: FileRow) -> bool:
        """Return whether a row is of this kind."""
        return self.fields <= row.values.keys() and not self.absent & row.values.keys()


def fields_of(names: str) -> frozenset[str]:
    """Return the names of a text, split at blanks."""
    return frozenset(names.split())


def kind_of(row: FileRow, kinds: Sequence[Kind]) -> Kind:
    """Return the kind of a record.

    Raises:
        FileRowError: it is none of them.
    """
    for kind in kinds:
        if kind.fits(row):
            return kind
    known = ", ".join(kind.name for kind in kinds)
    raise row.error(f"is none of the records that can be imported: {known}")
