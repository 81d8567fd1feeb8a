"""Why a number is that number: a tree of rules, exact arithmetic and the events behind it.

Leaves are events of the log, marks, instruments and settings. What is a sum is added up again
while the tree is built, so a tree that does not add up is never shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import msgspec
from nats.aio.client import Client

from psm.analytics.formulas import FORMULAS
from psm.contracts.errors import ConfigError
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.ledger.positions import Position, entry_price
from psm.domain.market.margin_tiers import maintenance_margin
from psm.domain.market.rates import rate_path
from psm.domain.money import (
    ZERO,
    absolute,
    add_wide,
    exact_text,
    multiply,
    negate,
    published_text,
    subtract_wide,
)
from psm.domain.valuation.isolated import is_isolated
from psm.domain.valuation.performance import drawdown
from psm.domain.valuation.position_value import PositionValue
from psm.domain.valuation.valuation import Valuation
from psm.workers.explain.assets import ASSET_FIGURES, AssetNodes
from psm.workers.explain.movement_text import event_nodes
from psm.workers.explain.movements import POSITION_SUMS, History, ledger_value, read_histories
from psm.workers.explain.tree import Node, bracketed, leaf, sum_of
from psm.workers.history.as_of import When, past_books, read_until
from psm.workers.log.refold import Progress
from psm.workers.log.shape import LogShape

TOTALS = (
    "realized_pnl", "fees", "liquidation_fees", "funding", "deposits", "withdrawals", "transfers",
    "interest", "dividends", "adjustments", "taxes", "losses_covered",
)  # fmt: skip
VALUED = (
    "equity", "unrealized_pnl", "exposure_gross", "exposure_net", "margin_initial",
    "margin_maintenance", "margin_available", "withdrawable", "margin_ratio", "leverage",
    "peak_equity", "drawdown", "max_drawdown", "nav", "flows", "flows_cost", "unrated_cost",
    "realized_pnl_net",
)  # fmt: skip
POSITION_FIGURES = (*POSITION_SUMS, "entry_price", "mark_price", "notional", "unrealized_pnl")

_REPORTED = "as the venue said by MarginReported, in place of leverage and tiers"


class FigureExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of an account at a moment.

    Attributes:
        account_id: whose.
        field: as asked.
        published: the figure as it is published, with at most 18 decimals.
        sequence_number: of the last event that counts.
        log_sequence: up to which the log counts.
        ledger_hash, state_hash: of the account then.
        tree: why.
    """

    account_id: str
    field: str
    published: str | None
    sequence_number: int
    log_sequence: int
    ledger_hash: str
    state_hash: str
    tree: Node


async def explain_field(
    nc: Client,
    shape: LogShape,
    account_id: str,
    field: str,
    when: When | None = None,
    *,
    progress: Progress | None = None,
) -> FigureExplanation:
    """Explain one figure of an account, now or at a moment of its past.

    Args:
        nc: connection; only read.
        shape: of the log.
        account_id: whose.
        field: a path of the state document, such as `equity`, `cash.USDT` or
            `positions.BTC-PERP.unrealized_pnl`.
        when: the moment; None for all that the log has.
        progress: told how far the log is read.

    Raises:
        ConfigError: there is no such figure; the text names those there are.
        UnknownStreamError, NoSuchPlaceError: there was no such moment.
        InvariantError: the parts do not add up.
    """
    moment = when or When(at="9999-12-31T23:59:59Z")
    ledger = await read_until(nc, shape, account_id, moment)
    books, place = await past_books(nc, shape, ledger, moment, progress=progress)
    account = books.accounts[account_id]
    names = _Names(books, account)
    names.explain(field)  # once to learn which figures of the ledger it needs ...
    histories = await read_histories(nc, shape, ledger, place.folded_at, tuple(names.needed))
    tree = _Names(books, account, histories).explain(field)  # ... and then with their events
    valuation = account.value()
    return FigureExplanation(
        account_id=account_id,
        field=field,
        published=None if tree.value is None else published_text(Decimal(tree.value)),
        sequence_number=account.delivery.version,
        log_sequence=books.position,
        ledger_hash=account.ledger_hash().hex(),
        state_hash=account.valuation.hash(account.ledger_hash(), valuation).hex(),
        tree=tree,
    )


class _Names:
    """Makes the tree of a figure; without histories its ledger figures have no events."""

    def __init__(
        self, books: Books, account: Account, histories: Mapping[str, History] | None = None
    ) -> None:
        self.needed: dict[str, None] = {}
        self._books = books
        self._account = account
        self._histories = histories or {}
        self._home = account.ledger.currency or ""
        self._rate = account.prices.rate
        self._valuation: Valuation = account.value()
        self._assets = AssetNodes(account, self._ledger)

    def explain(self, field: str) -> Node:
        """Return the tree of a field.

        Raises:
            ConfigError: there is no such field.
        """
        if field in VALUED:
            found: Node = getattr(self, f"_{field}")()
            return found
        if field in TOTALS or field.startswith(("cash.", "borrowed.")):
            return self._ledger(field)
        if field.startswith("assets."):
            asset, _, name = field.removeprefix("assets.").rpartition(".")
            if asset in self._account.ledger.cash and name in ASSET_FIGURES:
                return self._assets.figure(asset, name)
        if field.startswith("positions."):
            key, _, name = field.removeprefix("positions.").rpartition(".")
            position = self._account.ledger.positions.get(key)
            if position is not None and name in POSITION_FIGURES:
                return self._position(position, name)
        if field in FORMULAS:
            raise ConfigError(f"{field} is of analytics: psm stats ACCOUNT --explain {field}")
        raise ConfigError(f"{field} cannot be explained; choose {', '.join(self.fields())}")

    def fields(self) -> list[str]:
        """Return what can be explained of this account."""
        cash = [f"cash.{currency}" for currency in sorted(self._account.ledger.cash)]
        cash += [f"assets.{asset}.<figure>" for asset in sorted(self._account.ledger.cash)]
        cash.append(f"with <figure> one of {' '.join(ASSET_FIGURES)}")
        owed = [f"borrowed.{asset}" for asset in sorted(self._account.ledger.borrowed)]
        held = [f"positions.{key}.<figure>" for key in sorted(self._account.ledger.positions)]
        figures = f"with <figure> one of {' '.join(POSITION_FIGURES)}"
        return [*VALUED, *TOTALS, *cash, *owed, *held, *([figures] if held else [])]

    # --- ledger ----------------------------------------------------------------------------

    def _ledger(self, figure: str) -> Node:
        self.needed[figure] = None
        value = ledger_value(self._account, figure)
        history = self._histories.get(figure)
        if history is None:
            return leaf(figure, value, "the sum of what each event did")
        return sum_of(figure, value, "the sum of what each event did", event_nodes(history))

    def _realized_pnl_net(self) -> Node:
        realized, fees, liquidation, funding = (
            self._ledger(name) for name in ("realized_pnl", "fees", "liquidation_fees", "funding")
        )
        paid = add_wide(Decimal(fees.value or "0"), Decimal(liquidation.value or "0"))
        return sum_of(
            "realized_pnl_net",
            subtract_wide(
                add_wide(Decimal(realized.value or "0"), Decimal(funding.value or "0")),
                paid,
            ),
            "realized_pnl - fees - liquidation_fees + funding",
            (realized, _negated(fees), _negated(liquidation), funding),
        )

    # --- positions -------------------------------------------------------------------------

    def _position(self, position: Position, name: str) -> Node:
        figure = f"positions.{position.key}.{name}"
        if name in POSITION_SUMS:
            return self._ledger(figure)
        size = self._ledger(f"positions.{position.key}.size")
        cost = self._ledger(f"positions.{position.key}.cost")
        if name == "entry_price":
            over = "size / cost" if position.instrument.inverse else "cost / size"
            entry = entry_price(position)
            return _computed(figure, entry, f"{over}, 34 significant digits", None, (cost, size))
        value = self._valuation.positions.get(position.key)
        if value is None:
            return leaf(figure, None, "the position is flat, or does not compute")
        mark = self._mark(position, value)
        if name == "mark_price":
            return mark
        inverse = position.instrument.inverse
        multiplier = exact_text(position.instrument.multiplier)
        quantity = exact_text(absolute(position.size))
        worth = f"{quantity} {'/' if inverse else 'x'} {_bracketed(mark.value)}"
        if name == "notional":
            rule = f"multiplier x size {'/' if inverse else 'x'} mark"
            if value.price < 0:
                rule = f"{rule}, without its sign"
                worth = f"{quantity} x {exact_text(absolute(value.price))}"
            return _computed(figure, value.notional, rule, f"{multiplier} x {worth}", (size, mark))
        parts = (worth, bracketed(exact_text(position.cost)))
        if (position.size > 0) == inverse:
            parts = (parts[1], parts[0])
        rule = "multiplier x (value at the mark - cost), mirrored for short and inverse"
        text = f"{multiplier} x ({parts[0]} - {parts[1]})"
        return _computed(figure, value.unrealized, rule, text, (size, cost, mark))

    def _mark(self, position: Position, value: PositionValue) -> Node:
        figure = f"positions.{position.key}.mark_price"
        if value.source == "fill":
            return leaf(figure, value.price, "no mark is known: the account's own last fill")
        marked = self._account.prices.current_mark(position.symbol)
        assert marked is not None, "it values the position"
        own = position.symbol in self._books.market.marks
        name = position.symbol if own else f"the symbol that became {position.symbol}"
        return leaf(figure, value.price, f"mark {marked.sequence_number} of {name}")

    def _open(self) -> list[tuple[Position, PositionValue]]:
        values = self._valuation.positions
        return [(self._account.ledger.positions[key], values[key]) for key in sorted(values)]

    def _converted(self, node: Node, currency: str) -> Node:
        """Return an amount in the account currency; nothing of it where no rate is known."""
        if currency == self._home or node.value is None:
            return node
        rate = self._rate(currency)
        figure = f"{node.figure} in {self._home}"
        if rate is None:
            return Node(
                figure=figure,
                value="0",
                rule=f"left out: no rate {currency}{self._home} is known",
                children=(node,),
            )
        value = multiply(Decimal(node.value), rate)
        path = rate_path(self._account.prices.rate_steps(currency))
        source = leaf(f"{currency}{self._home}", rate, path)
        return _computed(
            figure, value, "amount x rate", f"{node.value} x {exact_text(rate)}", (node, source)
        )

    def _sum_over_positions(
        self,
        figure: str,
        value: Decimal | None,
        rule: str,
        part: Callable[[Position, PositionValue], Node],
        others: Sequence[Node] = (),
    ) -> Node:
        if value is None:
            return leaf(figure, None, "the valuation failed")
        parts = [self._converted(part(p, v), p.instrument.settle) for p, v in self._open()]
        return sum_of(figure, value, rule, [*others, *parts])

    def _unrealized(self, position: Position, _: PositionValue) -> Node:
        return self._position(position, "unrealized_pnl")

    def _net_notional(self, position: Position, value: PositionValue) -> Node:
        notional = self._position(position, "notional")
        return notional if (position.size > 0) == (value.worth >= 0) else _negated(notional)

    # --- valuation -------------------------------------------------------------------------

    def _equity(self) -> Node:
        if self._valuation.equity is None:
            return leaf("equity", None, "the valuation failed")
        worth = [
            self._converted(
                self._net_notional(p, v) if p.instrument.full_notional else self._unrealized(p, v),
                p.instrument.settle,
            )
            for p, v in self._open()
        ]
        rule = "assets at their rates + unrealized PnL of contracts + market value of shares"
        return sum_of("equity", self._valuation.equity, rule, [*self._assets.values(), *worth])

    def _unrealized_pnl(self) -> Node:
        value = self._valuation.unrealized_pnl
        if value is None:
            return leaf("unrealized_pnl", None, "the valuation failed")
        parts = [self._gain(p, v) for p, v in self._open()]
        rule = "the sum over open positions, and the value of assets beyond their cost"
        return sum_of("unrealized_pnl", value, rule, [*self._assets.gains(), *parts])

    def _gain(self, position: Position, value: PositionValue) -> Node:
        """Return what a position gained; shares quoted elsewhere have a cost of their own."""
        instrument = position.instrument
        rate = None if instrument.settle == self._home else self._rate(instrument.settle)
        if not instrument.full_notional or rate is None:
            return self._converted(self._unrealized(position, value), instrument.settle)
        worth = self._converted(self._net_notional(position, value), instrument.settle)
        cost = position.home_cost.amount
        paid = leaf("cost", cost, f"in {self._home}, at the rates of each trade's time")
        figure = f"positions.{position.key}.unrealized_pnl in {self._home}"
        gain = subtract_wide(Decimal(worth.value or "0"), cost)
        text = f"{worth.value} - {_bracketed(paid.value)}"
        return _computed(figure, gain, "value - cost", text, (worth, paid))

    def _exposure_gross(self) -> Node:
        value, rule = self._valuation.exposure_gross, "the sum of notionals, of options by delta"
        if value is None:
            return leaf("exposure_gross", None, "the valuation failed")
        parts = [
            self._delta_exposure(p, v, gross=True)
            or self._converted(self._position(p, "notional"), p.instrument.settle)
            for p, v in self._open()
        ]
        return sum_of("exposure_gross", value, rule, [*self._assets.magnitudes(), *parts])

    def _exposure_net(self) -> Node:
        value, rule = self._valuation.exposure_net, "the same, short below zero"
        if value is None:
            return leaf("exposure_net", None, "the valuation failed")
        parts = [
            self._delta_exposure(p, v)
            or self._converted(self._net_notional(p, v), p.instrument.settle)
            for p, v in self._open()
        ]
        return sum_of("exposure_net", value, rule, [*self._assets.values(home=False), *parts])

    def _delta_exposure(
        self, position: Position, value: PositionValue, *, gross: bool = False
    ) -> Node | None:
        """Return the exposure of an option by what it is on; None where it is its own value."""
        if value.underlying is None:
            return None
        symbol, quote = self._account.prices.underlying_of(position.instrument)
        if any(self._rate(one) is None for one in (quote, position.instrument.settle)):
            return None
        price, delta = value.underlying
        exposed = multiply(multiply(position.size, position.instrument.multiplier), price)
        factors = (position.size, position.instrument.multiplier, price, delta)
        marks = (
            leaf(f"{symbol}.mark_price", price, "what the option is on"),
            leaf(f"{position.key}.delta", delta, "of its current mark, else 1 or -1 by its right"),
        )
        node = self._converted(
            _computed(
                f"positions.{position.key}.exposure",
                multiply(exposed, delta),
                "size x multiplier x mark of the underlying x delta",
                " x ".join(bracketed(exact_text(one)) for one in factors),
                (self._ledger(f"positions.{position.key}.size"), *marks),
            ),
            quote,
        )
        return _negated(node) if gross and (node.value or "").startswith("-") else node

    def _needs_none(self, position: Position) -> str | None:
        """Return why a position needs no margin of the account; None where it does."""
        if position.instrument.full_notional and position.size > 0 and position.margin is None:
            return "what is paid needs no margin"
        isolated = is_isolated(self._account.ledger, position)
        return "a wallet of its own carries it" if isolated else None

    def _margin_initial(self) -> Node:
        def part(position: Position, value: PositionValue) -> Node:
            notional = self._position(position, "notional")
            figure = f"positions.{position.key}.margin_initial"
            if why := self._needs_none(position):
                return _computed(figure, ZERO, why, None, (notional,))
            if position.margin is not None:
                return leaf(figure, value.margin_initial, _REPORTED)
            leverage = self._account.ledger.leverage_of(position.key)
            return _computed(
                figure,
                value.margin_initial,
                "notional / leverage",
                f"{notional.value} / {exact_text(leverage)}",
                (notional, leaf("leverage", leverage, "as set by LeverageChanged; 1 until then")),
            )

        value = self._valuation.margin_initial
        rule = "the sum over positions, and over assets below zero"
        return self._sum_over_positions("margin_initial", value, rule, part, self._assets.margins())

    def _margin_maintenance(self) -> Node:
        def part(position: Position, value: PositionValue) -> Node:
            notional = self._position(position, "notional")
            figure = f"positions.{position.key}.margin_maintenance"
            if why := self._needs_none(position):
                return _computed(figure, ZERO, why, None, (notional,))
            if position.margin is not None:
                return leaf(figure, value.margin_maintenance, _REPORTED)
            tiers = position.instrument.tiers
            if position.instrument.full_notional and not position.instrument.margin_tiers:
                rule = "notional x borrow_maintenance_rate of CollateralDefined; 0 without it"
                return _computed(figure, value.margin_maintenance, rule, None, (notional,))
            tier = next(tier for tier in reversed(tiers) if tier.floor <= value.notional)
            assert maintenance_margin(value.notional, tiers) == value.margin_maintenance
            return _computed(
                figure,
                value.margin_maintenance,
                f"notional x rate - amount of the tier from {exact_text(tier.floor)} on",
                f"{notional.value} x {exact_text(tier.rate)} - {exact_text(tier.amount)}",
                (notional,),
            )

        value = self._valuation.margin_maintenance
        owed = self._valuation.margin_borrowed
        rule = "what is owed in assets x borrow_maintenance_rate of CollateralDefined"
        others = [leaf("margin_borrowed", owed, rule)] if owed else []
        rule = "the sum over positions, and over assets below zero"
        return self._sum_over_positions("margin_maintenance", value, rule, part, others)

    def _order_margin(self) -> Node:
        rule = "what open orders reserve: per symbol the worse side beyond the position's margin"
        return leaf("order_margin", self._valuation.order_margin, rule)

    def _collateral(self) -> Node:
        rule = "equity without what is discounted; what is below zero counts in full"
        value = None if self._valuation.equity is None else self._valuation.collateral
        apart = self._account.valuation.totals.isolated
        discounted = subtract_wide(self._valuation.equity or ZERO, value or ZERO)
        parts = (
            self._equity(),
            leaf("discounted", subtract_wide(discounted, apart), "haircuts of assets and shares"),
            leaf("isolated", apart, "wallets of isolated positions, and what those have gained"),
        )
        text = " - ".join(_bracketed(part.value) for part in parts)
        return _computed("collateral", value, rule, text, parts)

    def _margin_available(self) -> Node:
        parts = (self._collateral(), self._margin_initial(), self._order_margin())
        rule = "max(0, collateral - margin_initial - order_margin)"
        text = " - ".join(_bracketed(part.value) for part in parts)
        value = self._valuation.margin_available
        return _computed("margin_available", value, rule, text, parts)

    def _withdrawable(self) -> Node:
        gain = max(ZERO, self._valuation.gain)
        parts = (
            self._collateral(),
            leaf("gains", gain, "max(0, unrealized PnL of contracts): it may not leave"),
            self._margin_initial(),
            self._order_margin(),
        )
        cash = self._ledger(f"cash.{self._home}")
        held = self._account.valuation.totals.wallets.home
        wallets = leaf("wallets", held, "of isolated positions, in the account currency")
        rule = (
            "max(0, min(collateral - gains - margin_initial - order_margin, "
            f"cash.{self._home} - wallets))"
        )
        text = " - ".join(_bracketed(part.value) for part in parts)
        text = f"min({text}, {_bracketed(cash.value)} - {_bracketed(wallets.value)})"
        value = self._valuation.withdrawable
        return _computed("withdrawable", value, rule, text, (*parts, cash, wallets))

    def _flows_cost(self) -> Node:
        parts = ("deposits", "withdrawals", "transfers", "unknown_cost")
        deposits, withdrawals, transfers, unknown = (self._ledger(name) for name in parts)
        rule = "deposits - withdrawals + transfers + proceeds of what had no known cost"
        value = self._account.ledger.flows_cost()
        return sum_of(
            "flows_cost", value, rule, (deposits, _negated(withdrawals), transfers, unknown)
        )

    def _unrated_cost(self) -> Node:
        rule = "known cost of assets and shares without a rate, which are in no other figure"
        value = None if self._valuation.equity is None else self._valuation.unrated_cost
        return leaf("unrated_cost", value, rule)

    def _ratio(self, figure: str, value: Decimal | None, top: Node, under: Node) -> Node:
        name = under.figure
        rule = f"{top.figure} / {name}, 34 significant digits; null where {name} is not positive"
        text = f"{top.value} / {_bracketed(under.value)}"
        return _computed(figure, value, rule, text, (top, under))

    def _margin_ratio(self) -> Node:
        value, top = self._valuation.margin_ratio, self._margin_maintenance()
        return self._ratio("margin_ratio", value, top, self._collateral())

    def _leverage(self) -> Node:
        value, top = self._valuation.leverage, self._exposure_gross()
        return self._ratio("leverage", value, top, self._equity())

    def _peak_equity(self) -> Node:
        rule = (
            "the highest equity so far; a deposit, withdrawal or transfer F at equity V turns "
            "peak into peak x (V + F) / V, so flows neither create nor hide drawdown"
        )
        return leaf("peak_equity", self._account.valuation.peak_equity, rule)

    def _nav(self) -> Node:
        own, equity = self._account.valuation.performance, self._equity()
        rule = (
            "equity / units; units were issued at 1 where the epoch began, and for every deposit, "
            "withdrawal and transfer at the value of then"
        )
        units = leaf("units", own.units, "issued in this epoch")
        text = f"{equity.value} / {units.value}"
        return _computed("nav", own.nav(self._valuation.equity), rule, text, (equity, units))

    def _max_drawdown(self) -> Node:
        rule = "the deepest drawdown of this epoch, looked at after every event and mark"
        return leaf("max_drawdown", self._account.valuation.performance.max_drawdown(), rule)

    def _flows(self) -> Node:
        rule = "deposits, withdrawals and transfers at the rates of their moment"
        return leaf("flows", self._account.valuation.performance.flows, rule)

    def _drawdown(self) -> Node:
        peak, equity = self._peak_equity(), self._equity()
        value = drawdown(self._account.valuation.peak_equity, self._valuation.equity)
        text = f"1 - {_bracketed(equity.value)} / {peak.value}"
        return _computed("drawdown", value, "1 - equity / peak_equity", text, (equity, peak))


def _computed(
    figure: str,
    value: Decimal | None,
    rule: str,
    arithmetic: str | None,
    children: Sequence[Node],
) -> Node:
    return Node(
        figure=figure,
        value=None if value is None else exact_text(value),
        rule=rule,
        arithmetic=arithmetic,
        children=tuple(children),
    )


def _negated(node: Node) -> Node:
    value = None if node.value is None else exact_text(negate(Decimal(node.value)))
    return Node(
        figure=f"-{node.figure}", value=value, rule="with its sign turned", children=(node,)
    )


def _bracketed(text: str | None) -> str:
    return bracketed(text or "null")
