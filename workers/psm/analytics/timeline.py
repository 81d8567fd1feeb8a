"""One account's past as the read side tells it: buckets, trades and lots, out of its updates.

Fed by committed updates in the order of the log, and at some corrections by both pasts as the log
has them: live, rebuilt and folded from a file give the same rows, however updates are batched.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TypeGuard

from psm.analytics.bookings import (
    book,
    book_corrected,
    book_strategies,
    difference,
    share_all,
    totals_of,
)
from psm.analytics.books import Book
from psm.analytics.buckets import NOTHING, Booked, Minute, Standing, minutes_in
from psm.analytics.feed import (
    AccountCloseFacts,
    StateFacts,
    Told,
    ToldPosition,
    ToldState,
    minute_of,
    nanoseconds_of,
)
from psm.analytics.journal import (
    CORRECTIONS,
    DEPENDENT,
    Event,
    JournalEntry,
    entries_of,
    entry_of_correction,
    entry_of_nothing,
    read,
    written,
)
from psm.analytics.revision import (
    BookedPast,
    Pasts,
    Revision,
    booked_pasts,
    is_told,
    pasts_told,
    revisions,
)
from psm.analytics.rows import (
    EVERY,
    UNATTRIBUTED,
    JournalRow,
    LotRow,
    TimelineChanges,
    TradeRow,
)
from psm.analytics.sealing import Buckets
from psm.analytics.timeline_state import Pending, TimelineState, decoded, encoded
from psm.analytics.worth import (
    UNPAID,
    HeldChange,
    converted,
    held_after,
    last_held,
    number,
    worth_closed,
    worth_told,
)
from psm.contracts.errors import InvariantError
from psm.contracts.position_keys import position_key
from psm.domain.money import ONE, ZERO, published, scaled, subtract


class AccountTimeline:
    """Buckets, trades and lots of one account.

    Args:
        account_id: whose updates it takes.
        shares: let strategies have their books from the start, whether a fill names one or not.
    """

    def __init__(self, account_id: str, *, shares: bool = False) -> None:
        self.account_id = account_id
        self._state = TimelineState.fresh(account_id)
        self._state.strategies.named = shares
        self._buckets = Buckets()
        self._trades: list[TradeRow] = []
        self._lots: list[LotRow] = []
        self._journal: list[JournalRow] = []
        self._recalled: list[JournalRow] | None = None
        self._pasts: Pasts | None = None

    @staticmethod
    def needs_journal(update: Told) -> TypeGuard[ToldState]:
        """Return whether an update is of a correction: `recall` the journal before taking it."""
        if not isinstance(update, ToldState) or update.payload.applied is None:
            return False
        return update.payload.applied.event_type in CORRECTIONS

    def recall(self, journal: list[JournalRow]) -> None:
        """Take in the journal as it was written, for the correction that comes next.

        Rows that `changes` has not returned yet need not be among them.
        """
        self._recalled = journal

    def needs_pasts(self, update: ToldState) -> bool:
        """Return whether the journal, recalled, says too little of a correction: `recall_pasts`."""
        entries = read([*(self._recalled or ()), *self._journal])
        return not is_told([*entries, entry_of_correction(self._event(update), [])])

    def recall_pasts(self, pasts: Pasts) -> None:
        """Take in positions without the correction that comes next and with it, from the log."""
        self._pasts = pasts

    def take(self, update: Told) -> None:
        """Take the account's next update.

        Raises:
            InvariantError: a correction comes without `recall` before it.
        """
        if isinstance(update, ToldPosition):
            self._position(update)
        elif isinstance(update, ToldState):
            self._account(update)
        elif update.payload.strategy_id is not None:
            self._state.pending.orders[update.payload.order_id] = update.payload.strategy_id

    def pass_to(self, closed_through: int) -> None:
        """Take notice that minutes up to this log time, in nanoseconds, are complete.

        A bucket is complete where its end is at or below it, which no row says. Rows of a minute
        are told once it is complete, those of longer buckets grow with each of their minutes.
        """
        state, end = self._state, minutes_in(closed_through)
        if end <= state.sealed:
            return
        while state.minutes and state.minutes[0].number < end:
            self._buckets.seal(state, state.minutes.pop(0))
        state.sealed = end

    def changes(self) -> TimelineChanges:
        """Return rows that are new or changed since the last call."""
        changes = TimelineChanges(
            pnl=self._buckets.rows(self._state),
            trades=self._trades,
            lots=self._lots,
            journal=self._journal,
        )
        self._trades, self._lots, self._journal = [], [], []
        return changes

    def past(self, trades: Iterable[TradeRow], lots: Iterable[LotRow]) -> dict[str, BookedPast]:
        """Return its positions as they are, by key, with all rows of them that it has told."""
        return pasts_told(self._state.cycles, self._state.strategies, trades, lots)

    def state(self) -> bytes:
        """Return all that `restored` needs, canonically; call `changes` before it."""
        return encoded(self._state)

    @classmethod
    def restored(cls, state: bytes) -> AccountTimeline:
        """Return the timeline that goes on where `state` was taken."""
        known = decoded(state)
        timeline = cls(known.account_id)
        timeline._state = known
        return timeline

    # --- positions ----------------------------------------------------------------------------

    def _position(self, envelope: ToldPosition) -> None:
        """Take what a position is from here on, and its closes."""
        update, state = envelope.payload, self._state
        if update.class_ == "asset":
            return
        key = position_key(update.symbol, update.position_side)  # type: ignore[arg-type]
        before, at = state.held.get(key), update.log_sequence
        for close in update.closed:
            minute = state.minute(minute_of(close.bucket_end) - 1, at)
            if before is not None and close.mark_price is not None:
                before = before.at(Decimal(close.mark_price))
            state.note_worth(minute, key, worth_closed(close, before), before)
        after = held_after(update, before)
        state.latest = max(state.latest, minute_of(envelope.timestamp))
        minute = state.minute(state.latest, at)
        held = last_held(update, before, after)
        state.note_worth(minute, key, worth_told(update, after), held)
        if after is None:
            state.held.pop(key, None)
        else:
            state.held[key] = after
        if update.cause == "event":
            known = state.paid.get(key, UNPAID)
            state.pending.positions.append(HeldChange(key, update, before, after, known))
            paid = update.fees or "0", update.funding or "0"
            if paid != known:
                state.paid[key] = paid

    # --- the account --------------------------------------------------------------------------

    def _account(self, envelope: ToldState) -> None:
        """Take the account's closes, what was booked, and the event that booked it."""
        update, state = envelope.payload, self._state
        at = minute_of(envelope.timestamp)
        for close in update.closed:
            self._close(close, at, update)
        state.epoch, state.latest = update.nav_epoch, max(state.latest, at)
        minute = state.minute(state.latest, update.log_sequence)
        self._unit(update)
        totals = totals_of(update)
        if totals != state.totals or update.applied is not None:
            self._booked(envelope, minute, difference(totals, state.totals))
            state.totals = totals
        if update.exposure_gross is not None:
            state.exposure = Decimal(update.exposure_gross)
            minute.peaks[EVERY] = max(minute.peaks[EVERY], state.exposure)
        if state.pending.positions or state.pending.orders:
            state.pending = Pending([], {})

    def _close(self, close: AccountCloseFacts, at: int, update: StateFacts) -> None:
        """Note how the account stood at the end of a minute."""
        state, minute = self._state, minute_of(close.bucket_end) - 1
        equity, flows = number(close.equity), Decimal(close.flows)
        nav, fall = number(close.nav), number(close.max_drawdown)
        if nav is None and equity is not None and state.ended is not None:
            (nav, fall), state.ended = state.ended, None
        known = state.told
        state.told = Standing(
            epoch=update.nav_epoch if minute >= at else state.epoch,
            equity=equity,
            nav=nav,
            flows=flows,
            known_equity=known.known_equity if equity is None else equity,
            known_flows=known.known_flows if equity is None else flows,
            fall=fall,
        )
        state.minute(minute, update.log_sequence).standing = state.told

    def _unit(self, update: StateFacts) -> None:
        """Note what a unit is worth, and what it was as a flow took the last one."""
        state, equity = self._state, update.equity
        if update.nav is not None and equity is not None:
            unit = update.nav, equity, update.flows, update.max_drawdown
            state.unit, state.ended = unit, None
        elif equity is not None and state.unit is not None:
            nav, before, flows = map(Decimal, state.unit[:3])
            left = subtract(Decimal(equity), subtract(Decimal(update.flows), flows))
            if left != before and before:
                nav = published(scaled(nav, left, before))
            state.ended, state.unit = (nav, number(state.unit[3])), None

    def _booked(self, envelope: ToldState, minute: Minute, booked: Booked) -> None:
        """Take what an event booked, and what it did to positions."""
        update, state = envelope.payload, self._state
        said = update.applied
        symbol = book(update, minute, booked, state.pending)
        if said is None:
            return
        event = self._event(envelope)
        if said.event_type in CORRECTIONS:
            self._correct(event, minute, booked, symbol, update.currency)
            return
        entries = entries_of(event, state.pending.positions) if state.pending.positions else []
        if entries:
            self._note(entries)
            if event.strategy is not None and not state.strategies.named:
                self._name_strategies(minute, booked, symbol)
            self._trades.extend(state.cycles.trades(event, state.pending.positions, entries))
            self._lots.extend(state.cycles.closed_lots(entries, self.account_id))
        elif said.event_type in DEPENDENT:
            self._note([entry_of_nothing(event)])
        if state.strategies.named and symbol is not None:
            self._trades.extend(book_strategies(state, minute, entries, booked, symbol))
            self._note_strategies(minute, entries)

    def _event(self, envelope: ToldState) -> Event:
        said = envelope.payload.applied
        assert said is not None, "asked only where there is one"
        strategy = said.strategy_id
        if strategy is None and said.order_id is not None:
            strategy = self._state.pending.orders.get(said.order_id)
        return Event(
            account_id=self.account_id,
            event_id=envelope.causation_id or "",
            time=nanoseconds_of(envelope.timestamp),
            log_sequence=envelope.payload.log_sequence,
            strategy=strategy,
            said=said,
        )

    def _note(self, entries: list[JournalEntry]) -> None:
        """Write entries into the journal."""
        state = self._state
        for entry in entries:
            state.journal = state.journal + 1
            self._journal.append(written(self.account_id, state.journal, entry))

    # --- strategies ---------------------------------------------------------------------------

    def _name_strategies(self, minute: Minute, booked: Booked, symbol: str | None) -> None:
        """Give what there is to `unattributed`, before the first fill that names a strategy.

        Args:
            minute: of the fill.
            booked: what the fill booked, which is its strategy's, and counted already.
            symbol: for which it is counted.
        """
        state = self._state
        held = dict(state.held)
        moved: list[str] = []
        for one in reversed(state.pending.positions):
            moved.append(one.key)
            held.pop(one.key, None)
            if one.before is not None:
                held[one.key] = one.before
        state.strategies.start(held, state.cycles.open, minute.number)
        share_all(state, EVERY, UNATTRIBUTED)
        own = minute.booked[UNATTRIBUTED]
        if symbol in own:
            own[symbol] = own[symbol].less(booked)
        for key in moved:
            minute.worth[UNATTRIBUTED][key] = NOTHING

    def _note_strategies(self, minute: Minute, entries: list[JournalEntry]) -> None:
        """Note what positions are worth to strategies after an event."""
        for entry in entries:
            self._note_again(minute, entry.key)

    def _note_again(self, minute: Minute, key: str) -> None:
        worth = minute.worth.get(EVERY, {}).get(key)
        if worth is None:
            return
        held = self._state.held.get(key)
        for one in self._state.pending.positions:
            if one.key == key:
                held = last_held(one.update, one.before, one.after)
        self._state.note_worth(minute, key, worth, held)

    # --- corrections --------------------------------------------------------------------------

    def _correct(
        self,
        event: Event,
        minute: Minute,
        booked: Booked,
        symbol: str | None,
        currency: str | None,
    ) -> None:
        """Tell trades and lots again as they are after a correction."""
        state = self._state
        if self._recalled is None:
            raise InvariantError(f"{self.account_id}: a correction came, and no journal before it")
        self._note([entry_of_correction(event, state.pending.positions)])
        entries = read([*self._recalled, *self._journal])
        pasts = self._pasts or booked_pasts(self.account_id, entries)
        self._recalled = self._pasts = None
        parts: dict[str, tuple[Decimal, Decimal]] = {}
        for revision in revisions(pasts, entries[-1]):
            self._revise(revision)
            rate = self._rate(revision, currency)
            for strategy, (realized, fees) in revision.booked.items():
                parts[strategy] = converted(realized, rate), converted(fees, rate)
            self._note_again(minute, revision.key)
        if state.strategies.named and symbol is not None:
            book_corrected(minute, symbol, booked, parts)

    def _rate(self, revision: Revision, currency: str | None) -> Decimal:
        """Return the rate of a position's currency; 0 where none is told: nothing is added as is.

        Args:
            revision: of the position.
            currency: of the account.
        """
        if revision.currency == currency:
            return ONE
        moved = [one for one in self._state.pending.positions if one.key == revision.key]
        told = [held for one in reversed(moved) for held in (one.after, one.before)]
        for held in (*told, self._state.held.get(revision.key)):
            if held is not None and held.rate is not None:
                return held.rate
        return ZERO

    def _revise(self, revision: Revision) -> None:
        """Go on from a position as a correction leaves it."""
        state, past, key = self._state, revision.past, revision.key
        state.cycles.lots[key] = past.open_lots
        state.cycles.open.pop(key, None)
        if past.cycle is not None:
            state.cycles.open[key] = past.cycle
        named = state.strategies.named
        if named:
            emptied = {name: Book(name) for name in state.strategies.by_key.get(key, {})}
            state.strategies.by_key[key] = {**emptied, **past.books}
        self._trades.extend(row for row in revision.trades if named or row.strategy_id == EVERY)
        self._lots.extend(revision.lots)
