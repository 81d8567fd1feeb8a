"""Random logs of a whole trading house from a seed: every event type, every instrument kind.

The author folds what it writes, so that it can name orders and fills that exist.
"""

from __future__ import annotations

import random
from decimal import ROUND_DOWN, Decimal
from typing import Any

import msgspec
from tests.support import market_actions
from tests.support.domain import Log, Seen
from tests.support.events import (
    SECOND,
    START,
    Sent,
    deposit,
    event,
    event_id,
    instrument,
    mark,
    opened,
    trade,
    withdrawal,
)

from psm.domain.messages import Outcome
from psm.domain.reconciliation import holdings_of, report_of

TIERS = [
    {"notional_floor": "0", "maintenance_rate": "0.004"},
    {"notional_floor": "50000", "maintenance_rate": "0.1"},
    {"notional_floor": "250000", "maintenance_rate": "0.25"},
]
INSTRUMENTS: dict[str, dict[str, Any]] = {
    "BTC-PERP": {"kind": "linear_perp", "base": "BTC", "margin_tiers": TIERS},
    "ETH-FUT": {"kind": "linear_future", "base": "ETH", "multiplier": "10", "margin_tiers": TIERS},
    "BTC-INV": {
        "kind": "inverse_perp",
        "base": "BTC",
        "quote": "USD",
        "settle": "BTC",
        "multiplier": "100",
        "margin_tiers": [
            {"notional_floor": "0", "maintenance_rate": "0.005"},
            {"notional_floor": "2.5", "maintenance_rate": "0.05"},
        ],
    },
    "BTCUSDT": {"kind": "spot", "base": "BTC"},
    "AAPL": {"kind": "equity", "base": "AAPL", "quote": "USD", "settle": "USD"},
    "AAPL-C180": {
        "kind": "option",
        "base": "AAPL",
        "quote": "USD",
        "settle": "USD",
        "multiplier": "100",
        "option": {
            "underlying": "AAPL",
            "right": "call",
            "strike": "180",
            "settlement": "physical",
            "expiry": "2026-06-19T20:00:00Z",
        },
    },
    "USDUSDT": {"kind": "spot", "base": "USD"},
}
GOLD = "GOLD"
"""A symbol that nobody defines."""
PRICES = {"ETH-FUT": 3_000, "AAPL": 180, "AAPL-C180": 7, "USDUSDT": 1, GOLD: 2_000}
KINDS = {
    "linear_perp": ("BTC-PERP",),
    "inverse_perp": ("BTC-INV", "BTCUSDT"),
    "spot": ("BTCUSDT",),
    "equity": ("AAPL", "AAPL-C180", "USDUSDT"),
    "future": ("ETH-FUT",),
    "everything": (*INSTRUMENTS, GOLD),
}
"""Name of a selection -> symbols; rates that it needs are among them."""

REVERSIBLE = (
    *("InterestAccrued", "DividendPaid", "SplitApplied", "PositionSettled", "PositionAdjusted"),
    *("TaxCharged", "StockDividend", "ReturnOfCapital", "SymbolChanged", "SpinOff", "Merged"),
    *("BorrowChanged", "AssetsExchanged"),
)
Payload = dict[str, Any]


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """What a random log is made from.

    Attributes:
        seed: of everything below.
        length: number of messages after the definitions and opening deposits.
        accounts: how many streams.
        symbols: traded or marked.
        leave_out: names of the author's methods that are not used, such as `corrected`.
    """

    seed: int
    length: int = 200
    accounts: int = 2
    symbols: tuple[str, ...] = KINDS["everything"]
    leave_out: tuple[str, ...] = ()

    def author(self) -> Author:
        """Return an author that has written the log."""
        author = Author(self)
        author.write()
        return author


class Author:
    """Writes and folds one log; `sent` and `log` are the result."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.rng = random.Random(market.seed)
        self.log = Log()
        self.sent: list[Sent] = []
        self.numbers: dict[str, int] = {}
        self.prices = {s: Decimal(PRICES.get(s, 40_000)) for s in market.symbols}
        self.fills: dict[str, list[tuple[str, str | None]]] = {}
        self.others: dict[str, list[str]] = {}
        self.time = START
        self.traded = tuple(s for s in market.symbols if s != "USDUSDT")
        self._choices = [(w, m) for w, m in WEIGHTS if m not in market.leave_out]

    def write(self) -> None:
        """Write everything."""
        for symbol in self.market.symbols:
            if symbol in INSTRUMENTS:
                self.say(instrument(1, symbol, **INSTRUMENTS[symbol]))
        for n in range(self.market.accounts):
            stream = f"acc_{n:03d}"
            limit = {"leverage_limit": "3"} if n == 0 else {}
            self.say(opened(self.next(stream), stream=stream, **limit))
            self.say(deposit(self.next(stream), "100000", stream=stream))
        names = [name for _, name in self._choices]
        weights = [weight for weight, _ in self._choices]
        while len(self.log.messages) < self.market.length:
            (name,) = self.rng.choices(names, weights)
            self.time += self.rng.choice([1, SECOND // 10, SECOND // 3, 2 * SECOND])
            getattr(self, name)(f"acc_{self.rng.randrange(self.market.accounts):03d}")

    def say(self, sent: Sent) -> Seen:
        """Write one message."""
        self.sent.append(sent if sent.at is not None else sent.later(self.time))
        return self.log.when(self.sent[-1])

    def next(self, stream: str) -> int:
        """Return the next number of a stream or symbol."""
        self.numbers[stream] = self.numbers.get(stream, 0) + 1
        return self.numbers[stream]

    def tell(self, stream: str, event_type: str, payload: Payload, salt: str = "") -> Seen:
        """Write an account event."""
        number = self.next(stream)
        seen = self.say(event(event_type, payload, number, stream=stream, salt=salt))
        if event_type in REVERSIBLE and seen.outcome is Outcome.APPLIED:
            named = event_id(event_type, stream, number, salt)
            self.others.setdefault(stream, []).append(named)
        return seen

    def decimal(self, low: int, high: int, decimals: int) -> str:
        """Return a decimal between two integers."""
        value = self.rng.randint(low * 10**decimals, high * 10**decimals)
        return format(Decimal(max(1, value)).scaleb(-decimals), "f")

    def signed(self, high: int) -> str:
        """Return a decimal of either sign."""
        return self.rng.choice(["", "", "-"]) + self.decimal(0, high, 2)

    def price(self, symbol: str) -> str:
        """Move a symbol's price and return it."""
        step = 1 + Decimal(self.rng.randint(-25, 25)) / 1000
        quantum = Decimal("0.0001") if symbol == "USDUSDT" else Decimal("0.01")
        moved = (self.prices.setdefault(symbol, Decimal(100)) * step).quantize(quantum)
        self.prices[symbol] = max(quantum, moved)
        return format(self.prices[symbol], "f")

    def quantity(self, symbol: str) -> str:
        """Return a quantity that fits the symbol's price."""
        if symbol == "BTC-INV":
            return self.decimal(1, 400, 0)
        if symbol == "AAPL":
            return self.decimal(1, 100, self.rng.choice([0, 0, 1]))
        return self.decimal(0, 2, self.rng.choice([1, 2, 3]))

    def marked(self, _: str) -> None:
        symbol = self.rng.choice(self.market.symbols)
        told = INSTRUMENTS.get(symbol, {}).get("kind") == "option" and self.rng.random() < 0.5
        delta: Payload = {"delta": self.decimal(0, 1, 3)} if told else {}
        self.say(mark(self.next(symbol), self.price(symbol), symbol, at=self.time, **delta))

    def traded_alone(self, stream: str) -> None:
        self.fill(stream, {})

    def fill(self, stream: str, extra: Payload, symbol: str | None = None) -> None:
        """Write a fill, sometimes one that closes exactly."""
        rng = self.rng
        symbol = symbol or rng.choice(self.traded)
        ledger = self.log.account(stream).ledger
        held = ledger.positions.get(symbol)
        size = Decimal(0) if held is None else held.size
        if symbol == "BTCUSDT":
            size = ledger.holding("BTC").quantity.quantize(Decimal("1e-18"), ROUND_DOWN)
        side, quantity = rng.choice(["buy", "sell"]), self.quantity(symbol)
        if size and "order_id" not in extra and rng.random() < 0.35:
            side = "sell" if size > 0 else "buy"
            quantity = format(abs(size), "f")
        more: Payload = {"commission": self.signed(2)} if rng.random() < 0.7 else {}
        if symbol == "BTCUSDT" and rng.random() < 0.4:
            more = {"commission": "0.001", "commission_currency": "BTC"}
        elif rng.random() < 0.1:
            more = {"commission": "0.01", "commission_currency": "BNB"}
        if rng.random() < 0.1:
            more |= {"execution": "liquidation", "liquidation_fee": "1.5"}
        payload = {"side": side, "quantity": quantity, **more, **extra}
        payload |= {"symbol": symbol, "price": self.price(symbol), **self.wallet()}
        if "position_side" not in payload:
            payload |= self.leg()
        number = self.numbers.get(stream, 0) + 1
        if rng.random() < 0.6:
            payload["fill_id"] = f"{stream}-{number}"
        if rng.random() < 0.05:  # the other leg of a self-trade, or of a trade of two orders
            payload["fill_id"] = f"{stream}-{number - 1}"
        if self.tell(stream, "TradeExecuted", payload).outcome is Outcome.APPLIED:
            named = (event_id("TradeExecuted", stream, number, ""), payload.get("fill_id"))
            self.fills.setdefault(stream, []).append(named)

    def ordered(self, stream: str) -> None:
        """Write a step in the life of an order, races included."""
        rng = self.rng
        orders = list(self.log.account(stream).ledger.orders.by_id.values())
        draw = rng.random()
        if draw < 0.3 or not orders:
            symbol = rng.choice(self.traded)
            kind = rng.choice(["market", "limit", "stop", "stop_limit"])
            payload: Payload = {"symbol": symbol, "side": rng.choice(["buy", "sell"])}
            payload |= {"type": kind, "quantity": self.quantity(symbol)}
            payload["reduce_only"] = rng.random() < 0.2
            if kind in ("limit", "stop_limit"):
                payload["price"] = self.price(symbol)
            if kind in ("stop", "stop_limit"):
                payload["stop_price"] = self.price(symbol)
            number = self.numbers.get(stream, 0) + 1
            self.tell(stream, "OrderSubmitted", {"order_id": f"o{number}", **payload, **self.leg()})
            return
        order = rng.choice(orders)
        if draw < 0.65:
            part = (order.quantity * rng.randint(1, 12) / 10).normalize()
            extra = {"order_id": order.order_id, "side": order.side}
            if order.position_side is not None:
                extra["position_side"] = order.position_side
            if part > 0:
                extra["quantity"] = format(part, "f")
            self.fill(stream, extra, order.symbol)
            return
        named = {"order_id": order.order_id}
        if draw < 0.75:
            quantity = format((order.quantity * 2).normalize(), "f")
            self.tell(stream, "OrderReplaced", {**named, "quantity": quantity})
            return
        verb = rng.choice(["Accepted", "Accepted", "Cancelled", "Expired", "Rejected"])
        self.tell(stream, f"Order{verb}", named)

    def moded(self, stream: str) -> None:
        """Legs or net, of one symbol or of all."""
        own = {"symbol": self.rng.choice(self.traded)} if self.rng.random() < 0.6 else {}
        mode = self.rng.choice(["hedge", "hedge", "net"])
        self.tell(stream, "PositionModeChanged", {"mode": mode, **own})

    def isolated(self, stream: str) -> None:
        """A symbol gets wallets of its own, or money moves into one."""
        rng, symbol = self.rng, self.rng.choice(self.traded)
        payload: Payload = {"symbol": symbol, **self.leg()}
        if rng.random() < 0.5:
            payload["mode"] = rng.choice(["isolated", "isolated", "cross"])
            if rng.random() < 0.6:
                payload["amount"] = self.decimal(0, 50, 2)
            self.tell(stream, "MarginModeChanged", payload)
            return
        if rng.random() < 0.5:
            payload["reference"] = f"m{rng.randrange(50)}"
        if rng.random() < 0.3:
            margin = {"initial": self.decimal(0, 90, 2), "maintenance": self.decimal(0, 40, 2)}
            self.tell(stream, "MarginReported", {**payload, **margin})
            return
        self.tell(stream, "MarginTransferred", {**payload, "amount": self.signed(20)})

    def leg(self) -> Payload:
        """Return the leg that an event names; mostly one."""
        if "moded" in self.market.leave_out or self.rng.random() < 0.3:
            return {}
        return {"position_side": self.rng.choice(["long", "long", "short", "short", "net"])}

    def wallet(self) -> Payload:
        """Return what an event says of the wallet; seldom something."""
        if "isolated" in self.market.leave_out or self.rng.random() < 0.9:
            return {}
        return {"isolated_margin": self.signed(9)}

    def stubbed(self, stream: str) -> None:
        """A fill for an order nobody announced."""
        self.fill(stream, {"order_id": f"x{self.rng.randrange(4)}"})

    def moved(self, stream: str) -> None:
        """Cash comes or goes."""
        rng, number = self.rng, self.numbers.get(stream, 0) + 1
        currency = rng.choice([{}, {}, {"currency": "BTC"}, {"currency": "USD"}])
        amount = self.decimal(0, 1 if currency.get("currency") == "BTC" else 900, 3)
        draw = rng.randrange(6)
        named = {"reference": f"r{number}"} if rng.random() < 0.5 else {}
        if draw == 0:
            self.say(withdrawal(self.next(stream), amount, stream=stream, **currency, **named))
        elif draw == 1:
            self.say(deposit(self.next(stream), amount, stream=stream, **currency, **named))
        elif draw == 2:
            payload = {"amount": "-" + amount, "reason": "booked twice", "actor": "ann"}
            self.tell(stream, "CashAdjusted", {**payload, **currency})
        elif draw == 3:
            self.tell(stream, "InterestAccrued", {"amount": self.signed(1), **currency, **named})
        else:
            other = f"acc_{(int(stream[4:]) + 1) % self.market.accounts:03d}"
            payload = {"amount": amount, "transfer_id": f"t-{stream}-{number}", **currency}
            self.tell(stream, "TransferredOut", payload)
            if other != stream:
                self.tell(other, "TransferredIn", payload)

    def reversed(self, stream: str) -> None:
        """Something that came or went is taken back."""
        payload: Payload = {"amount": self.decimal(0, 90, 2)}
        payload["direction"] = self.rng.choice(["in", "out"])
        if self.rng.random() < 0.5:
            payload["reversal_reference"] = f"b{self.rng.randrange(50)}"
        kind, name = self.rng.choice(
            [("CashReversed", "reference"), ("TransferReversed", "transfer_id")]
        )
        self.tell(stream, kind, {**payload, name: f"r{self.rng.randrange(50)}"})

    def taxed(self, stream: str) -> None:
        """Taxes, and losses that somebody else pays for."""
        if self.rng.random() < 0.6:
            self.tell(stream, "TaxCharged", {"amount": self.signed(3), "kind": "withholding"})
            return
        symbol = self.rng.choice(self.traded)
        self.tell(stream, "LossCovered", {"symbol": symbol, "amount": self.decimal(0, 5, 2)})

    def in_kind(self, stream: str) -> None:
        """Shares or contracts come from elsewhere, or go there."""
        rng, symbol = self.rng, self.rng.choice(self.traded)
        way = rng.choice(["In", "Out"])
        number = self.numbers.get(stream, 0) + 1
        payload = {"symbol": symbol, "quantity": self.quantity(symbol), "transfer_id": f"k{number}"}
        payload |= self.leg()
        if way == "In" or rng.random() < 0.5:
            payload["side"] = rng.choice(["long", "short"])
        if INSTRUMENTS.get(symbol, {}).get("kind") in ("spot", "equity"):
            if rng.random() < 0.7:
                payload["cost"] = self.decimal(0, 9_000, 2)
        elif way == "In" or rng.random() < 0.7:
            payload["entry_price"] = self.price(symbol)
        self.tell(stream, f"PositionTransferred{way}", payload)

    def issued(self, stream: str) -> None:
        """What the issuer of a share does."""
        rng, symbol = self.rng, self.rng.choice(self.traded)
        if rng.random() < 0.5:
            self.tell(stream, "ReturnOfCapital", {"symbol": symbol, "amount": self.signed(20)})
            return
        terms: Payload = {"numerator": "1", "denominator": rng.choice(["3", "10", "20"])}
        self.tell(stream, "StockDividend", {"symbol": symbol, **terms})

    def acted(self, stream: str) -> None:
        """A corporate action."""
        market_actions.act(self, stream)

    def delivered(self, stream: str) -> None:
        """A settlement that delivers, or pays in coin."""
        market_actions.deliver(self, stream)

    def exchanged(self, stream: str) -> None:
        """Assets for assets, what is owed, taxes of dividends."""
        market_actions.exchange(self, stream)

    def reset(self, stream: str) -> None:
        """An operator restates the peak; mostly above the nav of now."""
        state = self.log.account(stream).valuation
        nav = state.performance.nav(self.log.account(stream).equity()) or Decimal(1)
        peak = format(max(nav, Decimal("0.01")).quantize(Decimal("0.0001")) * 2, "f")
        said = {"peak_nav": peak, "max_drawdown": self.rng.choice(["0", "0.25", "0.6"])}
        self.tell(stream, "PeakReset", {**said, "actor": "ann", "reason": "wrong mark"})

    def charged(self, stream: str) -> None:
        """Funding, fees and dividends."""
        symbol = self.rng.choice(self.traded)
        draw = self.rng.randrange(4)
        small = self.rng.choice(["", "-"]) + "0.0013"
        if draw == 0:
            payload = {"amount": small, "symbol": symbol, **self.leg(), **self.wallet()}
            self.tell(stream, "FeeCharged", payload)
        elif draw == 1:
            self.tell(stream, "DividendPaid", {"symbol": symbol, "amount": small})
        else:
            payload = {"symbol": symbol, "funding_payment": small, "funding_rate": "0.0001"}
            self.tell(stream, "FundingApplied", {**payload, **self.leg(), **self.wallet()})

    def levered(self, stream: str) -> None:
        """The leverage changes."""
        own = {"symbol": self.rng.choice(self.traded)} if self.rng.random() < 0.7 else {}
        leverage = self.rng.choice(["1", "3", "7", "20"])
        own |= {**self.leg(), **self.wallet()} if own else {}
        self.tell(stream, "LeverageChanged", {"leverage": leverage, **own})

    def adjusted(self, stream: str) -> None:
        """A person corrects a position."""
        symbol = self.rng.choice(self.traded)
        quantity = self.rng.choice(["", "-"]) + self.quantity(symbol)
        payload = {"symbol": symbol, "quantity": quantity, "price": self.price(symbol)}
        payload |= self.leg()
        self.tell(stream, "PositionAdjusted", {**payload, "reason": "late", "actor": "ann"})

    def settled(self, stream: str) -> None:
        """The venue settles a position."""
        symbol = self.rng.choice(self.traded)
        kind = self.rng.choice(["session", "session", "expiry"])
        payload = {"symbol": symbol, "settlement_price": self.price(symbol), "kind": kind}
        payload |= {**self.leg(), **self.wallet()}
        self.tell(stream, "PositionSettled", payload)

    def split(self, stream: str) -> None:
        """A split, with or without a fraction paid out."""
        symbol = self.rng.choice(self.traded)
        payload: Payload = {"symbol": symbol, "ratio": self.rng.choice(["2", "3", "0.5"])}
        if self.rng.random() < 0.5:
            new, old = self.rng.choice([("1", "3"), ("3", "2"), ("7", "3")])
            payload = {"symbol": symbol, "numerator": new, "denominator": old}
        if self.rng.random() < 0.4:
            held = self.log.account(stream).ledger.positions.get(symbol)
            size = abs(held.size) if held is not None else Decimal(0)
            left = format(size.quantize(Decimal(1), ROUND_DOWN), "f")
            payload |= {"quantity_after": left}
            if self.rng.random() < 0.7:
                payload |= {"cash_in_lieu": "1.25"}
        if self.rng.random() < 0.2:
            payload["mark_adjusted"] = True
        payload |= self.leg()
        self.tell(stream, "SplitApplied", payload)

    def corrected(self, stream: str) -> None:
        """A fill or another event never happened, or happened differently."""
        fills, others = self.fills.get(stream), self.others.get(stream)
        if others and self.rng.random() < 0.2:
            wrong = others.pop(self.rng.randrange(len(others)))
            said = {"event_id": wrong, "reason": "wrong", "actor": "ann"}
            self.tell(stream, "EventReversed", said)
            return
        if not fills:
            return
        place = self.rng.randrange(max(0, len(fills) - 12), len(fills))
        identity, fill_id = fills[place]
        named = {"fill_id": fill_id} if fill_id else {"event_id": identity}
        if self.rng.random() < 0.5:
            fills.pop(place)
            self.tell(stream, "TradeBusted", {**named, "reason": "erroneous"})
            return
        changes = {
            "price": "123.45",
            "quantity": "0.7",
            "commission": "0.31",
            "side": "sell",
            "commission_currency": "BNB",
            "liquidation_fee": "0.9",
            "position_side": "short",
            "isolated_margin": "3.5",
        }
        change = self.rng.choice(list(changes))
        payload = {**named, "reason": "wrong", change: changes[change]}
        self.tell(stream, "TradeAmended", payload)

    def refused(self, stream: str) -> None:
        """Something the books do not take."""
        choice = self.rng.randrange(4)
        if choice == 0:
            self.tell(stream, "CashDeposited", {"amount": "-1"})
        elif choice == 1:
            self.tell(stream, "OrderCancelled", {"order_id": "nobody"})
        elif choice == 2:
            self.tell(stream, "TradeBusted", {"fill_id": "nothing", "reason": "?"})
        elif self.sent:  # the same bytes again
            again = self.rng.choice(self.sent)
            self.say(again.later(self.time))

    def gapped(self, stream: str) -> None:
        """Two events change places."""
        first, second = self.next(stream), self.next(stream)
        self.say(
            trade(second, "buy", "0.1", self.price(self.traded[0]), self.traded[0], stream=stream)
        )
        self.say(deposit(first, "5", stream=stream))

    def reported(self, stream: str) -> None:
        """Somebody's statement: as we have it, so that it matches, or with something else."""
        account = self.log.books.accounts.get(stream)
        if account is None:
            return
        as_of = f"report {len(self.sent)}"
        payload = report_of(holdings_of(account), source="venue", as_of=as_of)
        differs = self.rng.random() < 0.3
        if differs:
            payload["assets"] = {**payload["assets"], "DUST": self.decimal(1, 9, 8)}
        elif self.rng.random() < 0.3:
            payload["through"] = "nothing of this name"
        sent = event("AccountReported", payload, None, stream=stream, salt=as_of)
        seen = self.say(sent)
        assert seen.outcome == "compared", seen
        wanted = None if "through" in payload else not differs
        assert seen.payload("ReconciliationReported")["matches"] is wanted, seen.updates
        if self.rng.random() < 0.3:
            assert self.say(sent.later(self.time)).outcome == "duplicate"


WEIGHTS = (
    (28, "marked"),
    (28, "traded_alone"),
    (14, "ordered"),
    (2, "stubbed"),
    (6, "moved"),
    (6, "charged"),
    (2, "levered"),
    (1, "adjusted"),
    (2, "settled"),
    (1, "split"),
    (2, "in_kind"),
    (1, "issued"),
    (1, "taxed"),
    (2, "acted"),
    (1, "delivered"),
    (1, "exchanged"),
    (1, "reversed"),
    (1, "reset"),
    (2, "moded"),
    (3, "isolated"),
    (4, "corrected"),
    (2, "reported"),
    (2, "refused"),
    (1, "gapped"),
)
