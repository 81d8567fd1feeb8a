"""Invariants of the full ledger on random logs of every event type and instrument kind.

Hypothesis draws the seed; the log follows from it. Streams are 200 messages and more wherever the
property is about a whole log.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.domain import Log
from tests.support.events import (
    Sent,
    deposit,
    event,
    event_id,
    trade,
    withdrawal,
)
from tests.support.market import GOLD, INSTRUMENTS, KINDS, WEIGHTS, Market

from psm.domain.account import Account
from psm.domain.books import Books, restore_tables
from psm.domain.liquidation import liquidation_price
from psm.domain.money import negate
from psm.domain.positions import Position, entry_price
from psm.domain.snapshot import dump_account, dump_checkpoint, load_account, load_checkpoint
from psm.domain.valuation import state_hash

seeds = st.integers(0, 2**32)
TOLERANCE = Fraction(1, 10**25)
LONG = settings()
"""As many examples as the profile says."""
SLOW = settings(max_examples=settings().max_examples // 4)
"""For properties that fold every log more than once."""


def restored(books: Books) -> Books:
    """Return new books from snapshots and a checkpoint of all there is."""
    made = Books(partitions=books.partitions)
    restore_tables(made, load_checkpoint(dump_checkpoint(books, books.position, b"hash")).tables)
    for account in books.accounts.values():
        made.restore(load_account(dump_account(account, books.position, b"hash"))[0])
    made.position = books.position
    return made


def flow(account: Account, position: Position, price: Fraction) -> Fraction:
    """Return the position's value at `price`, as what closing it there would bring in."""
    instrument = position.instrument
    size, multiplier = Fraction(position.size), Fraction(instrument.multiplier)
    return size * multiplier * (-1 / price if instrument.inverse else price)


def close_to(found: Any, expected: Fraction, scale: Fraction = Fraction(1)) -> bool:
    """Whether two numbers agree to 1e-25 of the greatest amount involved."""
    size = max(abs(scale), abs(expected), Fraction(1))
    return abs(Fraction(found) - expected) <= TOLERANCE * size


@LONG
@given(seeds, st.sampled_from(sorted(KINDS)))
def test_realized_and_unrealized_are_cash_flow_and_value(seed: int, kind: str) -> None:
    """For every prefix: realized + unrealized = what fills moved + what is held, per symbol."""
    leave_out = ("adjusted", "settled", "split", "corrected", "refused", "gapped", "stubbed")
    author = Market(
        seed=seed, length=240, accounts=1, symbols=KINDS[kind], leave_out=leave_out
    ).author()
    log, most = Log(), Fraction(1)
    moved: dict[str, Fraction] = {}
    for sent in author.sent:
        seen = log.when(sent)
        body = msgspec.json.decode(sent.data)
        p = body["payload"]
        if body["event_type"] == "TradeExecuted" and seen.outcome == "applied":
            account = log.account("acc_000")
            position = account.positions[p["symbol"]]
            signed = Fraction(p["quantity"]) * (1 if p["side"] == "buy" else -1)
            base = position.instrument.base
            if p.get("commission_currency") == base and p["side"] == "buy":
                commission = Fraction(p["commission"])
                signed -= commission if commission < signed else 0  # it never arrived
            price, m = Fraction(p["price"]), Fraction(position.instrument.multiplier)
            value = signed * m * (-1 / price if position.instrument.inverse else price)
            moved[p["symbol"]] = moved.get(p["symbol"], Fraction(0)) - value
            most = max(most, abs(value))
        if "acc_000" not in log.books.accounts:
            continue
        account = log.account("acc_000")
        values = log.books.valuation(account).positions
        for symbol, position in account.positions.items():
            worth = Fraction(values[symbol].unrealized) if symbol in values else Fraction(0)
            held = Fraction(0)
            if symbol in values:
                held = flow(account, position, Fraction(values[symbol].price))
            total = Fraction(position.realized_pnl) + worth
            assert close_to(total, moved.get(symbol, Fraction(0)) + held, most), symbol


@LONG
@given(seeds)
def test_equity_is_cash_and_gains_converted(seed: int) -> None:
    """Equity is the cash and gains of every currency at its known rate; the rest is flagged."""
    log = Market(seed=seed, length=220).author().log
    for account in log.books.accounts.values():
        valuation = log.books.valuation(account)
        expected, missing = Fraction(0), False
        amounts = [(c, Fraction(v)) for c, v in account.cash.items() if v]
        for symbol, value in valuation.positions.items():
            made = account.positions[symbol].instrument
            side = 1 if account.positions[symbol].size > 0 else -1
            paid = made.kind in ("spot", "equity")
            amount = Fraction(value.notional) * side if paid else Fraction(value.unrealized)
            amounts.append((made.settle, amount))
        for currency, amount in amounts:
            rate = log.books.rate(account, currency)
            missing |= rate is None
            expected += amount * Fraction(rate or 0)
        assert valuation.equity is not None
        assert close_to(valuation.equity, expected)
        assert not missing or "rate_missing" in valuation.flags


@LONG
@given(seeds)
def test_cash_is_the_sum_of_its_ledger_entries(seed: int) -> None:
    """Per currency: cash = flows + income + what positions moved - fees, never unrealized PnL."""
    kinds = ("BTC-PERP", "ETH-FUT", "BTC-INV")  # what is fully paid moves its notional too
    author = Market(
        seed=seed, length=220, symbols=kinds, leave_out=("split", "adjusted", "corrected")
    ).author()
    income = ("deposits", "transfers", "adjustments", "interest", "dividends", "funding")
    for account in author.log.books.accounts.values():
        for currency, amount in account.cash.items():
            sums: dict[str, Decimal] = {
                n: v for (c, n), v in account.totals.items() if c == currency
            }
            expected = sum((Fraction(sums.get(name, 0)) for name in income), Fraction(0))
            expected += Fraction(sums.get("realized_pnl", 0))
            expected -= Fraction(sums.get("fees", 0)) + Fraction(sums.get("withdrawals", 0))
            assert Fraction(amount) == expected


@SLOW
@given(seeds)
def test_running_sums_equal_a_recomputation_at_every_step(seed: int) -> None:
    """After every message books restored from snapshots have the same valuation and hashes."""
    author = Market(seed=seed, length=200).author()
    log = Log()
    for number, sent in enumerate(author.sent):
        log.when(sent)
        if number % 5 and number < 150:
            continue
        fresh = restored(log.books)
        for stream, account in log.books.accounts.items():
            again = fresh.accounts[stream]
            one, other = log.books.valuation(account), fresh.valuation(again)
            assert one == other
            assert account.ledger_hash() == again.ledger_hash()
            hashed = state_hash(account, account.ledger_hash(), one)
            assert hashed == state_hash(again, again.ledger_hash(), other)
        held = [{s: sorted(h) for s, h in b.holders.items() if h} for b in (log.books, fresh)]
        assert held[0] == held[1]


@SLOW
@given(seeds, st.floats(0, 1))
def test_snapshot_and_tail_are_the_full_replay(seed: int, part: float) -> None:
    """Books restored at any point give the same updates, byte for byte, from there on."""
    author = Market(seed=seed, length=220).author()
    cut = int(part * len(author.sent))
    whole = Log()
    for sent in author.sent[:cut]:
        whole.when(sent)
    tail = Log(books=restored(whole.books))
    tail.messages = dict(whole.messages)
    before = len(whole.updates)
    for sent in author.sent[cut:]:
        whole.when(sent)
        tail.take(whole.messages[whole.books.position])
    assert [u.data for u in tail.updates] == [u.data for u in whole.updates[before:]]
    assert tail.end() == whole.end()


@LONG
@given(seeds)
def test_equity_is_the_maintenance_margin_at_the_liquidation_price(seed: int) -> None:
    """Marked at its liquidation price, every position's account has equity = maintenance."""
    log = Market(seed=seed, length=220).author().log
    for account in log.books.accounts.values():
        valuation = log.books.valuation(account)

        def rate(currency: str, account: Account = account) -> Decimal | None:
            return log.books.rate(account, currency)

        for symbol, value in valuation.positions.items():
            position = account.positions[symbol]
            price = liquidation_price(account, position, valuation, rate)
            if price is None:
                continue
            made = position.instrument
            size, m = Fraction(position.size), Fraction(made.multiplier)
            x = Fraction(price)
            notional = abs(size) * m * (1 / x if made.inverse else x)
            side = 1 if (size > 0) != made.inverse else -1
            converted = Fraction(rate(made.settle) or 0)
            gain = side * (notional - Fraction(value.notional)) * converted
            if notional > 10**40 or len(str(Decimal(notional.numerator))) > 400:
                continue
            exact = Decimal(notional.numerator) / Decimal(notional.denominator)
            own = _maintenance(notional, made.margin_tiers)
            others = Fraction(valuation.margin_maintenance or 0)
            others -= Fraction(value.margin_maintenance) * converted
            equity = Fraction(valuation.equity or 0) + gain
            assert exact > 0
            assert close_to(equity, others + own * converted, notional * converted)


def _maintenance(notional: Fraction, tiers: Any) -> Fraction:
    """The definition, in fractions: the rate applies to the part of the value in each tier."""
    total = Fraction(0)
    ordered = sorted(tiers, key=lambda tier: tier.notional_floor)
    for place, tier in enumerate(ordered):
        floor = Fraction(tier.notional_floor)
        top = Fraction(ordered[place + 1].notional_floor) if place + 1 < len(ordered) else notional
        if notional > floor:
            total += (min(notional, top) - floor) * Fraction(tier.maintenance_rate)
    return total


def ledger_of(log: Log, stream: str) -> dict[str, Any]:
    """Return what a correction must give back: cash, totals, positions, orders; no zeros."""
    account = log.account(stream)
    return {
        "cash": {c: v for c, v in account.cash.items() if v},
        "totals": {k: v for k, v in account.totals.items() if v},
        "positions": dict(account.positions),
        "orders": dict(account.orders),
    }


@SLOW
@given(seeds, st.integers(0, 10_000))
def test_a_busted_fill_leaves_the_books_without_it(seed: int, place: int) -> None:
    """fold(log + bust of x) = fold(log without x): cash, totals, positions, orders."""
    author = Market(
        seed=seed, length=210, accounts=1, leave_out=("refused", "gapped", "corrected")
    ).author()
    sent = author.sent
    fills = [n for n, s in enumerate(sent) if b'"TradeExecuted"' in s.data]
    if not fills:
        return
    chosen = fills[place % len(fills)]
    body = msgspec.json.decode(sent[chosen].data)
    full = _told(sent)
    number = full.account("acc_000").version + 1
    named = {"event_id": body["event_id"], "reason": "erroneous"}
    if not _applied(full, chosen):
        return
    seen = full.when(event("TradeBusted", named, number, stream="acc_000"))
    without = _told([s for n, s in enumerate(sent) if n != chosen], renumber=True)
    if seen.outcome == "refused":
        assert seen.reason in ("invalid_payload", "arithmetic")  # a split of an inverse position
        return
    if _refused(full) != _refused(without):  # outcomes are not revisited
        return
    assert ledger_of(full, "acc_000") == ledger_of(without, "acc_000")


def _refused(log: Log) -> int:
    return len(log.account("acc_000").refused)


def _applied(log: Log, place: int) -> bool:
    body = msgspec.json.decode(log.messages[place + 1].data)
    return body["sequence_number"] not in log.account(body["stream_id"]).refused


def _told(sent: list[Sent], *, renumber: bool = False) -> Log:
    """Fold messages; `renumber` closes the gap that a left-out one leaves."""
    log = Log()
    numbers: dict[str, int] = {}
    for message in sent:
        body = msgspec.json.decode(message.data)
        if renumber and message.subject.startswith("trades."):
            numbers[body["stream_id"]] = numbers.get(body["stream_id"], 0) + 1
            body["sequence_number"] = numbers[body["stream_id"]]
            message = msgspec.structs.replace(message, data=msgspec.json.encode(body))
        log.when(message)
    return log


@SLOW
@given(seeds, st.integers(2, 5))
def test_equal_parts_of_a_fill_are_the_fill(seed: int, parts: int) -> None:
    """Fills split into parts at one price leave the same sizes, costs, cash and totals."""
    quiet = ("refused", "gapped", "corrected", "ordered", "stubbed")
    author = Market(seed=seed, length=200, accounts=1, leave_out=quiet).author()
    whole, split, number = Log(), Log(), 0
    for sent in author.sent:
        whole.when(sent)
        body = msgspec.json.decode(sent.data)
        if not sent.subject.startswith("trades."):
            split.when(sent)
            continue
        pieces = [body["payload"]]
        if body["event_type"] == "TradeExecuted":
            pieces = _pieces(body["payload"], parts)
        for piece, payload in enumerate(pieces):
            number += 1
            payload.pop("fill_id", None)
            made = {**body, "sequence_number": number, "payload": payload}
            made["event_id"] = event_id("piece", number, piece)
            split.when(Sent(subject=sent.subject, data=msgspec.json.encode(made), at=sent.at))
    one, other = whole.account("acc_000"), split.account("acc_000")
    for symbol, position in one.positions.items():
        twin = other.positions[symbol]
        assert position.size == twin.size
        assert close_to(position.cost, Fraction(twin.cost))
        assert close_to(position.realized_pnl, Fraction(twin.realized_pnl))
        assert position.cycle == twin.cycle
    for currency, amount in one.cash.items():
        assert close_to(amount, Fraction(other.cash[currency]), Fraction(10**6))


def _pieces(payload: dict[str, Any], parts: int) -> list[dict[str, Any]]:
    """Split a fill's quantity and costs; the last part takes the remainder."""
    names = [n for n in ("quantity", "commission", "liquidation_fee") if n in payload]
    if Decimal(payload["quantity"]) * 1000 < parts:
        return [payload]
    made = [dict(payload) for _ in range(parts)]
    for name in names:
        total = Decimal(payload[name])
        part = (total / parts).quantize(Decimal("0.000001"))
        for piece in made[:-1]:
            piece[name] = format(part, "f")
        made[-1][name] = format(total - part * (parts - 1), "f")
    return made


@SLOW
@given(seeds)
def test_the_other_side_of_everything_gains_the_opposite(seed: int) -> None:
    """Flipping the side of every fill negates sizes, realized and unrealized PnL."""
    used = ("marked", "traded_alone")
    names = [n for _, n in WEIGHTS if n not in used]
    symbols = tuple(s for s in INSTRUMENTS if s != "BTCUSDT")  # fees in kind have a side
    author = Market(
        seed=seed, length=220, accounts=1, symbols=(*symbols, GOLD), leave_out=tuple(names)
    ).author()
    log, mirror = Log(), Log()
    for sent in author.sent:
        log.when(sent)
        body = msgspec.json.decode(sent.data)
        if body["event_type"] == "TradeExecuted":
            payload = body["payload"]
            payload["side"] = "sell" if payload["side"] == "buy" else "buy"
        mirror.when(Sent(subject=sent.subject, data=msgspec.json.encode(body), at=sent.at))
    one, other = log.account("acc_000"), mirror.account("acc_000")
    values, mirrored = log.books.valuation(one), mirror.books.valuation(other)
    for symbol, position in one.positions.items():
        twin = other.positions[symbol]
        assert (position.size, position.cost) == (negate(twin.size), twin.cost)
        assert position.realized_pnl == negate(twin.realized_pnl)
        assert entry_price(position) == entry_price(twin)
        if position.size:
            assert values.positions[symbol].unrealized == negate(
                mirrored.positions[symbol].unrealized
            )


@LONG
@given(seeds)
def test_transfers_conserve_the_sum_over_accounts(seed: int) -> None:
    """What left one account arrived in another: transfers add up to nothing per currency."""
    author = Market(seed=seed, length=220, accounts=3).author()
    sums: dict[str, Decimal] = {}
    for account in author.log.books.accounts.values():
        for (currency, name), amount in account.totals.items():
            if name == "transfers":
                sums[currency] = sums.get(currency, Decimal(0)) + amount
    assert not any(sums.values())


@LONG
@given(seeds, st.booleans())
def test_settlements_and_splits_leave_equity_unchanged(seed: int, splits: bool) -> None:
    """A session settlement at the mark, or a split, changes neither equity nor gross exposure."""
    author = Market(seed=seed, length=200, leave_out=("gapped",)).author()
    log = author.log
    for stream, account in log.books.accounts.items():
        if account.status != "open":
            continue
        for symbol, value in dict(log.books.valuation(account).positions).items():
            before = log.books.valuation(account)
            made = account.positions[symbol].instrument
            number = account.version + 1
            if splits and not made.inverse:
                seen = log.when(
                    event("SplitApplied", {"symbol": symbol, "ratio": "4"}, number, stream=stream)
                )
            elif not splits and made.kind not in ("spot", "equity"):
                price = log.books.valuation(account).positions[symbol].price
                if price != price.quantize(Decimal("1e-18")):  # no event could say it
                    continue
                payload = {"symbol": symbol, "settlement_price": format(price, "f")}
                payload["kind"] = "session"
                seen = log.when(event("PositionSettled", payload, number, stream=stream))
            else:
                continue
            assert seen.outcome == "applied", value
            after = log.books.valuation(account)
            assert close_to(after.equity, Fraction(before.equity or 0), Fraction(10**6))
            gross = Fraction(before.exposure_gross or 0)
            assert close_to(after.exposure_gross, gross, Fraction(10**6))


@SLOW
@given(seeds)
def test_repeating_everything_changes_nothing(seed: int) -> None:
    """Every account event twice: the second is a duplicate (or stale), hashes stay."""
    author = Market(seed=seed, length=200, leave_out=("refused",)).author()
    log = Log()
    for sent in author.sent:
        log.when(sent)
        if sent.subject.startswith("trades."):
            before = log.hashes()
            assert log.when(sent).outcome == "duplicate"
            assert log.hashes() == before


@LONG
@given(seeds)
def test_flows_neither_create_nor_hide_drawdown(seed: int) -> None:
    """A deposit or withdrawal that leaves equity positive keeps the drawdown."""
    log = Market(seed=seed, length=200, leave_out=("gapped",)).author().log
    for stream, account in log.books.accounts.items():
        before = log.state(stream)["drawdown"]
        equity = log.books.valuation(account).equity
        if before is None or equity is None or equity <= 1 or account.status != "open":
            continue
        log.when(deposit(account.version + 1, "777.7", stream=stream))
        log.when(withdrawal(account.version + 1, "778.2", stream=stream))
        moved = {"amount": "0.5", "transfer_id": "last"}
        log.when(event("TransferredOut", moved, account.version + 1, stream=stream))
        assert abs(Decimal(log.state(stream)["drawdown"]) - Decimal(before)) < Decimal("1e-17")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_closing_everything_at_its_mark_leaves_equity(kind: str) -> None:
    """Closing every position at the mark without fees changes no equity."""
    log = Market(seed=7, length=300, symbols=KINDS[kind], leave_out=("gapped",)).author().log
    for stream, account in log.books.accounts.items():
        before = log.books.valuation(account).equity
        assert before is not None
        for symbol, value in dict(log.books.valuation(account).positions).items():
            size = account.positions[symbol].size
            side = "sell" if size > 0 else "buy"
            price = format(value.price.quantize(Decimal("1e-18")), "f")
            log.when(
                trade(
                    account.version + 1, side, format(abs(size), "f"), price, symbol, stream=stream
                )
            )
        after = log.books.valuation(account)
        assert not after.positions
        assert abs(Fraction(after.equity or 0) - Fraction(before)) < Fraction(1, 10**9)


def test_the_market_writes_every_event_type() -> None:
    """The generator of this module leaves no event type out."""
    types = {
        msgspec.json.decode(s.data)["event_type"]
        for seed in range(4)
        for s in Market(seed=seed, length=600).author().sent
    }
    assert len(types) == 25
