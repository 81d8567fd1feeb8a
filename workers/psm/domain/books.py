"""The books of a partition: its accounts, the market, and what is due for them."""

from __future__ import annotations

from collections.abc import Iterable

from psm.contracts.subjects import partition_of
from psm.domain.account import Account
from psm.domain.ledger.positions import PositionStep
from psm.domain.market.rates import rate_pairs, symbols_of_pairs
from psm.domain.market.slots import Agenda, ValuationSlots
from psm.domain.market.tables import Market

RULES_VERSION = 1
"""The newest rules this code knows; rules 1 hold from the start of every log."""


class Books:
    """Everything the fold knows and changes.

    Attributes:
        partitions: number of virtual partitions of the log.
        partition: the one these books serve, or None for all of them.
        slots: when changed valuations are published.
        market: marks, instruments, rules and clock.
        accounts: by stream id.
        holders: symbol -> accounts whose valuation its mark changes.
        position: log sequence of the last message folded.
        publishing: whether anything is noted for updates; not where a corrected past is booked.
        corrected: whether events that are folded are of a corrected past.
        dirty: account -> first log sequence since it was last saved that changed anything of it.
        marked: accounts that differ from their last snapshot by what the market changed alone: a
            record is enough to save them.
        applied: account -> events that took a place since its last snapshot.
    """

    def __init__(
        self,
        *,
        partitions: int,
        partition: int | None = None,
        slots: ValuationSlots = ValuationSlots(),  # noqa: B008 - frozen
        publishing: bool = True,
    ) -> None:
        self.partitions = partitions
        self.partition = partition
        self.slots = slots
        self.publishing = publishing
        self.corrected = False
        self.market = Market()
        self.accounts: dict[str, Account] = {}
        self.holders: dict[str, dict[str, Account]] = {}
        self.position = 0
        self.dirty: dict[str, int] = {}
        self.marked: dict[str, None] = {}
        self.applied: dict[str, int] = {}
        self._agenda = Agenda()

    def open(self, stream_id: str) -> Account:
        """Return the account, creating an empty one for a new stream."""
        account = self.accounts.get(stream_id)
        if account is None:
            account = self.accounts[stream_id] = Account(stream_id, self.market)
        return account

    def restore(self, account: Account) -> None:
        """Take in an account that was loaded from a snapshot."""
        account.enter(self.market)
        self.accounts[account.stream_id] = account
        self.index(account, account.ledger.symbols())
        self.schedule(account)

    def advance(self, log_sequence: int) -> None:
        """Move to a log sequence: all up to it is folded, or was in what was loaded."""
        self.position = log_sequence

    def touch(self, account: Account, log_sequence: int) -> None:
        """Note that a message changed something of the account that no mark changes."""
        self.dirty.setdefault(account.stream_id, log_sequence)
        self.marked.pop(account.stream_id, None)

    def touch_value(self, account: Account, log_sequence: int) -> None:
        """Note that the market changed what the account is worth, or what of it waits."""
        stream_id = account.stream_id
        if stream_id not in self.dirty:
            self.dirty[stream_id] = log_sequence
            self.marked[stream_id] = None

    def count_applied(self, stream_id: str) -> None:
        """Count an event that took a place."""
        self.applied[stream_id] = self.applied.get(stream_id, 0) + 1

    def saved(self, stream_id: str) -> None:
        """Note that the present state of an account is in its snapshot."""
        self.dirty.pop(stream_id, None)
        self.marked.pop(stream_id, None)
        self.applied.pop(stream_id, None)

    def to_save(self) -> tuple[list[str], list[str]]:
        """Return whom to save whole, and of whom a record is enough, each in order.

        Together they are all that differ from their snapshots. An account that no mark concerns is
        saved whole: it may be evicted, and comes back from its snapshot alone.
        """
        marked = [s for s in self.marked if s not in self.dirty or marks_concern(self.accounts[s])]
        enough = dict.fromkeys(sorted(marked))
        return sorted(s for s in self.dirty if s not in enough), [*enough]

    def all_saved(self, whole: Iterable[str]) -> None:
        """Note that everything is saved as of now, of these accounts whole snapshots."""
        self.dirty, self.applied = {}, {}
        for stream_id in whole:
            self.marked.pop(stream_id, None)

    def begin_change(self, account: Account, time: int, keys: Iterable[str]) -> None:
        """Note closes before a message of this time changes an account and its positions."""
        if self.publishing:
            account.begin_change(self.market.minute(time), keys)

    def postpone(self, account: Account, symbol: str, *, paths: bool = False) -> None:
        """Note that a symbol's mark changed an account, which is not published yet.

        Args:
            account: whose.
            symbol: which serves as a rate, too, where the account has other currencies.
            paths: whether rates may be made of other marks than before.
        """
        waiting = account.unpublished
        known = waiting.changed
        state = account.valuation
        if not known or symbol not in waiting.positions or account.ledger.legs:
            waiting.note_change(account.open_keys(symbol), ())
        if symbol in state.rates:
            of = None if paths else symbol
            waiting.note_change(account.keys_rated_by(of), account.assets_rated_by(of))
        if not known or state.warned or state.warned_positions:
            self.schedule(account)

    def tell_close(self, account: Account) -> None:
        """Note the close of the minute that is not over, where only an own event may change it.

        A later event in the same minute tells it again: the last one of a minute counts. So no such
        account waits in memory for the end of a minute, or for a mark.
        """
        waiting = account.unpublished
        if waiting.minute is not None and not marks_concern(account):
            waiting.close(account.equity(), account.valuation.performance)

    def published(
        self, account: Account, steps: Iterable[PositionStep], assets: Iterable[str]
    ) -> None:
        """Note that an account, these of its positions and these assets were published."""
        if not self.publishing:
            return
        waiting = account.unpublished
        waiting.published(account.equity())
        for asset in assets:
            waiting.published_asset(asset)
        positions = account.ledger.positions
        for step in steps:
            key = step.position.key  # after a flip there is one, whatever its first step says
            waiting.published_position(key, held=key in positions and bool(positions[key].size))
        self.schedule(account)

    def schedule(self, account: Account) -> None:
        """Look at an account at the first slot at which something that waits may be published."""
        waiting, slots = account.unpublished, self.slots
        if waiting.slot is not None and not (waiting.changed or account.valuation.warned_positions):
            return  # each period divides the next: no slow slot is before one of any period
        if account.near_unpublished():  # a warning or an own event told all but the position
            period = slots.fast
        elif waiting.changed:
            period = slots.fast if account.valuation.is_near else slots.mid
        elif waiting.anything:
            period = slots.slow
        else:
            return
        slot = waiting.next_slot(period, self.market.clock)
        if waiting.slot is None or slot < waiting.slot:
            waiting.look_at(slot)
            self._agenda.put(slot, account.stream_id)

    def reached(self, clock: int) -> list[Account]:
        """Return the accounts whose slot the clock has reached; they are off the agenda then."""
        found = []
        for slot, stream_id in self._agenda.take(clock):
            account = self.accounts.get(stream_id)
            if account is not None and account.unpublished.slot == slot:
                account.unpublished.look_at(None)
                found.append(account)
        return found

    def count_due(self, time: int, most: int) -> int:
        """Return how many accounts a mark of this time would look at; at least those if over most.

        Where no more than `most` wait at all, that is answer enough.
        """
        if self._agenda.size <= most:
            return self._agenda.size
        return self._agenda.count(self.market.clock_after(time, self.slots))

    def owns(self, token: str) -> bool:
        """Return whether these books publish what concerns a symbol and no account."""
        return self.partition is None or self.partition == partition_of(token, self.partitions)

    def index(self, account: Account, symbols: Iterable[str]) -> None:
        """Keep the index of holders true after positions, orders or cash changed.

        An account holds what its valuation depends on: open positions, open orders, the rates of
        its currencies, and what its options are on. The index follows from the account alone, so
        that one restored from a snapshot is published at the same marks.
        """
        ledger, state = account.ledger, account.valuation
        rates = _rates_of(account)
        stream_id, holders = account.stream_id, self.holders
        if rates != state.rates:
            symbols = (*symbols, *state.rates, *rates)
            state.set_rates(rates)
        ordered = ledger.orders.open_by_symbol
        for symbol in symbols:
            if symbol in ordered or symbol in rates or ledger.open_position(symbol) is not None:
                if symbol not in holders:
                    holders[symbol] = {}
                holders[symbol][stream_id] = account
            elif symbol in holders:
                holders[symbol].pop(stream_id, None)

    def evict(self, stream_id: str) -> None:
        """Drop an idle account whose newest snapshot is its present state.

        Before its next message is folded it must be put back with `restore`.
        """
        account = self.accounts.pop(stream_id)
        changed = stream_id in self.dirty or stream_id in self.marked
        assert not changed, f"{stream_id} changed since its snapshot"
        assert not account.valuation.rates, f"{stream_id}: marks concern it"


def _rates_of(account: Account) -> tuple[str, ...]:
    """Return what converts what the account has or has ordered: pairs, and their instruments.

    And what its options are on: marks of it change their exposure.
    """
    ledger = account.ledger
    home = ledger.currency
    needed = dict.fromkeys((*ledger.cash, *ledger.settles))
    underlyings: dict[str, None] = {}
    for key in ledger.options:
        symbol, quote = account.prices.underlying_of(ledger.positions[key].instrument)
        underlyings[symbol] = needed[quote] = None
    for symbol in sorted(ledger.orders.open_by_symbol):
        needed[account.prices.instrument(symbol).settle] = None
    if len(needed) == 1 and home in needed:
        return (*underlyings,)
    needed |= dict.fromkeys(account.prices.fill_partners(needed))
    pairs = rate_pairs(tuple(needed), home)
    return (*pairs, *symbols_of_pairs(account.prices.market, pairs), *underlyings)


def is_idle(account: Account) -> bool:
    """Return whether no mark, definition or rule concerns the account.

    An account that went to its snapshot and came back is the same account, because everything of
    it is in the snapshot. What may happen to it meanwhile is the question: a mark moves those who
    have positions, orders or foreign cash, the terms of an asset those who owe it, and new rules
    those who are blocked. So its stream is open, and it has no open position or order, nothing to
    publish, no foreign cash and no debt.
    """
    return not (
        marks_concern(account) or not account.delivery.undisturbed or account.unpublished.anything
    )


def marks_concern(account: Account) -> bool:
    """Return whether a mark or a definition may change the account's figures."""
    ledger = account.ledger
    return bool(
        ledger.settles
        or ledger.orders.open_by_id
        or any(
            currency != ledger.currency or amount < 0 for currency, amount in ledger.cash.items()
        )
    )
