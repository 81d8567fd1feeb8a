"""An account as its updates tell it: its state document, kept up to date input by input."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from psm.contracts.documents import put_asset, put_home
from psm.contracts.feed import FeedInput
from psm.contracts.position_keys import position_key, symbol_of
from psm.contracts.update_fields import Common
from psm.contracts.updates import TOLD_ONCE
from psm.contracts.valuation import equity_at
from psm.domain.money import ZERO, negate, subtract
from psm.risk.exposure import ExposureLine
from psm.risk.market import MarketView

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
ENDED = ("filled", "cancelled", "rejected", "expired")
"""Status of orders that will not fill any more."""
UNKNOWN = "unknown"
"""State hash, in read vectors, of an account that decisions could not know."""
ASSET = "asset:"
"""Begin of the names of lines that are assets; others are keys of positions."""


@lru_cache(maxsize=256)
def microseconds(text: str) -> int:
    """Return an RFC 3339 time in UTC as microseconds since 1970."""
    return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND


class AccountChange(msgspec.Struct, frozen=True, kw_only=True):
    """What one input changed of an account.

    Attributes:
        time: log time of the input, us.
        lines: names of lines whose size or mark source changed.
        orders: figures of orders, as they are now.
        results: net results of the trades that it closed, in order.
        transfers: (transfer id, direction) of an applied transfer.
        closes: of minutes that ended: (end in us, equity, flows).
    """

    time: int
    lines: tuple[str, ...] = ()
    orders: tuple[Mapping[str, Any], ...] = ()
    results: tuple[Decimal, ...] = ()
    transfers: tuple[tuple[str, str], ...] = ()
    closes: tuple[tuple[int, Decimal | None, Decimal], ...] = ()


class GroupMember:
    """One account of a group.

    Attributes:
        account_id: whose.
        known: everything up to `log_sequence` was seen; else nothing may be decided on it.
        log_sequence: of the last input.
        equity: at the marks of now, in its currency; None if it does not compute.
    """

    def __init__(self, account_id: str) -> None:
        self.account_id = account_id
        self.known = False
        self.log_sequence = 0
        self.equity: Decimal | None = None
        self._document: dict[str, Any] = {"positions": {}, "orders": {}, "assets": {}}
        self._by_line: dict[str, dict[str, Mapping[str, Any]]] = {}

    @property
    def currency(self) -> str | None:
        """Of the account; None before it was opened."""
        found: str | None = self._document.get("currency")
        return found

    @property
    def status(self) -> str:
        """Status of its stream."""
        found: str = self._document.get("status", "open")
        return found

    @property
    def is_valued(self) -> bool:
        """Whether PSM itself could value it."""
        return self._document.get("equity") is not None

    @property
    def seen(self) -> tuple[int, int, str]:
        """What a decision on it saw: sequence number, log sequence, state hash.

        The hash of an account that is not known is `UNKNOWN`, the rest what was seen last.
        """
        own = self._document
        state_hash = own.get("state_hash", "") if self.known else UNKNOWN
        return own.get("sequence_number", 0), self.log_sequence, state_hash

    @property
    def orders(self) -> Mapping[str, Mapping[str, Any]]:
        """Figures of its open orders, by id."""
        found: Mapping[str, Mapping[str, Any]] = self._document["orders"]
        return found

    def amount(self, name: str) -> Decimal | None:
        """Return a figure of the account as it was published."""
        text = self._document.get(name)
        return None if text is None else Decimal(text)

    def realized(self) -> Decimal:
        """Return what is booked for good: trades, costs, funding, interest, dividends."""
        names = ("realized_pnl_net", "interest", "dividends", "adjustments", "taxes")
        net, interest, dividends, adjustments, taxes = (self.amount(n) or ZERO for n in names)
        for amount in (interest, dividends, adjustments):
            net = subtract(net, negate(amount))
        return subtract(net, taxes)

    def enter(self, document: bytes, log_sequence: int) -> None:
        """Take the whole account as of an input."""
        self._document = msgspec.json.decode(document, type=dict[str, Any])
        self.log_sequence = log_sequence
        self.known = True
        self._by_line = {}
        for order_id, order in self._document["orders"].items():
            self._by_line.setdefault(line_name(order), {})[order_id] = order

    def apply(self, found: FeedInput) -> AccountChange:
        """Take the updates of one input."""
        lines: dict[str, None] = {}
        orders: list[Mapping[str, Any]] = []
        results: list[Decimal] = []
        closes: list[tuple[int, Decimal | None, Decimal]] = []
        transfers: list[tuple[str, str]] = []
        time = 0
        for data in found.updates:
            update = msgspec.json.decode(data, type=dict[str, Any])
            payload, time = update["payload"], microseconds(update["timestamp"])
            match update["event_type"]:
                case "PositionUpdated":
                    lines[self._position(payload)] = None
                    results = [*results, *_result(payload)]
                case "OrderUpdated":
                    lines[self._order(payload)] = None
                    orders.append(payload)
                case "StateUpdated":
                    transfers = [*transfers, *_halves(payload.get("applied"))]
                    closes = [*closes, *map(_close, payload.get("closed", ()))]
                    self._state(payload)
                case "StreamBlocked":
                    waits = payload["reason"] == "sequence_gap"
                    self._document["status"] = "gap" if waits else "blocked"
                case "StreamResumed":
                    self._document["status"] = "open"
        self.log_sequence = found.log_sequence
        return AccountChange(
            time=time,
            lines=tuple(lines),
            orders=tuple(orders),
            results=tuple(results),
            transfers=tuple(transfers),
            closes=tuple(closes),
        )

    def _state(self, payload: Mapping[str, Any]) -> None:
        own = self._document
        own.update({name: v for name, v in payload.items() if name not in TOLD_ONCE})
        if own["currency"] is not None:
            put_home(own["assets"], own["currency"], own["cash"])

    def _position(self, payload: Mapping[str, Any]) -> str:
        """Take a position or an asset; return the name of its line."""
        figures = {n: v for n, v in payload.items() if n not in Common.__struct_fields__}
        if figures["class"] == "asset":
            put_asset(self._document["assets"], figures)
            return f"{ASSET}{figures['symbol']}"
        key = position_key(figures["symbol"], figures["position_side"])
        self._document["positions"][key] = figures
        if (figures["side"], figures["cycle"]) == ("flat", 0):
            del self._document["positions"][key]
        return key

    def _order(self, payload: Mapping[str, Any]) -> str:
        """Take an order; return the name of its position's line."""
        name, order_id = line_name(payload), payload["order_id"]
        for own in (self._document["orders"], self._by_line.setdefault(name, {})):
            if payload["status"] in ENDED:
                own.pop(order_id, None)
            else:
                own[order_id] = payload
        if not self._by_line[name]:
            del self._by_line[name]
        return name

    def value(self, market: MarketView) -> None:
        """Value it at the marks of now."""
        if not self.known or not self.is_valued:
            self.equity = None
            return
        rates: dict[str, Decimal | None] = {}
        for asset in self.foreign():
            rate = market.rate(asset, self.currency)
            if rate is not None:
                rates[asset] = rate
        prices = {}
        for position in self._document["positions"].values():
            price = _price(position, market)
            if price is not None:
                prices[position["symbol"]] = price
        try:
            self.equity = equity_at(self._document, prices, rates)
        except ArithmeticError:
            self.equity = None

    def foreign(self) -> list[str]:
        """Return assets and currencies that it has something in, beside its own."""
        own = self._document
        named = dict.fromkeys(own["assets"])
        for position in own["positions"].values():
            if position["side"] != "flat":
                named[position["currency"]] = None
        return sorted(name for name in named if name != self.currency)

    def line_names(self) -> list[str]:
        """Return the names of its lines, ascending: what it holds, and has open orders of."""
        own = self._document
        held = [key for key, one in own["positions"].items() if one["side"] != "flat"]
        assets = [f"{ASSET}{name}" for name in own["assets"] if name != self.currency]
        return sorted(dict.fromkeys((*held, *assets, *self._by_line)))

    def ordered_lines(self) -> list[str]:
        """Return the keys of the positions that open orders would change."""
        return [*self._by_line]

    def ordered(self, name: str) -> Mapping[str, Mapping[str, Any]]:
        """Return figures of the open orders of a line, by id."""
        return self._by_line.get(name, {})

    def held(self, name: str, market: MarketView) -> ExposureLine:
        """Return a line without any orders, in the account's currency."""
        if name.startswith(ASSET):
            return self._asset(name.removeprefix(ASSET), market)
        symbol, position = symbol_of(name), self._document["positions"].get(name)
        if position is None or position["side"] == "flat":
            return ExposureLine(symbol=symbol, unit=market.unit(symbol, self.currency))
        size, price = Decimal(position["size"]), _price(position, market)
        if price is None and position["mark_source"] == "fill":
            price = Decimal(position["mark_price"])
        return ExposureLine(
            symbol=symbol,
            size=negate(size) if position["side"] == "short" else size,
            unit=market.worth(symbol, price, self.currency),
        )

    def _asset(self, asset: str, market: MarketView) -> ExposureLine:
        """Return the line of an asset, at its rate of now, else that of its row."""
        row, unit = self._document["assets"].get(asset), market.rate(asset, self.currency)
        if unit is None and row is not None and row["mark_price"] is not None:
            unit = Decimal(row["mark_price"])
        size = Decimal(row["quantity"]) if row else ZERO
        return ExposureLine(symbol=asset, size=size, unit=unit)


def _price(position: Mapping[str, Any], market: MarketView) -> Decimal | None:
    """Return the mark of a position in the account's own units; None where there is none.

    After a split the position's row has the mark of before as it counts from then on.
    """
    mark = market.mark(position["symbol"])
    if mark is None:
        return None
    own = position["mark_log_sequence"]
    if own is not None and mark.log_sequence <= own and position["mark_price"] is not None:
        return Decimal(position["mark_price"])
    return mark.price


def line_name(order: Mapping[str, Any]) -> str:
    """Return the name of the line that an order changes."""
    return position_key(order["symbol"], order["position_side"] or "net")


def _result(payload: Mapping[str, Any]) -> list[Decimal]:
    """Return the net result of a trade that an update closed."""
    if payload["change"] != "closed" or payload["cycle_realized_pnl"] is None:
        return []
    fees, funding = Decimal(payload["cycle_fees"]), Decimal(payload["cycle_funding"])
    net = subtract(Decimal(payload["cycle_realized_pnl"]), fees)
    return [subtract(net, negate(funding))]


def _halves(applied: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return transfer id and direction, `in`, `out` or `reversed`, of an applied transfer."""
    kind = "" if applied is None else applied["event_type"]
    if applied is None or kind not in _DIRECTIONS:
        return []
    direction = _DIRECTIONS[kind]
    return [(applied["target" if direction == "reversed" else "reference"], direction)]


_DIRECTIONS = {
    "TransferredIn": "in",
    "TransferredOut": "out",
    "PositionTransferredIn": "in",
    "PositionTransferredOut": "out",
    "TransferReversed": "reversed",
}


def _close(closed: Mapping[str, Any]) -> tuple[int, Decimal | None, Decimal]:
    equity = closed["equity"]
    end = microseconds(closed["bucket_end"])
    return end, None if equity is None else Decimal(equity), Decimal(closed["flows"])
