"""Make golden logs of orders: every check at its border, latches, halts, moves, replaced orders.

`python -m tests.support.make_golden_risk [NAME ...]` writes all, or those, to
tests/replay/golden_risk, with a print of every record. It is for new logs: what a released engine
decided is never recorded anew.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.risk_log import ACCOUNT, GROUP, RiskLog
from tests.support.rules import ADA

from psm.workers.proof.risk.offline import RecordedRisk

FOLDER = Path(__file__).parent.parent / "replay" / "golden_risk"
PRINTS = FOLDER / "prints.json"
PRINT_LENGTH = 16
PARTITIONS = 16
LOT = Decimal("0.1")
OTHER = "acc_2"
PERP = "ETH-PERP"
SIZES: tuple[dict[str, Any], ...] = (
    {"max_order_quantity": "5"},
    {"max_order_notional": "512.34"},
    {"risk_per_trade": "0.0101", "fee_rate": "0.0005"},
    {"available_margin": "0.9"},
    {"leverage": "2"},
    {"exposure_symbol": "1.01"},
    {"exposure_gross": "1.5"},
    {"exposure_net": "1.2"},
    {"exposure_currency": "1.3"},
    {"exposure_sector": "1.1", "hedge_credit": "0.5"},
    {"exposure_cluster": "1.1", "hedge_credit": "1"},
    {"open_orders_notional": "2000"},
    {"concentration": "0.6", "exposure_gross": "3"},
    {"notional_period": "30000", "notional_period_seconds": 600},
)
HARD: tuple[tuple[dict[str, Any], tuple[dict[str, Any], ...]], ...] = (
    (
        {"price_collar": "0.1"},
        (
            {"side": "buy", "type": "limit", "price": "110"},
            {"side": "buy", "type": "limit", "price": "110.01"},
            {"side": "sell", "type": "limit", "price": "90"},
            {"side": "sell", "type": "limit", "price": "89.99"},
            {"side": "buy", "type": "stop", "stop_price": "99"},
            {"side": "buy", "type": "stop", "stop_price": "101"},
        ),
    ),
    (
        {"price_collar": "0.1", "price_collar_passive": "0.2"},
        (
            {"side": "buy", "type": "limit", "price": "80"},
            {"side": "buy", "type": "limit", "price": "79.99"},
            {"side": "sell", "type": "limit", "price": "120"},
            {"side": "sell", "type": "limit", "price": "120.01"},
        ),
    ),
    (
        {"collar_period": "0.1"},
        (
            {"side": "buy", "type": "limit", "price": "110"},
            {"side": "buy", "type": "limit", "price": "110.1"},
            {"side": "sell", "type": "limit", "price": "90"},
            {"side": "sell", "type": "limit", "price": "89.9"},
        ),
    ),
    ({"stop_required": True}, ({"side": "buy"}, {"side": "buy", "stop_loss": "90"})),
    ({"mark_age": 4}, ({"side": "buy"}, {"side": "sell"}, {"side": "buy"}, {"side": "sell"})),
    (
        {},
        (
            {"side": "buy", "symbol": "NOBODYS"},
            {"side": "buy", "expires_at": "2026-11-30T00:00:00Z"},
            {"side": "buy", "expires_at": "2027-12-02T00:00:00Z"},
            {"side": "buy", "expects": {ACCOUNT: 2}},
            {"side": "buy", "expects": {ACCOUNT: 3000}},
            {"side": "up"},
            {"side": "buy", "quantity": "0.15"},
            {"side": "buy", "symbol": PERP, "quantity": "1.3"},
            {"side": "buy", "symbol": PERP, "type": "limit", "price": "30.2", "quantity": "1.5"},
            {"side": "sell", "reduce_only": True},
        ),
    ),
)


class GoldenLog(RiskLog):
    """A log with two accounts, two symbols, tags and clusters."""

    def __init__(self, limits: dict[str, Any] | None = None) -> None:
        super().__init__(limits, accounts=(ACCOUNT, OTHER), deposit="10000")
        self.instrument(PERP, quantity_increment="0.5", price_increment="0.25")
        self.mark(PERP, "30")
        both, tags = ["BTC-PERP", PERP], {"sector": "layer1", "currency": "CRYPTO"}
        self.both("TagsDefined", name="all", tags={"BTC-PERP": tags, PERP: tags})
        self.say(
            ADA, "ClustersDefined", version=1, as_of_day="2026-11-30", window=90, symbols=both,
            clusters={"BTC-PERP": both}, beta={}, sigma={}, matrix_hash="0" * 64,
            returns_hash="0" * 64, code="1", shrinkage="0.1",
        )  # fmt: skip

    def fresh(self) -> None:
        """Mark both symbols again."""
        self.mark("BTC-PERP", "100")
        self.mark(PERP, "30")

    def end(self, decision: dict[str, Any], account: str = ACCOUNT) -> None:
        """Let the venue show an approved order, and cancel it."""
        if decision["decision"] != "rejected":
            order_id = decision["order_id"]
            self.shows(order_id, account=account, quantity=decision["approved_quantity"])
            self.event(account, "OrderCancelled", order_id=order_id)

    def border(self, side: str, **more: Any) -> None:
        """Ask for far too much, for what is just allowed, and for a lot beyond it."""
        most = Decimal(self.order(side, "90000", **more)["max_quantity"])
        self.fresh()
        if most:
            self.end(self.order(side, f"{most:f}", **more))
        self.order(side, f"{most + LOT:f}", **more)
        self.end(self.order(side, f"{most + LOT:f}", on_limit="reduce", **more))
        self.order(side, f"{most + LOT:f}", reduce_only=True, on_limit="reduce", **more)
        self.fresh()


def sizes(limits: dict[str, Any]) -> GoldenLog:
    """One size check at its border: flat, long, short; market, limit, with a stop; two scopes."""
    log = GoldenLog(limits)
    log.instrument("BTC-PERP", quantity_increment="0.1")
    for position in ("", "buy", "sell"):
        if position:
            size = "40" if position == "buy" else "95"
            log.trade(position, size, "100")
        for side, stop in (("buy", "90"), ("sell", "112")):
            log.border(side, stop_loss=stop)
            log.border(side, stop_loss=stop, type="limit", price="101.5")
    log.limits({**limits, "on_limit": "reduce"}, "account", ACCOUNT)
    log.border("buy", stop_loss="80", strategy_id="s1")
    return log


def hard() -> GoldenLog:
    """Every hard check that looks at one order alone."""
    log = GoldenLog({})
    log.instrument("BTC-PERP", quantity_increment="0.1")
    for limits, orders in HARD:
        for position in ("buy", "sell"):
            log.limits(limits)
            log.wait(61)
            log.fresh()
            for order in orders:
                more = dict(order)
                log.end(log.order(more.pop("side"), more.pop("quantity", "1"), **more))
            log.trade(position, "3", "100")
    return log


def counts() -> GoldenLog:
    """Rates, repetitions, duplicates, counts of orders, in windows that begin and end."""
    log = GoldenLog({})
    mine = {"strategy_id": "s1"}
    for limits in (
        {"order_rate": 2, "order_rate_seconds": 20},
        {"message_rate": 3, "message_rate_seconds": 20},
        {"duplicate_order": 8},
        {"open_orders_count": 4},
        {"repeated_execution": 3},
        {"self_cross": True},
    ):
        log.limits(limits)
        log.fresh()
        for round_ in range(3):
            asked = []
            for side, price in (("buy", "100"), ("buy", "100"), ("sell", "100"), ("buy", "99")):
                order = {"type": "limit", "price": price, **mine}
                asked.append(log.order(side, "1", **order))
                log.order(side, "1", account_id=OTHER, **order)
            log.request("cancel_request", {"account_id": ACCOUNT, "order_id": "o1"})
            log.wait(19 + round_)
            log.fresh()
            for decision in asked:
                log.end(decision)
        log.say(ADA, "StrategyEnabled", strategy_id="s1")
    for quantity in ("1", "1", "2"):
        log.order("buy", quantity, order_id="same")
    return log


def losses() -> GoldenLog:
    """Daily loss, drawdown, streaks, cooldown: at the cap, latched, lifted, the day after."""
    log = GoldenLog({})
    log.trade("buy", "50", "100")
    for limits in (
        {"daily_loss": "0.05", "cooldown": 30},
        {"daily_loss_money": "1200", "daily_loss_basis": "total"},
        {"daily_loss": "0.02", "daily_loss_basis": "realized", "daily_loss_sticky": True},
        {"drawdown": "0.04"},
        {"loss_streak": 2},
    ):
        log.limits(limits)
        for price in ("95", "90.02", "90", "89.98", "85", "80", "75", "99", "101"):
            log.mark("BTC-PERP", price)
            log.order("buy", "1")
            log.order("sell", "1")
            log.order("sell", "60", on_limit="reduce")
            log.order("buy", "1", account_id=OTHER)
            log.trade("sell", "1", price)
            log.trade("buy", "1", price)
        lift(log)
        log.order("buy", "1")
        log.wait(24 * 3600)
        log.fresh()
        log.order("buy", "1")
        for price in ("99", "98", "97", "101"):
            log.trade("buy", "1", "100", account=OTHER)
            log.trade("sell", "1", price, account=OTHER)
            log.order("buy", "1", account_id=OTHER)
        log.wait(31)
        log.fresh()
        log.order("buy", "1")
    return log


def lift(log: GoldenLog) -> None:
    """Let two persons lift whatever the engine latched."""
    for output in [one for one in log.outputs if one.kind == "halt"][-3:]:
        hashed = hashlib.sha256(output.data).hexdigest()
        payload = json.loads(output.data)["payload"]
        scope, _, name = payload["scope"].partition(":")
        log.both("HaltLifted", scope=scope, id=name, halt_hash=hashed, rebase_peak=True)


def people() -> GoldenLog:
    """Halts, lists, sessions, overrides, scopes, accounts that move, orders that are changed."""
    log = GoldenLog({"exposure_symbol": "1", "exposure_gross": "2"})
    for scope, name in (("firm", "firm"), ("group", GROUP), ("account", ACCOUNT),
                        ("symbol", "BTC-PERP"), ("strategy", "s1")):  # fmt: skip
        for mode in ("reducing", "halted"):
            log.fresh()
            log.say(ADA, "HaltSet", scope=scope, id=name, mode=mode)
            set_hash = hashlib.sha256(log.rules.log[-1].data).hexdigest()
            for side in ("buy", "sell"):
                log.order(side, "1", strategy_id="s1")
                log.order(side, "1", account_id=OTHER)
            log.both("HaltLifted", scope=scope, id=name, halt_hash=set_hash)
            log.order("buy", "1", strategy_id="s1")
        log.limits({"exposure_symbol": "0.5"}, scope, name)
        log.border("sell", strategy_id="s1")
    log.say(ADA, "ListDefined", name="no", kind="restricted", symbols=[PERP], side="buy")
    log.order("buy", "1", symbol=PERP)
    log.order("sell", "1", symbol=PERP)
    log.fresh()
    open_ = log.order("buy", "2", type="limit", price="99")
    for quantity in ("3", "2.5", "900", "1"):
        change = {"account_id": ACCOUNT, "order_id": open_["order_id"], "quantity": quantity}
        log.request("replace_request", change)
        if quantity == "2.5":
            log.shows(open_["order_id"], quantity="3", price="99")
    log.both("GroupDefined", group=GROUP, members=[ACCOUNT], currency="USDT")
    log.both("GroupDefined", group="other", members=[OTHER], currency="USDT")
    log.order("buy", "1", account_id=OTHER)
    log.order("buy", "1")
    windows = [{"day": "tue", "opens": "08:00", "closes": "16:00"}]
    log.say(ADA, "SessionsDefined", name="day", windows=windows)
    for hours in (0, 8, 16, 24):
        log.wait(hours * 3600)
        log.fresh()
        log.order("buy", "1")
    late = log._envelope(ACCOUNT, "CashDeposited", {"amount": "1", "currency": "USDT"}, 9999)
    log.line(f"trades.{ACCOUNT}", late)
    log.order("buy", "1")
    return log


def ends() -> GoldenLog:
    """What the venue says of approved orders, before, behind and instead of PSM."""
    log = GoldenLog({"exposure_symbol": "1", "open_orders_count": 9})
    told: list[dict[str, Any]] = [
        {"status": "rejected"},
        *({"status": status, "filled_quantity": "0"} for status in ("cancelled", "expired")),
        *({"status": status, "filled_quantity": "4"} for status in ("cancelled", "filled")),
        *({"status": status} for status in ("cancelled", "filled", "accepted")),
        {"status": "rejected", "account_id": None},
        {"status": "rejected", "account_id": OTHER},
    ]
    for shows in (False, True):
        for one in told:
            order = log.order("buy", "10", type="limit", price="100")
            if order["decision"] == "rejected":
                continue
            log.result(order["order_id"], **one)
            log.order("buy", "200")
            if shows:
                log.shows(order["order_id"], quantity="10")
                log.order("buy", "200")
                log.end(order)
            log.order("buy", "200")
    open_ = log.order("sell", "5", type="limit", price="101")
    log.shows(open_["order_id"], side="sell", quantity="5", price="101")
    change = {"account_id": ACCOUNT, "order_id": open_["order_id"], "quantity": "7"}
    log.request("replace_request", change)
    for one in ({"status": "rejected"}, {"status": "cancelled", "filled_quantity": "6"}):
        log.result(open_["order_id"], **one)
        log.order("sell", "200")
    log.wait(16 * 60)
    log.fresh()
    log.order("buy", "1")
    # A member of whom nothing was ever told.
    members = [ACCOUNT, OTHER, "untold"]
    log.both("GroupDefined", group=GROUP, members=members, currency="USDT")
    log.order("buy", "1", account_id="untold")
    return log


def traffic(seed: int, steps: int = 260) -> GoldenLog:
    """Anything in any order, the same each time."""
    dice = random.Random(seed)
    log = GoldenLog(
        {
            "exposure_symbol": "2", "exposure_gross": "3", "leverage": "4", "daily_loss": "0.1",
            "order_rate": 6, "order_rate_seconds": 30, "open_orders_count": 12, "drawdown": "0.3",
            "max_order_notional": "9000", "repeated_execution": 40, "price_collar": "0.1",
        }
    )  # fmt: skip
    known: list[dict[str, Any]] = []
    for _ in range(steps):
        side, account = dice.choice(("buy", "sell")), dice.choice((ACCOUNT, OTHER))
        mark = f"{dice.randint(880, 1120)}e-1"
        match dice.randint(0, 9):
            case 0 | 1:
                log.mark("BTC-PERP", f"{Decimal(mark):f}")
            case 2:
                log.trade(side, str(dice.randint(1, 9)), "100", account=account)
            case 3 if known:
                log.end(known.pop(dice.randrange(len(known))))
            case 4 if known:
                change = dice.choice(known)
                payload = {"account_id": ACCOUNT, "order_id": change["order_id"],
                           "quantity": str(dice.randint(1, 30))}  # fmt: skip
                log.request("replace_request", payload)
            case 5:
                log.wait(dice.randint(1, 20))
            case _:
                more: dict[str, Any] = {"on_limit": dice.choice(("reject", "reduce"))}
                if dice.random() < 0.4:
                    more |= {"type": "limit", "price": str(dice.randint(88, 112))}
                found = log.order(side, str(dice.randint(1, 120)), strategy_id="s1", **more)
                if found["decision"] != "rejected" and found["account_id"] == ACCOUNT:
                    known.append(found)
                log.order(side, str(dice.randint(1, 60)), account_id=OTHER)
    return log


def makers() -> Iterator[tuple[str, Callable[[], RiskLog]]]:
    """Yield the name of every golden log, and what makes it."""
    for limits in SIZES:
        name = next(iter(limits))
        yield name, partial(sizes, limits)
    for make in (hard, counts, losses, people, ends):
        yield make.__name__, make
    for seed in (1, 2):
        yield f"traffic_{seed}", partial(traffic, seed)


def prints_of(lines: list[bytes]) -> tuple[list[str], RecordedRisk]:
    """Return a print of every record that the lines give."""
    made = RecordedRisk(PARTITIONS)
    for line in lines:
        made.take_line(line)
    found = [hashlib.sha256(one.data).hexdigest()[:PRINT_LENGTH] for one in made.records]
    return found, made


def read_lines(name: str) -> list[bytes]:
    """Return the lines of a golden log."""
    return gzip.decompress((FOLDER / f"{name}.jsonl.gz").read_bytes()).splitlines()


def main(names: list[str]) -> None:
    """Write those of these names, all without any."""
    prints: dict[str, Any] = json.loads(PRINTS.read_text("utf-8"))
    for name, make in makers():
        if names and name not in names:
            continue
        lines = make().lines
        found, made = prints_of(lines)
        data = gzip.compress(b"\n".join(lines) + b"\n", mtime=0)
        (FOLDER / f"{name}.jsonl.gz").write_bytes(data)
        decisions = sum(one.is_decision for one in made.records)
        prints[name] = {"decisions": decisions, "records": "".join(found)}
        print(name, decisions, len(made.records), len(data))
    PRINTS.write_text(json.dumps(prints, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
