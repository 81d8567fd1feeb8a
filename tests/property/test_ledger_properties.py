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
    mark,
    withdrawal,
)
from tests.support.market import GOLD, INSTRUMENTS, KINDS, WEIGHTS, Author, Market

from psm.contracts.position_keys import parts_of
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.ledger.positions import Position, entry_price
from psm.domain.money import negate
from psm.domain.snapshot import dump_account, dump_checkpoint, load_account, load_checkpoint
from psm.domain.valuation.liquidation import liquidation_price

seeds = st.integers(0, 2**32)
TOLERANCE = Fraction(1, 10**25)
LONG = settings()
"""As many examples as the profile says."""
SLOW = settings(max_examples=settings().max_examples // 4)
"""For properties that fold every log more than once."""


def restored(books: Books) -> Books:
    """Return new books from snapshots and a checkpoint of all there is."""
    made = Books(partitions=books.partitions)
    made.market.restore(load_checkpoint(dump_checkpoint(books, books.position, b"hash")).tables)
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
    leave_out = (
        *("adjusted", "settled", "split", "corrected", "refused", "gapped", "stubbed"),
        *("in_kind", "issued", "acted", "delivered", "exchanged"),
    )
    author = Market(
        seed=seed, length=240, accounts=1, symbols=KINDS[kind], leave_out=leave_out
    ).author()
    log, most = Log(), Fraction(1)
    moved: dict[str, Fraction] = {}
    for sent in author.sent:
        seen = log.when(sent)
        body = msgspec.json.decode(sent.data)
        p = body["payload"]
        held = body["event_type"] == "TradeExecuted" and seen.outcome == "applied"
        if held and p["symbol"] != "BTCUSDT":  # a pair is no position
            account = log.account("acc_000")
            held = account.ledger.positions.values()
            position = next(each for each in held if each.symbol == p["symbol"])
            signed = Fraction(p["quantity"]) * (1 if p["side"] == "buy" else -1)
            price, m = Fraction(p["price"]), Fraction(position.instrument.multiplier)
            value = signed * m * (-1 / price if position.instrument.inverse else price)
            moved[p["symbol"]] = moved.get(p["symbol"], Fraction(0)) - value
            most = max(most, abs(value))
        if "acc_000" not in log.books.accounts:
            continue
        account = log.account("acc_000")
        values = account.value().positions
        totals: dict[str, Fraction] = {}
        for key, position in account.ledger.positions.items():  # legs add up
            total = Fraction(position.realized_pnl)
            if key in values:
                total += Fraction(values[key].unrealized)
                total -= flow(account, position, Fraction(values[key].price))
            totals[position.symbol] = totals.get(position.symbol, Fraction(0)) + total
        for symbol, total in totals.items():
            assert close_to(total, moved.get(symbol, Fraction(0)), most), symbol


@LONG
@given(seeds)
def test_equity_is_cash_and_gains_converted(seed: int) -> None:
    """Equity is the cash and gains of every currency at its known rate; the rest is flagged."""
    log = Market(seed=seed, length=220).author().log
    for account in log.books.accounts.values():
        valuation = account.value()
        expected, missing = Fraction(0), False
        amounts = [(c, Fraction(v)) for c, v in account.ledger.cash.items() if v]
        for symbol, value in valuation.positions.items():
            made = account.ledger.positions[symbol].instrument
            side = 1 if account.ledger.positions[symbol].size > 0 else -1
            paid = made.full_notional
            amount = Fraction(value.notional) * side if paid else Fraction(value.unrealized)
            amounts.append((made.settle, amount))
        for currency, amount in amounts:
            rate = account.prices.rate(currency)
            missing |= rate is None
            expected += amount * Fraction(rate or 0)
        assert valuation.equity is not None
        assert close_to(valuation.equity, expected)
        assert not missing or "rate_missing" in valuation.flags


def accounted(account: Account) -> Fraction:
    """Return what equity has to be: the flows at cost, and all that was gained and lost since."""
    ledger, valuation = account.ledger, account.value()
    gained = (
        *("realized_pnl", "funding", "interest", "dividends", "adjustments"),
        "losses_covered",
    )
    total = Fraction(ledger.flows_cost()) - Fraction(valuation.unrated_cost)
    total += Fraction(valuation.unrealized_pnl or 0)
    for name in gained:
        total += Fraction(ledger.total(name))  # type: ignore[arg-type]
    for name in ("fees", "liquidation_fees", "taxes"):
        total -= Fraction(ledger.total(name))  # type: ignore[arg-type]
    return total


@LONG
@given(seeds)
def test_equity_is_all_that_came_at_cost_and_what_was_gained(seed: int) -> None:
    """Exactly, after every message, of coins, foreign shares and what has no rate too."""
    author = Market(seed=seed, length=220).author()
    log = Log()
    for sent in author.sent:
        log.when(sent)
        for account in log.books.accounts.values():
            equity = account.value().equity
            assert equity is not None
            assert Fraction(equity) == accounted(account)


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
            one, other = account.value(), again.value()
            assert one == other
            assert account.ledger_hash() == again.ledger_hash()
            hashed = account.valuation.hash(account.ledger_hash(), one)
            assert hashed == again.valuation.hash(again.ledger_hash(), other)
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
def test_collateral_is_the_maintenance_margin_at_the_liquidation_price(seed: int) -> None:
    """Marked at its liquidation price, an account has collateral = maintenance margin."""
    log = Market(seed=seed, length=220, leave_out=("moded", "isolated")).author().log
    for account in log.books.accounts.values():
        valuation = account.value()
        for symbol, value in valuation.positions.items():
            position = account.ledger.positions[symbol]
            prices, rates = account.prices, account.valuation.rates
            price = liquidation_price(account.ledger, position, valuation, prices, rates)
            if price is None or _rates_something(account, position.symbol):
                continue  # what moves with its mark has tests of its own
            made = position.instrument
            size, m = Fraction(position.size), Fraction(made.multiplier)
            x = Fraction(price)
            notional = abs(size) * m * (1 / x if made.inverse else x)
            side = 1 if (size > 0) != made.inverse else -1
            converted = Fraction(account.prices.rate(made.settle) or 0)
            gain = side * (notional - Fraction(value.notional)) * converted
            if notional > 10**40 or len(str(Decimal(notional.numerator))) > 400:
                continue
            exact = Decimal(notional.numerator) / Decimal(notional.denominator)
            own = _maintenance(notional, made.margin_tiers)
            others = Fraction(valuation.margin_maintenance or 0)
            others -= Fraction(value.margin_maintenance) * converted
            equity = Fraction(valuation.collateral) + gain
            assert exact > 0
            assert close_to(equity, others + own * converted, notional * converted)


def _rates_something(account: Account, symbol: str) -> bool:
    """Return whether a symbol's mark is a step of the rate of what the account has."""
    prices = account.prices
    steps = [step for asset in prices.counted_assets() for step in prices.rate_steps(asset)]
    return any(step.symbol == symbol for step in steps)


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
        "cash": {c: v for c, v in account.ledger.cash.items() if v},
        "totals": {k: v for k, v in account.ledger.totals.items() if v},
        "positions": dict(account.ledger.positions),
        "orders": dict(account.ledger.orders.by_id),
    }


@SLOW
@given(seeds, st.integers(0, 10_000))
def test_a_busted_fill_leaves_the_books_without_it(seed: int, place: int) -> None:
    """fold(log + bust of x) = fold(log without x), in every figure, peak and warnings included."""
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
    number = full.account("acc_000").delivery.version + 1
    named = {"event_id": body["event_id"], "reason": "erroneous"}
    if not _applied(full, chosen):
        return
    seen = full.when(event("TradeBusted", named, number, stream="acc_000"))
    without = _told([s for n, s in enumerate(sent) if n != chosen], renumber=True)
    assert seen.outcome == "applied"
    if _refused(full) != _refused(without):  # outcomes are not revisited
        return
    if "void_in_correction" in seen.result.placements[-1].flags:
        # A stated size that never fitted is taken when it comes, and cut in a corrected past.
        assert any(b'"quantity_after"' in message.data for message in sent)
        return
    assert ledger_of(full, "acc_000") == ledger_of(without, "acc_000")
    assert figures_of(full, "acc_000") == figures_of(without, "acc_000")
    _goes_on_alike(full, without, author)


def _goes_on_alike(full: Log, without: Log, author: Author) -> None:
    """Whatever comes later moves both alike: nothing that counts was left behind."""
    for symbol in author.market.symbols:
        for log in (full, without):
            known = log.books.market.marks.get(symbol)
            number = 1 if known is None else known.sequence_number + 1
            price = format(author.prices[symbol] * 2, "f")
            log.when(mark(number, price, symbol, at=author.time + 1))
        assert figures_of(full, "acc_000") == figures_of(without, "acc_000")


_OF_THE_LOG = (
    "sequence_number", "log_sequence", "event_hash", "chain_hash", "ledger_hash", "state_hash",
)  # fmt: skip


def figures_of(log: Log, stream: str) -> dict[str, Any]:
    """Return every figure of an account, and what is remembered of its past."""
    account = log.account(stream)
    document = log.state(stream)
    figures = {name: value for name, value in document.items() if name not in _OF_THE_LOG}
    figures["warned"], figures["splits"] = account.valuation.warned, account.ledger.splits
    figures["performance"] = account.valuation.performance
    cash = {c: v for c, v in document["cash"].items() if v != "0"}
    for position in document["positions"].values():
        del position["mark_log_sequence"]
    return {**figures, "cash": cash}


def _refused(log: Log) -> set[str]:
    """Return the ids of the events that were refused: other ones have other numbers."""
    numbers = log.account("acc_000").delivery.refused
    own = [m for m in log.messages.values() if m.stream_id == "acc_000"]
    bodies = [msgspec.json.decode(message.data) for message in own]
    return {body["event_id"] for body in bodies if body.get("sequence_number") in numbers}


def _applied(log: Log, place: int) -> bool:
    body = msgspec.json.decode(log.messages[place + 1].data)
    return body["sequence_number"] not in log.account(body["stream_id"]).delivery.refused


def _told(sent: list[Sent], *, renumber: bool = False) -> Log:
    """Fold messages; `renumber` closes the gap that a left-out one leaves."""
    log = Log()
    numbers: dict[str, dict[int, int]] = {}
    for message in sent:
        body = msgspec.json.decode(message.data)
        was = body.get("sequence_number")
        if renumber and was is not None and message.subject.startswith("trades."):
            known = numbers.setdefault(body["stream_id"], {})
            body["sequence_number"] = known.setdefault(was, len(known) + 1)  # a repeat has its own
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
        body = msgspec.json.decode(sent.data)
        if "sequence_number" not in body or not sent.subject.startswith("trades."):
            whole.when(sent)
            split.when(sent)
            continue
        body["payload"].pop("fill_id", None)  # a repeat is no fill, a part of one has no id
        whole.when(msgspec.structs.replace(sent, data=msgspec.json.encode(body)))
        pieces = [body["payload"]]
        if body["event_type"] == "TradeExecuted":
            pieces = _pieces(body["payload"], parts)
        for piece, payload in enumerate(pieces):
            number += 1
            made = {**body, "sequence_number": number, "payload": payload}
            made["event_id"] = event_id("piece", number, piece)
            split.when(Sent(subject=sent.subject, data=msgspec.json.encode(made), at=sent.at))
    one, other = whole.account("acc_000"), split.account("acc_000")
    for symbol, position in one.ledger.positions.items():
        twin = other.ledger.positions[symbol]
        assert position.size == twin.size
        assert close_to(position.cost, Fraction(twin.cost))
        assert close_to(position.realized_pnl, Fraction(twin.realized_pnl))
        assert position.cycle == twin.cycle
    for currency, amount in one.ledger.cash.items():
        assert close_to(amount, Fraction(other.ledger.cash[currency]), Fraction(10**6))


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
    values, mirrored = one.value(), other.value()
    for symbol, position in one.ledger.positions.items():
        twin = other.ledger.positions[symbol]
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
    """What left one account arrived in another: quantities add up to nothing per asset."""
    alone = ("reversed", "in_kind")  # one side of it is elsewhere
    author = Market(seed=seed, length=220, accounts=3, leave_out=alone).author()
    log, sums = Log(), dict[str, Decimal]()
    for sent in author.sent:
        body = msgspec.json.decode(sent.data)
        stream = body["stream_id"]
        known = log.books.accounts.get(stream)
        before = dict(known.ledger.cash) if known else {}
        seen = log.when(sent)
        if not body["event_type"].startswith("Transferred") or seen.outcome != "applied":
            continue
        for asset, amount in log.account(stream).ledger.cash.items():
            change = amount - before.get(asset, Decimal(0))
            sums[asset] = sums.get(asset, Decimal(0)) + change
    assert not any(sums.values())


@LONG
@given(seeds, st.booleans())
def test_settlements_and_splits_leave_equity_unchanged(seed: int, splits: bool) -> None:
    """A session settlement at the mark, or a split, changes neither equity nor gross exposure."""
    author = Market(seed=seed, length=200, leave_out=("gapped",)).author()
    log = author.log
    for stream, account in log.books.accounts.items():
        if account.delivery.status != "open":
            continue
        for symbol, value in dict(account.value().positions).items():
            before = account.value()
            made = account.ledger.positions[symbol].instrument
            number, named = account.delivery.version + 1, named_by(symbol)
            if made.kind == "linear_perp" and "rate_from_derivative" in before.ledger_flags:
                continue  # its mark may be a currency's rate, which is of old units after a split
            if splits and not made.inverse:
                seen = log.when(
                    event("SplitApplied", {**named, "ratio": "4"}, number, stream=stream)
                )
            elif not splits and made.kind not in ("spot", "equity", "option"):
                price = account.value().positions[symbol].price
                if price != price.quantize(Decimal("1e-18")):  # no event could say it
                    continue
                payload = {**named, "settlement_price": format(price, "f"), "kind": "session"}
                seen = log.when(event("PositionSettled", payload, number, stream=stream))
            else:
                continue
            assert seen.outcome == "applied", value
            after = account.value()
            assert close_to(after.equity, Fraction(before.equity or 0), Fraction(10**6))
            notional = after.positions[symbol].notional
            assert close_to(notional, Fraction(value.notional), Fraction(10**6))


def named_by(key: str) -> dict[str, str]:
    """Return how an event names the position with this key."""
    symbol, leg = parts_of(key)
    return {"symbol": symbol} if leg == "net" else {"symbol": symbol, "position_side": leg}


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
        equity = account.value().equity
        if before is None or equity is None or equity <= 1 or account.delivery.status != "open":
            continue
        log.when(deposit(account.delivery.version + 1, "777.7", stream=stream))
        log.when(withdrawal(account.delivery.version + 1, "778.2", stream=stream))
        moved = {"amount": "0.5", "transfer_id": "last"}
        log.when(event("TransferredOut", moved, account.delivery.version + 1, stream=stream))
        assert abs(Decimal(log.state(stream)["drawdown"]) - Decimal(before)) < Decimal("1e-17")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_closing_everything_at_its_mark_leaves_equity(kind: str) -> None:
    """Closing every position at the mark without fees changes no equity."""
    log = Market(seed=7, length=300, symbols=KINDS[kind], leave_out=("gapped",)).author().log
    for stream, account in log.books.accounts.items():
        before = account.value().equity
        assert before is not None
        for symbol, value in dict(account.value().positions).items():
            size = account.ledger.positions[symbol].size
            side = "sell" if size > 0 else "buy"
            price = format(value.price.quantize(Decimal("1e-18")), "f")
            log.when(
                event(
                    "TradeExecuted",
                    {
                        **named_by(symbol),
                        "side": side,
                        "quantity": format(abs(size), "f"),
                        "price": price,
                    },
                    account.delivery.version + 1,
                    stream=stream,
                )
            )
        after = account.value()
        assert not after.positions
        assert abs(Fraction(after.equity or 0) - Fraction(before)) < Fraction(1, 10**9)


def test_the_market_writes_every_event_type() -> None:
    """The generator of this module leaves no event type out."""
    types = {
        msgspec.json.decode(s.data)["event_type"]
        for seed in range(4)
        for s in Market(seed=seed, length=600).author().sent
    }
    assert len(types) == 45
