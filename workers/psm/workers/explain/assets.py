"""Why an asset is worth what it is: its quantity, its cost, and the path of its rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from psm.domain.account import Account
from psm.domain.ledger.holdings import AssetHolding
from psm.domain.market.rates import RateStep, rate_of, rate_path
from psm.domain.money import ONE, ZERO, add_wide, exact_text, subtract_wide
from psm.domain.valuation.assets import PathSums
from psm.workers.explain.tree import Node, leaf

ASSET_FIGURES = ("quantity", "cost", "entry_price", "mark_price", "value", "unrealized_pnl")


class AssetNodes:
    """Makes the trees of assets, and those parts of an account's figures that they are.

    Args:
        account: whose.
        ledger: makes the node of a figure of the ledger.
    """

    def __init__(self, account: Account, ledger: Callable[[str], Node]) -> None:
        self._account = account
        self._ledger = ledger
        self._home = account.ledger.currency or ""

    def figure(self, asset: str, name: str) -> Node:
        """Return the tree of a figure of an asset, one of `ASSET_FIGURES`."""
        figure, holding = f"assets.{asset}.{name}", self._account.ledger.holding(asset)
        quantity = self._ledger(f"cash.{asset}")
        if name == "quantity":
            return _renamed(figure, quantity)
        if name == "mark_price":
            return self._rate(asset)
        if name == "value":
            return self._value(asset, quantity)
        cost = self._cost(asset)
        if name == "cost":
            return cost
        if name == "entry_price":
            rule = (
                "cost / quantity, 34 significant digits; null where a part of the cost is unknown"
            )
            return _node(figure, holding.entry_price, rule, (cost, quantity))
        return self._gain(asset, holding, self._value(asset, quantity), cost)

    def values(self, *, home: bool = True) -> list[Node]:
        """Return what assets add to equity, together all that has one last step of its rate."""
        money = self._account.ledger.cash.get(self._home)
        own = [self._ledger(f"cash.{self._home}")] if home and money else []
        return [*own, *(self._path(path) for path in self._paths()), *self._unrated()]

    def gains(self) -> list[Node]:
        """Return what assets gained: their value beyond what is known of their cost."""
        found = []
        for path in self._paths():
            value, cost = self._path(path), ZERO
            for asset in path:
                cost = add_wide(cost, self._account.ledger.holding(asset).cost.amount)
            gain = subtract_wide(Decimal(value.value or "0"), cost)
            parts = (value, *(self._cost(asset) for asset in path))
            found.append(_node(f"{value.figure} beyond cost", gain, "value - cost", parts))
        return found

    def magnitudes(self) -> list[Node]:
        """Return what assets add to gross exposure."""
        found = []
        for path in self._paths():
            sums = self._sums(path)
            rule = "the magnitudes of the amounts at the last step of their rate"
            value = sums.worth(subtract_wide(sums.above, sums.below))
            found.append(_node(f"|{_names(path)}|", value, rule, (self._path(path),)))
        return found

    def margins(self) -> list[Node]:
        """Return the initial margin of assets below zero."""
        found = []
        for path in self._paths():
            sums = self._sums(path)
            if sums.margin:
                rule = "value of what is below zero / leverage"
                value = sums.worth(sums.margin)
                found.append(_node(f"{_names(path)} margin", value, rule, (self._path(path),)))
        return found

    def _paths(self) -> list[list[str]]:
        """Return the assets held by the last step of their rate."""
        assets = self._account.valuation.totals.assets
        return [] if assets is None else assets.paths()

    def _sums(self, path: Sequence[str]) -> PathSums:
        assets = self._account.valuation.totals.assets
        assert assets is not None, "one of them is held"
        return assets.path_of(path[0])

    def _path(self, path: Sequence[str]) -> Node:
        sums = self._sums(path)
        value = sums.worth(add_wide(sums.above, sums.below))
        if len(path) == 1:
            return self._value(path[0], self._ledger(f"cash.{path[0]}"))
        parts = [self._value(asset, self._ledger(f"cash.{asset}")) for asset in path]
        rule = "the amounts at the first steps of their rates, together x the last step"
        return _node(_names(path), value, rule, parts)

    def _unrated(self) -> list[Node]:
        rated = {asset for path in self._paths() for asset in path}
        held = self._account.ledger.cash.items()
        return [
            Node(
                figure=f"cash.{asset} in {self._home}",
                value="0",
                rule=f"left out: no rate {asset}{self._home} is known",
                children=(self._ledger(f"cash.{asset}"),),
            )
            for asset, amount in sorted(held)
            if amount and asset != self._home and asset not in rated
        ]

    def _value(self, asset: str, quantity: Node) -> Node:
        figure = f"assets.{asset}.value"
        if asset == self._home:
            return _renamed(figure, quantity)
        assets, rate = self._account.valuation.totals.assets, self._rate(asset)
        value = None if assets is None else assets.value_of(asset)
        if value is None:
            return leaf(figure, None, f"no rate {asset}{self._home} is known, or nothing is held")
        return _node(figure, value, "quantity x rate", (quantity, rate))

    def _rate(self, asset: str) -> Node:
        figure = f"assets.{asset}.mark_price"
        if asset == self._home:
            return leaf(figure, ONE, "the account currency itself")
        steps = self._account.prices.rate_steps(asset)
        if not steps:
            return leaf(figure, None, f"no rate {asset}{self._home} is known")
        return _node(figure, rate_of(steps), rate_path(steps), [_step(step) for step in steps])

    def _cost(self, asset: str) -> Node:
        figure, holding = f"assets.{asset}.cost", self._account.ledger.holding(asset)
        if asset == self._home:
            return _renamed(figure, self._ledger(f"cash.{asset}"))
        node = self._ledger(figure)
        rule = "what each event added, at the rates that it states or found, or took away"
        if holding.cost.unknown:
            rule = f"{rule}; a part of it is not known"
        return Node(figure=figure, value=node.value, rule=rule, children=node.children)

    def _gain(self, asset: str, holding: AssetHolding, value: Node, cost: Node) -> Node:
        figure = f"assets.{asset}.unrealized_pnl"
        if value.value is None or holding.cost.unknown:
            return _node(figure, None, "null without a rate or a known cost", (value, cost))
        gain = subtract_wide(Decimal(value.value), holding.cost.amount)
        return _node(figure, gain, "value - cost", (value, cost))


def _step(step: RateStep) -> Node:
    """Return a step of a rate: a mark, or the account's own last fill."""
    said = "the account's own last fill in" if step.kind == "fill" else "the mark of"
    rule = f"{'1 / ' if step.inverted else ''}{said} {step.symbol} ({step.kind})"
    return leaf(step.text, rate_of([step]), rule)


def _names(path: Sequence[str]) -> str:
    return f"assets {', '.join(path)}"


def _renamed(figure: str, node: Node) -> Node:
    return Node(figure=figure, value=node.value, rule=node.rule, children=node.children)


def _node(figure: str, value: Decimal | None, rule: str, children: Sequence[Node]) -> Node:
    shown = None if value is None else exact_text(value)
    return Node(figure=figure, value=shown, rule=rule, children=tuple(children))
