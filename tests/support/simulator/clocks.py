"""Clocks and randomness of the simulated processes, in place of the machine's."""

from __future__ import annotations

import gc
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.events import START
from tests.support.simulator.loop import PROCESS, SimulatedLoop

_NS = 1_000_000_000


class Clocks:
    """What each process reads from its clocks.

    Attributes:
        wall_s: what a process's calendar is off by; may jump.
        monotonic_s: where its monotonic clock began; never jumps.
    """

    def __init__(self, loop: SimulatedLoop) -> None:
        self.wall_s: defaultdict[str, float] = defaultdict(float)
        self.monotonic_s: defaultdict[str, float] = defaultdict(float)
        self._loop = loop

    def monotonic(self) -> float:
        """Stand in for `time.monotonic`."""
        return self._loop.time() + self.monotonic_s[PROCESS.get()]

    def time_ns(self) -> int:
        """Stand in for `time.time_ns`."""
        return START + round((self._loop.time() + self.wall_s[PROCESS.get()]) * _NS)

    def time(self) -> float:
        """Stand in for `time.time`."""
        return self.time_ns() / _NS


@contextmanager
def simulated(clocks: Clocks, seed: int) -> Iterator[None]:
    """Put clocks and randomness of the seed in place; collect no garbage meanwhile."""
    dice = random.Random(f"urandom/{seed}")
    patches: list[tuple[Any, str, Any]] = [
        (time, "monotonic", clocks.monotonic),
        (time, "perf_counter", clocks.monotonic),
        (time, "time", clocks.time),
        (time, "time_ns", clocks.time_ns),
        (os, "urandom", dice.randbytes),
        (random, "_urandom", dice.randbytes),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    state = random.getstate()
    gc.collect()
    gc.disable()  # when it runs is not up to the seed, and it may end what was left behind
    try:
        random.seed(f"jitter/{seed}")
        for owner, name, value in patches:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        random.setstate(state)
        gc.enable()
