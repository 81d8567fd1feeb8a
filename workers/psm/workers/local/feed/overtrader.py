"""A strategy that trades too much: its fees eat the day's loss cap, and risk stops it.

It asks before each order, sends what is approved, and the venue fills it at once.
"""

from __future__ import annotations

import json
from decimal import Decimal

from nats.aio.client import Client

from .line import AWAY, decoded, uuid7
from .market import CURRENCY, MARKET, RandomWalk, money
from .traders import AccountLine, slipped

DESK_ACCOUNT = "acc_desk"
PER_SECOND = 4
_SYMBOL = "BTC-PERP"
_CAPITAL = 25_000
_ORDER = Decimal(8_000)  # USDT at once
_KEPT = Decimal("0.05")  # it never sells all
_TAKER = Decimal("0.0005")
_ANSWER_S = 5.0


class Overtrader:
    """Buys and sells again as often as it can: each time it pays."""

    def __init__(self, nc: Client, market: RandomWalk, seed: str) -> None:
        self._nc = nc
        self._market = market
        self.account = AccountLine(nc, DESK_ACCOUNT, seed)
        self.account.capital = _CAPITAL
        self._chance = self.account.chance
        self._held = Decimal(0)

    async def start(self) -> None:
        """Go on where the log ends, or open the account."""
        known = await self.account.open(CURRENCY)
        position = known.get("positions", {}).get(_SYMBOL, {"side": "flat", "size": "0"})
        self._held = Decimal(position["size"]) if position["side"] == "long" else Decimal(0)

    async def act(self) -> None:
        """Ask for the next order; send what of it is approved."""
        price = slipped(self._market, _SYMBOL, self._chance)
        usual = MARKET[_SYMBOL].lots(_ORDER / price)
        more = self._held - _KEPT
        sells = more > 0 and self._chance.random() < 0.5
        side, quantity = ("sell", min(usual, more)) if sells else ("buy", usual)
        order = {
            "order_id": uuid7().hex,
            "symbol": _SYMBOL,
            "side": side,
            "type": "market",
            "strategy_id": "overtrader",
        }
        approved = await self._approved({**order, "quantity": str(quantity)})
        if not approved:
            return
        await self.account.publish("OrderSubmitted", {**order, "quantity": str(approved)})
        change = -approved if sells else approved
        paid = {"commission": money(approved * price * _TAKER), "liquidity": "taker"}
        await self.account.fill(_SYMBOL, change, price, order_id=order["order_id"], **paid)
        self._held += change

    async def _approved(self, order: dict[str, str]) -> Decimal:
        """Return how much of an order may be sent; nothing where nobody answers."""
        asked = {**order, "account_id": DESK_ACCOUNT, "on_limit": "reduce"}
        try:
            question = json.dumps({"order": asked}).encode()
            answer = await self._nc.request("psm.risk.check", question, _ANSWER_S)
        except AWAY:
            return Decimal(0)
        payload = decoded(answer.data).get("payload", {})
        return Decimal(payload.get("approved_quantity", "0"))
