"""A risk engine that follows every position with nothing but nats-py, and misses none.

Core NATS is fast and may lose messages: a slow reader, a broken connection. A lost update shows,
because each one carries the sequence of the one before it (`Nats-Last-Sequence`, per account); then
the missing ones are read from the stream PSM, where all of them are kept.

    python examples/risk_engine.py --url nats://127.0.0.1:4222
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

UPDATES = "psm.position.updated"  # for core subscribers; stored as UPDATES.<partition>.<account>
PAGE = 500


class Positions:
    """Every position as it was published last: `by_key[(account, position)]`."""

    def __init__(self, nc: Client, pending_limit: int = 65_536) -> None:
        """Follow over `nc`; more than `pending_limit` unread updates are lost, then repaired."""
        self._nc = nc
        self._js = nc.jetstream()
        self._pending_limit = pending_limit
        self._seen: dict[str, int] = {}  # sequence of the last update, per stored subject
        self.by_key: dict[tuple[str, str], dict[str, Any]] = {}
        self.lock = asyncio.Lock()
        self.repaired = 0

    async def start(self) -> None:
        """Follow from now on, and catch up with what was published before."""
        self.subscription = await self._nc.subscribe(
            UPDATES, cb=self._heard, pending_msgs_limit=self._pending_limit
        )
        await self._nc.flush()
        await self.check()

    async def check(self) -> None:
        """Find what was missed at the end, where no later update tells of it.

        Call it after a reconnect and now and then.
        """
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            ack_policy=AckPolicy.NONE,
            mem_storage=True,
            inactive_threshold=30,
        )
        async with self.lock:  # what is heard meanwhile waits
            last = await self._js.pull_subscribe(f"{UPDATES}.*.*", stream="PSM", config=config)
            left = (await last.consumer_info()).num_pending or 0
            while left > 0:
                for message in await last.fetch(min(left, PAGE), timeout=5):
                    left -= 1
                    if message.subject in self._seen:
                        await self._catch_up(message.subject, message.metadata.sequence.stream)
                    else:
                        await self._begin(message)
            await last.unsubscribe()

    async def _heard(self, message: Msg) -> None:
        headers = message.headers or {}
        subject, sequence = headers["Nats-Subject"], int(headers["Nats-Sequence"])
        async with self.lock:
            seen = self._seen.get(subject, 0)
            if sequence <= seen:
                return  # it was repaired already
            if int(headers["Nats-Last-Sequence"]) != seen:
                await self._catch_up(subject, sequence - 1)
            self._take(subject, sequence, message.data)

    async def _begin(self, last: Msg) -> None:
        """Take an account's positions as PSM answers for them, once it is as far as `last`."""
        account, reached = last.subject.rpartition(".")[2], _payload(last.data)["log_sequence"]
        while True:
            answer = await self._nc.request("psm.get.positions", account.encode(), timeout=5)
            known = json.loads(answer.data or b"{}")  # an error has no body
            if known.get("log_sequence", 0) >= reached:
                break
            await asyncio.sleep(0.05)
        for key, position in known["positions"].items():
            self.by_key[account, key] = position
        self._seen[last.subject] = last.metadata.sequence.stream

    async def _catch_up(self, subject: str, upto: int) -> None:
        """Read what is stored under a subject after the last one seen, as far as `upto`."""
        sequence = self._seen.get(subject, 0)
        while sequence < upto:
            try:
                message = await self._js.get_msg("PSM", sequence + 1, subject=subject, next=True)
            except NotFoundError:
                return
            sequence = message.seq or 0
            if sequence <= upto:
                self._take(subject, sequence, message.data or b"")
                self.repaired += 1

    def _take(self, subject: str, sequence: int, data: bytes) -> None:
        self._seen[subject] = sequence
        position = _payload(data)
        self.by_key[position["account_id"], _key(position)] = position


def _key(position: dict[str, Any]) -> str:
    """Return what answers call a position: the symbol, in hedge mode with its leg."""
    symbol, leg = position["symbol"], position["position_side"]
    return str(symbol) if leg == "net" else f"{symbol}#{leg}"


def _payload(data: bytes) -> dict[str, Any]:
    return dict(json.loads(data)["payload"])


async def main() -> None:
    """Print whoever holds more than the limit, every second."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--url", default="nats://127.0.0.1:4222")
    parser.add_argument("--limit", type=float, default=50_000, help="notional of one position")
    options = parser.parse_args()
    nc = await nats.connect(options.url)
    positions = Positions(nc)
    await positions.start()
    while True:
        for (account, key), position in sorted(positions.by_key.items()):
            if float(position["notional"] or 0) > options.limit:
                print(f"{account} {key}: {position['side']} {position['notional']}", flush=True)
        await asyncio.sleep(1)
        try:
            await positions.check()
        except NatsTimeoutError:
            print("the broker does not answer; trying again", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
