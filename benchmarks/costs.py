"""What a second of market costs: updates before the slots and now, by log time; processor time.

The fold runs in this process, on a log whose times are of its own, so counts are exact on any
machine. "Before" is the rule that the slots replaced, applied to the same log: every holder of a
moved symbol was published each second, each moved position, margin and state.

What is published of an account follows from its own events and from the marks alone, so a part of
the accounts stands for all: counts are multiplied. So is what a mark costs whoever holds it, which
makes the processor time a little more than all accounts in one place would need.
"""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from benchmarks.figures import Figure, Size
from psm.contracts import subjects
from psm.contracts.codec import encode
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.messages import Folded, LogMessage

_SECOND = 1_000_000_000
_IDS = uuid.UUID("0e7a1a52-6f43-4f0c-9a52-6a1a3b1de004")
_NOISE = 0.0002  # of a price at each of its marks
_BEFORE_MARGIN_AND_STATE = 2


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A market and those who hold it.

    Attributes:
        name: of the figures.
        accounts: how many the figures are of.
        share: one in so many of them is folded.
        symbols: on the market; each account holds `positions` of them.
        marks_per_s, trades_per_s: of the whole market and of all accounts.
        leverage_max: accounts owe up to so many times what they have; 1: they have money.
        fall: of every price within the minute that is measured.
        updates_max, burst_max: updates in a second on average and in any second.
        cores_max: processor seconds a second.
    """

    name: str
    accounts: int
    share: int
    symbols: int
    positions: int
    marks_per_s: int = 100
    trades_per_s: int = 0
    leverage_max: int = 1
    fall: float = 0.0
    updates_max: float | None = None
    burst_max: float | None = None
    cores_max: float | None = None


SCENARIOS = (
    Scenario(
        name="500 x 20 of 20, 300 trades/s",
        accounts=500,
        share=1,
        symbols=20,
        positions=20,
        marks_per_s=20,
        trades_per_s=300,
        updates_max=1_300,
    ),
    Scenario(
        name="100k x 5 of 1,000",
        accounts=100_000,
        share=10,
        symbols=1_000,
        positions=5,
        updates_max=13_000,
        burst_max=16_000,
        cores_max=1.0,
    ),
    Scenario(
        name="100k x 5 of 1,000, -10 %",
        accounts=100_000,
        share=10,
        symbols=1_000,
        positions=5,
        leverage_max=20,
        fall=0.10,
        updates_max=35_000,
        burst_max=45_000,
        cores_max=2.0,
    ),
    Scenario(
        name="100k x 5 of 100",
        accounts=100_000,
        share=20,
        symbols=100,
        positions=5,
        cores_max=4.5,
    ),
)


class Counted(msgspec.Struct):
    """What came of a scenario, of all its accounts.

    Attributes:
        updates: by second of log time, after the warm-up.
        before: what the former rule would have published, by second.
        values: accounts that marks valued.
        cpu_s: processor time of the fold.
    """

    updates: Counter[int]
    before: Counter[int]
    values: int
    cpu_s: float


async def measure(size: Size) -> list[Figure]:
    """Fold each scenario; figures of a second of log time."""
    figures: list[Figure] = []
    for scenario in SCENARIOS:
        seconds = size.of(60, least=5)
        accounts = size.of(scenario.accounts // scenario.share, least=scenario.positions)
        figures += _figures(scenario, _World(scenario, accounts).run(seconds), seconds, accounts)
    return figures


def _figures(scenario: Scenario, found: Counted, seconds: int, accounts: int) -> list[Figure]:
    times, name = scenario.accounts / accounts, scenario.name
    before = sum(found.before.values()) * times / seconds
    return [
        Figure(
            name=f"{name}, before and now",
            unit="updates/s",
            value=sum(found.updates.values()) * times / seconds,
            baseline=before,
            target=scenario.updates_max,
            better="at most",
        ),
        Figure(
            name=f"{name}, any second",
            unit="updates/s",
            value=max(found.updates.values(), default=0) * times,
            baseline=max(found.before.values(), default=0) * times,
            target=scenario.burst_max,
            better="at most",
        ),
        Figure(name=f"{name}, values", unit="accounts/s", value=found.values * times / seconds),
        Figure(
            name=f"{name}, fold",
            unit="cores",
            value=found.cpu_s * times / seconds,
            target=scenario.cores_max,
            better="at most",
        ),
    ]


class _World:
    """The log of a scenario, made while it is folded."""

    def __init__(self, scenario: Scenario, accounts: int) -> None:
        self._scenario = scenario
        self._dice = random.Random(7)
        self._books = Books(partitions=1, partition=0)
        self._numbers: Counter[str] = Counter()
        self._sequence = 0
        self._time = 1_700_000_000 * _SECOND
        self._prices = [100.0 + place % 50 for place in range(scenario.symbols)]
        self._holders: list[list[str]] = [[] for _ in self._prices]
        self._trades_per_s = scenario.trades_per_s * accounts // scenario.accounts
        self._accounts = [f"a{number}" for number in range(accounts)]
        self._marked = 0

    def run(self, seconds: int) -> Counted:
        """Open all positions, let a slow period pass calmly, then measure so many seconds."""
        for message in self._opening():
            self._fold(message, publishes=False)
        for _ in range(65):
            for make in self._second():
                self._fold(make(), publishes=True)
        counted = Counted(Counter(), Counter(), 0, 0.0)
        for second in range(seconds):
            self._measure(second, counted, (1 - self._scenario.fall) ** (1 / seconds))
        return counted

    def _measure(self, second: int, counted: Counted, step: float) -> None:
        self._prices = [price * step for price in self._prices]
        makes = list(self._second())
        marked = self._marked
        for make in makes:
            message = make()
            began = time.process_time()
            updates = self._fold(message, publishes=True)
            counted.cpu_s += time.process_time() - began
            counted.updates[second] += updates
            if message.kind == "trades":
                counted.before[second] += updates
        moved = {place % len(self._prices) for place in range(marked, self._marked)}
        pairs = [account for place in moved for account in self._holders[place]]
        counted.values += sum(
            len(self._holders[place % len(self._prices)]) for place in range(marked, self._marked)
        )
        counted.before[second] += len(pairs) + _BEFORE_MARGIN_AND_STATE * len(set(pairs))

    def _second(self) -> Iterator[Callable[[], LogMessage]]:
        """Yield what happens in the next second of the log, in turn."""
        marks, trades = self._scenario.marks_per_s, self._trades_per_s
        step = _SECOND // (marks + trades)
        for place in range(marks + trades):
            self._time += step
            # Evenly mixed, without a rest that adds up.
            is_mark = (place + 1) * marks // (marks + trades) > place * marks // (marks + trades)
            yield self._mark if is_mark else self._trade

    def _opening(self) -> Iterator[LogMessage]:
        scenario = self._scenario
        for _ in range(scenario.symbols):
            yield self._mark()
        for account in self._accounts:
            held = self._dice.sample(range(scenario.symbols), scenario.positions)
            worth = sum(self._prices[place] for place in held) * 10
            leverage = self._dice.uniform(1, scenario.leverage_max) if scenario.fall else 1.0
            yield self._event(account, "CashDeposited", amount=f"{worth / leverage:.2f}")
            for place in held:
                self._holders[place].append(account)
                yield self._fill(account, place, "buy", "10")

    def _trade(self) -> LogMessage:
        dice = self._dice
        account, place = dice.choice(self._accounts), dice.randrange(len(self._prices))
        return self._fill(
            account, place, dice.choice(("buy", "sell")), f"{dice.randint(1, 9) / 10}"
        )

    def _fill(self, account: str, place: int, side: str, quantity: str) -> LogMessage:
        price = f"{self._prices[place]:.4f}"
        more = {"symbol": f"S{place}", "side": side, "quantity": quantity, "price": price}
        return self._event(account, "TradeExecuted", commission="0.05", **more)

    def _mark(self) -> LogMessage:
        place = self._marked % len(self._prices)
        self._marked += 1
        self._prices[place] *= 1 + self._dice.uniform(-_NOISE, _NOISE)
        symbol = f"S{place}"
        payload = {"symbol": symbol, "price": f"{self._prices[place]:.4f}"}
        return self._message(f"marks.{symbol}", symbol, "MarkPriceUpdated", payload)

    def _event(self, account: str, event_type: str, **payload: str) -> LogMessage:
        return self._message(subjects.stored_trades(account, 1), account, event_type, payload)

    def _message(
        self, subject: str, stream: str, event_type: str, payload: dict[str, str]
    ) -> LogMessage:
        self._sequence += 1
        self._numbers[subject] += 1
        body = {
            "event_id": str(uuid.uuid5(_IDS, str(self._sequence))),
            "event_type": event_type,
            "stream_id": stream,
            "sequence_number": self._numbers[subject],
            "timestamp": "2025-12-12T10:30:00Z",
            "schema_version": "1.0.0",
            "payload": payload,
        }
        return LogMessage(
            log_sequence=self._sequence, subject=subject, time=self._time, data=encode(body)
        )

    def _fold(self, message: LogMessage, *, publishes: bool) -> int:
        """Fold a message; return how many updates it made."""
        result = fold(self._books, message, emit="updates" if publishes else "nothing")
        if not isinstance(result, Folded):
            raise TypeError(f"the log asks for history at {message.log_sequence}")
        return len(result.updates)
