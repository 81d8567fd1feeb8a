"""What a risk engine may decide on: equities at the marks of now, or that it does not know.

It follows accounts with nats-py and `psm.contracts`. Updates come over core NATS, which may lose
some; `UpdateFeed` notices, and until an account was read again nothing is decided on it. Between
two updates `equity_at` values the account at the marks that were heard since.

    python examples/risk_engine.py acc_001 acc_002 --floor 5000 --url nats://127.0.0.1:4222
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError

from psm.contracts.documents import AccountDocument
from psm.contracts.feed import POSITION_HEADER, PREVIOUS_HEADER, UpdateFeed
from psm.contracts.valuation import equity_at


class Accounts:
    """Accounts as PSM published them last, and the newest mark of each symbol."""

    def __init__(self, nc: Client, accounts: Iterable[str]) -> None:
        """Follow these accounts, once `start` is called."""
        self._nc = nc
        self._js = nc.jetstream()
        self._feed = UpdateFeed()
        self._documents: dict[str, AccountDocument] = {}
        self._marks: dict[str, tuple[int, Decimal]] = {}
        self.accounts = dict.fromkeys(accounts)
        self.repaired = 0  # how often an account was read as a whole

    async def start(self) -> None:
        """Hear updates and marks from now on, and read what was before."""
        await self._nc.subscribe("psm.*.*", cb=self._heard)
        await self._nc.subscribe("marks.*", cb=self._marked)
        await self._nc.flush()
        self.lose_all()
        await self.repair()

    def lose_all(self) -> None:
        """Know nothing any more: the connection was broken, or messages were dropped."""
        for account in self.accounts:
            self._feed.lose(account)

    def document(self, account: str) -> bytes | None:
        """Return the state document as it was published last; None: unknown."""
        return self._documents[account].encoded() if self._feed.is_known(account) else None

    def equity(self, account: str) -> Decimal | None:
        """Return the equity at the newest marks; None: unknown, and nothing may be decided."""
        if not self._feed.is_known(account):
            return None
        state = self._documents[account].state
        prices = {symbol: price for symbol, (_, price) in self._marks.items()}
        for position in state["positions"].values():
            if position["mark_price"] is not None:
                prices.setdefault(position["symbol"], Decimal(position["mark_price"]))
        return equity_at(state, prices)

    async def repair(self) -> None:
        """Read the accounts that are not known, each as of all that was published of it."""
        for account in self.accounts:
            if self._feed.is_known(account):
                continue
            question = {"account_id": account, "min_log_sequence": await self._newest(account)}
            answer = await self._nc.request("psm.get.live", json.dumps(question).encode(), 5)
            if "Nats-Service-Error" in (answer.headers or {}):
                continue  # nobody knows it yet, or it is on its way to another worker
            self._documents[account] = AccountDocument(answer.data)
            at = self._documents[account].state["log_sequence"]
            self.repaired += 1
            for found in self._feed.repaired(account, at):
                self._documents[account].take(found.updates)

    async def compare(self) -> None:
        """Find what was lost at the end, where no later update tells of it."""
        for account in self.accounts:
            if (self._feed.last_input(account) or 0) < await self._newest(account):
                self._feed.lose(account)

    async def _newest(self, account: str) -> int:
        """Return the input that updated an account last, as the stream PSM has it."""
        try:
            stored = await self._js.get_last_msg("PSM", f"psm.*.*.*.{account}")
        except NotFoundError:
            return 0
        headers = stored.headers or {}
        return int(headers[POSITION_HEADER].split("/")[0]) if PREVIOUS_HEADER in headers else 0

    async def _heard(self, message: Msg) -> None:
        headers = message.headers or {}
        if headers.get("Nats-Subject", "").rpartition(".")[2] in self.accounts:
            for found in self._feed.take(headers, message.data):
                self._documents[found.account_id].take(found.updates)

    async def _marked(self, message: Msg) -> None:
        event: dict[str, Any] = json.loads(message.data, parse_float=Decimal)
        symbol, number = event["payload"]["symbol"], event["sequence_number"]
        if number > self._marks.get(symbol, (0,))[0]:
            self._marks[symbol] = number, Decimal(event["payload"]["price"])


async def main() -> None:
    """Print every second what each account is worth, and whether it may trade."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("accounts", nargs="+")
    parser.add_argument("--url", default="nats://127.0.0.1:4222")
    parser.add_argument("--floor", type=Decimal, default=Decimal(0), help="equity to trade with")
    options = parser.parse_args()
    nc = Client()
    followed = Accounts(nc, options.accounts)

    async def broken(*_: Exception) -> None:
        followed.lose_all()

    await nc.connect(options.url, error_cb=broken, reconnected_cb=broken)
    await followed.start()
    while True:
        for account in followed.accounts:
            equity = followed.equity(account)
            if equity is None:
                print(f"{account}: unknown, no order", flush=True)
            else:
                may = "may trade" if equity > options.floor else "may only reduce"
                print(f"{account}: equity {equity:f}, {may}", flush=True)
        await asyncio.sleep(1)
        try:
            await followed.compare()
            await followed.repair()
        except (NatsError, JetStreamError) as error:
            followed.lose_all()
            print(f"nothing is known: {error}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
