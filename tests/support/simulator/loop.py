"""An event loop for many simulated processes: virtual time, seeded turns, kills and freezes.

Each task belongs to the process that is named in its context. Within a process callbacks run in
the order of the real loop; which process is next is up to the seed. Time passes only here: a
little with every step, and to the next timer when nothing is left to do.

A killed process stops between two steps, with nothing cleaned up; a frozen one is late.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
import sys
import zlib
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

WORLD = "world"
PROCESS: contextvars.ContextVar[str] = contextvars.ContextVar("process", default=WORLD)
_STEP_S = 20e-6


class StuckError(AssertionError):
    """Nothing will ever happen again, or too much happens."""


class SimulatedLoop(asyncio.AbstractEventLoop):
    """Runs every process of a simulated world.

    Attributes:
        trace: a checksum of every step so far; equal traces are equal runs.
        steps: how many there were.
        complaints: what asyncio would have logged, such as an exception nobody took.
    """

    def __init__(self, dice: random.Random, steps_max: int) -> None:
        self.trace = 0
        self.steps = 0
        self.complaints: list[str] = []
        self._dice = dice
        self._steps_max = steps_max
        self._now = 0.0
        self._ready: dict[str, deque[asyncio.Handle]] = {}
        self._timers: list[tuple[float, int, str, asyncio.TimerHandle]] = []
        self._numbers = 0
        self._frozen: dict[str, float] = {}
        self._dead: set[str] = set()
        self._doomed: dict[str, tuple[int, Callable[[], None]]] = {}
        self._buried: list[asyncio.Handle] = []  # a dead process must not be cleaned up
        self._tasks: defaultdict[str, dict[asyncio.Task[Any], None]] = defaultdict(dict)
        self._on_death: Callable[[str], None] = lambda _: None

    # --- processes ------------------------------------------------------------------------------

    def spawn(self, process: str, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a process, or another task of it."""
        return self.create_task(coroutine, context=context_of(process))

    def kill(self, process: str) -> None:
        """End a process between two of its steps; nothing of it runs any more."""
        if process in self._dead:
            return
        self._dead.add(process)
        self._doomed.pop(process, None)
        self._frozen.pop(process, None)
        self._buried += self._ready.pop(process, ())
        self._on_death(process)

    def kill_after(self, process: str, steps: int, told: Callable[[], None]) -> None:
        """Kill a process once it has made so many more steps, and call `told` then."""
        self._doomed[process] = steps, told

    def freeze(self, process: str, seconds: float) -> None:
        """Let a process make no step for a while."""
        until = self._now + seconds
        self._frozen[process] = max(until, self._frozen.get(process, 0.0))
        self.call_later(seconds, lambda: None, context=context_of(WORLD))

    def spare(self) -> None:
        """Thaw everything and take back every kill that has not happened yet."""
        self._frozen.clear()
        self._doomed.clear()

    def is_dead(self, process: str) -> bool:
        """Return whether a process was killed."""
        return process in self._dead

    def on_death(self, told: Callable[[str], None]) -> None:
        """Call `told` with the name of whatever is killed."""
        self._on_death = told

    # --- what asyncio asks of a loop ------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        context = context if context is not None else contextvars.copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        self._put(context.get(PROCESS, WORLD), handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        context = context if context is not None else contextvars.copy_context()
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, context.get(PROCESS, WORLD), timer))
        return timer

    def _timer_handle_cancelled(self, _: asyncio.TimerHandle) -> None:
        """A cancelled timer is left in the heap, where nothing comes of it."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
        **_: Any,
    ) -> asyncio.Task[T]:
        context = context if context is not None else contextvars.copy_context()
        own = self._tasks[context.get(PROCESS, WORLD)]
        task = asyncio.Task(coro, loop=self, name=str(name or "task"), context=context)
        own[task] = None
        task.add_done_callback(lambda done: own.pop(done, None), context=context)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return asyncio._get_running_loop() is self

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.complaints.append(f"{context.get('message')}: {error!r}")

    def run_until_complete(self, future: Generator[Any, None, T] | Any) -> T:
        task: asyncio.Task[T] = self.create_task(future)
        self._run(task.done)
        return task.result()

    # --- steps ----------------------------------------------------------------------------------

    def dispose(self) -> None:
        """Cancel whatever is left, that of dead processes too, so that nothing outlives the run."""
        self.spare()
        self._on_death = lambda _: None
        self._dead.clear()
        for handle in self._buried:
            self._put("dispose", handle)
        self._buried = []
        self._steps_max = self.steps + 1_000_000
        for _ in range(20):
            left = [task for own in list(self._tasks.values()) for task in list(own)]
            if not left:
                break
            for task in left:
                task.cancel()
            deadline = self._now + 1.0
            self.call_at(deadline, lambda: None)
            self._run(self._until(deadline))
        self._ready.clear()
        self._timers.clear()

    def _until(self, deadline: float) -> Callable[[], bool]:
        return lambda: self._now >= deadline or not any(self._tasks.values())

    def _run(self, ended: Callable[[], bool]) -> None:
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(finalizer=self._finalize)
        asyncio._set_running_loop(self)
        try:
            while not ended():
                self._step()
        finally:
            asyncio._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)

    def _finalize(self, generator: AsyncGenerator[Any, Any]) -> None:
        self.create_task(generator.aclose())

    def _put(self, process: str, handle: asyncio.Handle) -> None:
        if process in self._dead:
            self._buried.append(handle)
        elif process in self._ready:
            self._ready[process].append(handle)
        else:
            self._ready[process] = deque([handle])

    def _step(self) -> None:
        self.steps += 1
        if self.steps > self._steps_max:
            raise StuckError(f"more than {self._steps_max} steps")
        self._now += _STEP_S * self._dice.random()
        while self._timers and self._timers[0][0] <= self._now:
            self._due()
        runnable = self._runnable()
        while not runnable:
            if not self._timers:
                raise StuckError("nothing is left to do, and the run has not ended")
            self._now = max(self._now, self._timers[0][0])
            self._due()
            runnable = self._runnable()
        process = runnable[0] if len(runnable) == 1 else self._dice.choice(runnable)
        if process in self._doomed:
            left, told = self._doomed[process]
            if left <= 1:
                self.kill(process)
                told()
                return
            self._doomed[process] = left - 1, told
        self.trace = zlib.crc32(f"{process}{self._now!r}".encode(), self.trace)
        handle = self._ready[process].popleft()
        if not handle.cancelled():
            handle._run()

    def _due(self) -> None:
        _, _, process, timer = heapq.heappop(self._timers)
        if not timer.cancelled():
            self._put(process, timer)

    def _runnable(self) -> list[str]:
        if self._frozen:
            self._frozen = {p: until for p, until in self._frozen.items() if until > self._now}
        return [p for p, queue in self._ready.items() if queue and p not in self._frozen]


def context_of(process: str) -> contextvars.Context:
    """Return a context in which everything belongs to a process."""
    context = contextvars.copy_context()
    context.run(PROCESS.set, process)
    return context
