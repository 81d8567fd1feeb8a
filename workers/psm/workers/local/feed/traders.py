"""Accounts, and what they do: trade contracts, coins or shares."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Protocol

from nats.aio.client import Client

from .line import AWAY, Line, decoded, uuid7
from .market import CURRENCY, MARKET, PERPETUALS, RandomWalk, money, rounded

_KNOWN_S = 10.0


class Trader(Protocol):
    """One account, and who trades for it."""

    account: AccountLine

    async def start(self) -> None:
        """Go on where the log ends, or open the account."""
        ...

    async def act(self) -> None:
        """Publish the next event of this account."""
        ...


def trader(nc: Client, number: int, market: RandomWalk, seed: str) -> Trader:
    """Return the n-th trader: the second hedges, the third isolates, then coins, then shares."""
    account = AccountLine(nc, f"acc_{number:03}", seed)
    match number:
        case 4:
            return CoinTrader(account, market)
        case 5:
            return Investor(account, market)
        case _:
            return ContractTrader(account, market, hedged=number == 2, isolates=number == 3)


class AccountLine:
    """The line of one account, with its money and its temper."""

    def __init__(self, nc: Client, account_id: str, seed: str) -> None:
        self._nc = nc
        self._line = Line(nc, f"trades.{account_id}", f"trades.*.{account_id}")
        self.account_id = account_id
        self.chance = random.Random(f"{seed}/{account_id}")  # noqa: S311 - a demo, not a secret
        self.capital = self.chance.choice([10_000, 25_000, 50_000, 100_000])
        self.published: Counter[str] = Counter()

    async def open(self, currency: str, **terms: str) -> dict[str, Any]:
        """Open and fund the account; return what PSM knows of one that is open already."""
        await self._line.look()
        if self._line.number:
            return await self._known()
        await self.publish("AccountOpened", {"currency": currency, **terms})
        await self.publish("CashDeposited", {"amount": str(self.capital)})
        return {}

    async def publish(self, event_type: str, payload: Mapping[str, object]) -> None:
        """Append the account's next event."""
        await self._line.publish(event_type, payload)
        self.published[event_type] += 1

    async def fill(self, symbol: str, change: Decimal, price: Decimal, **more: object) -> None:
        """Append a fill of a signed quantity."""
        payload = {
            "symbol": symbol,
            "side": "buy" if change > 0 else "sell",
            "quantity": str(abs(change)),
            "price": str(price),
            "fill_id": uuid7().hex,
            **more,
        }
        await self.publish("TradeExecuted", payload)

    async def _known(self) -> dict[str, Any]:
        """Return the account's state once it has all its events, else what there is of it."""
        give_up_at, known = time.monotonic() + _KNOWN_S, dict[str, Any]()
        while known.get("sequence_number", 0) < self._line.number:
            try:
                answer = await self._nc.request("psm.get.state", self.account_id.encode(), 2)
                known = decoded(answer.data)
            except AWAY:
                pass
            if time.monotonic() > give_up_at:
                break
        return known


class ContractTrader:
    """Trades perpetuals as its temper says, in hedge mode or with wallets of their own if told."""

    def __init__(
        self, account: AccountLine, market: RandomWalk, *, hedged: bool, isolates: bool
    ) -> None:
        self.account = account
        self._market = market
        self._hedged, self._isolates = hedged, isolates
        self._chance = account.chance
        self._temper = Decimal(self._chance.choice(["0.5", "1", "1.5", "2", "3"]))
        self.held: dict[str, Decimal] = {}

    async def start(self) -> None:
        """Go on where the log ends, or open the account."""
        known = await self.account.open(CURRENCY, leverage_limit=str(2 * self._temper))
        for key, position in known.get("positions", {}).items():
            sign = {"long": 1, "short": -1}.get(position["side"], 0)
            self.held[key] = sign * Decimal(position["size"])
        if known:
            return
        if self._hedged:
            await self.account.publish("PositionModeChanged", {"mode": "hedge"})
        if self._isolates:
            symbol = {"symbol": PERPETUALS[0]}
            await self.account.publish("MarginModeChanged", {**symbol, "mode": "isolated"})
            await self.account.publish("LeverageChanged", {**symbol, "leverage": "5"})

    async def act(self) -> None:
        """Publish the next event of this account."""
        held = sorted(key for key, size in self.held.items() if size)
        kind = self._chance.choices(
            ["trade", "funding", "fee", "CashDeposited", "CashWithdrawn"],
            [84, 9 if held else 0, 2, 3, 2],
        )[0]
        amount = str(self.account.capital * self._chance.randint(1, 20) // 1000)
        if kind == "funding":
            await self._funding(self._chance.choice(held))
        elif kind == "fee":
            await self.account.publish("FeeCharged", {"amount": "0.50", "reason": "market data"})
        elif kind == "trade":
            await self._trade(self._chance.choice(PERPETUALS))
        else:
            await self.account.publish(kind, {"amount": amount})

    async def _trade(self, symbol: str) -> None:
        leg = self._chance.choice(["#long", "#short"]) if self._hedged else ""
        listed, held = MARKET[symbol], self.held.get(symbol + leg, Decimal(0))
        price = slipped(self._market, symbol, self._chance)
        share = self._temper * Decimal(repr(self._chance.uniform(0.03, 0.2)))
        usual = listed.lots(self.account.capital * share / price)
        change = self._change(held, usual, listed.lot)
        if leg:  # it opens on its own side, and is never closed too far
            side = 1 if leg == "#long" else -1
            change = side * max(side * change, -abs(held)) if held else side * usual
        maker = self._chance.random() < 0.5
        # A maker gets a small rebate: a negative commission.
        fee = abs(change) * price * Decimal("-0.00005" if maker else "0.0005")
        liquidity = "maker" if maker else "taker"
        named = {**_named(symbol + leg), "commission": money(fee), "liquidity": liquidity}
        await self.account.fill(change=change, price=price, **named)
        self.held[symbol + leg] = held + change

    def _change(self, held: Decimal, usual: Decimal, lot: Decimal) -> Decimal:
        """Return the signed quantity of the next trade."""
        if not held:
            return usual * self._chance.choice([1, -1])
        full = abs(held) >= 3 * usual
        how = self._chance.choices(
            ["increase", "reduce", "close", "flip"], [0 if full else 40, 30, 12, 18]
        )[0]
        sign = 1 if held > 0 else -1
        if how == "increase":
            return sign * usual
        if how == "reduce":
            part = abs(held) * Decimal(repr(self._chance.uniform(0.2, 0.8)))
            return -sign * max(rounded(part, lot), lot)
        return -held if how == "close" else -held - sign * usual

    async def _funding(self, key: str) -> None:
        rate = Decimal(repr(round(self._chance.gauss(0.0001, 0.0001), 6)))
        payment = -self.held[key] * self._market.prices[_named(key)["symbol"]] * rate
        said = {"funding_rate": format(rate, "f"), "funding_payment": money(payment)}
        payload = {**_named(key), **said, "reference": uuid7().hex}
        await self.account.publish("FundingApplied", payload)


class CoinTrader:
    """Buys and sells a coin for money, and pays the fees in another coin, which it keeps."""

    def __init__(self, account: AccountLine, market: RandomWalk) -> None:
        self.account = account
        self._market = market
        self._chance = account.chance
        self._owned: dict[str, Decimal] = {}

    async def start(self) -> None:
        """Go on where the log ends, or open the account and buy what pays the fees."""
        known = await self.account.open(CURRENCY)
        self._owned = {name: Decimal(amount) for name, amount in known.get("cash", {}).items()}
        if not known:
            self._owned = {CURRENCY: Decimal(self.account.capital)}
            await self._stock_up()

    async def act(self) -> None:
        """Publish the next event of this account."""
        if self._owned.get("BNB", Decimal(0)) < Decimal("0.2"):
            await self._stock_up()
            return
        free, coins = self._owned[CURRENCY], self._owned.get("BTC", Decimal(0))
        price = slipped(self._market, "BTCUSDT", self._chance)
        part = Decimal(repr(self._chance.uniform(0.02, 0.2)))
        lot = MARKET["BTCUSDT"].lot
        buys = rounded(free * part / price, lot)
        sells = min(rounded(coins * 3 * part, lot), coins)
        change = buys if self._chance.random() < 0.55 else -sells
        if not change:
            change = buys or -sells
        fee = abs(change) * price * Decimal("0.00075") / self._market.prices["BNBUSDT"]
        await self._exchange("BTCUSDT", change, price, money(fee))

    async def _stock_up(self) -> None:
        price = slipped(self._market, "BNBUSDT", self._chance)
        worth = self.account.capital * Decimal("0.03")
        await self._exchange("BNBUSDT", MARKET["BNBUSDT"].lots(worth / price), price, "0")

    async def _exchange(self, symbol: str, change: Decimal, price: Decimal, fee: str) -> None:
        paid = {"commission": fee, "commission_currency": "BNB"}
        await self.account.fill(symbol, change, price, **paid)
        base = symbol.removesuffix(CURRENCY)
        for asset, moved in ((base, change), (CURRENCY, -change * price), ("BNB", -Decimal(fee))):
            self._owned[asset] = self._owned.get(asset, Decimal(0)) + moved


class Investor:
    """Buys and sells a share it has paid for, and receives dividends less the tax on them."""

    _SYMBOL = "ACME"
    _PER_SHARE = Decimal("0.24")
    _TAX = Decimal("0.15")

    def __init__(self, account: AccountLine, market: RandomWalk) -> None:
        self.account = account
        self._market = market
        self._chance = account.chance
        self._cash = self._shares = Decimal(0)

    async def start(self) -> None:
        """Go on where the log ends, or open the account."""
        currency = MARKET[self._SYMBOL].quote
        known = await self.account.open(currency)
        self._cash = Decimal(known.get("cash", {}).get(currency, self.account.capital))
        position = known.get("positions", {}).get(self._SYMBOL, {"size": "0"})
        self._shares = Decimal(position["size"])

    async def act(self) -> None:
        """Publish the next event of this account."""
        if self._shares and self._chance.random() < 0.15:
            await self._dividend()
        else:
            await self._trade()

    async def _trade(self) -> None:
        price = slipped(self._market, self._SYMBOL, self._chance)
        part = Decimal(repr(self._chance.uniform(0.05, 0.3)))
        buys = rounded(self._cash * part / price, Decimal(1))
        sells = max(rounded(self._shares * part, Decimal(1)), Decimal(1))
        change = -sells if self._shares and (not buys or self._chance.random() < 0.4) else buys
        await self.account.fill(self._SYMBOL, change, price, commission="1")
        self._shares += change
        self._cash -= change * price + 1

    async def _dividend(self) -> None:
        gross = self._shares * self._PER_SHARE
        tax = gross * self._TAX
        payload = {
            "symbol": self._SYMBOL,
            "amount": money(gross - tax),  # what arrives
            "gross": money(gross),
            "tax": money(tax),
            "per_share": str(self._PER_SHARE),
            "kind": "ordinary",
            "reference": uuid7().hex,
        }
        await self.account.publish("DividendPaid", payload)
        self._cash += gross - tax


def slipped(market: RandomWalk, symbol: str, chance: random.Random) -> Decimal:
    """Return what a fill costs: about the mark."""
    slip = 1 + Decimal(repr(chance.gauss(0, 0.0003)))
    return MARKET[symbol].rounded(market.prices[symbol] * slip)


def _named(key: str) -> dict[str, str]:
    """Return symbol and leg of a position, such as `BTC-PERP#long`, as an event names them."""
    symbol, _, leg = key.partition("#")
    return {"symbol": symbol, **({"position_side": leg} if leg else {})}
