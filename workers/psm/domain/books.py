"""The books of a partition: its accounts, and the tables of marks and instruments."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from functools import partial
from typing import Literal

import msgspec

from psm.contracts.subjects import partition_of
from psm.contracts.updates import Level
from psm.domain.account import Account
from psm.domain.money import ONE, add_wide
from psm.domain.positions import Instrument, Position
from psm.domain.valuation import (
    Valuation,
    crossings,
    is_far_from_warning,
    peak_after_equity,
    refreshed,
    valuate,
)
from psm.domain.worth import Mark, instrument_for, mark_for

RULES_VERSION = 1
"""The newest rules this code knows; rules 1 hold from the start of every log."""

VALUATION_INTERVAL_NS = 1_000_000_000


Publishing = Literal["updates", "hashes", "nothing"]
"""What a fold answers beside the outcome: updates, only the hashes in them, or nothing."""


class Books:
    """Everything the fold knows and changes.

    Attributes:
        partitions: number of virtual partitions of the log.
        partition: the one these books serve, or None for all of them.
        publishing: what the fold makes for those who listen. State, throttle and warning levels
            are the same whatever it is, so it may change from one message to the next.
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
        written: texts of positions that no mark changes, by account and symbol; a bounded memory.
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
        self.publishing: Publishing = "updates"
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
        self.written: dict[tuple[str, str], tuple[Position, tuple[str | None, ...]]] = {}

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
        account.unindexed = False
        rates = self._rates_of(account)
        stream_id, holders = account.stream_id, self.holders
        if rates != account.rates:
            symbols = (*symbols, *account.rates, *rates)
            account.rates = rates
        for symbol in symbols:
            position = account.positions.get(symbol)
            if (
                (position is not None and position.size)
                or symbol in account.ordered_symbols()
                or symbol in rates
            ):
                if symbol not in holders:
                    holders[symbol] = {}
                holders[symbol][stream_id] = account
            elif symbol in holders:
                holders[symbol].pop(stream_id, None)

    def _rates_of(self, account: Account) -> tuple[str, ...]:
        """Return the symbols whose marks convert what the account has or has ordered."""
        home = account.currency
        needed = dict.fromkeys((*account.cash, *account.settles))
        for symbol in sorted(account.ordered_symbols()):
            needed[instrument_for(account, symbol, self.instruments).settle] = None
        if len(needed) == 1 and home in needed:
            return ()
        return tuple(sorted(f"{currency}{home}" for currency in needed if currency != home))

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

    def equity(self, account: Account) -> Decimal | None:
        """Return the account's equity at the current marks, None where it does not compute."""
        if account.valuation is not None:
            return account.valuation.equity
        rates = partial(self.rate, account)
        cash = refreshed(account, self.marks, rates, self.instruments)
        return None if cash is None else add_wide(cash, account.worths.equity)

    def revalue(self, account: Account, symbols: Iterable[str]) -> tuple[Level, ...]:
        """Value the account anew, move its peak, return the warning levels it crossed upwards.

        Args:
            account: whose ledger, marks or rates changed.
            symbols: whose worth may have changed; a rate means every position.
        """
        account.valuation = None
        worths = account.worths
        worths.cash = None
        for symbol in symbols:
            worths.stale[symbol] = None
            if symbol in account.rates:
                worths.expire()
        equity = self.equity(account)
        if equity is None:
            return ()
        account.peak_equity = peak_after_equity(account.peak_equity, equity)
        if (
            not account.warned
            and account.leverage_limit is None
            and is_far_from_warning(equity, worths.maintenance)
        ):
            return ()
        valuation = self.valuation(account)
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
