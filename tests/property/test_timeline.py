"""The timeline of an account on random logs: sums, batches, restarts, cuts and corrections."""

from __future__ import annotations

import random
from collections import defaultdict
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import refolded
from tests.support.domain import Log
from tests.support.events import SECOND, START, Sent, deposit, event, mark, opened, trade
from tests.support.market import KINDS, Market
from tests.support.pasts import pasts_of

from psm.analytics.buckets import LENGTHS
from psm.analytics.closes import bucket_text, closes_of
from psm.analytics.journal import read
from psm.analytics.lots import ClosedLot
from psm.analytics.rows import ACCOUNT_ITEMS, EVERY, LotRow, PnlRow, Timeframe, TradeRow
from psm.analytics.timeline_state import decoded
from psm.analytics.timelines import TimelineRows, Timelines
from psm.analytics.trades import Trade, trade_metrics
from psm.domain.money import ZERO, published_or_null
from psm.domain.publication.untold import untold

FEWER = settings(max_examples=max(1, settings().max_examples // 4))
seeds = st.integers(0, 2**32)
COLUMNS = (
    "realized", "unrealized_change", "fees", "funding", "other", "pnl", "pnl_corrected",
    "turnover", "fills",
)  # fmt: skip
SYMBOLS = ("BTC-PERP", "ETH-PERP")
LAST_DIGITS = Decimal("1e-15")
ROUNDED_PRICES = Decimal("1e-12")
"""Sums of what was paid for many units, at prices that follow from rounded figures."""


class Trader:
    """Random deposits, fills, funding, marks of accounts in one currency, over some minutes."""

    def __init__(self, seed: int, *, accounts: int = 1, strategies: int = 0) -> None:
        self._rng = random.Random(seed)
        self._strategies, self._time = strategies, START
        self._numbers: dict[str, int] = {}
        self._fills: list[tuple[str, str]] = []
        self.names = [f"acc_{n:03d}" for n in range(accounts)]
        self.sent: list[Sent] = []
        for name in self.names:
            self._say(opened(self._next(name), stream=name))
            self._say(deposit(self._next(name), "100000", stream=name))

    def _next(self, name: str) -> int:
        self._numbers[name] = self._numbers.get(name, 0) + 1
        return self._numbers[name]

    def _say(self, sent: Sent) -> None:
        self.sent.append(sent.later(self._time))

    def write(self, length: int, *, extras: bool = True) -> Trader:
        """Write more; extras are what is no trade of a contract and no mark."""
        for _ in range(length):
            self._time += self._rng.choice([1, SECOND, 10 * SECOND, 50 * SECOND])
            symbol, name = self._rng.choice(SYMBOLS), self._rng.choice(self.names)
            chance = self._rng.random()
            if chance < 0.5:
                price = str(self._rng.randint(90, 110))
                self._say(mark(self._next(symbol), price, symbol))
            elif chance < 0.9 or not extras:
                self._trade(name, symbol)
            elif chance < 0.95:
                paid = {"symbol": symbol, "funding_payment": str(self._rng.randint(-3, 3))}
                self._say(event("FundingApplied", paid, self._next(name), stream=name))
            else:
                self._say(deposit(self._next(name), "500", stream=name))
        self._say(mark(self._next(SYMBOLS[0]), "100", SYMBOLS[0]))  # what is cut ends with it, too
        return self

    def correct(self) -> Trader:
        """Bust a fill, or amend its price, its size or its commission."""
        if self._fills:
            fill = self._rng.choice(self._fills)
            what = self._rng.choice(({"price": "95"}, {"quantity": "3"}, {"commission": "0.5"}, {}))
            if not what:
                self._fills.remove(fill)
            kind = "TradeAmended" if what else "TradeBusted"
            payload = {"fill_id": fill[1], "reason": "venue", **what}
            self._say(event(kind, payload, self._next(fill[0]), stream=fill[0]))
        return self

    def _trade(self, name: str, symbol: str) -> None:
        number = self._next(name)
        more: dict[str, Any] = {"fill_id": f"f{number}", "commission": "0.25"}
        if self._strategies:
            more["strategy_id"] = f"s{self._rng.randrange(self._strategies)}"
        side = self._rng.choice(["buy", "sell"])
        size = str(self._rng.choice([1, 2, 4]))
        price = str(self._rng.randint(90, 110))
        self._fills.append((name, more["fill_id"]))
        self._say(trade(number, side, size, price, symbol, stream=name, **more))


def told(sent: list[Sent], *, every: int = 0, restart: bool = False, idle: int = 200) -> Timelines:
    """Feed the updates of messages; settle after each n-th message, or at the end alone."""
    log, seen = Log(), 0
    timelines = Timelines(pasts=partial(pasts_of, log))
    for place, one in enumerate(sent):
        log.when(one)
        for update in log.updates[seen:]:
            timelines.take(update)
        seen = len(log.updates)
        if every and place % every == 0:
            timelines.pass_to(log.books.market.closed_through)
            timelines.restart() if restart else timelines.settle()
    log.let_pass(idle)
    for update in log.updates[seen:]:
        timelines.take(update)
    timelines.pass_to(log.books.market.closed_through)
    timelines.settle()
    return timelines


def buckets(timelines: Timelines, account: str) -> dict[tuple[str, int], list[PnlRow]]:
    """Return an account's rows by timeframe and bucket."""
    found: dict[tuple[str, int], list[PnlRow]] = defaultdict(list)
    for row in timelines.rows[account].pnl.values():
        found[row.timeframe, row.bucket].append(row)
    return found


def everything(timelines: Timelines) -> dict[str, Any]:
    """Return all rows of all accounts."""
    return {
        name: (rows.pnl, rows.trades, rows.lots, rows.journal)
        for name, rows in timelines.rows.items()
    }


def assert_adds_up(timelines: Timelines) -> int:
    """Check every bucket; return how many there were."""
    checked = 0
    for account in timelines.rows:
        for rows in buckets(timelines, account).values():
            (total,) = [r for r in rows if r.strategy_id == r.symbol == EVERY]
            symbols = [r for r in rows if r.strategy_id == EVERY and r.symbol != EVERY]
            for column in COLUMNS:
                whole = getattr(total, column)
                if whole is not None:
                    assert sum(getattr(row, column) for row in symbols) == whole, column
            assert_parts(rows, total)
            checked += 1
    return checked


def assert_parts(rows: list[PnlRow], total: PnlRow) -> None:
    """A row's pnl is its parts; the total's is the change of equity less flows."""
    for row in rows:
        if row.pnl is not None:
            assert row.unrealized_change is not None
            parts = row.realized + row.unrealized_change - row.fees + row.funding + row.other
            assert parts == row.pnl
    if total.ret is not None:
        assert total.nav is not None


@FEWER
@given(seeds)
def test_symbols_and_account_items_add_up_to_the_total(seed: int) -> None:
    """Every column of every bucket, exactly, on logs of every event type and instrument."""
    assert assert_adds_up(told(Market(seed=seed, length=120).author().sent, every=20))


@FEWER
@given(seeds)
def test_trades_alone_leave_nothing_to_the_account(seed: int) -> None:
    """In one currency all pnl is of symbols: their closes and the account's are the same.

    But for the last published digit, where an average cost has no end.
    """
    timelines = told(Trader(seed).write(80, extras=False).sent)
    rows = timelines.rows["acc_000"].pnl.values()
    for row in rows:
        if row.symbol == ACCOUNT_ITEMS:
            assert row.pnl is not None
            assert max(abs(row.pnl), abs(row.realized)) < LAST_DIGITS
            assert not row.fees
            assert not row.fills
    assert any(row.symbol != EVERY for row in rows)


@FEWER
@given(seeds)
def test_longer_buckets_are_their_minutes(seed: int) -> None:
    """Sums of pnl, flows and returns over minutes are those of 5m, 1h, 1d and 1w."""
    timelines = told(Trader(seed).write(80).sent, every=7)
    rows = [r for r in timelines.rows["acc_000"].pnl.values() if r.strategy_id == r.symbol == EVERY]
    minutes = sorted((r for r in rows if r.timeframe == "1m"), key=lambda row: row.bucket)
    for frame in ("5m", "1h", "1d", "1w"):
        longer = [row for row in rows if row.timeframe == frame]
        for column in ("pnl", "flows", "realized", "fees", "fills"):
            short = sum(getattr(row, column) for row in minutes)
            assert sum(getattr(row, column) for row in longer) == short, (frame, column)
        assert max(longer, key=lambda row: row.bucket).equity == minutes[-1].equity


@FEWER
@given(seeds)
def test_batches_and_restarts_change_nothing(seed: int) -> None:
    """Told once at the end, after every message, or with a restart after each: the same rows."""
    sent = Market(seed=seed, length=80).author().sent
    once = told(sent)
    for again in (told(sent, every=1), told(sent, every=5, restart=True)):
        assert everything(again) == everything(once)
        assert again.states() == once.states()


@FEWER
@given(seeds)
def test_accounts_do_not_depend_on_each_other(seed: int) -> None:
    """Rows of each account are those of the log without the events of the others."""
    trader = Trader(seed, accounts=3).write(90)
    together = told(trader.sent)
    for name in trader.names:
        others = [f"trades.{other}" for other in trader.names if other != name]
        alone = told([sent for sent in trader.sent if sent.subject not in others])
        ours, theirs = together.rows[name], alone.rows[name]
        assert placeless(ours.pnl.values()) == placeless(theirs.pnl.values())
        assert placeless(ours.trades.values()) == placeless(theirs.trades.values())
        assert placeless(ours.lots.values()) == placeless(theirs.lots.values())


@FEWER
@given(seeds, st.sampled_from([("1m", 20), ("1d", 20_000)]))
def test_closes_are_those_of_the_fold(seed: int, spread: tuple[Timeframe, int]) -> None:
    """Equity, nav and epoch at every end of a minute or day, marks that nobody published included.

    Closes made of published updates were wrong on two days in five.
    """
    timeframe, factor = spread
    sent = [
        one.later(START + (one.at - START) * factor)
        for one in Market(seed=seed, length=90).author().sent
        if one.at is not None
    ]
    stood, last = closes_of_the_fold(sent, LENGTHS[timeframe] * 60 * SECOND)
    log, timelines = Log(), Timelines((timeframe,))
    for one in sent:
        log.when(one)
    for update in [*log.updates, *untold(log.books, log.messages[log.books.position])]:
        timelines.take(update)
    timelines.pass_to(last + 60 * SECOND)
    timelines.settle()
    for name, noted in stood.items():
        totals = [
            r for r in timelines.rows[name].pnl.values() if r.strategy_id == r.symbol == EVERY
        ]
        closes = closes_of(sorted(totals, key=lambda row: row.bucket), timeframe, last)
        found = {close.bucket: (close.equity, close.nav, close.epoch) for close in closes}
        assert noted
        for start, (equity, nav, epoch, ended) in noted.items():
            close = found.get(bucket_text(start, timeframe), (0, None, 0))
            if ended and nav is not None and close[1] is not None:
                assert abs(close[1] - nav) < LAST_DIGITS  # of told figures, which are rounded
                close = (close[0], nav, close[2])
            if nav is None and close[1] is not None and close[1] < 0:
                close = (close[0], nav, close[2])  # the last one of a ruined account
            assert close == (equity, nav, epoch)


def closes_of_the_fold(sent: list[Sent], length: int) -> tuple[dict[str, dict[int, Any]], int]:
    """Return where each account stood at the end of each bucket but the last, and its start."""
    log, stood = Log(), defaultdict[str, dict[int, Any]](dict)
    latest, units = None, dict[str, tuple[int, Decimal]]()  # in this bucket, by account
    for one in sent:
        message = log.message(one)
        start = message.time - message.time % length
        if latest is not None and start > latest:
            for name, account in log.books.accounts.items():
                own, equity = account.valuation.performance, account.equity()
                nav, said = published_or_null(own.nav(equity)), published_or_null(equity)
                ended = nav is None and said is not None and name in units
                if ended:
                    epoch, last = units[name]  # a flow took them all
                    nav = published_or_null(last) if epoch == own.epoch else None
                stood[name][start - length] = (
                    None if said is None else Decimal(said),
                    None if nav is None else Decimal(nav),
                    own.epoch,
                    ended,
                )
            for name, account in log.books.accounts.items():
                if account.valuation.performance.nav(account.equity()) is None:
                    units.pop(name, None)
        latest = start if latest is None else max(latest, start)
        log.take(message)
        for name, account in log.books.accounts.items():
            unit = account.valuation.performance.nav(account.equity())
            if unit is not None:
                units[name] = account.valuation.performance.epoch, unit
    return stood, latest or 0


def placeless(rows: Any) -> list[Any]:
    """Return rows without their place in the log."""
    return [msgspec.structs.replace(row, through_log_sequence=0) for row in rows]


@FEWER
@given(seeds, st.integers(5, 70))
def test_cutting_the_log_never_changes_complete_buckets(seed: int, cut: int) -> None:
    """What `closed_through` has passed is what the whole log says."""
    sent = Trader(seed).write(80).sent
    whole, log, part = told(sent), Log(), Timelines()
    for one in sent[:cut]:
        log.when(one)
    for update in log.updates:
        part.take(update)
    through = log.books.market.closed_through
    part.pass_to(through)
    part.settle()
    lengths = {"1m": 1, "5m": 5, "1h": 60, "1d": 1_440, "1w": 10_080}
    for name, rows in part.rows.items():
        for key, row in rows.pnl.items():
            if row.bucket + lengths[row.timeframe] * 60 * SECOND <= (through or 0):
                assert whole.rows[name].pnl[key] == row


def standing(rows: Any) -> list[Any]:
    """Return rows that are not gone, without what says since when they are so."""
    return [
        msgspec.structs.replace(
            row, through_log_sequence=0, revised_at=None, **({"mae": None, "mfe": None}
            if isinstance(row, TradeRow) else {}),
        )
        for _, row in sorted(rows.items())
        if not row.gone
    ]  # fmt: skip


@FEWER
@given(seeds, st.data())
def test_a_bust_leaves_what_the_log_without_the_fill_says(seed: int, data: st.DataObject) -> None:
    """Trades and lots, of the account and of strategies; complete buckets stay as they were."""
    trader = Trader(seed, strategies=data.draw(st.integers(0, 2))).write(50)
    fills = [n for n, sent in enumerate(trader.sent) if b"TradeExecuted" in sent.data]
    place = data.draw(st.sampled_from(fills))
    target = msgspec.json.decode(trader.sent[place].data)["payload"]["fill_id"]
    before = told(trader.sent, idle=0)
    number = trader._next("acc_000")
    trader._say(event("TradeBusted", {"fill_id": target, "reason": "venue"}, number))
    at = trader.sent[-1].at
    assert at is not None
    trader.sent[-1] = event(
        "TradeBusted", {"fill_id": target, "reason": "venue"}, number, stream="acc_000"
    ).later(at)
    busted = told(trader.sent).rows["acc_000"]
    rest = [sent for n, sent in enumerate(trader.sent[:-1]) if n != place]
    without = told(renumbered(rest)).rows["acc_000"]
    assert standing(busted.trades) == standing(without.trades)
    assert_extremes(
        *(
            [row for _, row in sorted(rows.items()) if not row.gone]
            for rows in (busted.trades, without.trades)
        )
    )
    assert standing(busted.lots) == standing(without.lots)
    for key, row in before.rows["acc_000"].pnl.items():
        if row.timeframe == "1m":
            assert busted.pnl[key] == row
    assert_adds_up(told(trader.sent))


def assert_extremes(found: list[Any], exact: list[Any]) -> None:
    """Worst and best are those of the log as corrected, or null."""
    for row, other in zip(found, exact, strict=True):
        assert (row.mae, row.mfe) in ((other.mae, other.mfe), (None, None))


FEW = settings(max_examples=max(3, settings().max_examples // 40))


@FEW
@given(seeds, st.integers(1, 9), st.integers(0, 2))
def test_live_rebuilt_and_of_a_file_are_the_same_after_corrections(
    seed: int, every: int, strategies: int
) -> None:
    """Fed in batches with restarts, in one piece, or as `psm fold --metrics` and `psm lots` do."""
    trader = Trader(seed, accounts=2, strategies=strategies)
    for _ in range(3):
        trader.write(10).correct().correct()
    trader.write(5)
    assert_same_as_of_a_file(trader.sent, every)


@FEW
@given(seeds, st.integers(1, 9), st.sampled_from(sorted(KINDS)))
def test_they_are_the_same_whatever_is_corrected(seed: int, every: int, kind: str) -> None:
    """Also where splits, settlements or transfers came after the fill, or did nothing as they came.

    And they are those of the ledger: what trades gained is what its positions realized.
    """
    author = Market(seed=seed, length=120, symbols=KINDS[kind]).author()
    live = assert_same_as_of_a_file(author.sent, every)
    for account_id, account in author.log.books.accounts.items():
        rows = live.rows[account_id].trades if account_id in live.rows else {}
        gained: dict[str, Decimal] = defaultdict(Decimal)
        for row in rows.values():
            if row.strategy_id == EVERY and not row.gone:
                gained[row.currency] += row.gross
        realized: dict[str, Decimal] = defaultdict(Decimal)
        for position in account.ledger.positions.values():
            is_open = position.cycle_realized_pnl if position.size else ZERO
            realized[position.instrument.settle] += position.realized_pnl - is_open
        for currency in {**gained, **realized}:
            assert abs(gained[currency] - realized[currency]) < LAST_DIGITS


def assert_same_as_rebuilt(sent: list[Sent], every: int) -> Timelines:
    live, rebuilt = told(sent, every=every, restart=True), told(sent)
    assert everything(live) == everything(rebuilt)
    assert live.states() == rebuilt.states()
    return live


def assert_same_as_of_a_file(sent: list[Sent], every: int) -> Timelines:
    live = assert_same_as_rebuilt(sent, every)
    for account_id, (trades, lots) in refolded.of_a_file(sent).items():
        if account_id in live.rows:
            rows = live.rows[account_id]
            found = lasting(rows.trades, Trade)
            assert placed(trades) == placed(found)
            assert_extremes(found, trades)
            assert lots == sorted_lots(account_id, lasting(rows.lots, ClosedLot))
    return live


def sorted_lots(account_id: str, lots: list[ClosedLot]) -> list[tuple[str, ClosedLot]]:
    return sorted([(account_id, lot) for lot in lots], key=lambda one: msgspec.json.encode(one[1]))


@FEW
@given(seeds, st.sampled_from(sorted(KINDS)))
def test_corrections_leave_what_the_log_as_corrected_says(seed: int, kind: str) -> None:
    """Of a file: busts, reversals, amendments of every field, on all instruments and currencies.

    Worst and best of each trade too, and with splits and mergers of what only then is held. But for
    what a corrected past voids, such as a stated size that does not fit: there the ledger is right.
    """
    author = Market(seed=seed, length=150, symbols=KINDS[kind]).author()
    voided = {one.stream_id for one in author.log.updates if b'"void_in_correction"' in one.data}
    corrected = refolded.as_corrected(author.sent)
    for account_id, (trades, lots) in refolded.of_a_file(author.sent).items():
        if account_id in voided:
            continue
        exact, exact_lots = corrected[account_id]
        assert trades == exact
        assert [lot for _, lot in lots] == [lot for _, lot in exact_lots]
        assert trade_metrics(trades) == trade_metrics(exact)


def placed(trades: list[Trade]) -> list[Trade]:
    """Return trades without what was between their fills, which no correction tells anew."""
    return [msgspec.structs.replace(trade, mae=None, mfe=None) for trade in trades]


def lasting(rows: Any, of: Any) -> list[Any]:
    """Return the account's own trades, in the order in which they closed, or lots."""
    own = [row for row in rows.values() if not row.gone]
    if of is Trade:
        own = [row for row in own if row.strategy_id == EVERY]
        own.sort(key=lambda row: (row.closed, row.symbol, row.position_side, row.cycle))
    return [of(**{name: getattr(row, name) for name in of.__struct_fields__}) for row in own]


def renumbered(sent: list[Sent]) -> list[Sent]:
    """Return the events of the account with numbers that have no gap."""
    found, number = [], 0
    for one in sent:
        body = msgspec.json.decode(one.data)
        if one.subject.startswith("trades."):
            number += 1
            body["sequence_number"] = number
        found.append(msgspec.structs.replace(one, data=msgspec.json.encode(body)))
    return found


@FEWER
@given(seeds)
def test_lots_sum_up_to_average_cost_when_flat(seed: int) -> None:
    """Over what was flat in the end the lots of all cycles gained what the cycles did."""
    timelines = told(Trader(seed).write(80).sent)
    rows = timelines.rows["acc_000"]
    gains: dict[str, Decimal] = defaultdict(Decimal)
    for trade_ in sorted(rows.trades.values(), key=lambda row: row.through_log_sequence):
        gains[trade_.symbol] += trade_.gross
        until = [
            lot.pnl
            for lot in rows.lots.values()
            if lot.symbol == trade_.symbol
            and lot.through_log_sequence <= trade_.through_log_sequence
        ]
        assert abs(sum(until) - gains[trade_.symbol]) < LAST_DIGITS


@FEW
@given(seeds, st.sampled_from(sorted(KINDS)))
def test_lots_sum_up_to_trades_whatever_moved_units(seed: int, kind: str) -> None:
    """Splits with cash for a fraction, capital paid back, spin-offs, mergers, transfers, flips.

    A symbol that has a new name is left out: what it realized before is of the old one.
    """
    market = Market(seed=seed, length=150, symbols=KINDS[kind], leave_out=("corrected", "reversed"))
    for rows in told(market.author().sent).rows.values():
        entries = read(rows.journal)
        renamed = {e.symbol for e in entries if e.event_type == "SymbolChanged"}
        for last in own_trades(rows):
            if last.symbol not in renamed:
                trades, lots = until(last, own_trades(rows)), until(last, rows.lots.values())
                apart = sum((lot.pnl for lot in lots), -sum((one.gross for one in trades), ZERO))
                assert abs(apart) < ROUNDED_PRICES


def until(last: TradeRow, rows: Any) -> list[Any]:
    """Return the rows of a trade's position up to it."""
    key, place = (last.symbol, last.position_side), last.through_log_sequence
    return [
        row
        for row in rows
        if (row.symbol, row.position_side) == key and row.through_log_sequence <= place
    ]


def own_trades(rows: TimelineRows) -> list[TradeRow]:
    """Return the trades of the account's own."""
    return [row for row in rows.trades.values() if row.strategy_id == EVERY and not row.gone]


@FEWER
@given(seeds, st.integers(1, 3))
def test_strategies_and_netting_add_up_to_each_symbol(seed: int, count: int) -> None:
    """Sizes always, columns exactly; what nets out is no profit and no loss of anybody."""
    timelines = told(Trader(seed, strategies=count).write(80).sent, every=3)
    for rows in buckets(timelines, "acc_000").values():
        for symbol in SYMBOLS:
            own = [row for row in rows if row.symbol == symbol]
            parts = [row for row in own if row.strategy_id != EVERY]
            for whole in [row for row in own if row.strategy_id == EVERY and parts]:
                for column in COLUMNS:
                    found = sum(getattr(row, column) for row in parts)
                    assert found == getattr(whole, column), column
    assert_adds_up(timelines)
    state = decoded(timelines.states()["acc_000"])
    for key, books in state.strategies.by_key.items():
        held = state.held.get(key)
        assert sum(book.size for book in books.values()) == (held.size if held else 0)


def test_rows_say_which_kind_they_are() -> None:
    """One log, told whole: totals, symbols, items, trades and lots."""
    rows = told(Trader(7).write(60).sent).rows["acc_000"]
    assert {row.timeframe for row in rows.pnl.values()} == {"1m", "5m", "1h", "1d", "1w"}
    assert all(isinstance(row, TradeRow) and row.fills for row in rows.trades.values())
    assert all(isinstance(row, LotRow) and row.quantity > 0 for row in rows.lots.values())


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_instruments(kind: str) -> None:
    """Each kind of instrument, with corrections of every sort: sums hold and nothing fails."""
    timelines = told(Market(seed=3, length=150, symbols=KINDS[kind]).author().sent, every=4)
    assert assert_adds_up(timelines)
