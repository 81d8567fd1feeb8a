"""Daily closes of every account while a file is folded."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.money import ONE, ZERO, quotient, subtract
from psm.domain.publication.log_times import log_time

DAY_NS = 86_400_000_000_000


class DailyClose(msgspec.Struct, frozen=True, kw_only=True):
    """An account at the end of a UTC day of log time.

    Attributes:
        bucket: the day, such as 2026-01-31.
        epoch: of the units; each starts at a `nav` of 1.
        complete: the log goes beyond the day.
        ret: nav over that of the day before, less 1; over 1 on an epoch's first day.
        flows: external ones of the day.
        pnl: change of equity less flows.
    """

    bucket: str
    epoch: int
    complete: bool
    equity: Decimal | None
    nav: Decimal | None
    ret: Decimal | None
    flows: Decimal
    pnl: Decimal | None


class _Standing(msgspec.Struct, frozen=True):
    """Where an account stands: epoch and value of its units, equity, flows so far."""

    epoch: int = 0
    equity: Decimal | None = ZERO
    nav: Decimal | None = None
    flows: Decimal = ZERO


class DailyCloses:
    """Notes where every account stood when a day ended; the log's time never goes back."""

    def __init__(self) -> None:
        self._day: int | None = None
        self._noted: dict[str, dict[int, _Standing]] = {}

    def reach(self, time: int, books: Books) -> None:
        """Note the closes of the day that ended before a message of this time, if one did."""
        day = time // DAY_NS
        if self._day is not None and day > self._day:
            for account in books.accounts.values():
                self._noted.setdefault(account.stream_id, {})[self._day] = _standing(account)
        self._day = day if self._day is None else max(day, self._day)

    def rows(self, stream_id: str, books: Books) -> list[DailyClose]:
        """Return a row for each day since the account first had equity; the last is incomplete."""
        if self._day is None:
            return []
        noted = {**self._noted.get(stream_id, {}), self._day: _standing(books.accounts[stream_id])}
        rows: list[DailyClose] = []
        last = before = _Standing()
        for day in range(min(noted), self._day + 1):
            last = noted.get(day, last)
            if last.epoch:
                rows.append(_row(day, last, before, complete=day < self._day))
                before = last
        return rows


def _standing(account: Account) -> _Standing:
    own, equity = account.valuation.performance, account.value().equity
    return _Standing(own.epoch, equity, own.nav(equity), own.flows)


def _row(day: int, at: _Standing, before: _Standing, *, complete: bool) -> DailyClose:
    base = (before.nav or ZERO) if before.epoch == at.epoch else ONE
    flows = subtract(at.flows, before.flows)
    gained = None if at.equity is None else subtract(at.equity, before.equity or ZERO)
    return DailyClose(
        bucket=log_time(day * DAY_NS)[:10],
        epoch=at.epoch,
        complete=complete,
        equity=at.equity,
        nav=at.nav,
        ret=None if at.nav is None or not base else subtract(quotient(at.nav, base), ONE),
        flows=flows,
        pnl=None if gained is None else subtract(gained, flows),
    )
