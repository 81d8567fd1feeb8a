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
_TAKER = Decimal("0.0005")
_ANSWER_S = 5.0


class Overtrader:
    """Buys more as often as it can, and sells a little now and then."""

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
        lots = MARKET[_SYMBOL].lots
        sells = bool(self._held) and self._chance.random() < 0.4
        if sells:
            quantity = min(self._held, lots(2000 / price))
        else:
            quantity = lots(_CAPITAL * Decimal("0.6") / price)
        side = "sell" if sells else "buy"
        approved = await self._approved(side, quantity)
        if not approved:
            return
        change = -approved if sells else approved
        fee = money(approved * price * _TAKER)
        await self.account.fill(_SYMBOL, change, price, commission=fee, liquidity="taker")
        self._held += change

    async def _approved(self, side: str, quantity: Decimal) -> Decimal:
        """Return how much of an order may be sent; nothing where nobody answers."""
        order = {
            "account_id": DESK_ACCOUNT,
            "order_id": uuid7().hex,
            "symbol": _SYMBOL,
            "side": side,
            "type": "market",
            "quantity": str(quantity),
            "on_limit": "reduce",
            "strategy_id": "overtrader",
        }
        try:
            question = json.dumps({"order": order}).encode()
            answer = await self._nc.request("psm.risk.check", question, _ANSWER_S)
        except AWAY:
            return Decimal(0)
        payload = decoded(answer.data).get("payload", {})
        return Decimal(payload.get("approved_quantity", "0"))
