"""Causes that are planted in the running stack, and the alerts that each must make fire."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

import asyncpg
import nats
from scripts.observe.stack import Stack, frozen, get

from psm.workers.local.feed.line import uuid7


class Fault(NamedTuple):
    """A cause.

    Attributes:
        what: it is, in words.
        alerts: that must fire.
        planted: the cause, for as long as the context is open.
    """

    what: str
    alerts: tuple[str, ...]
    planted: Callable[[Stack], Any]


def _freeze(part: str) -> Callable[[Stack], Any]:
    return lambda stack: frozen(stack.parts()[part][0])


def _event(account: str, number: int, event_type: str, amount: str) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    event = {
        "event_id": str(uuid7()),
        "event_type": event_type,
        "stream_id": account,
        "sequence_number": number,
        "timestamp": now,
        "schema_version": "1.0.0",
        "source_service": "observe",
        "user_id": "observe",
        "payload": {"amount": amount},
    }
    return json.dumps(event).encode()


def _append(stack: Stack, account: str, *events: bytes) -> None:
    """Append to the log as any client of NATS can, past the checks of PSM's own door."""

    async def publish() -> None:
        nc = await nats.connect(stack.announced["nats_url"])
        try:
            for event in events:
                await nc.jetstream().publish(f"trades.{account}", event, timeout=30)
        finally:
            await nc.close()

    asyncio.run(publish())


def _account() -> str:
    return f"observe_{uuid7().hex[-6:]}"


@contextmanager
def _gap(stack: Stack) -> Iterator[None]:
    """Send an account's second event before its first; then send that, too."""
    account = _account()
    _append(stack, account, _event(account, 2, "CashDeposited", "1"))
    yield
    _append(stack, account, _event(account, 1, "CashDeposited", "1"))


@contextmanager
def _conflict(stack: Stack) -> Iterator[None]:
    """Send two events with one number."""
    account = _account()
    _append(stack, account, *(_event(account, 1, "CashDeposited", text) for text in ("1", "2")))
    yield


@contextmanager
def _blocked(stack: Stack) -> Iterator[None]:
    """Send an event of a kind that nobody knows; then dismiss it."""
    account = _account()
    _append(stack, account, _event(account, 1, "FromTheFuture", "1"))
    yield
    stack.run("dlq", "dismiss", account, "--reason", "planted")


def _execute(stack: Stack, statement: str) -> None:
    async def write() -> None:
        connection = await asyncpg.connect(stack.announced["postgres_dsn"])
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(write())


@contextmanager
def _jobs(stack: Stack) -> Iterator[None]:
    """Let the last audit be a month ago, and its findings be three."""
    _execute(
        stack, "UPDATE job_runs SET findings = 3, succeeded_at = succeeded_at - interval '30 days'"
    )
    yield
    _execute(
        stack, "UPDATE job_runs SET findings = 0, succeeded_at = succeeded_at + interval '30 days'"
    )


@contextmanager
def _killed_often(stack: Stack) -> Iterator[None]:
    """Kill the archiver as often as it starts."""
    seen: set[int] = set()
    until = time.monotonic() + 120
    while len(seen) < 5 and time.monotonic() < until:
        with suppress(KeyError, ProcessLookupError, FileNotFoundError):
            pid, port = stack.parts()["archive"]
            if pid not in seen and get(f"http://127.0.0.1:{port}/metrics")[0] == 200:
                time.sleep(2.5)  # it was scraped
                os.kill(pid, signal.SIGKILL)
                seen.add(pid)
        time.sleep(0.5)
    yield


@contextmanager
def _both(stack: Stack) -> Iterator[None]:
    """Both processes that write views."""
    parts = stack.parts()
    with frozen(parts["projector"][0]), frozen(parts["analytics"][0]):
        yield


@contextmanager
def _database_frozen(stack: Stack) -> Iterator[None]:
    """All processes of PostgreSQL."""
    own = [pid for pid, words in stack.processes().items() if words and "postgres" in words[0]]
    for pid in own:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in own:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


FAULTS = (
    Fault("an event before its predecessor", ("PsmAccountsInGap",), _gap),
    Fault("two events with one number", ("PsmEventsRefused",), _conflict),
    Fault("an event of an unknown kind", ("PsmAccountsBlocked",), _blocked),
    Fault("an audit long ago, with findings", ("PsmAuditOld", "PsmAuditFindings"), _jobs),
    Fault("a projector that is frozen", ("PsmProjectorAbsent",), _both),
    Fault("an API that is frozen", ("PsmApiAbsent",), _freeze("serve")),
    Fault("an archiver that is frozen", ("PsmArchiveAbsent",), _freeze("archive")),
    Fault("a risk worker that is frozen", ("PsmRiskAbsent",), _freeze("risk")),
    Fault("a worker that is frozen", ("PsmPartitionUnowned",), _freeze("worker")),
    Fault(
        "a PostgreSQL that is frozen",
        ("PsmNotReady",),
        _database_frozen,
    ),
    Fault(
        "a broker that is frozen", ("PsmLogNotWritable",), lambda s: frozen(s.server("nats-server"))
    ),
    Fault("an archiver that is killed again and again", ("PsmProcessRestarting",), _killed_often),
)
