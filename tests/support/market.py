"""Random logs of a whole trading house from a seed: every event type, every instrument kind.

The author folds what it writes, so that it can name orders and fills that exist.
"""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import msgspec
from tests.support.domain import Log, Seen
from tests.support.events import (
    SECOND,
    START,
    Sent,
    deposit,
    event,
    event_id,
    fee,
    funding,
    instrument,
    mark,
    opened,
    trade,
    withdrawal,
)

from psm.domain.outcomes import Outcome

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
    "USDUSDT": {"kind": "spot", "base": "USD"},
}
GOLD = "GOLD"
"""A symbol that nobody defines."""
PRICES = {"ETH-FUT": 3_000, "AAPL": 180, "USDUSDT": 1, GOLD: 2_000}
KINDS = {
    "linear_perp": ("BTC-PERP",),
    "inverse_perp": ("BTC-INV", "BTCUSDT"),
    "spot": ("BTCUSDT",),
    "equity": ("AAPL", "USDUSDT"),
    "future": ("ETH-FUT",),
    "everything": (*INSTRUMENTS, GOLD),
}
"""Name of a selection -> symbols; rates that it needs are among them."""

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
        return self.say(event(event_type, payload, self.next(stream), stream=stream, salt=salt))

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
        moved = (self.prices[symbol] * step).quantize(quantum)
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
        self.say(mark(self.next(symbol), self.price(symbol), symbol, at=self.time))

    def traded_alone(self, stream: str) -> None:
        self.fill(stream, {})

    def fill(self, stream: str, extra: Payload, symbol: str | None = None) -> None:
        """Write a fill, sometimes one that closes exactly."""
        rng = self.rng
        symbol = symbol or rng.choice(self.traded)
        held = self.log.account(stream).positions.get(symbol)
        side, quantity = rng.choice(["buy", "sell"]), self.quantity(symbol)
        if held is not None and held.size and "order_id" not in extra and rng.random() < 0.35:
            side = "sell" if held.size > 0 else "buy"
            quantity = format(abs(held.size), "f")
        more: Payload = {"commission": self.signed(2)} if rng.random() < 0.7 else {}
        if symbol == "BTCUSDT" and rng.random() < 0.4:
            more = {"commission": "0.001", "commission_currency": "BTC"}
        elif rng.random() < 0.1:
            more = {"commission": "0.01", "commission_currency": "BNB"}
        if rng.random() < 0.1:
            more |= {"execution": "liquidation", "liquidation_fee": "1.5"}
        payload = {"side": side, "quantity": quantity, **more, **extra}
        payload |= {"symbol": symbol, "price": self.price(symbol)}
        number = self.numbers.get(stream, 0) + 1
        if rng.random() < 0.6:
            payload["fill_id"] = f"{stream}-{number}"
        if self.tell(stream, "TradeExecuted", payload).outcome is Outcome.APPLIED:
            named = (event_id("TradeExecuted", stream, number, ""), payload.get("fill_id"))
            self.fills.setdefault(stream, []).append(named)

    def ordered(self, stream: str) -> None:
        """Write a step in the life of an order, races included."""
        rng = self.rng
        orders = list(self.log.account(stream).orders.values())
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
            self.tell(stream, "OrderSubmitted", {"order_id": f"o{number}", **payload})
            return
        order = rng.choice(orders)
        if draw < 0.65:
            part = (order.quantity * rng.randint(1, 12) / 10).normalize()
            extra = {"order_id": order.order_id, "side": order.side}
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

    def stubbed(self, stream: str) -> None:
        """A fill for an order nobody announced."""
        self.fill(stream, {"order_id": f"x{self.rng.randrange(4)}"})

    def moved(self, stream: str) -> None:
        """Cash comes or goes."""
        rng, number = self.rng, self.numbers.get(stream, 0) + 1
        currency = rng.choice([{}, {}, {"currency": "BTC"}, {"currency": "USD"}])
        amount = self.decimal(0, 1 if currency.get("currency") == "BTC" else 900, 3)
        draw = rng.randrange(6)
        if draw == 0:
            self.say(withdrawal(self.next(stream), amount, stream=stream, **currency))
        elif draw == 1:
            self.say(deposit(self.next(stream), amount, stream=stream, **currency))
        elif draw == 2:
            payload = {"amount": "-" + amount, "reason": "booked twice", "actor": "ann"}
            self.tell(stream, "CashAdjusted", {**payload, **currency})
        elif draw == 3:
            self.tell(stream, "InterestAccrued", {"amount": self.signed(1), **currency})
        else:
            other = f"acc_{(int(stream[4:]) + 1) % self.market.accounts:03d}"
            payload = {"amount": amount, "transfer_id": f"t-{stream}-{number}", **currency}
            self.tell(stream, "TransferredOut", payload)
            if other != stream:
                self.tell(other, "TransferredIn", payload)

    def charged(self, stream: str) -> None:
        """Funding, fees and dividends."""
        symbol = self.rng.choice(self.traded)
        draw = self.rng.randrange(4)
        small = self.rng.choice(["", "-"]) + "0.0013"
        if draw == 0:
            self.say(fee(self.next(stream), small, symbol=symbol, stream=stream))
        elif draw == 1:
            self.tell(stream, "DividendPaid", {"symbol": symbol, "amount": small})
        else:
            number = self.next(stream)
            self.say(funding(number, small, symbol, funding_rate="0.0001", stream=stream))

    def levered(self, stream: str) -> None:
        """The leverage changes."""
        own = {"symbol": self.rng.choice(self.traded)} if self.rng.random() < 0.7 else {}
        leverage = self.rng.choice(["1", "3", "7", "20"])
        self.tell(stream, "LeverageChanged", {"leverage": leverage, **own})

    def adjusted(self, stream: str) -> None:
        """A person corrects a position."""
        symbol = self.rng.choice(self.traded)
        quantity = self.rng.choice(["", "-"]) + self.quantity(symbol)
        payload = {"symbol": symbol, "quantity": quantity, "price": self.price(symbol)}
        self.tell(stream, "PositionAdjusted", {**payload, "reason": "late", "actor": "ann"})

    def settled(self, stream: str) -> None:
        """The venue settles a position."""
        symbol = self.rng.choice(self.traded)
        kind = self.rng.choice(["session", "session", "expiry"])
        payload = {"symbol": symbol, "settlement_price": self.price(symbol), "kind": kind}
        self.tell(stream, "PositionSettled", payload)

    def split(self, stream: str) -> None:
        """A split, with or without a fraction paid out."""
        symbol = self.rng.choice(self.traded)
        cash = {"cash_in_lieu": "1.25"} if self.rng.random() < 0.4 else {}
        ratio = self.rng.choice(["2", "3", "0.5"])
        self.tell(stream, "SplitApplied", {"symbol": symbol, "ratio": ratio, **cash})

    def corrected(self, stream: str) -> None:
        """A fill never happened, or happened differently."""
        fills = self.fills.get(stream)
        if not fills:
            return
        place = self.rng.randrange(max(0, len(fills) - 12), len(fills))
        identity, fill_id = fills[place]
        named = {"fill_id": fill_id} if fill_id else {"event_id": identity}
        if self.rng.random() < 0.5:
            fills.pop(place)
            self.tell(stream, "TradeBusted", {**named, "reason": "erroneous"})
            return
        change = self.rng.choice(["price", "quantity", "commission"])
        changes = {"price": "123.45", "quantity": "0.7", "commission": "0.31"}
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
    (4, "corrected"),
    (2, "refused"),
    (1, "gapped"),
)
