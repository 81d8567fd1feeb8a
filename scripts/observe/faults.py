"""Causes that are planted in the running stack, and the alerts that each must make fire."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

from scripts.observe.stack import Stack, frozen, get


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


def _event(account: str, sequence: int, kind: str = "deposit", **payload: Any) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {
        "event_id": f"0190a1b2-c3d4-7{os.urandom(2).hex()[:3]}-8000-{os.urandom(6).hex()}",
        "event_type": kind,
        "schema_version": "1.0.0",
        "timestamp": now,
        "source": "observe",
        "stream_id": account,
        "sequence_number": sequence,
        "payload": payload,
    }


def _append(stack: Stack, event: dict[str, Any]) -> None:
    request = urllib.request.Request(
        f"{stack.http}/psm/events",
        data=json.dumps(event).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except urllib.error.HTTPError as error:
        with error:
            raise RuntimeError(f"{error.code}: {error.read().decode()}") from error


@contextmanager
def _gap(stack: Stack) -> Iterator[None]:
    """Send an account's second event before its first; then send that, too."""
    account = f"observe_{os.urandom(3).hex()}"
    payload = {"currency": "USD", "amount": "1"}
    _append(stack, _event(account, 2, "deposit", **payload))
    yield
    _append(stack, _event(account, 1, "deposit", **payload))


@contextmanager
def _conflict(stack: Stack) -> Iterator[None]:
    """Send two events with one number."""
    account = f"observe_{os.urandom(3).hex()}"
    for amount in ("1", "2"):
        _append(stack, _event(account, 1, "deposit", currency="USD", amount=amount))
    yield


@contextmanager
def _blocked(stack: Stack) -> Iterator[None]:
    """Send an event of a kind that nobody knows; then dismiss it."""
    account = f"observe_{os.urandom(3).hex()}"
    _append(stack, _event(account, 1, "from_the_future", shape="x"))
    yield


@contextmanager
def _jobs(stack: Stack) -> Iterator[None]:
    """Let the last audit be a month ago, and its findings be three."""
    import asyncio

    import asyncpg

    dsn = json.loads(stack.run("env", "-o", "json").stdout)["POSTGRES_DSN"]

    async def write() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(
                "UPDATE job_runs SET findings = 3, succeeded_at = now() - interval '30 days'"
            )
        finally:
            await connection.close()

    asyncio.run(write())
    yield
    stack.run("audit", "--no-views")


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


FAULTS = (
    Fault("an event before its predecessor", ("PsmAccountsInGap",), _gap),
    Fault("two events with one number", ("PsmEventsRefused",), _conflict),
    Fault("an event of an unknown kind", ("PsmAccountsBlocked",), _blocked),
    Fault("an audit long ago, with findings", ("PsmAuditOld", "PsmAuditFindings"), _jobs),
    Fault("a projector that is frozen", ("PsmProjectorAbsent",), lambda s: _both(s)),
    Fault("an API that is frozen", ("PsmApiAbsent",), _freeze("serve")),
    Fault("an archiver that is frozen", ("PsmArchiveAbsent",), _freeze("archive")),
    Fault("a risk worker that is frozen", ("PsmRiskAbsent",), _freeze("risk")),
    Fault("a worker that is frozen", ("PsmPartitionUnowned", "PsmLate"), _freeze("worker")),
    Fault(
        "a PostgreSQL that is frozen",
        ("PsmNotReady", "PsmHttpErrors"),
        lambda s: _database_frozen(s),
    ),
    Fault(
        "a broker that is frozen", ("PsmLogNotWritable",), lambda s: frozen(s.server("nats-server"))
    ),
    Fault("an archiver that is killed again and again", ("PsmProcessRestarting",), _killed_often),
)


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
