"""Traffic for the real broker: many accounts, flips, gaps that close, repeats, junk, marks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator, Sequence

import nats.errors
from nats.aio.client import Client
from nats.js.errors import APIError
from tests.support.events import Sent, addressed, deposit, event, fee, mark, raw, trade

from psm.adapters.jetstream import stream_info
from psm.adapters.jetstream.streams import PARTITIONS_KEY
from psm.contracts.subjects import TRADES

SYMBOLS = ("BTC-PERP", "ETH-PERP", "SOL-PERP")
_TRIES = 200


def account(number: int) -> str:
    """Return the name of the n-th account of the traffic."""
    return f"acc_{number:03d}"


def traffic(
    seed: int, *, accounts: int, events: int, mark_every: int = 5, trouble: bool = True
) -> list[Sent]:
    """Return about `events` events of these accounts with marks among them.

    With trouble there are gaps that close later, repeats, other events under a taken number,
    fills that were booked before, and bytes that are no event. Same seed, same traffic.
    """
    dice = random.Random(seed)
    writers = [_Writer(account(n), random.Random(f"{seed}/{n}")) for n in range(accounts)]
    late: list[Sent] = []
    sent: list[Sent] = []
    for turn in range(events):
        message = dice.choice(writers).next()
        if trouble and dice.random() < 0.03:
            late.append(message)
        else:
            sent.append(message)
        if trouble and dice.random() < 0.03:
            sent.append(dice.choice(sent or [message]))
        if trouble and dice.random() < 0.02:
            sent.append(raw(b"no event", stream=dice.choice(writers).stream))
        if late and dice.random() < 0.1:
            sent.append(late.pop(0))
        if turn % mark_every == 0:
            sent.append(_mark(dice, turn))
    return [*sent, *late]


class _Writer:
    """One account's events, numbered from 1."""

    def __init__(self, stream: str, dice: random.Random) -> None:
        self.stream = stream
        self._dice = dice
        self._number = 0

    def next(self) -> Sent:
        self._number += 1
        number, dice, stream = self._number, self._dice, self.stream
        kind = dice.random()
        if number == 1 or kind < 0.1:
            return deposit(number, str(dice.randint(1, 100_000)), stream=stream)
        if kind < 0.15:
            return fee(number, "0.5", stream=stream)
        if kind < 0.2:  # refused: the payload is not valid
            return event("CashDeposited", {"amount": "-1"}, number, stream=stream)
        return trade(
            number,
            dice.choice(["buy", "sell"]),
            f"{dice.randint(1, 30)}.5",
            str(dice.randint(90, 110)),
            dice.choice(SYMBOLS),
            stream=stream,
            fill_id=f"f{dice.randint(0, 10_000)}",
        )


def _mark(dice: random.Random, turn: int) -> Sent:
    return mark(turn + 1, str(dice.randint(80, 120)), dice.choice(SYMBOLS))


def holders(accounts: int, symbol: str = SYMBOLS[0]) -> Iterator[Sent]:
    """Return a trade for each of many accounts, so that one mark concerns them all.

    A mark of another symbol is in front of them: the valuation clock steps from mark to mark.
    """
    yield mark(1, "1", SYMBOLS[-1])
    for number in range(accounts):
        yield trade(1, "buy", "1", "100", symbol, stream=account(number))


async def publish(nc: Client, messages: Iterable[Sent]) -> int:
    """Publish in order, many at once; return the log sequence of the last message."""
    js = nc.jetstream(publish_async_max_pending=500)
    sent = await _addressed(nc, messages)
    futures = [await js.publish_async(m.subject, m.data) for m in sent]
    acks = await asyncio.gather(*futures)
    return max((ack.seq for ack in acks), default=0)


async def _addressed(nc: Client, messages: Iterable[Sent]) -> list[Sent]:
    sent = list(messages)
    if not any(one.subject.startswith("repair.") for one in sent):
        return sent
    metadata = (await stream_info(nc, TRADES)).config["metadata"]
    return [addressed(one, int(metadata[PARTITIONS_KEY])) for one in sent]


async def press(nc: Client, messages: Sequence[Sent], *, pause_s: float = 0.0) -> None:
    """Publish one by one until each is acknowledged, through whatever happens to the broker.

    A message whose acknowledgement was lost is stored twice; the fold must cope with that.
    """
    js = nc.jetstream()
    for message in await _addressed(nc, messages):
        for _ in range(_TRIES):
            try:
                await js.publish(message.subject, message.data, timeout=1.0)
            except (nats.errors.Error, APIError):
                await asyncio.sleep(0.1)
            else:
                break
        else:
            raise AssertionError(f"{message.subject} was not acknowledged in {_TRIES} tries")
        if pause_s:
            await asyncio.sleep(pause_s)
