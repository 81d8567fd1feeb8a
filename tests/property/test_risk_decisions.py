"""Decisions against a slow reference, written apart: fractions, and every lot is tried."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from psm.risk.decide import Decision, RiskCase, decide
from psm.risk.limits import CATALOGUE, NEEDS_HISTORY

SYMBOLS = ("A", "B", "C")
ORDER_SIZE = ("max_order_quantity", "max_order_notional")
EXPOSURES = ("leverage", "exposure_symbol", "exposure_gross", "exposure_net", "exposure_cluster")


def decimals(low: int, high: int, places: int = 1) -> st.SearchStrategy[str]:
    return st.integers(low * 10**places, high * 10**places).map(
        lambda n: str(Decimal(n).scaleb(-places))
    )


Rows = st.SearchStrategy[dict[str, Any]]
sides = st.sampled_from(["buy", "sell"])
open_orders: Rows = st.builds(
    dict,
    order_id=st.uuids().map(str),
    symbol=st.sampled_from(SYMBOLS),
    side=sides,
    open_quantity=decimals(0, 5),
    price=st.none() | decimals(1, 20),
    reduce_only=st.booleans(),
)
states: Rows = st.builds(
    dict,
    equity=decimals(-10, 400),
    day_open_equity=decimals(1, 400),
    drawdown=decimals(0, 1, 2),
    mode=st.sampled_from(["active", "active", "active", "reducing", "halted"]),
    marks=st.fixed_dictionaries(dict.fromkeys(SYMBOLS, decimals(1, 20))),
    positions=st.dictionaries(st.sampled_from(SYMBOLS), decimals(-8, 8)),
    open_orders=st.lists(open_orders, max_size=4),
    contracts=st.just({symbol: {"lot_size": "0.5"} for symbol in SYMBOLS}),
)
limits = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(EXPOSURES, decimals(0, 4)),
        "max_order_quantity": decimals(0, 9),
        "max_order_notional": decimals(0, 90),
        "open_orders_notional": decimals(0, 90),
        "open_orders_count": st.integers(1, 5),
        "hedge_credit": decimals(0, 1),
        "concentration": decimals(0, 1, 2),
        "daily_loss": decimals(0, 1, 2) | decimals(2, 200),
        "drawdown": decimals(0, 1, 2),
        "on_limit": st.sampled_from(["reject", "reduce"]),
    },
)
orders: Rows = st.builds(
    dict,
    order_id=st.just("new"),
    symbol=st.sampled_from(SYMBOLS),
    side=sides,
    quantity=st.integers(1, 24).map(lambda n: str(Decimal(n) / 2)),
    price=st.none() | decimals(1, 20),
    reduce_only=st.booleans(),
)
cases: Rows = st.builds(
    dict,
    state=states,
    limits=limits,
    order=orders,
    clusters=st.just({"A": "one", "B": "one", "C": "two"}) | st.just({}),
    restricted=st.just({}) | st.just({"A": "buy"}),
)


def decided(row: dict[str, Any]) -> Decision:
    return decide(msgspec.convert(row, RiskCase))


class Reference:
    """The same rules in fractions; after(x) by adding the order to the books."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.state, self.limits, self.order = row["state"], row["limits"], row["order"]
        self.clusters, self.restricted = row["clusters"], row["restricted"]
        self.marks = {s: Fraction(m) for s, m in self.state["marks"].items()}
        self.sizes = {s: Fraction(self.state["positions"].get(s, 0)) for s in SYMBOLS}
        self.symbol, self.side = self.order["symbol"], self.order["side"]

    def room(self) -> Fraction:
        size = self.sizes[self.symbol]
        if size == 0 or (size > 0) == (self.side == "buy"):
            return Fraction(0)
        taken = sum(
            Fraction(o["open_quantity"])
            for o in self.state["open_orders"]
            if o["symbol"] == self.symbol and o["side"] == self.side
        )
        return max(Fraction(0), abs(size) - taken)

    def reaches(self, x: Fraction) -> dict[str, tuple[Fraction, Fraction]]:
        result = {}
        for symbol in SYMBOLS:
            buys = sells = Fraction(0)
            for o in self.state["open_orders"]:
                if o["symbol"] == symbol and not o["reduce_only"]:
                    if o["side"] == "buy":
                        buys += Fraction(o["open_quantity"])
                    else:
                        sells += Fraction(o["open_quantity"])
            if symbol == self.symbol:
                buys, sells = (buys + x, sells) if self.side == "buy" else (buys, sells + x)
            size, mark = self.sizes[symbol], self.marks[symbol]
            result[symbol] = ((size - sells) * mark, (size + buys) * mark)
        return result

    def figures(self, x: Fraction) -> dict[str, Fraction]:
        reach = self.reaches(x)
        worst = {s: max(abs(low), abs(high)) for s, (low, high) in reach.items()}
        gross = sum(worst.values(), Fraction(0))
        lows = sum((low for low, _ in reach.values()), Fraction(0))
        highs = sum((high for _, high in reach.values()), Fraction(0))
        mine = [s for s in SYMBOLS if self.clusters.get(s) == self.clusters.get(self.symbol)]
        h = Fraction(self.limits.get("hedge_credit", 0))
        # Every combination of the ends, not the closed form.
        cluster = Fraction(0)
        for choice in range(2 ** len(mine)):
            ends = [reach[s][(choice >> i) & 1] for i, s in enumerate(mine)]
            longs = sum((e for e in ends if e > 0), Fraction(0))
            shorts = -sum((e for e in ends if e < 0), Fraction(0))
            cluster = max(cluster, max(longs, shorts) - h * min(longs, shorts))
        price = max(Fraction(self.order["price"] or 0), self.marks[self.symbol])
        pending = sum(
            Fraction(o["open_quantity"]) * self.marks[o["symbol"]]
            for o in self.state["open_orders"]
            if o["side"] == self.side
        )
        share = Fraction(self.limits.get("concentration", 1))
        crowded = gross > Fraction(self.state["equity"]) / 2
        return {
            "max_order_quantity": x,
            "max_order_notional": x * price,
            "leverage": gross,
            "exposure_symbol": worst[self.symbol],
            "exposure_gross": gross,
            "exposure_net": max(abs(lows), abs(highs)),
            "exposure_cluster": cluster,
            "open_orders_notional": pending + x * self.marks[self.symbol],
            "concentration": max(Fraction(0), worst[self.symbol] - share * gross)
            if crowded
            else Fraction(0),
        }

    def limit(self, name: str) -> Fraction | None:
        if name not in self.limits or (name == "exposure_cluster" and not self.clusters):
            return None
        if name == "concentration":
            return Fraction(0)
        value = Fraction(self.limits[name])
        return value * Fraction(self.state["equity"]) if name in EXPOSURES else value

    def allowed(self, x: Fraction) -> bool:
        now, then = self.figures(Fraction(0)), self.figures(x)
        for name, value in then.items():
            limit = self.limit(name)
            if limit is None or (x <= self.room() and name not in ORDER_SIZE):
                continue
            if value > max(limit, now[name]):
                return False
        return True

    def rejected_at_once(self) -> bool:
        count = self.limits.get("open_orders_count")
        return (
            self.state["mode"] == "halted"
            or self.restricted.get(self.symbol) == self.side
            or (count is not None and len(self.state["open_orders"]) + 1 > count)
        )

    def only_closes(self) -> bool:
        opened = Fraction(self.state["day_open_equity"])
        profit = Fraction(self.state["equity"]) - opened
        cap, fall = self.limits.get("daily_loss"), self.limits.get("drawdown")
        money = (
            None if cap is None else Fraction(cap) * opened if Fraction(cap) <= 1 else Fraction(cap)
        )
        return (
            self.order["reduce_only"]
            or self.state["mode"] == "reducing"
            or (money is not None and profit <= -money)
            or (fall is not None and Fraction(self.state["drawdown"]) >= Fraction(fall))
        )

    def most(self) -> Fraction:
        if self.rejected_at_once():
            return Fraction(0)
        wanted = Fraction(self.order["quantity"])
        bound = wanted
        if self.only_closes():
            bound = min(bound, self.room())
        tried = [Fraction(n, 2) for n in range(int(bound * 2) + 1)]
        return max(x for x in tried if x == 0 or self.allowed(x))


@given(cases)
def test_the_approved_quantity_is_the_largest_that_is_allowed(row: dict[str, Any]) -> None:
    """Trying every lot finds the same quantity, and the verdict follows from it."""
    expected = Reference(row).most()
    found = decided(row)
    assert Fraction(found.max_quantity) == expected
    wanted = Fraction(row["order"]["quantity"])
    reduces = row["limits"].get("on_limit") == "reduce"
    if expected == wanted:
        assert (found.decision, found.reason) == ("approved", None)
    elif expected and reduces:
        assert (found.decision, Fraction(found.approved_quantity)) == ("reduced", expected)
    else:
        assert (found.decision, found.approved_quantity) == ("rejected", "0")
    assert (found.reason is None) == (found.decision == "approved")


@given(cases, st.integers(1, 12))
def test_closing_is_never_refused_for_exposure_loss_or_drawdown(
    row: dict[str, Any], lots: int
) -> None:
    """Within the room for closing, only hard checks and the order's size speak."""
    symbol, buys = row["order"]["symbol"], row["order"]["side"] == "buy"
    state, bounds = row["state"], row["limits"]
    taken = sum(Decimal(o["open_quantity"]) for o in state["open_orders"])
    size = taken + Decimal(lots) / 2
    state["positions"] = {**state["positions"], symbol: str(-size if buys else size)}
    state["mode"] = "reducing" if state["mode"] == "halted" else state["mode"]
    row["order"]["quantity"] = str(Decimal(lots) / 2)
    row["restricted"] = {}
    for name in (*ORDER_SIZE, "open_orders_count"):
        bounds.pop(name, None)
    assert decided(row).decision == "approved"


@given(cases, st.integers(0, 23))
def test_less_of_what_is_allowed_is_allowed(row: dict[str, Any], less: int) -> None:
    """Figures only grow with the quantity."""
    most = Decimal(decided(row).max_quantity)
    smaller = most - Decimal(less) / 2
    if smaller > 0:
        row["order"] = {**row["order"], "quantity": str(smaller)}
        assert decided(row).decision == "approved"


@given(cases, st.sampled_from([*EXPOSURES, *ORDER_SIZE, "daily_loss", "drawdown"]), decimals(0, 1))
def test_a_tighter_limit_never_allows_more(row: dict[str, Any], name: str, factor: str) -> None:
    """Whatever is tightened, the quantity does not rise."""
    row["state"]["equity"] = str(abs(Decimal(row["state"]["equity"])))
    given_one = row["limits"].setdefault(name, "1")
    if name == "daily_loss" and Decimal(given_one) > 1:
        given_one = row["limits"][name] = "1"
    before = Decimal(decided(row).max_quantity)
    tighter = str(Decimal(given_one) * Decimal(factor))
    row["limits"] = {**row["limits"], name: tighter}
    assert Decimal(decided(row).max_quantity) <= before


@given(cases)
def test_the_order_of_tables_changes_nothing(row: dict[str, Any]) -> None:
    """Keys in another order, open orders in another order: the same bytes."""
    turned = {
        **row,
        "state": {
            **{key: row["state"][key] for key in reversed(row["state"])},
            "marks": dict(reversed(row["state"]["marks"].items())),
            "positions": dict(reversed(row["state"]["positions"].items())),
            "open_orders": row["state"]["open_orders"][::-1],
        },
    }
    assert msgspec.json.encode(decided(turned)) == msgspec.json.encode(decided(row))


@given(cases)
def test_every_check_is_reported_once_and_in_order(row: dict[str, Any]) -> None:
    """Nothing short-circuits: the list is the same for every order."""
    names = [check.name for check in decided(row).checks]
    assert len(names) == len(dict.fromkeys(names))
    assert names == [name for name in CATALOGUE if name not in NEEDS_HISTORY]
