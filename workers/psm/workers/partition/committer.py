"""One commit for all partitions of a worker: what they hand in travels in one atomic batch.

A broker with one replica writes every batch synced, several files each, whatever its size: sixteen
partitions that commit for themselves wait for each other there. Here they wait together. One batch
is in flight; what is handed in meanwhile goes with the next, sent when the answer comes.

A part is one partition's cursor and its updates, with nothing in between, and each cursor expects
its own predecessor. So a batch of several is refused for all where one of them was fenced. It is
never sent again: each partition then looks at its own cursor and commits by itself.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Sequence

from nats.aio.client import Client

from psm.adapters.jetstream import Outgoing, UnknownOutcomeError, publish_atomic
from psm.adapters.jetstream.batch import MAX_BATCH_MESSAGES
from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.contracts.errors import TransientError
from psm.contracts.subjects import PSM
from psm.workers.process.crash_points import crash_point

BYTES_TOGETHER = 4 * 1024 * 1024
"""Of several parts together; one part may be larger."""

ANSWER_S = 1.0
"""So long a batch is waited for. Its parts are then looked for one by one, which is safe."""

ANSWER_MAX_S = 8.0
"""Where answers take longer: parts sent one by one would only make a slow broker slower."""

_SLOWER = 4

_log = get_logger()


class BatchRefusedError(TransientError):
    """A batch was refused, or got no answer: each of its parts is stored, or may be sent alone."""


class _Part:
    """What one partition handed in, and where it will learn where it was stored."""

    __slots__ = ("messages", "partition", "size", "stored")

    def __init__(self, partition: int, messages: Sequence[Outgoing]) -> None:
        self.partition = partition
        self.messages = messages
        self.size = sum(len(message.data) for message in messages)
        self.stored: asyncio.Future[int] = asyncio.get_running_loop().create_future()


class Committer:
    """Sends what a worker's partitions commit, one batch after the other.

    The task that sends is its own: a partition that is cancelled cancels no batch.
    """

    def __init__(self, nc: Client, metrics: Metrics | None = None) -> None:
        self._nc = nc
        self._metrics = metrics
        self._waiting: deque[_Part] = deque()
        self._in_flight: frozenset[int] = frozenset()
        self._answered = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        self._patience_s = ANSWER_S

    async def commit(self, partition: int, messages: Sequence[Outgoing]) -> int:
        """Store a part together with those of others; return the sequence of its first message.

        A partition hands in one part at a time. A caller that is cancelled takes back a part that
        was not sent yet.

        Args:
            partition: whose part it is.
            messages: its cursor, which expects its predecessor, and at most 999 updates.

        Raises:
            BatchRefusedError: the batch was refused, for whatever reason, or got no answer.
        """
        part = _Part(partition, messages)
        self._waiting.append(part)
        if self._sending is None:
            # A task begins in the next turn of the loop: who hands in during this one joins.
            self._sending = asyncio.create_task(self._send_all())
        try:
            return await part.stored
        finally:
            if part in self._waiting:
                self._waiting.remove(part)

    async def answered(self, partition: int) -> None:
        """Wait until no batch is in flight that has a part of this partition.

        Such a part may be stored although nobody waits for it any more: before that is decided
        the partition's cursor says nothing.
        """
        while partition in self._in_flight:
            await self._answered.wait()

    async def end(self) -> None:
        """Wait for the batch in flight; nothing is handed in any more."""
        if self._sending is not None:
            await asyncio.wait([self._sending])

    async def _send_all(self) -> None:
        while self._waiting:
            parts = self._together()
            self._in_flight = frozenset(part.partition for part in parts)
            self._answered = asyncio.Event()
            try:
                await self._send(parts)
            finally:
                self._in_flight = frozenset()
                self._answered.set()
        self._sending = None

    def _together(self) -> list[_Part]:
        """Take the parts of the next batch: whole ones, in order, until one does not fit."""
        parts = [self._waiting.popleft()]
        count, size = len(parts[0].messages), parts[0].size
        while self._waiting:
            following = self._waiting[0]
            count += len(following.messages)
            size += following.size
            if count > MAX_BATCH_MESSAGES or size > BYTES_TOGETHER:
                break
            parts.append(self._waiting.popleft())
        return parts

    async def _send(self, parts: Sequence[_Part]) -> None:
        """Send one batch and tell its parts where they are, or that they must look."""
        messages = [message for part in parts for message in part.messages]
        crash_point("worker.before_batch")
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            ack = await publish_atomic(
                self._nc,
                PSM,
                messages,
                batch_id=uuid.uuid4().hex,
                timeout_s=self._patience_s,
            )
        except Exception as error:  # noqa: BLE001 - each part finds out by itself what it means
            self._count(parts, refused=True)
            if isinstance(error, UnknownOutcomeError):
                self._patience_s = min(2 * self._patience_s, ANSWER_MAX_S)
            _log.info("batch.refused", parts=len(parts), reason=str(error))
            for part in parts:
                if not part.stored.done():
                    part.stored.set_exception(BatchRefusedError(str(error)))
            return
        crash_point("worker.after_batch")
        self._count(parts, refused=False)
        self._patience_s = min(max(ANSWER_S, _SLOWER * (clock() - began)), ANSWER_MAX_S)
        sequence = ack.first
        for part in parts:
            if not part.stored.done():
                part.stored.set_result(sequence)
            sequence += len(part.messages)

    def _count(self, parts: Sequence[_Part], *, refused: bool) -> None:
        if self._metrics is not None:
            self._metrics.batch_sent(parts=len(parts), refused=refused)
