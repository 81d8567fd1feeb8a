"""The books of a partition: its accounts, and the tables of marks and instruments."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from functools import partial

import msgspec

from psm.contracts.subjects import partition_of
from psm.contracts.updates import Level
from psm.domain.account import Account
from psm.domain.money import ONE
from psm.domain.positions import Instrument
from psm.domain.valuation import (
    Mark,
    Valuation,
    crossings,
    instrument_for,
    is_rate,
    mark_for,
    peak_after_equity,
    valuate,
)

RULES_VERSION = 1
"""The newest rules this code knows; rules 1 hold from the start of every log."""

VALUATION_INTERVAL_NS = 1_000_000_000


class Books:
    """Everything the fold knows and changes.

    Attributes:
        partitions: number of virtual partitions of the log.
        partition: the one these books serve, or None for all of them.
        valuation_interval_ns: how often changed valuations are published.
        accounts: by stream id.
        marks: current mark by symbol.
        instruments: definitions by symbol.
        defined_at: log sequence of each symbol's first definition.
        numbers: last `sequence_number` per `instruments.*` and `control.*` subject.
        rules_enabled: (log sequence, rules version) of every change of the rules.
        holders: symbol -> accounts with an open position in it.
        clock: running maximum of the times of `marks.*` messages, ns; None before the first.
        position: log sequence of the last message folded.
        unpublished: accounts with valuation changes not yet published.
        dirty: account -> first log sequence since its last snapshot that changed anything of it.
        applied: account -> events that took a place since its last snapshot.
    """

    def __init__(
        self,
        *,
        partitions: int,
        partition: int | None = None,
        valuation_interval_ns: int = VALUATION_INTERVAL_NS,
    ) -> None:
        self.partitions = partitions
        self.partition = partition
        self.valuation_interval_ns = valuation_interval_ns
        self.accounts: dict[str, Account] = {}
        self.marks: dict[str, Mark] = {}
        self.instruments: dict[str, Instrument] = {}
        self.defined_at: dict[str, int] = {}
        self.numbers: dict[str, int] = {}
        self.rules_enabled: list[tuple[int, int]] = []
        self.holders: dict[str, dict[str, Account]] = {}
        self.clock: int | None = None
        self.position = 0
        self.unpublished: dict[str, Account] = {}
        self.dirty: dict[str, int] = {}
        self.applied: dict[str, int] = {}

    @property
    def rules(self) -> int:
        """The rules that messages are judged by from here on."""
        return self.rules_enabled[-1][1] if self.rules_enabled else 1

    def open(self, stream_id: str) -> Account:
        """Return the account, creating an empty one for a new stream."""
        account = self.accounts.get(stream_id)
        if account is None:
            account = self.accounts[stream_id] = Account(stream_id)
        return account

    def restore(self, account: Account) -> None:
        """Take in an account that was loaded from a snapshot."""
        self.accounts[account.stream_id] = account
        self.index(account, (*account.positions, *(o.symbol for o in account.open_orders())))
        if account.unpublished:
            self.unpublished[account.stream_id] = account

    def touch(self, account: Account, log_sequence: int) -> None:
        """Note that a message changed something of the account."""
        self.dirty.setdefault(account.stream_id, log_sequence)

    def index(self, account: Account, symbols: Iterable[str]) -> None:
        """Keep the index of holders true after positions, orders or cash changed.

        An account holds what its valuation depends on: open positions, open orders, and the rates
        of its currencies. The index follows from the account alone, so that one restored from a
        snapshot is published at the same marks.
        """
        rates = self._rates_of(account)
        ordered = [order.symbol for order in account.open_orders()]
        for symbol in dict.fromkeys((*symbols, *account.rates, *rates)):
            position = account.positions.get(symbol)
            held = position is not None and bool(position.size)
            if held or symbol in ordered or symbol in rates:
                self.holders.setdefault(symbol, {})[account.stream_id] = account
            elif symbol in self.holders:
                self.holders[symbol].pop(account.stream_id, None)
        account.rates = rates

    def _rates_of(self, account: Account) -> tuple[str, ...]:
        """Return the symbols whose marks convert what the account has or has ordered."""
        home = account.currency
        needed = dict.fromkeys((*account.cash, *account.settles))
        if account.has_open_orders:
            for order in account.open_orders():
                needed[instrument_for(account, order.symbol, self.instruments).settle] = None
        return tuple(f"{currency}{home}" for currency in needed if currency != home)

    def mark_price(self, account: Account, symbol: str) -> Decimal | None:
        """Return a symbol's current mark, in the account's units."""
        mark = self.marks.get(symbol)
        return None if mark is None else mark_for(account, symbol, mark)

    def rate(self, account: Account, currency: str) -> Decimal | None:
        """Return the value of one unit of `currency` in the account currency, None if unknown.

        It is the mark of the spot instrument `<CCY><ACCOUNT CCY>`.
        """
        if currency == account.currency:
            return ONE
        symbol = f"{currency}{account.currency}"
        instrument, mark = self.instruments.get(symbol), self.marks.get(symbol)
        if instrument is None or instrument.kind != "spot" or mark is None:
            return None
        return mark.price

    def owns(self, token: str) -> bool:
        """Return whether these books publish what concerns a symbol and no account."""
        return self.partition is None or self.partition == partition_of(token, self.partitions)

    def valuation(self, account: Account) -> Valuation:
        """Return the account's valuation at the current marks; computed when needed, then kept."""
        if account.valuation is None:
            account.valuation = valuate(
                account, self.marks, partial(self.rate, account), self.instruments
            )
        return account.valuation

    def revalue(self, account: Account, symbols: Iterable[str]) -> tuple[Level, ...]:
        """Value the account anew, move its peak, return the warning levels it crossed upwards.

        Args:
            account: whose ledger, marks or rates changed.
            symbols: whose worth may have changed; a rate means every position.
        """
        account.valuation = None
        for symbol in symbols:
            account.worths.stale[symbol] = None
            if is_rate(account, symbol):
                account.worths.stale.update(dict.fromkeys(account.worths.values))
                account.worths.stale.update(account.worths.failed)
        valuation = self.valuation(account)
        account.peak_equity = peak_after_equity(account.peak_equity, valuation.equity)
        crossed, account.warned = crossings(valuation, account.warned, account.leverage_limit)
        return crossed


class Tables(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the books that belongs to no account, as a checkpoint keeps it."""

    marks: dict[str, Mark]
    instruments: dict[str, Instrument]
    defined_at: dict[str, int]
    numbers: dict[str, int]
    clock: int | None
    rules_enabled: list[tuple[int, int]] = []


def tables_of(books: Books) -> Tables:
    """Return a copy of the books' tables."""
    return Tables(
        marks=dict(books.marks),
        instruments=dict(books.instruments),
        defined_at=dict(books.defined_at),
        numbers=dict(books.numbers),
        clock=books.clock,
        rules_enabled=list(books.rules_enabled),
    )


def restore_tables(books: Books, tables: Tables) -> None:
    """Put the tables of a checkpoint into empty books."""
    books.marks = dict(tables.marks)
    books.instruments = dict(tables.instruments)
    books.defined_at = dict(tables.defined_at)
    books.numbers = dict(tables.numbers)
    books.rules_enabled = list(tables.rules_enabled)
    books.clock = tables.clock
