"""PSM as its users run it, fed with odd inputs, and what must hold afterwards.

Neighbours are accounts, one in each partition, that trade all along. After each run they must have
moved, no partition and no archive may have stopped, no process ended, no traceback been logged.
At the end everything in PSM is what the fold makes of the log, and `psm audit` finds nothing.
"""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nats.aio.client import Client
from tests.support import archiving, log_oracle
from tests.support.fuzzing import wire
from tests.support.fuzzing.corpus import encoded, envelope
from tests.support.fuzzing.wire import Odd
from tests.support.running import Running, psm, psm_up, request

from psm.adapters.jetstream import connect
from psm.contracts.subjects import partition_of
from psm.domain.books import Books
from psm.domain.publication.figures import state_document
from psm.workers.process.settings import Settings

PARTITIONS = 4
WAIT_S = 20
_SAME = ("sequence_number", "chain_hash", "ledger_hash", "cash", "realized_pnl", "fees")
_STOPPED = frozenset(
    {
        "archive.interrupted", "archive.stopped", "archive.stream_stopped", "child.exited",
        "http.failed", "nats.consumer_slowed", "partition.failed", "partition.fenced",
        "partition.interrupted", "partition.stopped", "projection.interrupted",
        "projection.stopped",
    }
)  # fmt: skip
"""Events of the log that no input may cause."""


def neighbours() -> list[str]:
    """Return one account for each partition."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < PARTITIONS:
        name = f"neighbour_{number}"
        found.setdefault(partition_of(name, PARTITIONS), name)
        number += 1
    return [found[partition] for partition in sorted(found)]


class Stage:
    """A running PSM.

    Attributes:
        running: the processes.
        harmed: a check failed: what comes after would be judged by what came before.
    """

    def __init__(self, running: Running) -> None:
        self.running = running
        self.harmed = False
        self._numbers = dict.fromkeys(neighbours(), 0)
        self._marks = 0
        self._read = 0  # bytes of the log that were looked through

    async def feed(self, messages: Sequence[Odd]) -> list[str]:
        """Publish messages; return what the broker did not like."""
        return await wire.publish(self.running.nats_url, messages)

    async def http(self, request: bytes, *, wait: bool = True) -> bytes:
        """Send bytes to the HTTP service; return the whole answer."""
        return await wire.http(self.running.http_url, request, wait=wait)

    async def check(self) -> None:
        """Make sure that everybody else goes on.

        Raises:
            AssertionError: somebody does not, or a process said what it must not.
        """
        was, self.harmed = self.harmed, True
        await self._neighbours_move()
        self._nothing_stopped()
        self.harmed = was

    async def check_all(self) -> None:
        """Make sure that everything in PSM is what the log says.

        Raises:
            AssertionError: it is not.
        """
        await self.check()
        was, self.harmed = self.harmed, True
        settings = Settings(nats_url=self.running.nats_url, partitions=PARTITIONS)
        nc = await connect(self.running.nats_url, name="fuzz")
        try:
            verdict = await log_oracle.judge(nc, settings)
            await self._neighbours_are_exact(verdict.books)
            await self._archive_is_whole(nc)
        finally:
            await nc.close()
        await self._audit_is_clean()
        self._nothing_stopped()
        self.harmed = was

    async def _neighbours_move(self) -> None:
        messages = []
        for name in self._numbers:
            self._numbers[name] += 1
            event = envelope(name, sequence_number=self._numbers[name])
            messages.append(Odd(name=name, subject=f"trades.{name}".encode(), body=encoded(event)))
        assert await self.feed(messages) == []
        for name, number in self._numbers.items():
            path = f"/psm/state/{name}?min_sequence={number}&timeout_s={WAIT_S}"
            status, answer = await self.get(path)
            assert status == 200, f"{name} does not move: {answer}"
            assert answer["sequence_number"] == number
        # Only now: it values every holder, and rows that nothing can store would be overtaken.
        self._marks += 1
        price = {"symbol": "BTC-PERP", "price": str(100 + self._marks)}
        mark = envelope(
            "BTC-PERP", event_type="MarkPriceUpdated", sequence_number=self._marks, payload=price
        )
        assert (
            await self.feed([Odd(name="mark", subject=b"marks.BTC-PERP", body=encoded(mark))]) == []
        )

    async def get(self, path: str) -> tuple[int, Any]:
        """Return status and document of a GET."""
        return await asyncio.to_thread(request, f"{self.running.http_url}{path}")

    def _nothing_stopped(self) -> None:
        with self.running.log.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        self._read += len(text)
        for line in text.decode("utf-8", "replace").splitlines():
            assert "Traceback (most recent call last)" not in line, line[:3000]
            try:
                said = json.loads(line)
            except ValueError:
                continue
            assert said.get("event") not in _STOPPED, line[:3000]
            assert said.get("level") != "critical", line[:3000]
        assert self.running.process.poll() is None, "psm up ended"

    async def _neighbours_are_exact(self, books: dict[int, Books]) -> None:
        for name, number in self._numbers.items():
            own = books[partition_of(name, PARTITIONS)]
            wanted = json.loads(json.dumps(state_document(own, own.accounts[name]), default=str))
            _, found = await self.get(f"/psm/state/{name}?min_sequence={number}")
            assert {k: found[k] for k in _SAME} == {k: wanted[k] for k in _SAME}, name
            assert found["positions"]["BTC-PERP"]["size"] == str(number)

    async def _archive_is_whole(self, nc: Client) -> None:
        await archiving.assert_archive_equals_streams(nc, self.running.postgres_dsn)

    async def _audit_is_clean(self) -> None:
        done = await asyncio.to_thread(psm, "audit", environment=self.environment, check=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"

    @property
    def environment(self) -> dict[str, str]:
        """Where commands find this PSM."""
        return {
            "NATS_URL": self.running.nats_url,
            "POSTGRES_DSN": self.running.postgres_dsn,
            "PSM_PARTITIONS": str(PARTITIONS),
        }


class Stages:
    """Gives the running PSM to one test after another, and a new one after one was harmed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: Any = None
        self._stage: Stage | None = None

    def stage(self) -> Stage:
        """Return an unharmed PSM."""
        if self._stage is None or self._stage.harmed:
            self.close()
            folder = self._folder / uuid.uuid4().hex[:8]
            folder.mkdir(parents=True)
            self._open = psm_up(folder, "--no-sync", "--partitions", str(PARTITIONS))
            self._stage = Stage(self._open.__enter__())
        return self._stage

    def close(self) -> None:
        """Stop what runs."""
        if self._open is not None:
            self._open.__exit__(None, None, None)
        self._open = self._stage = None


@asynccontextmanager
async def hung_up(url: str, request: bytes, count: int) -> AsyncIterator[None]:
    """Hold connections open that ask and never read the answer."""
    address = urlsplit(url)
    held = []
    for _ in range(count):
        own = socket.socket()
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the service must wait soon
        await asyncio.to_thread(own.connect, (address.hostname, address.port))
        await asyncio.to_thread(own.sendall, request)
        held.append(own)
    try:
        yield
    finally:
        for own in held:
            own.close()
