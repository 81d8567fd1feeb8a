"""Replay mode: while it is on, nothing that is guarded has an effect on the world.

A strategy or a service that replays recorded events runs its own code again, and that code must
not send an order, a mail or an event a second time. Guard whatever does:

    @no_replay
    async def send_order(order): ...        # returns None in replay mode

    @no_replay(strict=True)
    def withdraw(amount): ...               # raises ReplayModeError in replay mode

    with ReplayMode():
        await strategy.on_event(event)

The mode follows the task: tasks made inside of it, and `asyncio.to_thread`, are in it too. Threads
and executors that are not made by asyncio do not inherit it; `ReplayMode(process=True)`, or the
environment variable PSM_REPLAY_MODE, puts the whole process into it. PSM's own writers (publisher,
atomic batches, marks) refuse in replay mode, and PostgreSQL is opened read-only.
"""

from __future__ import annotations

import functools
import inspect
import os
import threading
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

from psm.contracts.errors import ReplayModeError

VARIABLE = "PSM_REPLAY_MODE"
"""Environment variable that puts a whole process into replay mode, for good."""

P = ParamSpec("P")
R = TypeVar("R")

_OFF = frozenset({"", "0", "false", "no", "off"})
# Read once: what a process was started as, nothing in it may change. Whatever is no clear "off"
# counts as on, because a replay that has effects cannot be undone.
_BY_ENVIRONMENT = os.environ.get(VARIABLE, "").strip().lower() not in _OFF
_in_task: ContextVar[bool] = ContextVar("psm_replay_mode", default=False)
_processes = 0
_lock = threading.Lock()


def is_replaying() -> bool:
    """Return whether the caller is in replay mode."""
    return _BY_ENVIRONMENT or _processes > 0 or _in_task.get()


def require_live(what: str) -> None:
    """Refuse a side effect in replay mode.

    Args:
        what: the effect, for the error's text: `publish to trades.acc_001`.

    Raises:
        ReplayModeError: the caller is in replay mode.
    """
    if is_replaying():
        raise ReplayModeError(f"cannot {what}: this is a replay, and a replay has no effects")


class ReplayMode:
    """Context in which guarded functions have no effect. May be nested, and used again."""

    def __init__(self, *, process: bool = False) -> None:
        """Nothing changes yet.

        Args:
            process: every thread and task of the process is meant, not only this one.
        """
        self._process = process
        self._tokens: list[Token[bool]] = []

    def __enter__(self) -> Self:
        """Turn replay mode on."""
        if self._process:
            _count(1)
        else:
            self._tokens.append(_in_task.set(True))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Turn it off again, unless it was on before."""
        if self._process:
            _count(-1)
        else:
            _in_task.reset(self._tokens.pop())


def _count(change: int) -> None:
    global _processes
    with _lock:
        _processes += change


@overload
def no_replay(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def no_replay(*, strict: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def no_replay(function: Callable[..., Any] | None = None, /, *, strict: bool = False) -> Any:
    """Guard a function, sync or async: in replay mode it is not run.

    Args:
        function: what has the side effect. Its declared type is kept, so annotate a function
            that is guarded without `strict` as one that may return None.
        strict: raise in replay mode instead of returning None.

    Raises:
        TypeError: it is a generator, whose body would run outside of the guard.
        ReplayModeError: from the guarded function, with `strict`.
    """
    if function is None:
        return functools.partial(_guarded, strict=strict)
    return _guarded(function, strict=strict)


def _guarded(function: Callable[..., Any], *, strict: bool) -> Callable[..., Any]:
    name = getattr(function, "__qualname__", repr(function))
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{name} is a generator: guard the function that has the effect")

    def stopped() -> bool:
        if strict:
            require_live(f"run {name}")
        return is_replaying()

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            return None if stopped() else await function(*args, **kwargs)

        return run_async

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return None if stopped() else function(*args, **kwargs)

    return run
