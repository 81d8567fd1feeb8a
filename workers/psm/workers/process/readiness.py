"""Readiness: the systems that a process depends on, asked about once a second if they answer.

A follower that waits for messages does not notice that PostgreSQL is away, and a connection may be
open although the broker has no leader. Readiness that only looks at the own state would
call both well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import last_for
from psm.adapters.tasks import end_all
from psm.contracts.errors import PSMError

Check = Callable[[], Awaitable[object]]

EVERY_S = 1.0
ANSWER_S = 3.0


class Pulse:
    """The latest answer of each system."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        """Nothing is asked before the context is entered.

        Args:
            checks: what to await, by the name of the system; raising means that it is away.
        """
        self._checks = dict(checks)
        self._problems: dict[str, str] = dict.fromkeys(self._checks, "not asked yet")
        self._asking: dict[str, float] = {}  # since when, by system
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def problems(self) -> dict[str, str]:
        """Return what is wrong, by system; nothing when all of them answer."""
        now = asyncio.get_running_loop().time()
        # A check that ran out of time may need long to give up; that it did is known already.
        late = (name for name, since in self._asking.items() if now - since > ANSWER_S)
        return dict.fromkeys(late, f"no answer within {ANSWER_S:g} s") | self._problems

    async def __aenter__(self) -> Pulse:
        """Start to ask."""
        self._tasks = {
            asyncio.create_task(self._ask(name, check)) for name, check in self._checks.items()
        }
        return self

    async def __aexit__(self, *error: object) -> None:
        """Stop asking."""
        await end_all(self._tasks)
        self._tasks = set()

    async def _ask(self, name: str, check: Check) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._asking[name] = loop.time()
            try:
                async with asyncio.timeout(ANSWER_S):
                    await check()
            except (PSMError, TimeoutError) as error:
                self._problems[name] = str(error) or f"no answer within {ANSWER_S:g} s"
            else:
                self._problems.pop(name, None)
            del self._asking[name]
            await asyncio.sleep(EVERY_S)


def database_answers(pool: postgres.Pool) -> Check:
    """Return a check that PostgreSQL answers a query."""

    async def check() -> None:
        async with postgres.acquired(pool) as connection:
            await connection.execute("SELECT 1")

    return check


def leader_answers(nc: Client, stream: str, subject: str) -> Check:
    """Return a check that the leader of a JetStream stream answers a read."""

    async def check() -> None:
        await last_for(nc, stream, subject, timeout_s=ANSWER_S)

    return check


def all_of(checks: Sequence[Check]) -> Check:
    """Return a check that makes all of these, one after the other."""

    async def check() -> None:
        for each in checks:
            await each()

    return check
