"""The swarm: which faults a seed has, how often, and how often each really happened."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Literal, get_args

LinkFault = Literal["dropped", "doubled", "delayed", "reordered"]
StoreFault = Literal["stale_consumer", "stale_read", "write_in_flight", "garbage_snapshot"]
DatabaseFault = Literal[
    "connection_refused",
    "statement_lost",
    "answer_lost",
    "commit_lost",
    "commit_answer_lost",
    "commit_late",
    "serialization_failure",
]
ProcessFault = Literal[
    "worker_killed",
    "worker_frozen",
    "worker_left",
    "worker_joined",
    "projector_killed",
    "projector_frozen",
    "connection_cut",
    "consumer_deleted",
    "broker_away",
    "database_away",
    "clock_jumped",
    "broker_clock_jumped",
]
PoisonFault = Literal[
    "nul_published",
    "token_overlong",
    "token_unsafe",
    "types_wrong",
    "digits_absurd",
    "operator_misplaced",
]
Fault = LinkFault | StoreFault | DatabaseFault | ProcessFault | PoisonFault
LINK: tuple[LinkFault, ...] = get_args(LinkFault)
STORE: tuple[StoreFault, ...] = get_args(StoreFault)
DATABASE: tuple[DatabaseFault, ...] = get_args(DatabaseFault)
PROCESS_FAULTS: tuple[ProcessFault, ...] = get_args(ProcessFault)
POISON: tuple[PoisonFault, ...] = get_args(PoisonFault)
FAULTS: tuple[Fault, ...] = (*LINK, *STORE, *DATABASE, *PROCESS_FAULTS, *POISON)


class Swarm:
    """Faults of one run. Each seed has some of them: alone, rare ones come to matter.

    Attributes:
        dice: whatever the network, the servers and the faults decide.
        fired: how often each fault happened.
        calm: nothing more happens.
    """

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(f"swarm/{seed}")
        self.fired: Counter[Fault] = Counter()
        self.calm = False
        self.latency_s = 10 ** self.dice.uniform(-4, -2)
        chosen = [fault for fault in FAULTS if self.dice.random() < 0.5]
        self._rates = {fault: self._rate(fault) for fault in chosen}
        self.actions: list[ProcessFault] = [f for f in PROCESS_FAULTS if f in self._rates]

    def _rate(self, fault: Fault) -> float:
        if fault in LINK:
            return 10 ** self.dice.uniform(-3.3, -1.7)
        if fault in POISON:
            return 10 ** self.dice.uniform(-2.5, -1.3)
        return 10 ** self.dice.uniform(-2, -0.7)

    def insist(self, rates: Mapping[Fault, float]) -> None:
        """Let faults happen this often from now on, whether the seed has them or not."""
        self._rates.update(rates)

    def happens(self, fault: Fault) -> bool:
        """Return whether this fault happens now."""
        rate = self._rates.get(fault)
        if rate is None or self.calm or self.dice.random() >= rate:
            return False
        self.count(fault)
        return True

    def never(self, fault: Fault) -> None:
        """Leave a fault out of this run."""
        self._rates.pop(fault, None)

    def count(self, fault: Fault) -> None:
        """Note that a fault has happened."""
        self.fired[fault] += 1

    def latency(self) -> float:
        """Return how long a message is on its way, in seconds."""
        return self.latency_s * self.dice.random()
