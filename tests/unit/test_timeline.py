"""Stories of an account as its timeline tells them: strategies, netting, a bust, a late journal."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from tests.support.domain import Log
from tests.support.events import START, Sent, deposit, event, instrument, mark, opened, trade
from tests.support.pasts import pasts_of

from psm.analytics import feed
from psm.analytics.journal import JournalEntry
from psm.analytics.revision import is_told
from psm.analytics.rows import ACCOUNT_ITEMS, EVERY, NETTING, UNATTRIBUTED, PnlRow
from psm.analytics.timeline import AccountTimeline
from psm.analytics.timelines import TimelineRows, Timelines
from psm.analytics.trades import trade_metrics
from psm.contracts.errors import InvariantError
from psm.contracts.updates_read import ReadUpdate

MINUTE = 60_000_000_000
BEGIN = START - START % MINUTE


def told(*sent: Sent) -> TimelineRows:
    """Return what the account's timeline tells of messages, one a minute unless timed."""
    log = Log()
    timelines, seen = Timelines(pasts=partial(pasts_of, log)), 0
    for minute, one in enumerate(sent):
        log.when(one if one.at is not None else one.later(BEGIN + minute * MINUTE))
        for update in log.updates[seen:]:
            timelines.take(update)
        seen = len(log.updates)
    log.let_pass(200)
    for update in log.updates[seen:]:
        timelines.take(update)
    timelines.pass_to(log.books.market.closed_through)
    timelines.settle()
    return timelines.rows["acc_001"]


def rows_of(rows: TimelineRows, strategy: str, symbol: str, timeframe: str = "1d") -> list[PnlRow]:
    """Return rows of one series, ascending."""
    return [
        row
        for _, row in sorted(rows.pnl.items(), key=lambda item: item[1].bucket)
        if (row.strategy_id, row.symbol, row.timeframe) == (strategy, symbol, timeframe)
    ]


def of_day(rows: TimelineRows, strategy: str, symbol: str) -> dict[str, Any]:
    """Return realized, fees, funding and pnl of the only day."""
    (row,) = rows_of(rows, strategy, symbol)
    return {name: getattr(row, name) for name in ("realized", "fees", "funding", "pnl")}


def submitted(number: int, order_id: str, strategy: str, side: str) -> Sent:
    """Return an order of a strategy."""
    order = {
        "order_id": order_id, "symbol": "BTC-PERP", "side": side, "type": "market",
        "quantity": "1", "strategy_id": strategy,
    }  # fmt: skip
    return event("OrderSubmitted", order, number)


OPEN = [opened(1), deposit(2, "1000")]


def test_a_fill_is_of_the_strategy_of_its_order() -> None:
    """Also where only the order names it; a trade of the strategy is one of its own book."""
    rows = told(
        *OPEN,
        submitted(3, "o1", "alpha", "buy"),
        trade(4, "buy", "1", "100", order_id="o1", commission="0.5"),
        trade(5, "sell", "1", "110", strategy_id="alpha", commission="0.5"),
    )
    assert of_day(rows, "alpha", "BTC-PERP") == {
        "realized": Decimal(10), "fees": Decimal(1), "funding": 0, "pnl": Decimal(9),
    }  # fmt: skip
    (row,) = [row for row in rows.trades.values() if row.strategy_id == "alpha"]
    (whole,) = [row for row in rows.trades.values() if row.strategy_id == EVERY]
    assert (row.net, row.fills, row.cycle) == (Decimal(9), 2, 1)
    assert (whole.net, whole.fills, whole.side) == (Decimal(9), 2, "long")
    assert row.return_on_peak_notional == Decimal("0.09")


def test_what_nets_out_between_strategies() -> None:
    """One sells what another holds: the account realizes 10, neither did; later it is theirs.

    Until then the one's gain is not realized, and no mark tells more of it: the account is flat.
    """
    start = [
        *OPEN,
        trade(3, "buy", "1", "100", strategy_id="a"),
        mark(1, "112"),
        trade(4, "sell", "1", "110", strategy_id="b"),
    ]
    half = told(*start)
    assert of_day(half, EVERY, "BTC-PERP")["realized"] == 10
    assert of_day(half, NETTING, "BTC-PERP")["realized"] == 10
    assert of_day(half, NETTING, "BTC-PERP")["pnl"] == 0
    (own,) = rows_of(half, "a", "BTC-PERP")
    assert own.realized == 0
    assert own.unrealized_change == 12
    assert own.peak_gross == 112
    assert of_day(half, "b", "BTC-PERP")["pnl"] == -2
    whole = told(
        *start,
        trade(5, "sell", "1", "120", strategy_id="a"),
        trade(6, "buy", "1", "120", strategy_id="b"),
    )
    assert of_day(whole, "a", "BTC-PERP")["pnl"] == 20
    assert of_day(whole, "b", "BTC-PERP")["pnl"] == -10
    assert of_day(whole, NETTING, "BTC-PERP")["pnl"] == 0
    assert of_day(whole, EVERY, EVERY)["pnl"] == 10


def test_funding_is_shared_by_size() -> None:
    """Three parts of four for who holds three; what was held before has no strategy."""
    rows = told(
        *OPEN,
        trade(3, "buy", "1", "100"),
        trade(4, "buy", "3", "100", strategy_id="a"),
        event("FundingApplied", {"symbol": "BTC-PERP", "funding_payment": "-4"}, 5),
    )
    assert of_day(rows, "a", "BTC-PERP")["funding"] == -3
    assert of_day(rows, UNATTRIBUTED, "BTC-PERP")["funding"] == -1
    assert of_day(rows, NETTING, "BTC-PERP")["funding"] == 0


def test_exposure_at_the_start_of_a_bucket_counts() -> None:
    """An hour that begins with 130 and ends flat had 130; no update after its start says so."""
    rows = told(
        *OPEN,
        trade(3, "buy", "1", "100"),
        mark(1, "130"),
        trade(4, "sell", "1", "120").later(BEGIN + 90 * MINUTE),
    )
    for symbol in (EVERY, "BTC-PERP"):
        assert [row.peak_gross for row in rows_of(rows, EVERY, symbol, "1h")] == [130, 130]
    coins = told(
        instrument(1, "EUR-USDT", kind="spot", base="EUR", quote="USDT", settle="USDT"),
        *OPEN,
        trade(3, "buy", "50", "2", "EUR-USDT"),
        trade(4, "sell", "50", "2", "EUR-USDT").later(BEGIN + 90 * MINUTE),
    )
    assert [row.peak_gross for row in rows_of(coins, EVERY, EVERY, "1h")] == [100, 100]


def test_no_strategy_no_rows_but_the_accounts() -> None:
    """An account whose fills name none is not told twice."""
    rows = told(*OPEN, trade(3, "buy", "1", "100"))
    assert {row.strategy_id for row in rows.pnl.values()} == {EVERY}


def test_what_no_symbol_explains() -> None:
    """Interest is an item of the account, a fee that names a symbol is the symbol's."""
    interest = {"amount": "-2", "reference": "i1", "currency": "USDT"}
    rows = told(
        *OPEN,
        event("InterestAccrued", interest, 3),
        event("FeeCharged", {"symbol": "BTC-PERP", "amount": "3"}, 4),
    )
    (items,) = rows_of(rows, EVERY, ACCOUNT_ITEMS)
    assert (items.other, items.fees, items.pnl) == (Decimal(-2), Decimal(0), Decimal(-2))
    assert of_day(rows, EVERY, "BTC-PERP")["fees"] == 3
    assert of_day(rows, EVERY, EVERY)["pnl"] == -5


def test_a_bust_counts_in_its_own_bucket() -> None:
    """Bought at 100, marked 120, busted an hour later: 20 gained then, 20 taken back now."""
    rows = told(
        *OPEN,
        mark(1, "100"),
        trade(3, "buy", "1", "100", fill_id="f1"),
        mark(2, "120"),
        event("TradeBusted", {"fill_id": "f1", "reason": "venue"}, 4).later(BEGIN + 90 * MINUTE),
    )
    first, second = rows_of(rows, EVERY, EVERY, "1h")
    assert (first.pnl, first.pnl_corrected) == (Decimal(20), Decimal(0))
    assert (second.pnl, second.pnl_corrected) == (Decimal(-20), Decimal(-20))
    (symbol, corrected) = rows_of(rows, EVERY, "BTC-PERP", "1h")
    assert (symbol.pnl, corrected.pnl_corrected) == (Decimal(20), Decimal(-20))
    assert second.nav == 1


def test_a_strategy_whose_only_fill_was_busted_holds_nothing() -> None:
    """Parts add up to the symbol in every bucket, and nothing of it is left to it."""
    rows = told(
        *OPEN,
        trade(3, "buy", "2", "100", strategy_id="a"),
        mark(1, "105"),
        trade(4, "sell", "2", "110", strategy_id="b", fill_id="f2"),
        mark(2, "120"),
        event("TradeBusted", {"fill_id": "f2", "reason": "venue"}, 5).later(BEGIN + 90 * MINUTE),
        trade(6, "sell", "2", "130", strategy_id="a").later(BEGIN + 180 * MINUTE),
    )
    strategies = ("a", "b", NETTING)
    for place, whole in enumerate(rows_of(rows, EVERY, "BTC-PERP", "1h")):
        parts = [rows_of(rows, name, "BTC-PERP", "1h") for name in strategies]
        assert sum(own[place].pnl or 0 for own in parts if len(own) > place) == whole.pnl
    days = {name: of_day(rows, name, "BTC-PERP")["pnl"] for name in (EVERY, *strategies)}
    assert days == {EVERY: 60, "a": 60, "b": 0, NETTING: 0}


def test_a_trade_that_never_was_is_gone() -> None:
    """Its row says so and since when; the lot that it closed, too."""
    rows = told(
        *OPEN,
        trade(3, "buy", "1", "100", fill_id="f1"),
        trade(4, "sell", "1", "110", fill_id="f2"),
        event("TradeBusted", {"fill_id": "f2", "reason": "venue"}, 5).later(BEGIN + 9 * MINUTE),
    )
    (gone,) = rows.trades.values()
    (lot,) = rows.lots.values()
    assert gone.gone
    assert lot.gone
    assert gone.revised_at == lot.revised_at == BEGIN + 9 * MINUTE


def test_what_did_nothing_as_it_came_may_do_something_without_a_fill() -> None:
    """A split of what was flat, and would not have been: 2 are 4, and the sale of 4 closes them."""
    start = [
        *OPEN,
        trade(3, "buy", "2", "100", fill_id="f1", strategy_id="alpha"),
        trade(4, "sell", "2", "110", fill_id="f2", strategy_id="alpha"),
        event("SplitApplied", {"symbol": "BTC-PERP", "numerator": "2", "denominator": "1"}, 5),
        trade(6, "sell", "4", "60", fill_id="f3", strategy_id="alpha"),
    ]
    rows = told(*start, event("TradeBusted", {"fill_id": "f2", "reason": "venue"}, 7))
    found = [row for row in rows.trades.values() if not row.gone]
    assert {row.strategy_id for row in found} == {EVERY, "alpha"}
    four, gain = Decimal(4), Decimal(40)
    assert [(row.side, row.peak_size, row.gross) for row in found] == [("long", four, gain)] * 2
    assert [(lot.quantity, lot.pnl) for lot in rows.lots.values()] == [(four, gain)]
    again = told(
        *start,
        event("TradeBusted", {"fill_id": "f2", "reason": "venue"}, 7),
        trade(8, "buy", "1", "70", fill_id="f4"),
        event("TradeAmended", {"fill_id": "f3", "price": "65", "reason": "venue"}, 9),
        trade(10, "sell", "1", "75", fill_id="f5"),
    )
    own = [row for row in again.trades.values() if row.strategy_id == EVERY and not row.gone]
    assert [(row.cycle, row.gross) for row in own] == [(1, Decimal(60)), (2, Decimal(5))]


def test_when_the_journal_says_enough() -> None:
    """Not after what depends on what is held; a mode set before the fill was set in any past."""

    def entry(event_type: str, **more: Any) -> JournalEntry:
        return JournalEntry(event_type=event_type, event_id="e", time=0, log_sequence=0, **more)

    fill, bust = entry("TradeExecuted", key="A", fill_id="f1"), entry("TradeBusted", target="f1")
    mode, fee = entry("PositionModeChanged"), entry("FeeCharged", key="A")
    assert is_told([fill, fee, bust])
    assert is_told([mode, fill, fee, bust])
    assert not is_told([fill, mode, bust])
    assert not is_told([fill, bust, mode, fill, mode, bust])
    assert not is_told([entry("PositionModeChanged", key="A"), fill, bust])
    assert not is_told([entry("SplitApplied", symbol="B"), fill, bust])


def test_a_correction_without_its_journal_is_an_error() -> None:
    """Rather none than wrong rows."""
    log = Log()
    log.when(*OPEN, trade(3, "buy", "1", "100", fill_id="f1"))
    log.when(event("TradeBusted", {"fill_id": "f1", "reason": "venue"}, 4))
    timeline = AccountTimeline("acc_001")
    *before, correction = [
        feed.told(ReadUpdate(kind=update.kind, data=update.data))
        for update in log.updates
        if update.kind in feed.KINDS
    ]
    for one in before:
        assert not AccountTimeline.needs_journal(one)
        timeline.take(one)
    assert AccountTimeline.needs_journal(correction)
    with pytest.raises(InvariantError, match="no journal"):
        timeline.take(correction)


def test_an_update_that_is_none_is_an_error() -> None:
    """PSM publishes nothing that its contract does not allow."""
    with pytest.raises(InvariantError, match="cannot be read"):
        feed.told(ReadUpdate(kind="state.updated", data=b"{}"))


def test_extremes_are_of_what_was_held() -> None:
    """A bust while it is open takes worst and best from a trade; an amended commission does not."""
    start = [
        *OPEN,
        trade(3, "buy", "1", "100", fill_id="f1"),
        trade(4, "buy", "1", "100", fill_id="f2"),
        mark(1, "90"),
    ]
    end = [mark(2, "110"), trade(6, "sell", "1", "110", fill_id="f3")]
    busted = event("TradeBusted", {"fill_id": "f2", "reason": "venue"}, 5)
    (found,) = told(*start, busted, *end).trades.values()
    assert (found.gross, found.mae, found.mfe) == (Decimal(10), None, None)
    end = [mark(2, "110"), trade(5, "sell", "2", "110", fill_id="f3")]
    amended = {"fill_id": "f2", "commission": "3", "reason": "venue"}
    (found,) = told(*start, *end, event("TradeAmended", amended, 6)).trades.values()
    assert (found.fees, found.mae, found.mfe) == (Decimal(3), Decimal(-20), Decimal(20))


def test_no_figure_adds_amounts_of_different_currencies() -> None:
    """A contract in EUR at 2 USDT: what strategies booked and a bust took back is in USDT.

    Of two trades in two currencies there are counts and rates, and no amount.
    """
    defined = [
        instrument(1, "EUR-USDT", kind="spot", base="EUR", quote="USDT", settle="USDT"),
        instrument(1, "DAX", kind="linear_perp", base="DAX", quote="EUR", settle="EUR"),
    ]
    fills = [
        trade(3, "buy", "1", "95", "DAX", fill_id="f1", strategy_id="alpha"),
        trade(4, "sell", "1", "110", "DAX", fill_id="f2", strategy_id="alpha"),
        trade(5, "buy", "1", "100", fill_id="f3", strategy_id="alpha"),
        trade(6, "sell", "1", "103", fill_id="f4", strategy_id="alpha"),
        event("TradeAmended", {"fill_id": "f2", "price": "115", "reason": "venue"}, 7),
    ]
    rows = told(*defined, *OPEN, mark(1, "2", "EUR-USDT"), mark(1, "100", "DAX"), *fills)
    whole, own = of_day(rows, EVERY, "DAX"), of_day(rows, "alpha", "DAX")
    netting = of_day(rows, NETTING, "DAX")
    assert (whole["realized"], whole["pnl"]) == (Decimal(40), Decimal(40))
    # No update of the amendment tells a rate, so nobody's book gains 5 EUR as 5 USDT.
    assert (own["realized"], netting["realized"]) == (Decimal(30), Decimal(10))
    trades = [row for row in rows.trades.values() if row.strategy_id == EVERY]
    assert [(row.currency, row.net) for row in trades] == [
        ("EUR", Decimal(20)),
        ("USDT", Decimal(3)),
    ]
    found = trade_metrics(trades)
    assert (found.n, found.win_rate, found.longest_win_streak) == (2, Decimal(1), 2)
    amounts = ("net", "best", "worst", "expectancy", "avg_win", "payoff", "profit_factor", "kelly")
    assert [getattr(found, name) for name in amounts] == [None] * len(amounts)
    assert trade_metrics(trades[:1]).net == 20
