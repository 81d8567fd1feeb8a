"""Properties of the engine on random logs of accounts, marks, rules and orders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.risk_log import ACCOUNT, GROUP, RiskLog, payload_of

from psm.risk.engine import Slot

FEWER = settings(max_examples=max(10, settings().max_examples // 8))
ACCOUNTS = (ACCOUNT, "acc_2")
SYMBOLS = ("BTC-PERP", "ETH-PERP")
LOT = Decimal("0.5")

shares = st.integers(0, 40).map(lambda n: str(Decimal(n) / 10))
limits = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ("leverage", "exposure_symbol", "exposure_gross", "exposure_net", "available_margin"),
            shares,
        ),
        "max_order_quantity": st.integers(1, 60).map(str),
        "max_order_notional": st.integers(1, 6000).map(str),
        "open_orders_notional": st.integers(1, 9000).map(str),
        "notional_period": st.integers(1, 9000).map(str),
        "open_orders_count": st.integers(1, 6),
        "order_rate": st.integers(1, 6),
        "concentration": st.integers(1, 10).map(lambda n: str(Decimal(n) / 10)),
        "daily_loss": st.integers(1, 10).map(lambda n: str(Decimal(n) / 100)),
        "drawdown": st.integers(1, 20).map(lambda n: str(Decimal(n) / 100)),
        "cooldown": st.integers(1, 60),
        "loss_streak": st.integers(1, 4),
        "duplicate_order": st.integers(1, 5),
    },
)
sides = st.sampled_from(["buy", "sell"])
accounts = st.sampled_from(ACCOUNTS)
symbols = st.sampled_from(SYMBOLS)
quantities = st.integers(1, 120).map(lambda n: str(LOT * n))
steps = st.one_of(
    st.tuples(st.just("order"), accounts, symbols, sides, quantities, st.booleans()),
    st.tuples(st.just("order"), accounts, symbols, sides, quantities, st.booleans()),
    st.tuples(st.just("trade"), accounts, symbols, sides, quantities),
    st.tuples(st.just("mark"), symbols, st.integers(60, 140).map(str)),
    st.tuples(st.just("cash"), accounts, st.sampled_from(["1000", "5000"])),
    st.tuples(st.just("show")),
    st.tuples(st.just("wait"), st.sampled_from([1, 31, 86_400])),
)
runs = st.lists(steps, min_size=4, max_size=16)


class Run:
    """A log that a list of steps made, with every decision."""

    def __init__(self, limits: dict[str, Any], run: list[Any], **log: Any) -> None:
        self.log = RiskLog(limits, accounts=ACCOUNTS, **log)
        self.log.instrument("ETH-PERP", quantity_increment=str(LOT))
        self.log.mark("ETH-PERP", "50")
        self.decisions: list[dict[str, Any]] = []
        for step in run:
            self.step(*step)

    def step(self, kind: str, *what: Any) -> None:
        log = self.log
        match (kind, *what):
            case ("order", account, symbol, side, quantity, reduces):
                more = {"on_limit": "reduce"} if reduces else {}
                self.decisions.append(
                    log.order(side, quantity, account_id=account, symbol=symbol, **more)
                )
            case ("trade", account, symbol, side, quantity):
                log.trade(side, quantity, "100", symbol, account)
            case ("mark", symbol, price):
                log.mark(symbol, price)
            case ("cash", account, amount):
                log.event(account, "CashDeposited", amount=amount, currency="USDT")
            case ("show",):
                self.show()
            case ("wait", seconds):
                log.wait(seconds)
                for symbol in SYMBOLS:
                    log.mark(symbol, "100")

    def show(self) -> None:
        """Let the venue accept the last approved order."""
        for decision in reversed(self.decisions):
            if decision["decision"] != "rejected":
                self.log.shows(
                    decision["order_id"], symbol=decision["symbol"], side=decision["side"],
                    quantity=decision["approved_quantity"], account=decision["account_id"],
                )  # fmt: skip
                return


@FEWER
@given(limits, runs)
def test_a_checkpoint_and_what_was_recorded_are_the_uninterrupted_slot(
    rules: dict[str, Any], run: list[Any]
) -> None:
    """Its memory, bytes and all; then both go on alike."""
    made = Run(rules, run[: len(run) // 2])
    log = made.log
    checkpoint, start = log.slot.checkpoint(), len(log.outputs)
    for step in run[len(run) // 2 :]:
        made.step(*step)
    made.step("order", ACCOUNT, "BTC-PERP", "buy", "1", False)
    again = Slot.restored(checkpoint)
    assert again.checkpoint() == checkpoint
    for output in log.outputs[start:]:
        again.take_recorded(output)
    assert again.state_hash() == log.slot.state_hash()
    assert again.checkpoint() == log.slot.checkpoint()
    before = log.outputs[-1]
    log.restart(again)
    made.step("order", ACCOUNT, "ETH-PERP", "sell", "1", False)
    assert payload_of(log.outputs[-1])["n"] > payload_of(before)["n"]


@FEWER
@given(limits, runs)
def test_the_same_lines_make_the_same_records(rules: dict[str, Any], run: list[Any]) -> None:
    """Whatever was remembered between, and numbered without a hole."""
    log = Run(rules, run).log
    assert log.again() == log.outputs
    assert [payload_of(o)["n"] for o in log.outputs] == [*range(1, len(log.outputs) + 1)]
    assert all(len(o.data) <= 16 * 1024 for o in log.outputs)


@FEWER
@given(limits, runs, accounts, symbols)
def test_closing_is_never_refused_for_size_loss_or_drawdown(
    rules: dict[str, Any], run: list[Any], account: str, symbol: str
) -> None:
    """Only hard checks and the order's own size speak up to the room."""
    hard = ("max_order_quantity", "max_order_notional", "notional_period", "open_orders_count",
            "order_rate", "duplicate_order")  # fmt: skip
    made = Run({name: v for name, v in rules.items() if name not in hard}, run)
    made.log.mark(symbol, "100")
    probe = made.log.order("sell", "0.5", account_id=account, symbol=symbol)
    other = made.log.order("buy", "0.5", account_id=account, symbol=symbol)
    for decision in (probe, other):
        if Decimal(decision.get("reducing_room", "0")) >= LOT:
            assert decision["decision"] == "approved", decision


@FEWER
@given(limits, runs, sides, quantities, st.integers(1, 20))
def test_less_of_what_is_approved_is_approved(
    rules: dict[str, Any], run: list[Any], side: str, quantity: str, lots: int
) -> None:
    """Asked without changing anything."""
    made = Run(rules, run)
    most = Decimal(dry(made.log, side, quantity)["max_quantity"])
    smaller = most - LOT * lots
    if smaller > 0:
        assert dry(made.log, side, str(smaller))["decision"] == "approved"


@FEWER
@given(limits, runs, sides)
def test_trying_every_lot_finds_the_same_quantity(
    rules: dict[str, Any], run: list[Any], side: str
) -> None:
    """What is approved is every quantity up to the one that is found by halving."""
    made = Run(rules, run)
    made.log.instrument("BTC-PERP", quantity_increment="10")
    made.log.mark("BTC-PERP", "100")
    most = Decimal(dry(made.log, side, "300")["max_quantity"])
    for lots in range(1, 31):
        approved = dry(made.log, side, str(10 * lots))["decision"] == "approved"
        assert approved == (10 * lots <= most)


@FEWER
@given(limits, runs, sides, quantities, st.sampled_from(["account", "firm"]), limits)
def test_a_further_scope_never_allows_more(
    rules: dict[str, Any],
    run: list[Any],
    side: str,
    quantity: str,
    scope: str,
    tighter: dict[str, Any],
) -> None:
    """The tightest of all scopes wins."""
    made = Run(rules, run)
    before = Decimal(dry(made.log, side, quantity)["max_quantity"])
    made.log.limits(tighter, scope, ACCOUNT)
    assert Decimal(dry(made.log, side, quantity)["max_quantity"]) <= before


@FEWER
@given(runs)
def test_a_group_is_the_sum_of_its_members(run: list[Any]) -> None:
    """Line by line kept up to date, against everything added up anew."""
    log = Run({}, run).log
    state = log.slot._members.groups[GROUP]
    gross = net = equity = Fraction(0)
    for account in ACCOUNTS:
        books = log.folder.books
        member = books.accounts[account]
        for symbol in SYMBOLS:
            mark = Fraction(books.market.marks[symbol].price)
            position = member.ledger.positions.get(symbol)
            size = Fraction(position.size) if position else Fraction(0)
            line = state.line(account, symbol)
            assert Fraction(line.size) == size
            low = (size - Fraction(line.sells)) * mark
            high = (size + Fraction(line.buys)) * mark
            gross += max(abs(low), abs(high))
            net += high
        equity += Fraction(member.equity() or 0)
    assert Fraction(state.lines.sums.of(("gross", ""))) == gross
    assert Fraction(state.lines.sums.of(("high", ""))) == net
    total = state.total()
    assert total is not None
    assert Fraction(total.equity) == equity


@pytest.mark.parametrize("seed", ["1", "2"])
def test_hash_seeds_change_nothing(tmp_path: Path, seed: str) -> None:
    """The order of no set and no dict of ours follows from the interpreter's."""
    log = RiskLog({"exposure_symbol": "2", "daily_loss": "0.05"}, accounts=ACCOUNTS)
    log.order("buy", "10", strategy_id="s1")
    log.trade("buy", "50", "100")
    log.mark("BTC-PERP", "80")
    log.order("sell", "10")
    file = tmp_path / "log.jsonl"
    file.write_bytes(b"\n".join(log.lines))
    command = [sys.executable, "-m", "psm.workers.cli", "risk", "fold", "--all", str(file)]
    printed = subprocess.run(
        command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed}
    ).stdout
    told = [json.loads(line) for line in printed.splitlines()]
    assert told == [{"kind": o.kind, "key": o.key, **payload_of(o)} for o in log.outputs]


def dry(log: RiskLog, side: str, quantity: str) -> dict[str, Any]:
    """Return the decision that an order would get."""
    body = log.body("order_request", ACCOUNT, side=side, quantity=quantity)
    (found,) = log.slot.decide(log.stored(body), dry_run=True)
    decision = payload_of(found)
    decision.setdefault("max_quantity", "0")
    return decision
