"""The equity of one account at the newest marks, between its updates.

An account that is far from liquidation is published once a minute; whoever needs its equity at each
mark computes it from the whole account, as positions may be older than the equity. Other currencies
keep their rates until the account is asked for anew.

    python examples/equity_now.py acc_001 --url nats://127.0.0.1:4222
"""

from __future__ import annotations

import argparse
import asyncio
import json
from decimal import Decimal
from typing import Any

import nats
from nats.aio.msg import Msg

from psm.contracts.subjects import encode_token
from psm.contracts.valuation import equity_at


class EquityNow:
    """One account as PSM answers for it, and the newest mark of each symbol that it holds."""

    def __init__(self, state: dict[str, Any]) -> None:
        """Start from a state document, whose marks are the first."""
        self.prices: dict[str, Decimal] = {}
        self.state = state
        self.take_state(state)

    def take_state(self, state: dict[str, Any]) -> None:
        """Go on from a newer state; marks that were heard since are newer still."""
        self.state = state
        for position in state["positions"].values():
            if position["mark_price"] is not None:
                self.prices.setdefault(position["symbol"], Decimal(position["mark_price"]))

    def take_mark(self, mark: dict[str, Any]) -> None:
        """Take the payload of a `MarkPriceUpdated`."""
        self.prices[mark["symbol"]] = Decimal(str(mark["price"]))

    @property
    def equity(self) -> Decimal | None:
        """The equity at the newest marks; None where something is unknown."""
        return equity_at(self.state, self.prices)


async def main() -> None:
    """Print the equity whenever a mark moves it; ask for the account anew every ten seconds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("account")
    parser.add_argument("--url", default="nats://127.0.0.1:4222")
    options = parser.parse_args()
    nc = await nats.connect(options.url)

    async def asked() -> dict[str, Any]:
        answer = await nc.request("psm.get.state", options.account.encode(), timeout=5)
        return dict(json.loads(answer.data))

    now = EquityNow(await asked())

    async def heard(message: Msg) -> None:
        now.take_mark(json.loads(message.data)["payload"])
        print(f"{options.account}: {now.equity}", flush=True)

    followed: dict[str, None] = {}
    while True:
        for symbol in [one for one in now.prices if one not in followed]:
            followed[symbol] = None
            await nc.subscribe(f"marks.{encode_token(symbol)}", cb=heard)
        await asyncio.sleep(10)
        now.take_state(await asked())


if __name__ == "__main__":
    asyncio.run(main())
