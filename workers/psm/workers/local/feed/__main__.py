"""A lively market and its traders, published as any trading service would publish them.

    PYTHONPATH=<folder of `feed`> python -m feed --url nats://127.0.0.1:4222 --accounts 6 --rate 20

Needs nats-py and the standard library only: nothing of PSM is imported. Each account's events are
numbered 1, 2, 3 ...; the number follows the head that the subject's owner gives (`psm.get.head`),
and the broker refuses an event if somebody else was faster. Ends with one JSON line that says what
was published.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import time
from collections import Counter
from typing import Any

import nats
from nats.aio.client import Client

from .market import MARKET, RandomWalk
from .overtrader import PER_SECOND, Overtrader
from .traders import Trader, trader

MARKS_PER_SECOND = 5


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
    traders = _traders(nc, market, options)
    try:
        await market.start()
        await asyncio.gather(*(one.start() for one, _ in traders))
        paces = [_paced(stop, one.act, every_s) for one, every_s in traders]
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
        published = sum((one.account.published for one, _ in traders), Counter())
        published["MarkPriceUpdated"] = market.published
        print(json.dumps({"published": dict(sorted(published.items()))}), flush=True)


def _traders(
    nc: Client, market: RandomWalk, options: argparse.Namespace
) -> list[tuple[Trader, float]]:
    """Return who trades, and every how many seconds."""
    every_s = options.accounts / options.rate
    found = [
        (trader(nc, number, market, options.seed), every_s)
        for number in range(1, options.accounts + 1)
    ]
    if options.desk:
        found.append((Overtrader(nc, market, options.seed), 1 / PER_SECOND))
    return found


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


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="Publish a realistic feed to NATS.")
    parser.add_argument("--url", default="nats://127.0.0.1:4222", help="NATS server")
    parser.add_argument("--accounts", type=int, default=6)
    parser.add_argument("--rate", type=float, default=20, help="account events per second")
    parser.add_argument("--seconds", type=float, default=None, help="default: until stopped")
    parser.add_argument(
        "--desk", action="store_true", help="one more that asks risk, and trades too much"
    )
    parser.add_argument("--seed", default="psm", help="the same seed, the same walk of prices")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
