"""Keeps what a worker owns running: again and again, until it is let go or must not go on.

What loses the broker starts over with back-off. What is fenced does too, or steps down where a
fleet decides who comes next. What finds the log damaged or contradicts itself stops and stays
stopped: a wrong balance is worse than a late one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, Protocol, TypeVar

from psm.adapters.tasks import BackOff
from psm.contracts.errors import FencedError, PSMError, TransientError
from psm.workers.fleet.members import Holding, HoldingState

_FIRST_S = 1.0
_LAST_S = 30.0
_STABLE_S = 60.0  # two owners that fence each other are live in between, and must still back off


class OwnedStats(Protocol):
    """What something owned says of itself."""

    live: bool
    position: int
    last_known: int


class OwnedLoop(Protocol):
    """A partition, or a slot: not reusable, a new one is made for each try."""

    @property
    def stats(self) -> OwnedStats:
        """How it is."""

    async def run(self) -> None:
        """Run until stopped or fenced."""

    def stop(self) -> None:
        """Drain, save and end."""


L = TypeVar("L", bound=OwnedLoop)
End = Literal["fenced", "interrupted", "stopped", "failed"]
"""How a try ended that was not told to."""


def owner_back_off() -> BackOff:
    """Return the pauses before something owned is tried again: 1, 2, 4 … 30 s."""
    return BackOff(_FIRST_S, _LAST_S, stable_s=_STABLE_S)


class Keeper(Generic[L]):
    """One partition, or slot, of a worker.

    Attributes:
        number: of it.
        failure: why it stopped for good; None while it did not.
        rest_s: how long nobody here may take it again, once it stepped down; else 0.
        running: the present try; None between two.
    """

    def __init__(
        self,
        number: int,
        make: Callable[[int], L],
        fenced: Callable[[int], None],
        back_off: BackOff,
        *,
        steps_down: bool,
    ) -> None:
        """Nothing runs yet.

        Args:
            number: of the partition, or slot.
            make: gives a new one for each try.
            fenced: told when it is fenced.
            back_off: of this number, kept over its keepers.
            steps_down: whether being fenced ends it.
        """
        self.number = number
        self.failure: str | None = None
        self.rest_s = 0.0
        self.running: L | None = None
        self._make = make
        self._fenced = fenced
        self._back_off = back_off
        self._steps_down = steps_down
        self._stopping = asyncio.Event()

    @property
    def state(self) -> HoldingState:
        """What it is doing."""
        if self.failure is not None:
            return "stopped"
        if self._stopping.is_set():
            return "draining"
        return "live" if self.running is not None and self.running.stats.live else "recovering"

    def holding(self) -> Holding:
        """Return what the other members are told of it."""
        if self.running is None:
            return Holding(partition=self.number, state=self.state)
        stats = self.running.stats
        return Holding(
            partition=self.number,
            state=self.state,
            position=stats.position,
            lag=max(0, stats.last_known - stats.position),
        )

    def stop(self) -> None:
        """Drain, save and end."""
        self._stopping.set()
        if self.running is not None:
            self.running.stop()

    async def run(self) -> None:
        """Run until stopped, stepped down or failed for good."""
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            started = loop.time()
            live = False
            try:
                self.running = made = self._make(self.number)
                try:
                    await made.run()
                finally:
                    live = made.stats.live
            except FencedError as error:
                self._fenced(self.number)
                self.tell("fenced", error)
                if self._steps_down:
                    self.rest_s = self._back_off.next_s(loop.time() - started if live else 0.0)
                    return
            except TransientError as error:
                self.tell("interrupted", error)
            except PSMError as error:
                self.failure = str(error)
                self.tell("stopped", error)
                return
            except Exception as error:  # noqa: BLE001 - a defect must show, not end in silence
                self.failure = f"{type(error).__name__}: {error}"
                self.tell("failed", error)
                return
            else:
                return
            finally:
                self.running = None
            await self._pause(self._back_off.next_s(loop.time() - started if live else 0.0))

    def tell(self, end: End, error: Exception) -> None:
        """Write to the process's log how a try ended."""
        raise NotImplementedError

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


K = TypeVar("K", bound=Keeper[Any])


class Keepers(Generic[K]):
    """Everything that a worker owns: `Runner` of a fleet.

    Attributes:
        failed: what stopped for good, and why; also what was let go since then.
    """

    def __init__(self, make: Callable[[int, BackOff], K]) -> None:
        """Nothing is held yet; `make` gives the keeper of a number, with its back-off."""
        self.failed: dict[int, str] = {}
        self._make = make
        self._held: dict[int, K] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._back_offs: dict[int, BackOff] = {}
        self._resting: dict[int, float] = {}  # until when, by number
        self._stopping = False
        self._changed: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._held)

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever something is no longer held."""
        self._changed = changed

    def take(self, number: int) -> None:
        """Start to run it; nothing if it is held already."""
        if number in self._held or self._stopping:
            return
        keeper = self._make(number, self._back_offs.setdefault(number, owner_back_off()))
        task = asyncio.create_task(keeper.run(), name=f"owned-{number}")
        self._held[number], self._tasks[number] = keeper, task
        task.add_done_callback(lambda _: self._ended(keeper))

    def let_go(self, number: int) -> None:
        """Drain it, save and end it; it is held until then."""
        keeper = self._held.get(number)
        if keeper is None:
            return
        keeper.stop()
        if keeper.failure is not None:
            self._drop(keeper)

    def stop(self) -> None:
        """Let go of everything, and take nothing more."""
        self._stopping = True
        for keeper in self._held.values():
            keeper.stop()

    def get(self, number: int) -> K | None:
        """Return the keeper of a number; None if it is not held."""
        return self._held.get(number)

    def items(self) -> list[tuple[int, K]]:
        """Return what is held, ascending."""
        return sorted(self._held.items())

    def holdings(self) -> Mapping[int, Holding]:
        """Return what others are told of what is held, ascending."""
        return {number: keeper.holding() for number, keeper in self.items()}

    def resting(self) -> frozenset[int]:
        """Return what was fenced a moment ago."""
        now = asyncio.get_running_loop().time()
        self._resting = {n: until for n, until in self._resting.items() if until > now}
        return frozenset(self._resting)

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return what is still running."""
        return list(self._tasks.values())

    async def drained(self, timeout_s: float) -> int:
        """Wait until all that was let go has ended; return how much has not in that time."""
        tasks = self.tasks()
        if not tasks:
            return 0
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        return len(late)

    def _ended(self, keeper: K) -> None:
        if keeper.failure is None:
            self._drop(keeper)
        else:  # it is held on, to be seen, and kept from going round the fleet
            self.failed[keeper.number] = keeper.failure

    def _drop(self, keeper: K) -> None:
        if self._held.get(keeper.number) is not keeper:
            return
        del self._held[keeper.number], self._tasks[keeper.number]
        if keeper.rest_s:
            until = asyncio.get_running_loop().time() + keeper.rest_s
            self._resting[keeper.number] = until
        self._changed()
