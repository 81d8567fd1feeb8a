"""A lively market and its traders, published as any trading service would publish them.

    python feed.py --url nats://127.0.0.1:4222 --accounts 6 --rate 20 --seconds 60

Needs nats-py and the standard library only: nothing of PSM is imported. Each account's events are
numbered 1, 2, 3 ...; the number follows the head that the subject's owner gives (`psm.get.head`),
and the broker refuses an event if somebody else was faster. Ends with one JSON line that says what
was published.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import nats
import nats.errors
from nats.aio.client import Client
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

CURRENCY = "USDT"
MARKS_PER_SECOND = 5
_WRONG_LAST = 10071  # somebody else appended first
_IN_FLIGHT = 10164  # ... or is just doing so
_LOOK_AGAIN_S = 0.05
_HEAD_S = 60.0
_AWAY = (
    nats.errors.TimeoutError,
    nats.errors.NoRespondersError,
    nats.errors.ConnectionClosedError,
    nats.errors.OutboundBufferLimitError,
    ServiceUnavailableError,
)


class Listed(NamedTuple):
    """A symbol of the market."""

    price: Decimal
    increment: Decimal
    lot: Decimal


MARKET = {
    "BTC-PERP": Listed(Decimal(42000), Decimal("0.1"), Decimal("0.001")),
    "ETH-PERP": Listed(Decimal(2250), Decimal("0.01"), Decimal("0.01")),
    "SOL-PERP": Listed(Decimal(95), Decimal("0.001"), Decimal("0.1")),
    "DOGE-PERP": Listed(Decimal("0.09"), Decimal("0.00001"), Decimal(1)),
}
_TIERS = [
    {"notional_floor": "0", "maintenance_rate": "0.005", "maintenance_amount": "0"},
    {"notional_floor": "250000", "maintenance_rate": "0.01", "maintenance_amount": "1250"},
]


class Line:
    """One subject of the log, whose events are numbered; only one task may use it."""

    def __init__(self, nc: Client, subject: str, stored: str) -> None:
        self._nc = nc
        self._js = nc.jetstream()
        self._subject = subject
        self._stored = stored
        self._last = 0
        self._taken: set[str] = set()
        self.number = 0
        self.last: dict[str, Any] = {}

    async def look(self) -> None:
        """Take number and position from the subject's owner, when it has taken every message."""
        give_up_at = time.monotonic() + _HEAD_S
        while True:
            with contextlib.suppress(*_AWAY):
                with contextlib.suppress(NotFoundError):
                    message = await self._js.get_msg("TRADES", subject=self._stored)
                    self._last, self.last = message.seq or 0, _object(message.data)
                answer = await self._nc.request("psm.get.head", self._subject.encode(), 2)
                head = _object(answer.data)
                if head.get("log_sequence", -1) >= self._last:
                    self.number = max([head["last"], *head["parked"]])
                    self._taken = {event["event_id"] for event in head["events"]}
                    return
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"nobody answers for {self._subject}: does a worker run?")
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def publish(self, event_type: str, payload: Mapping[str, object]) -> None:
        """Append one event; returns once it is in the log, exactly once."""
        event_id = str(uuid7())
        while True:
            body = json.dumps(self._envelope(event_id, event_type, payload)).encode()
            digest = hashlib.sha256(body).hexdigest()
            headers = {
                "Nats-Msg-Id": f"{self._subject.partition('.')[2]}:{digest}",
                "Nats-Expected-Last-Subject-Sequence": str(self._last),
            }
            try:
                ack = await self._js.publish(self._subject, body, headers=headers)
            except APIError as error:
                if error.err_code not in (_WRONG_LAST, _IN_FLIGHT):
                    raise
            except _AWAY:
                await asyncio.sleep(0.5)  # whether it was stored is unknown: look
            else:
                self._last, self.number = ack.seq, self.number + 1
                return
            await self.look()
            if event_id in {*self._taken, self.last.get("event_id")}:
                return

    def _envelope(
        self, event_id: str, event_type: str, payload: Mapping[str, object]
    ) -> dict[str, object]:
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        return {
            "event_id": event_id,
            "event_type": event_type,
            "stream_id": self._subject.partition(".")[2],
            "sequence_number": self.number + 1,
            "timestamp": now.replace("+00:00", "Z"),
            "schema_version": "1.0.0",
            "source_service": "demo-feed",
            "user_id": "demo",
            "payload": payload,
        }


class RandomWalk:
    """A seeded random walk of every symbol, published as marks."""

    def __init__(self, nc: Client, chance: random.Random) -> None:
        self._nc = nc
        self._chance = chance
        self._lines = {symbol: Line(nc, f"marks.{symbol}", f"marks.{symbol}") for symbol in MARKET}
        self.prices = {symbol: listed.price for symbol, listed in MARKET.items()}
        self.published = 0

    async def start(self) -> None:
        """Define the instruments that nobody defined yet; go on from the last prices."""
        for symbol, listed in MARKET.items():
            line = self._lines[symbol]
            await line.look()
            if price := line.last.get("payload", {}).get("price"):
                self.prices[symbol] = Decimal(str(price))
            subject = f"instruments.{symbol}"
            definition = Line(self._nc, subject, subject)
            await definition.look()
            if not definition.number:
                await definition.publish("InstrumentDefined", _definition(symbol, listed))

    async def move(self, symbol: str) -> None:
        """Publish the next mark of a symbol."""
        listed = MARKET[symbol]
        # The pull back to the first price keeps a demo that runs for days in sight of it.
        away = float(self.prices[symbol] / listed.price) - 1
        step = self._chance.gauss(0, 0.0007) - 0.0005 * away
        moved = self.prices[symbol] * (1 + Decimal(repr(step)))
        self.prices[symbol] = max(_rounded(moved, listed.increment), listed.increment)
        payload = {"symbol": symbol, "price": str(self.prices[symbol]), "source": "demo"}
        await self._lines[symbol].publish("MarkPriceUpdated", payload)
        self.published += 1


class Trader:
    """One account that trades as its temper says; the second one hedges, the third isolates."""

    def __init__(self, nc: Client, number: int, market: RandomWalk, seed: str) -> None:
        self._nc = nc
        self.account_id = account_id = f"acc_{number:03}"
        self._hedged, self._isolates = number == 2, number == 3
        self._market = market
        self._chance = random.Random(f"{seed}/{account_id}")  # noqa: S311 - a demo, not a secret
        self._line = Line(nc, f"trades.{account_id}", f"trades.*.{account_id}")
        self._capital = self._chance.choice([10_000, 25_000, 50_000, 100_000])
        self._temper = Decimal(self._chance.choice(["0.5", "1", "1.5", "2", "3"]))
        self.held: dict[str, Decimal] = {}
        self.published: Counter[str] = Counter()

    async def start(self) -> None:
        """Go on where the log ends, or open the account."""
        await self._line.look()
        for key, position in (await self._ask()).get("positions", {}).items():
            sign = {"long": 1, "short": -1}.get(position["side"], 0)
            self.held[key] = sign * Decimal(position["size"])
        if not self._line.number:
            limit = str(2 * self._temper)
            await self._publish("AccountOpened", {"currency": CURRENCY, "leverage_limit": limit})
            await self._publish("CashDeposited", {"amount": str(self._capital)})
            if self._hedged:
                await self._publish("PositionModeChanged", {"mode": "hedge"})
            if self._isolates:
                symbol = {"symbol": next(iter(MARKET))}
                await self._publish("MarginModeChanged", {**symbol, "mode": "isolated"})
                await self._publish("LeverageChanged", {**symbol, "leverage": "5"})

    async def act(self) -> None:
        """Publish the next event of this account."""
        held = sorted(key for key, size in self.held.items() if size)
        kind = self._chance.choices(
            ["trade", "funding", "fee", "CashDeposited", "CashWithdrawn"],
            [84, 9 if held else 0, 2, 3, 2],
        )[0]
        amount = str(self._capital * self._chance.randint(1, 20) // 1000)
        if kind == "funding":
            await self._funding(self._chance.choice(held))
        elif kind == "fee":
            await self._publish("FeeCharged", {"amount": "0.50", "reason": "market data"})
        elif kind == "trade":
            await self._trade(self._chance.choice(list(MARKET)))
        else:
            await self._publish(kind, {"amount": amount})

    async def _trade(self, symbol: str) -> None:
        leg = self._chance.choice(["#long", "#short"]) if self._hedged else ""
        listed, held = MARKET[symbol], self.held.get(symbol + leg, Decimal(0))
        slip = 1 + Decimal(repr(self._chance.gauss(0, 0.0003)))
        fair = self._market.prices[symbol] * slip
        price = max(_rounded(fair, listed.increment), listed.increment)
        share = self._temper * Decimal(repr(self._chance.uniform(0.03, 0.2)))
        usual = max(_rounded(self._capital * share / price, listed.lot), listed.lot)
        change = self._change(held, usual, listed.lot)
        if leg:  # it opens on its own side, and is never closed too far
            side = 1 if leg == "#long" else -1
            change = side * max(side * change, -abs(held)) if held else side * usual
        size = abs(change)
        maker = self._chance.random() < 0.5
        payload = {
            **_named(symbol + leg),
            "side": "buy" if change > 0 else "sell",
            "quantity": str(size),
            "price": str(price),
            # A maker gets a small rebate: a negative commission.
            "commission": _money(size * price * Decimal("-0.00005" if maker else "0.0005")),
            "fill_id": uuid7().hex,
            "liquidity": "maker" if maker else "taker",
        }
        await self._publish("TradeExecuted", payload)
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
            return -sign * max(_rounded(part, lot), lot)
        return -held if how == "close" else -held - sign * usual

    async def _funding(self, key: str) -> None:
        rate = Decimal(repr(round(self._chance.gauss(0.0001, 0.0001), 6)))
        payment = -self.held[key] * self._market.prices[_named(key)["symbol"]] * rate
        said = {"funding_rate": format(rate, "f"), "funding_payment": _money(payment)}
        payload = {**_named(key), **said, "reference": uuid7().hex}
        await self._publish("FundingApplied", payload)

    async def _publish(self, event_type: str, payload: Mapping[str, object]) -> None:
        await self._line.publish(event_type, payload)
        self.published[event_type] += 1

    async def _ask(self) -> dict[str, Any]:
        """Return what PSM knows of the account's positions; empty if it knows nothing."""
        try:
            answer = await self._nc.request("psm.get.positions", self.account_id.encode(), 2)
        except _AWAY:
            return {}
        known = _object(answer.data)
        return known if "positions" in known else {}


async def run(options: argparse.Namespace) -> None:
    """Publish until told to stop, then say what was published."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    nc = await nats.connect(
        options.url, name="psm-demo-feed", max_reconnect_attempts=-1, reconnect_time_wait=0.5
    )
    market = RandomWalk(nc, random.Random(options.seed))  # noqa: S311 - a demo, not a secret
    traders = [Trader(nc, n, market, options.seed) for n in range(1, options.accounts + 1)]
    try:
        await market.start()
        for trader in traders:
            await trader.start()
        every = options.accounts / options.rate
        paces = [_paced(stop, trader.act, every) for trader in traders]
        paces += [_paced(stop, lambda s=s: market.move(s), 1 / MARKS_PER_SECOND) for s in MARKET]
        tasks = [loop.create_task(pace) for pace in paces]
        waiting = loop.create_task(_stopped(stop, options.seconds))
        await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        # An event that is under way is finished; a broker that is gone is not waited for.
        _, late = await asyncio.wait(tasks, timeout=3)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, waiting, return_exceptions=True)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()):
                raise error
    finally:
        await nc.close()
        published = sum((trader.published for trader in traders), Counter())
        published["MarkPriceUpdated"] = market.published
        print(json.dumps({"published": dict(sorted(published.items()))}), flush=True)


async def _paced(stop: asyncio.Event, act: Any, every_s: float) -> None:
    due = time.monotonic() + random.random() * every_s  # noqa: S311 - spreads the tasks
    while not stop.is_set():
        await _stopped(stop, max(due - time.monotonic(), 0.001))
        if not stop.is_set():
            await act()
        # After an outage the missed events are not made up for in one burst.
        due = max(due + every_s, time.monotonic())


async def _stopped(stop: asyncio.Event, timeout_s: float | None) -> None:
    try:
        await asyncio.wait_for(stop.wait(), timeout_s)
    except TimeoutError:
        return


def uuid7() -> uuid.UUID:
    """Return a time-ordered UUID (RFC 9562, version 7)."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | (7 << 76)
    return uuid.UUID(int=value & ~(3 << 62) | (2 << 62))


def _definition(symbol: str, listed: Listed) -> dict[str, object]:
    return {
        "symbol": symbol,
        "kind": "linear_perp",
        "base": symbol.partition("-")[0],
        "quote": CURRENCY,
        "settle": CURRENCY,
        "price_increment": str(listed.increment),
        "quantity_increment": str(listed.lot),
        "margin_tiers": _TIERS,
    }


def _named(key: str) -> dict[str, str]:
    """Return symbol and leg of a position, such as `BTC-PERP#long`, as an event names them."""
    symbol, _, leg = key.partition("#")
    return {"symbol": symbol, **({"position_side": leg} if leg else {})}


def _object(data: bytes | None) -> dict[str, Any]:
    """Return a JSON object; anything else on the subject is not ours and counts as empty."""
    try:
        value = json.loads(data or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _rounded(value: Decimal, step: Decimal) -> Decimal:
    return (value / step).quantize(Decimal(1)) * step


def _money(value: Decimal) -> str:
    return format(value.quantize(Decimal("0.00000001")), "f")


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="Publish a realistic feed to NATS.")
    parser.add_argument("--url", default="nats://127.0.0.1:4222", help="NATS server")
    parser.add_argument("--accounts", type=int, default=6)
    parser.add_argument("--rate", type=float, default=20, help="account events per second")
    parser.add_argument("--seconds", type=float, default=None, help="default: until stopped")
    parser.add_argument("--seed", default="psm", help="the same seed, the same walk of prices")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
