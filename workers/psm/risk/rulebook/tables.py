"""Tables of the rulebook: lists of symbols, tags, trading sessions, days."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping

import msgspec

from psm.contracts.rulebook_events import (
    FIRM,
    DayCalendarDefined,
    ListDefined,
    RestrictedSide,
    SessionsDefined,
    TagsDefined,
    Weekday,
)
from psm.risk.rulebook.answers import Day, RefusedError, Tags
from psm.risk.rulebook.times import DAY_US, day_number, minute_of_day, moment

_WEEKDAYS: tuple[Weekday, ...] = ("thu", "fri", "sat", "sun", "mon", "tue", "wed")
"""Of days since 1970: the first was a Thursday."""


class Lists:
    """Lists of symbols by name, ascending."""

    def __init__(self) -> None:
        self.named: dict[str, ListDefined] = {}
        self._index: dict[str, tuple[Mapping[str, None], Mapping[str, None] | None]] = {}

    def tightens(self, event: ListDefined) -> bool:
        """Return whether a list forbids whatever the one of its name forbids, and maybe more."""
        before = self.named.get(event.name)
        if before is None:
            return True
        if before.kind != event.kind or not _covers(event.accounts, before.accounts):
            return False
        if event.kind == "allowed":
            return _covers(before.symbols, event.symbols)
        return event.side in ("both", before.side) and _covers(event.symbols, before.symbols)

    def define(self, event: ListDefined) -> None:
        """Take a list as it is from here on."""
        self.named = dict(sorted({**self.named, event.name: event}.items()))
        self._index[event.name] = (dict.fromkeys(event.symbols), _named(event.accounts))

    def restriction_of(self, account_id: str, symbol: str) -> RestrictedSide | None:
        """Return the side that may not be traded; None for neither."""
        found: RestrictedSide | None = None
        for one in self.named.values():
            symbols, accounts = self._index[one.name]
            if accounts is not None and account_id not in accounts:
                continue
            if (symbol in symbols) == (one.kind == "restricted"):
                side = one.side if one.kind == "restricted" else "both"
                found = side if found in (None, side) else "both"
        return found


class TagTables:
    """Tables of tags by name, ascending."""

    def __init__(self) -> None:
        self.named: dict[str, TagsDefined] = {}

    def define(self, event: TagsDefined) -> None:
        """Take a table as it is from here on."""
        self.named = dict(sorted({**self.named, event.name: event}.items()))

    def tags_of(self, symbol: str) -> Tags:
        """Return what a symbol is counted under: of each tag what the first table says."""
        found = Tags()
        for table in self.named.values():
            said = table.tags.get(symbol)
            if said is not None:
                found = Tags(
                    sector=found.sector or said.sector,
                    issuer=found.issuer or said.issuer,
                    currency=found.currency or said.currency,
                )
        return found


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """When some symbols may be traded: [opens, closes) in microseconds by weekday."""

    symbols: Mapping[str, None] | None
    accounts: Mapping[str, None] | None
    windows: Mapping[Weekday, tuple[tuple[int, int], ...]]
    closed: Mapping[int, None]

    def speaks_of(self, account_id: str, symbol: str) -> bool:
        """Return whether it holds for an account and a symbol."""
        return (self.symbols is None or symbol in self.symbols) and (
            self.accounts is None or account_id in self.accounts
        )

    def open_at(self, clock: int) -> bool:
        """Return whether one of its windows is open."""
        number, within = int(clock) // DAY_US, int(clock) % DAY_US
        windows = self.windows.get(_WEEKDAYS[number % len(_WEEKDAYS)], ())
        return number not in self.closed and any(
            opens <= within < closes for opens, closes in windows
        )


class Sessions:
    """Sessions by name; each that speaks of a symbol must be open."""

    def __init__(self) -> None:
        self.named: dict[str, Session] = {}

    def read(self, event: SessionsDefined) -> Session:
        """Return what a definition says.

        Raises:
            RefusedError: a window ends before it begins, or a day is none.
        """
        windows: dict[Weekday, tuple[tuple[int, int], ...]] = {}
        for window in event.windows:
            opens = minute_of_day(window.opens, "opens")
            closes = minute_of_day(window.closes, "closes")
            if closes <= opens:
                raise RefusedError("invalid_payload", "closes must be after opens, the same day")
            windows[window.day] = (*windows.get(window.day, ()), (opens, closes))
        return Session(
            symbols=_named(event.symbols),
            accounts=_named(event.accounts),
            windows=windows,
            closed=dict.fromkeys(day_number(day, "closed") for day in event.closed),
        )

    def in_session(self, account_id: str, symbol: str, clock: int) -> bool:
        """Return whether a symbol may be traded now; always, where no session speaks of it."""
        return all(
            one.open_at(clock) for one in self.named.values() if one.speaks_of(account_id, symbol)
        )


class Calendar(msgspec.Struct, frozen=True, kw_only=True):
    """When days begin: `starts` ascend, the first begins day `first`."""

    first: int
    starts: tuple[int, ...]

    def day_of(self, clock: int) -> Day:
        """Return the day that a moment is in; beyond the list days have 24 hours."""
        place = bisect_right(self.starts, clock) - 1
        if 0 <= place < len(self.starts) - 1:
            return Day(
                number=place + int(self.first),
                start=self.starts[place],
                end=self.starts[place + 1],
            )
        place = max(place, 0)
        days = (int(clock) - int(self.starts[place])) // DAY_US
        start = int(self.starts[place]) + int(days) * DAY_US
        return Day(number=int(self.first) + place + int(days), start=start, end=start + int(DAY_US))


UTC_DAYS = Calendar(first=0, starts=(0,))


class Calendars:
    """Calendars by group; that of the firm holds for every other one."""

    def __init__(self) -> None:
        self.named: dict[str, Calendar] = {}

    def read(self, event: DayCalendarDefined) -> Calendar:
        """Return what a definition says.

        Raises:
            RefusedError: there is no boundary, one is no whole minute, or they do not ascend.
        """
        starts = tuple(moment(text, "boundaries") for text in event.boundaries)
        if not starts or any(starts[n] >= starts[n + 1] for n in range(len(starts) - 1)):
            raise RefusedError("invalid_payload", "boundaries must ascend, and there is one")
        return Calendar(first=day_number(event.first_day, "first_day"), starts=starts)

    def day_of(self, group: str, clock: int) -> Day:
        """Return the day of a group; those of UTC where nothing else is said."""
        found = self.named.get(group) or self.named.get(FIRM) or UTC_DAYS
        return found.day_of(clock)


def _named(names: Collection[str] | None) -> Mapping[str, None] | None:
    """Return names so that one is found at once; None is everything."""
    return None if names is None else dict.fromkeys(names)


def _covers(wide: Collection[str] | None, narrow: Collection[str] | None) -> bool:
    """Return whether everything that is named in one list is in the other; None is everything."""
    if wide is None:
        return True
    return narrow is not None and all(name in wide for name in narrow)
