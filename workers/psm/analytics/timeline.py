"""One account's past as the read side tells it: buckets, trades and lots, out of its updates.

Fed by committed updates in the order of the log and by nothing else: live, rebuilt and folded from
a file give the same rows, however the updates are cut into batches.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.analytics.buckets import (
    LENGTHS,
    MINUTE_NS,
    NOTHING,
    Booked,
    Bucket,
    Minute,
    Sealed,
    Series,
    Standing,
    Worth,
    bucket_start,
)
from psm.analytics.cycles import Cycles
from psm.analytics.feed import (
    ORDER,
    POSITION,
    STATE,
    AccountClose,
    Applied,
    PositionFacts,
    StateFacts,
    Told,
    minute_of,
    nanoseconds_of,
    told,
)
from psm.analytics.journal import (
    CORRECTIONS,
    Entry,
    Event,
    entries_of,
    entry_of_correction,
    written,
)
from psm.analytics.rows import EVERY, JournalRow, LotRow, PnlRow, TimelineChanges, TradeRow
from psm.analytics.worth import (
    Held,
    held_after,
    number,
    unrealized_at,
    value_of,
    worth_closed,
    worth_told,
)
from psm.contracts.position_keys import position_key, symbol_of
from psm.contracts.updates_read import ReadUpdate
from psm.domain.money import (
    ZERO,
    absolute,
    add,
    multiply_wide,
    published,
    subtract,
)

_CORRECTS = tuple(b'"applied":{"event_type":"%s"' % name.encode() for name in CORRECTIONS)
_NO_TOTALS = ("0",) * 9
_RULES = 1


class Pending(msgspec.Struct):
    """Positions and orders of an input of which the `StateUpdated` has not come yet.

    Attributes:
        positions: updates as they came, with what was held before.
        orders: strategies of orders.
    """

    positions: list[tuple[PositionFacts, Held | None]]
    orders: dict[str, str]


class State(msgspec.Struct):
    """All that a timeline knows; what is open, and nothing that grows with the past.

    Attributes:
        totals: lifetime figures as last told: realized, fees, liquidation fees, funding, interest,
            dividends, adjustments, losses covered, taxes.
        now: the last minute in which something was told; log time does not go back.
        sealed: the first minute that is not complete.
        minutes: those that are not complete, by number.
        standing: at the end of the last complete minute that said anything.
        worth: of positions at the end of the last complete minute, by strategy and key.
        held: open positions, by key.
        cycles: and what is open of their trades and lots.
        journal: how many entries it has.
    """

    account_id: str
    minutes: dict[int, Minute]
    standing: Standing
    told: Standing
    worth: dict[str, dict[str, Worth]]
    held: dict[str, Held]
    pending: Pending
    cycles: Cycles
    buckets: dict[str, Bucket]
    totals: tuple[str, ...] = _NO_TOTALS
    epoch: int = 0
    now: int = 0
    sealed: int = 0
    journal: int = 0


_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(State)


class AccountTimeline:
    """Buckets, trades and lots of one account.

    Args:
        account_id: whose updates it takes.
    """

    def __init__(self, account_id: str) -> None:
        self.account_id = account_id
        self._state = State(
            account_id=account_id,
            minutes={},
            standing=Standing(),
            told=Standing(),
            worth={},
            held={},
            pending=Pending([], {}),
            cycles=Cycles({}, {}),
            buckets={},
        )
        self._pnl: list[PnlRow] = []
        self._trades: list[TradeRow] = []
        self._lots: list[LotRow] = []
        self._journal: list[JournalRow] = []
        self._grown: dict[str, None] = {}

    @staticmethod
    def needs_journal(update: ReadUpdate) -> bool:
        """Return whether an update is of a correction: `recall` the journal before taking it."""
        return update.kind == "state.updated" and any(mark in update.data for mark in _CORRECTS)

    def recall(self, journal: list[JournalRow]) -> None:
        """Take in the journal as it was written, for the correction that comes next.

        Rows of `changes` that are not written yet may be among them or not.
        """

    def take(self, update: ReadUpdate) -> None:
        """Take the account's next update; kinds that say nothing here are passed over.

        Raises:
            InvariantError: PSM published something that is not its own contract.
        """
        if update.kind == "position.updated":
            self._position(told(POSITION, update))
        elif update.kind == "state.updated":
            self._account(told(STATE, update))
        elif update.kind == "order.updated":
            order = told(ORDER, update).payload
            if order.strategy_id is not None:
                self._state.pending.orders[order.order_id] = order.strategy_id

    def pass_to(self, closed_through: int) -> None:
        """Take notice that minutes up to this log time, in nanoseconds, are complete.

        A bucket is complete where its end is at or below it, which no row says. Rows of a minute
        are told once it is complete, those of longer buckets grow with each of their minutes.
        """
        state, end = self._state, closed_through // MINUTE_NS
        if end <= state.sealed:
            return
        for minute in sorted(minute for minute in state.minutes if minute < end):
            self._seal(minute, state.minutes.pop(minute))
        state.sealed = end

    def changes(self) -> TimelineChanges:
        """Return rows that are new or changed since the last call."""
        for timeframe in sorted(self._grown):
            self._pnl.extend(self._state.buckets[timeframe].rows(self.account_id, _RULES))
        changes = TimelineChanges(
            pnl=self._pnl, trades=self._trades, lots=self._lots, journal=self._journal
        )
        self._pnl, self._trades, self._lots, self._journal, self._grown = [], [], [], [], {}
        return changes

    def state(self) -> bytes:
        """Return all that `restored` needs, canonically; call `changes` before it."""
        return _ENCODER.encode(self._state)

    @classmethod
    def restored(cls, state: bytes) -> AccountTimeline:
        """Return the timeline that goes on where `state` was taken."""
        known = _DECODER.decode(state)
        timeline = cls(known.account_id)
        timeline._state = known
        return timeline

    # --- updates ------------------------------------------------------------------------------

    def _minute(self, number: int, log_sequence: int) -> Minute:
        """Return a minute that is not complete; what is told too late counts in the first one."""
        state = self._state
        number = max(number, state.sealed)
        minute = state.minutes.get(number)
        if minute is None:
            state.minutes[number] = minute = Minute(Booked(), {}, {}, {})
        minute.through = log_sequence
        return minute

    def _position(self, envelope: Told[PositionFacts]) -> None:
        """Take what a position is now, and its closes."""
        update, state = envelope.payload, self._state
        if update.class_ == "asset":
            return
        key = position_key(update.symbol, update.position_side)  # type: ignore[arg-type]
        before, at = state.held.get(key), update.log_sequence
        for close in update.closed:
            minute = self._minute(minute_of(close.bucket_end) - 1, at)
            self._worth(minute, key, worth_closed(close, before))
        after = held_after(update, before)
        state.now = max(state.now, minute_of(envelope.timestamp))
        self._worth(self._minute(state.now, at), key, worth_told(update, after))
        if after is None:
            state.held.pop(key, None)
        else:
            state.held[key] = after
        if update.cause == "event":
            state.pending.positions.append((update, before))

    @staticmethod
    def _worth(minute: Minute, key: str, worth: Worth) -> None:
        minute.worth.setdefault(EVERY, {})[key] = worth
        symbol = symbol_of(key)
        if worth.gross > minute.peaks.get(symbol, ZERO):
            minute.peaks[symbol] = worth.gross

    def _account(self, envelope: Told[StateFacts]) -> None:
        """Take the account's closes, what was booked, and the event that booked it."""
        update, state = envelope.payload, self._state
        now = minute_of(envelope.timestamp)
        for close in update.closed:
            self._close(close, now, update)
        state.epoch, state.now = update.nav_epoch, max(state.now, now)
        totals = _totals(update)
        minute = self._minute(state.now, update.log_sequence)
        if totals != state.totals or update.applied is not None:
            self._book(update, minute, _difference(totals, state.totals))
            state.totals = totals
        if update.exposure_gross is not None:
            gross = Decimal(update.exposure_gross)
            if gross > minute.peaks.get(EVERY, ZERO):
                minute.peaks[EVERY] = gross
        if update.applied is not None and (
            state.pending.positions or update.applied.event_type in CORRECTIONS
        ):
            self._positions_moved(envelope, update.applied)
        state.pending = Pending([], {})

    def _positions_moved(self, envelope: Told[StateFacts], said: Applied) -> None:
        """Take what an event did to positions: trades, lots and the journal."""
        state = self._state
        strategy = said.strategy_id
        if strategy is None and said.order_id is not None:
            strategy = state.pending.orders.get(said.order_id)
        event = Event(
            self.account_id,
            envelope.causation_id or "",
            nanoseconds_of(envelope.timestamp),
            envelope.payload.log_sequence,
            strategy,
            said,
        )
        if said.event_type in CORRECTIONS:
            self._note([entry_of_correction(event)])
            return
        moved = state.pending.positions
        entries = entries_of(event, moved)
        self._note(entries)
        self._trades.extend(state.cycles.trades(event, moved, entries))
        self._lots.extend(state.cycles.closed_lots(entries, self.account_id))

    def _note(self, entries: list[Entry]) -> None:
        """Write entries into the journal."""
        state = self._state
        for entry in entries:
            state.journal = state.journal + 1
            self._journal.append(written(self.account_id, state.journal, entry))

    def _close(self, close: AccountClose, now: int, update: StateFacts) -> None:
        """Note how the account stood at the end of a minute."""
        state, number_ = self._state, minute_of(close.bucket_end) - 1
        equity, flows = number(close.equity), Decimal(close.flows)
        known = state.told
        state.told = Standing(
            epoch=update.nav_epoch if number_ >= now else state.epoch,
            equity=equity,
            nav=number(close.nav),
            flows=flows,
            known_equity=known.known_equity if equity is None else equity,
            known_flows=known.known_flows if equity is None else flows,
        )
        self._minute(number_, update.log_sequence).standing = state.told

    # --- bookings -----------------------------------------------------------------------------

    def _book(self, update: StateFacts, minute: Minute, booked: Booked) -> None:
        """Count what an event booked for the account and for the symbol that it names."""
        applied, pending = update.applied, self._state.pending.positions
        symbol = None if applied is None else applied.symbol
        moved = dict.fromkeys(update.symbol for update, _ in pending)
        if len(moved) == 1:
            (symbol,) = moved
        if applied is not None and applied.event_type == "TradeExecuted":
            booked.fills = 1
            booked.turnover = self._turnover(applied.quantity, applied.price)
        if applied is not None and applied.event_type in CORRECTIONS:
            booked.corrected = add(booked.pnl, self._restated())
        minute.total.put(booked)
        if symbol is not None:
            minute.booked.setdefault(EVERY, {}).setdefault(symbol, Booked()).put(booked)

    def _turnover(self, quantity: str | None, price: str | None) -> Decimal:
        """Return the value of a fill of a contract or share; 0 of a pair's."""
        pending = self._state.pending.positions
        if not pending or quantity is None or price is None:
            return ZERO
        update, before = pending[-1]
        held = held_after(update, before) or before
        if held is None or held.rate is None:
            return ZERO
        value = value_of(held, Decimal(quantity), Decimal(price))
        return published(multiply_wide(absolute(value), held.rate))

    def _restated(self) -> Decimal:
        """Return what a correction changed of what positions are worth, at the marks of now."""
        changed = ZERO
        for update, before in self._state.pending.positions:
            after = held_after(update, before)
            price = number(update.mark_price) or (before.mark if before else None)
            if price is None:
                continue
            is_now = unrealized_at(after, price) if after else ZERO
            was = unrealized_at(before, price) if before else ZERO
            changed = add(changed, subtract(is_now, was))
        return changed

    # --- minutes ------------------------------------------------------------------------------

    def _seal(self, number: int, minute: Minute) -> None:
        """Put a complete minute into its buckets."""
        state = self._state
        standing = minute.standing or state.standing
        sealed = Sealed(
            minute=number,
            total=minute.total,
            series=self._series(minute),
            before=state.standing,
            at=standing,
            peak=minute.peaks.get(EVERY, ZERO),
            through=minute.through,
        )
        for timeframe in LENGTHS:
            start = bucket_start(timeframe, number)
            bucket = state.buckets.get(timeframe)
            if bucket is None or bucket.start != start:
                if bucket is not None and timeframe in self._grown:
                    self._pnl.extend(bucket.rows(self.account_id, _RULES))
                bucket = Bucket(timeframe, start, state.standing, standing, Booked(), {})
                state.buckets[timeframe] = bucket
            bucket.put(sealed)
            self._grown[timeframe] = None
        state.standing = standing

    def _series(self, minute: Minute) -> dict[str, dict[str, Series]]:
        """Return what each strategy and symbol did in a minute; positions move on to its end."""
        found: dict[str, dict[str, Series]] = {}
        for strategy in sorted({**minute.booked, **minute.worth}):
            known = self._state.worth.setdefault(strategy, {})
            series: dict[str, Series] = {}
            for symbol, booked in sorted(minute.booked.get(strategy, {}).items()):
                series[symbol] = Series(*_both(known, symbol), booked)
            for key in sorted(minute.worth.get(strategy, {})):
                symbol, worth = symbol_of(key), minute.worth[strategy][key]
                if symbol not in series:
                    series[symbol] = Series(*_both(known, symbol), Booked())
                if worth == NOTHING:
                    known.pop(key, None)
                else:
                    known[key] = worth
                series[symbol].at = _worth_of(known, symbol)
            for symbol, one in series.items():
                one.peak = minute.peaks.get(symbol, ZERO) if strategy == EVERY else one.at.gross
            found[strategy] = series
        return found


def _both(known: dict[str, Worth], symbol: str) -> tuple[Worth, Worth]:
    worth = _worth_of(known, symbol)
    return worth, worth


def _worth_of(known: dict[str, Worth], symbol: str) -> Worth:
    """Return what a symbol's position, or its legs, are worth."""
    worth = NOTHING
    for side in ("net", "long", "short"):
        worth = worth.plus(known.get(position_key(symbol, side), NOTHING))
    return worth


def _totals(update: StateFacts) -> tuple[str, ...]:
    return (
        update.realized_pnl,
        update.fees,
        update.liquidation_fees,
        update.funding,
        update.interest,
        update.dividends,
        update.adjustments,
        update.losses_covered,
        update.taxes,
    )


def _difference(now: tuple[str, ...], before: tuple[str, ...]) -> Booked:
    """Return what lifetime totals moved by."""
    realized, fees, liquidation, funding, *other = (
        ZERO if new == old else subtract(Decimal(new), Decimal(old))
        for new, old in zip(now, before, strict=True)
    )
    interest, dividends, adjustments, covered, taxes = other
    earned = add(add(interest, dividends), add(adjustments, covered))
    return Booked(
        realized=realized,
        fees=add(fees, liquidation),
        funding=funding,
        other=subtract(earned, taxes),
    )
