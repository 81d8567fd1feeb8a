"""What one event costs a worker that holds few or many accounts: processor time, no broker."""

from __future__ import annotations

import random
import time

from benchmarks.figures import Figure, Size, beside
from benchmarks.rig import Message, fill
from psm.contracts import subjects
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.messages import LogMessage

COUNTS = (1_000, 10_000, 100_000)
RATIO_MAX = 1.5


async def measure(size: Size) -> list[Figure]:
    """Fold trades of random accounts; all of them were seen before."""
    counts = [size.of(count) for count in COUNTS]
    events = size.of(5_000)
    held = [_Held(count) for count in counts]
    costs: list[list[float]] = [[] for _ in counts]
    for _ in range(size.rounds):
        for cost, one in zip(costs, held, strict=True):
            cost.append(one.cost_us(events))
    unit, least = "us/event", costs[0]
    first = Figure(
        name=f"cost at {counts[0]:,} accounts", unit=unit, value=sorted(least)[len(least) // 2]
    )
    return [first] + [
        beside(
            f"cost at {count:,} accounts",
            unit,
            cost,
            least,
            target=RATIO_MAX,
            better="at most",
        )
        for count, cost in zip(counts[1:], costs[1:], strict=True)
    ]


class _Held:
    """Books with an open position in each of many accounts."""

    def __init__(self, accounts: int) -> None:
        self._books = Books(partitions=1, partition=0)
        self._numbers = [0] * accounts
        self._dice = random.Random(7)
        self._sequence = 0
        for place in range(accounts):
            fold(self._books, self._next(place), emit="nothing")

    def cost_us(self, events: int) -> float:
        places = [self._dice.randrange(len(self._numbers)) for _ in range(events)]
        messages = [self._next(place) for place in places]
        started = time.process_time()
        for message in messages:
            fold(self._books, message)
        return (time.process_time() - started) / events * 1e6

    def _next(self, place: int) -> LogMessage:
        self._numbers[place] += 1
        self._sequence += 1
        account = f"acc_{place}"
        sent: Message = fill(account, self._numbers[place], "BTC-PERP")
        return LogMessage(
            log_sequence=self._sequence,
            subject=subjects.stored_trades(account, 1),
            time=self._sequence * 1_000_000,
            data=sent.data,
        )
