"""The canary: a write beside the log that shows whether the broker takes writes.

It asks without touching the ledger: one message on `health.log`, in a stream with the log's
replicas that keeps the newest. Every process that depends on writes looks at that message; whoever
first finds it older than `EVERY_S` writes the next one, expecting the one it saw. So there is one
write per interval in a cluster, without an election, and as long as anybody lives to make it.
"""

from __future__ import annotations

import asyncio
import random
from typing import Self

import msgspec
from nats.aio.client import Client

from psm.adapters.broker_monitor import BrokerSight, look_at
from psm.adapters.jetstream import (
    ApiConflictError,
    last_for,
    publish_expected,
    replicas_behind,
)
from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.adapters.tasks import end_all
from psm.contracts.errors import PSMError
from psm.contracts.subjects import HEALTH, HEALTH_LOG, PSM, TRADES

EVERY_S = 2.0
ANSWER_S = 3.0
SILENT_S = 5.0
"""The log counts as not writable when no write was seen for so long, and one was refused."""
REPLICAS_EVERY_S = 5.0
REPLICA_BEHIND_S = 30.0
_SPREAD = (0.8, 1.2)
# A small message would still find room in the last page of a full disk.
_ROOM_BYTES = 4096
_NOT_ASKED = "not asked yet"
_log = get_logger()


class CanaryReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the canary knows.

    Attributes:
        problem: why the log cannot be written; None while it can.
        brokers: what the servers say of themselves, where they say anything is wrong.
        replicas: servers whose replica stays behind, by stream; a loss of the leader costs more.
    """

    problem: str | None
    brokers: dict[str, str]
    replicas: dict[str, list[str]]

    @property
    def log(self) -> str:
        """`writable`, or why it is not."""
        return self.problem or "writable"


class Canary:
    """Whether the broker takes writes, asked as long as the context is open."""

    def __init__(
        self, nc: Client, name: str, metrics: Metrics, monitoring_url: str | None = None
    ) -> None:
        """Nothing is asked before the context is entered.

        Args:
            nc: connection of a user that may write `health.log`.
            name: of this process, written into the message.
            metrics: where the result goes.
            monitoring_url: of the servers, to name what is wrong in their own words.
        """
        self._nc = nc
        self._body = msgspec.json.encode({"by": name, "room": " " * _ROOM_BYTES})
        self._metrics = metrics
        self._monitoring_url = monitoring_url
        self._seen = 0
        self._changed_at = 0.0
        self._well_at: float | None = None
        self._failure: str | None = _NOT_ASKED
        self._said: str | None = None
        self._brokers: list[BrokerSight] = []
        self._behind: dict[tuple[str, str], float] = {}  # since when, by stream and server
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def problem(self) -> str | None:
        """Why the log cannot be written; None while it can."""
        failed = [sight for sight in self._brokers if not sight.takes_writes]
        words = "; ".join(dict.fromkeys(sight.problem for sight in failed if sight.problem))
        if self._failure is not None:
            return f"{self._failure}; the broker says: {words}" if words else self._failure
        if failed and len(failed) == len(self._brokers):
            # The canary's own stream may be well where the log's is not.
            return f"the broker's store failed: {words}"
        return None

    def report(self) -> CanaryReport:
        """Return what it knows."""
        now = asyncio.get_running_loop().time()
        replicas: dict[str, list[str]] = {}
        for (stream, server), since in sorted(self._behind.items()):
            if now - since >= REPLICA_BEHIND_S:
                replicas.setdefault(stream, []).append(server)
        return CanaryReport(
            problem=self.problem,
            brokers={sight.server: sight.problem for sight in self._brokers if sight.problem},
            replicas=replicas,
        )

    async def __aenter__(self) -> Self:
        """Start to ask."""
        work = [self._run(), self._watch_replicas()]
        if self._monitoring_url is not None:
            work.append(self._watch_brokers(self._monitoring_url))
        self._tasks = [asyncio.create_task(each) for each in work]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop asking."""
        await end_all(self._tasks)
        self._tasks = []

    # --- the write ----------------------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(ANSWER_S):
                    await self._ask(loop.time())
            except (PSMError, TimeoutError) as error:
                self._failed(str(error) or f"no answer within {ANSWER_S:g} s", loop.time())
            else:
                self._failure, self._well_at = None, loop.time()
            self._tell()
            await asyncio.sleep(EVERY_S * random.uniform(*_SPREAD))  # noqa: S311 - spreads writers

    async def _ask(self, now: float) -> None:
        """Return when a write was seen to work: another's, or one's own."""
        last = await last_for(self._nc, HEALTH, HEALTH_LOG, timeout_s=ANSWER_S)
        sequence = last.sequence if last else 0
        if sequence != self._seen:
            self._seen, self._changed_at = sequence, now
            if self._well_at is not None:
                return  # somebody wrote since we looked last
        elif self._failure is None and now - self._changed_at < EVERY_S:
            return
        try:
            ack = await publish_expected(
                self._nc, HEALTH, HEALTH_LOG, self._body, expected=sequence, timeout_s=ANSWER_S
            )
        except ApiConflictError:
            return  # somebody wrote at the same time
        self._seen, self._changed_at = ack.sequence, now

    def _failed(self, text: str, now: float) -> None:
        # An election takes seconds and passes by itself.
        if self._well_at is None or now - self._well_at >= SILENT_S:
            self._failure = text

    def _tell(self) -> None:
        """Say it once when the log cannot be written, and once when it can again."""
        problem = self.problem
        self._metrics.log_writable(writable=problem is None)
        if problem is not None and self._said is None and problem != _NOT_ASKED:
            _log.error("log.not_writable", detail=problem)
            self._said = problem
        elif problem is None and self._said is not None:
            _log.info("log.writable_again", before=self._said)
            self._said = None

    # --- servers and replicas -----------------------------------------------------------------

    async def _watch_brokers(self, urls: str) -> None:
        while True:
            self._brokers = await look_at(urls)
            for sight in self._brokers:
                self._metrics.broker_store(
                    sight.server,
                    failed=not sight.takes_writes,
                    stored=sight.stored,
                    limit=sight.limit,
                )
            self._tell()
            await asyncio.sleep(EVERY_S)

    async def _watch_replicas(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for stream in (TRADES, PSM):
                try:
                    behind = await replicas_behind(self._nc, stream)
                except PSMError:
                    continue  # without a leader nobody knows; the write says so
                self._note(stream, behind, loop.time())
            await asyncio.sleep(REPLICAS_EVERY_S)

    def _note(self, stream: str, behind: list[str], now: float) -> None:
        before = self._behind
        self._behind = {key: since for key, since in before.items() if key[0] != stream} | {
            (stream, server): before.get((stream, server), now) for server in behind
        }
        late = [s for s in behind if now - self._behind[stream, s] >= REPLICA_BEHIND_S]
        self._metrics.replicas_not_current(stream, len(late))
