"""Why a number is that number: a tree of rules, exact arithmetic and the events behind it.

Leaves are events of the log, marks, instruments and settings. What is a sum is added up again
while the tree is built, so a tree that does not add up is never shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial, reduce

import msgspec
from nats.aio.client import Client

from psm.contracts.errors import ConfigError
from psm.domain.account import Account
from psm.domain.books import Books
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
from psm.domain.positions import Position, entry_price
from psm.domain.tiers import maintenance_margin
from psm.domain.valuation import Valuation, drawdown, state_hash
from psm.domain.worth import PositionValue
from psm.workers.past.history import POSITION_SUMS, History, ledger_value, read_histories
from psm.workers.past.moves import event_nodes
from psm.workers.past.nodes import Node, leaf, sum_of
from psm.workers.past.places import LogShape, read_ledger
from psm.workers.past.state import When, past_books
from psm.workers.replay import Progress

TOTALS = ("realized_pnl", "fees", "funding", "deposits", "withdrawals")
VALUED = (
    "equity", "unrealized_pnl", "exposure_gross", "exposure_net", "margin_initial",
    "margin_maintenance", "margin_available", "withdrawable", "margin_ratio", "leverage",
    "peak_equity", "drawdown", "realized_pnl_net",
)  # fmt: skip
POSITION_FIGURES = (*POSITION_SUMS, "entry_price", "mark_price", "notional", "unrealized_pnl")


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
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
) -> Explanation:
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
    ledger = await read_ledger(nc, shape, account_id)
    moment = when or When(at="9999-12-31T23:59:59Z")
    books, place = await past_books(nc, shape, ledger, moment, progress=progress)
    account = books.accounts[account_id]
    names = _Names(books, account)
    names.explain(field)  # once to learn which figures of the ledger it needs ...
    histories = await read_histories(nc, shape, ledger, place.folded_at, tuple(names.needed))
    tree = _Names(books, account, histories).explain(field)  # ... and then with their events
    valuation = books.valuation(account)
    return Explanation(
        account_id=account_id,
        field=field,
        published=None if tree.value is None else published_text(Decimal(tree.value)),
        sequence_number=account.version,
        log_sequence=books.position,
        ledger_hash=account.ledger_hash().hex(),
        state_hash=state_hash(account, account.ledger_hash(), valuation).hex(),
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
        self._home = account.currency or ""
        self._rate: Callable[[str], Decimal | None] = partial(books.rate, account)
        self._valuation: Valuation = books.valuation(account)

    def explain(self, field: str) -> Node:
        """Return the tree of a field.

        Raises:
            ConfigError: there is no such field.
        """
        if field in VALUED:
            found: Node = getattr(self, f"_{field}")()
            return found
        if field in TOTALS or field.startswith("cash."):
            return self._ledger(field)
        if field.startswith("positions."):
            symbol, _, name = field.removeprefix("positions.").rpartition(".")
            position = self._account.positions.get(symbol)
            if position is not None and name in POSITION_FIGURES:
                return self._position(position, name)
        raise ConfigError(f"{field} cannot be explained; choose {', '.join(self.fields())}")

    def fields(self) -> list[str]:
        """Return what can be explained of this account."""
        cash = [f"cash.{currency}" for currency in sorted(self._account.cash)]
        held = [f"positions.{symbol}.<figure>" for symbol in sorted(self._account.positions)]
        figures = f"with <figure> one of {' '.join(POSITION_FIGURES)}"
        return [*VALUED, *TOTALS, *cash, *held, *([figures] if held else [])]

    # --- ledger ----------------------------------------------------------------------------

    def _ledger(self, figure: str) -> Node:
        self.needed[figure] = None
        value = ledger_value(self._account, figure)
        history = self._histories.get(figure)
        if history is None:
            return leaf(figure, value, "the sum of what each event did")
        return sum_of(figure, value, "the sum of what each event did", event_nodes(history))

    def _realized_pnl_net(self) -> Node:
        realized, fees, funding = (
            self._ledger(name) for name in ("realized_pnl", "fees", "funding")
        )
        return sum_of(
            "realized_pnl_net",
            subtract_wide(
                add_wide(Decimal(realized.value or "0"), Decimal(funding.value or "0")),
                Decimal(fees.value or "0"),
            ),
            "realized_pnl - fees + funding",
            (realized, _negated(fees), funding),
        )

    # --- positions -------------------------------------------------------------------------

    def _position(self, position: Position, name: str) -> Node:
        figure = f"positions.{position.symbol}.{name}"
        if name in POSITION_SUMS:
            return self._ledger(figure)
        size = self._ledger(f"positions.{position.symbol}.size")
        cost = self._ledger(f"positions.{position.symbol}.cost")
        if name == "entry_price":
            over = "size / cost" if position.instrument.inverse else "cost / size"
            entry = entry_price(position)
            return _computed(figure, entry, f"{over}, 34 significant digits", None, (cost, size))
        value = self._valuation.positions.get(position.symbol)
        if value is None:
            return leaf(figure, None, "the position is flat, or does not compute")
        mark = self._mark(position, value)
        if name == "mark_price":
            return mark
        inverse = position.instrument.inverse
        multiplier = exact_text(position.instrument.multiplier)
        quantity = exact_text(absolute(position.size))
        worth = f"{quantity} {'/' if inverse else 'x'} {mark.value}"
        if name == "notional":
            rule = f"multiplier x size {'/' if inverse else 'x'} mark"
            return _computed(figure, value.notional, rule, f"{multiplier} x {worth}", (size, mark))
        parts = (worth, exact_text(position.cost))
        if (position.size > 0) == inverse:
            parts = (parts[1], parts[0])
        rule = "multiplier x (value at the mark - cost), mirrored for short and inverse"
        text = f"{multiplier} x ({parts[0]} - {parts[1]})"
        return _computed(figure, value.unrealized, rule, text, (size, cost, mark))

    def _mark(self, position: Position, value: PositionValue) -> Node:
        figure = f"positions.{position.symbol}.mark_price"
        if value.source == "fill":
            return leaf(figure, value.price, "no mark is known: the account's own last fill")
        number = self._books.marks[position.symbol].sequence_number
        return leaf(figure, value.price, f"mark {number} of {position.symbol}")

    def _open(self) -> list[tuple[Position, PositionValue]]:
        values = self._valuation.positions
        return [(self._account.positions[symbol], values[symbol]) for symbol in sorted(values)]

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
        source = leaf(f"{currency}{self._home}", rate, "the mark of the spot instrument")
        return _computed(
            figure, value, "amount x rate", f"{node.value} x {exact_text(rate)}", (node, source)
        )

    def _sum_over_positions(
        self,
        figure: str,
        value: Decimal | None,
        rule: str,
        part: Callable[[Position, PositionValue], Node],
    ) -> Node:
        if value is None:
            return leaf(figure, None, "the valuation failed")
        parts = [self._converted(part(p, v), p.instrument.settle) for p, v in self._open()]
        return sum_of(figure, value, rule, parts)

    def _unrealized(self, position: Position, _: PositionValue) -> Node:
        return self._position(position, "unrealized_pnl")

    def _net_notional(self, position: Position, _: PositionValue) -> Node:
        notional = self._position(position, "notional")
        return notional if position.size > 0 else _negated(notional)

    # --- valuation -------------------------------------------------------------------------

    def _cash_total(self) -> list[Node]:
        held = [c for c, amount in sorted(self._account.cash.items()) if amount]
        return [self._converted(self._ledger(f"cash.{currency}"), currency) for currency in held]

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
        rule = "cash + unrealized PnL of derivatives + market value of spot and equity"
        return sum_of("equity", self._valuation.equity, rule, [*self._cash_total(), *worth])

    def _unrealized_pnl(self) -> Node:
        value = self._valuation.unrealized_pnl
        rule = "the sum over open positions"
        return self._sum_over_positions("unrealized_pnl", value, rule, self._unrealized)

    def _exposure_gross(self) -> Node:
        value, rule = self._valuation.exposure_gross, "the sum of the notionals"
        return self._sum_over_positions(
            "exposure_gross", value, rule, lambda p, _: self._position(p, "notional")
        )

    def _exposure_net(self) -> Node:
        value, rule = self._valuation.exposure_net, "the sum of the notionals, short below zero"
        return self._sum_over_positions("exposure_net", value, rule, self._net_notional)

    def _margin_initial(self) -> Node:
        def part(position: Position, value: PositionValue) -> Node:
            notional = self._position(position, "notional")
            leverage = self._account.leverage_of(position.symbol)
            return _computed(
                f"positions.{position.symbol}.margin_initial",
                value.margin_initial,
                "notional / leverage",
                f"{notional.value} / {exact_text(leverage)}",
                (notional, leaf("leverage", leverage, "as set by LeverageChanged; 1 until then")),
            )

        value = self._valuation.margin_initial
        return self._sum_over_positions("margin_initial", value, "the sum over positions", part)

    def _margin_maintenance(self) -> Node:
        def part(position: Position, value: PositionValue) -> Node:
            notional = self._position(position, "notional")
            tiers = position.instrument.tiers
            tier = next(tier for tier in reversed(tiers) if tier.floor <= value.notional)
            assert maintenance_margin(value.notional, tiers) == value.margin_maintenance
            return _computed(
                f"positions.{position.symbol}.margin_maintenance",
                value.margin_maintenance,
                f"notional x rate - amount of the tier from {exact_text(tier.floor)} on",
                f"{notional.value} x {exact_text(tier.rate)} - {exact_text(tier.amount)}",
                (notional,),
            )

        value = self._valuation.margin_maintenance
        return self._sum_over_positions("margin_maintenance", value, "the sum over positions", part)

    def _order_margin(self) -> Node:
        rule = "what open orders reserve: per symbol the worse side beyond the position's margin"
        return leaf("order_margin", self._valuation.ordered, rule)

    def _margin_available(self) -> Node:
        parts = (self._equity(), self._margin_initial(), self._order_margin())
        rule = "max(0, equity - margin_initial - order_margin)"
        text = " - ".join(_bracketed(part.value) for part in parts)
        value = self._valuation.margin_available
        return _computed("margin_available", value, rule, text, parts)

    def _withdrawable(self) -> Node:
        figures = self._account.worths.figures()
        held = self._cash_total()
        cash = reduce(add_wide, (Decimal(node.value or "0") for node in held), ZERO)
        parts = (
            sum_of("cash", cash, "all cash in the account currency", held),
            leaf("unrealized losses", min(ZERO, figures.gain), "min(0, unrealized of derivatives)"),
            leaf("locked", figures.locked, "margin of positions not covered by their own value"),
            self._order_margin(),
        )
        rule = "max(0, cash + unrealized losses - locked - order_margin)"
        shown = [_bracketed(part.value) for part in parts]
        text = f"{shown[0]} + {shown[1]} - {shown[2]} - {shown[3]}"
        return _computed("withdrawable", self._valuation.withdrawable, rule, text, parts)

    def _ratio(self, figure: str, value: Decimal | None, top: Node) -> Node:
        equity = self._equity()
        rule = f"{top.figure} / equity, 34 significant digits; null where equity is not positive"
        text = f"{top.value} / {_bracketed(equity.value)}"
        return _computed(figure, value, rule, text, (top, equity))

    def _margin_ratio(self) -> Node:
        return self._ratio("margin_ratio", self._valuation.margin_ratio, self._margin_maintenance())

    def _leverage(self) -> Node:
        return self._ratio("leverage", self._valuation.leverage, self._exposure_gross())

    def _peak_equity(self) -> Node:
        rule = (
            "the highest equity so far; a deposit, withdrawal or transfer F at equity V turns "
            "peak into peak x (V + F) / V, so flows neither create nor hide drawdown"
        )
        return leaf("peak_equity", self._account.peak_equity, rule)

    def _drawdown(self) -> Node:
        peak, equity = self._peak_equity(), self._equity()
        value = drawdown(self._account.peak_equity, self._valuation.equity)
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
    shown = text or "null"
    return f"({shown})" if shown.startswith("-") else shown
