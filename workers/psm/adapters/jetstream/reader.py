"""An ordered, gapless reader of a stream that survives whatever happens to its consumer.

`OrderedReader` remembers one thing, the last sequence it handed out. When its consumer shows a
gap, falls silent, is deleted, changes its leader or loses the connection, it opens another one
after that position. So every matching message that the broker shows is delivered exactly once
and in order. What a broker hides (a damaged replica) it cannot know: see `watch`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from nats.aio.client import Client

from psm.adapters.jetstream.errors import ApiConfigError
from psm.adapters.jetstream.messages import StoredMessage
from psm.adapters.jetstream.pull import (
    HEARTBEAT_S,
    ConsumerLostError,
    PullConsumer,
    by_start_sequence,
)
from psm.adapters.logs import get_logger
from psm.adapters.tasks import BackOff
from psm.contracts.errors import InvariantError, TransientError

BATCH = 2000
WATCHDOG_S = 5.0
_OPEN_S = (1.0, 5.0)  # least and longest wait for the broker to create a consumer

_log = get_logger()


class OrderedReader:
    """Reads messages on some subjects of one stream, in stream order.

    Not for concurrent use: one task calls `fetch`.

    Attributes:
        position: sequence of the last message handed out (start - 1 before the first).
        resets: how often the consumer was opened again, by reason.
    """

    def __init__(
        self,
        nc: Client,
        stream: str,
        filter_subjects: Sequence[str],
        start_sequence: int = 1,
        *,
        batch: int = BATCH,
        heartbeat_s: float = HEARTBEAT_S,
        watchdog_s: float = WATCHDOG_S,
        on_reset: Callable[[str, str], None] | None = None,
    ) -> None:
        """Nothing is opened before the first `fetch`.

        Args:
            nc: connection.
            stream: name of the JetStream stream.
            filter_subjects: stored subjects that do not overlap.
            start_sequence: the first sequence wanted.
            batch: pull window; at most two windows of messages are held in memory.
            heartbeat_s: how often the broker says that it is there; two missed ones reset.
            watchdog_s: how long a message that is known to exist may stay unseen.
            on_reset: called with (stream, reason) whenever the consumer is opened again.
        """
        self.position = max(1, start_sequence) - 1
        self.resets: Counter[str] = Counter()
        self._nc = nc
        self._stream = stream
        self._filters = tuple(filter_subjects)
        self._batch = batch
        self._heartbeat_s = heartbeat_s
        self._watchdog_s = watchdog_s
        self._on_reset = on_reset
        self._consumer: PullConsumer | None = None
        self._ever_open = False
        self._back_off = BackOff(0.05, 2.0, at_once=True)
        self._retry_at = 0.0
        self._expected: int | None = None
        self._expected_since = 0.0

    async def fetch(
        self, max_messages: int, max_wait_s: float, *, linger_s: float = 0.0
    ) -> list[StoredMessage]:
        """Return the next messages, or an empty list when none came within `max_wait_s`.

        Returns as soon as one message is there, together with all that arrived until then. While
        the consumer is opened again on a broker that is silent it may take a second longer.

        Args:
            max_messages: upper limit of the list.
            max_wait_s: how long to wait for the first message.
            linger_s: once the first is there, how long to wait for `max_messages` of them.

        Raises:
            ApiConfigError: the stream does not exist or refuses the filters (at the first open).
            TransientError: the connection was closed for good.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + max_wait_s
        while True:
            try:
                consumer = await self._opened(deadline)
                if consumer is None:
                    return []
                if not consumer.arrived:
                    await consumer.wait(deadline - loop.time())
                if linger_s > 0 and 0 < consumer.arrived < max_messages:
                    await consumer.wait(linger_s, more_than=max_messages - 1)
                messages = consumer.take(max_messages)
                if messages:
                    await self._handed_out(consumer, messages)
                    return messages
            except ConsumerLostError as lost:
                await self.reset(lost.reason)
                continue
            if loop.time() >= deadline:
                return []

    @property
    def pending(self) -> int | None:
        """Matching messages after `position` when the last one was sent; None if not open."""
        return self._consumer.pending if self._consumer else None

    @property
    def is_open(self) -> bool:
        """True while there is a consumer on the broker."""
        return self._consumer is not None

    def caught_up(self) -> bool:
        """Return whether nothing matching was after `position` as far as the broker reported."""
        consumer = self._consumer
        return consumer is not None and consumer.pending == 0 and not consumer.arrived

    async def restart_at(self, sequence: int) -> None:
        """Go on at `sequence`, forwards or backwards; what had arrived is forgotten."""
        await self.reset("restarted")
        self.position = max(1, sequence) - 1
        self._back_off.reset()
        self._expected = None

    async def watch(self, last_expected_sequence: int) -> bool:
        """Tell the reader which matching message the stream is known to have.

        Called about once a second with the sequence of the stream's last matching message.
        If the reader was not shown it within `watchdog_s` although it holds nothing back, it
        opens a new consumer.

        Returns:
            True if the consumer was reset.
        """
        now = asyncio.get_running_loop().time()
        consumer = self._consumer
        if self.position >= last_expected_sequence or (consumer and consumer.arrived):
            self._expected = None
            return False
        if self._expected is None:
            self._expected, self._expected_since = last_expected_sequence, now
            return False
        if self.position >= self._expected:
            self._expected, self._expected_since = last_expected_sequence, now
            return False
        if now - self._expected_since < self._watchdog_s:
            return False
        self._expected = None
        await self.reset("watchdog")
        return True

    async def reset(self, reason: str) -> None:
        """Forget the consumer; the next `fetch` opens one after `position`."""
        consumer, self._consumer = self._consumer, None
        if consumer is None and reason == "restarted":
            return
        self._count_reset(reason)
        self._failed()
        if reason != "restarted":
            _log.warning(
                "reader.consumer_lost",
                js_stream=self._stream,
                reason=reason,
                position=self.position,
                filters=self._filters[:1],
            )
        if consumer is not None:
            await consumer.close()

    async def close(self) -> None:
        """Delete the consumer. The reader may be used again."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.close()

    async def _handed_out(self, consumer: PullConsumer, messages: list[StoredMessage]) -> None:
        if messages[0].sequence <= self.position:
            raise InvariantError(
                f"{self._stream}: sequence {messages[0].sequence} was delivered after "
                f"{self.position}"
            )
        self.position = messages[-1].sequence
        self._back_off.reset()
        try:
            await consumer.top_up()
        except ConsumerLostError as lost:
            await self.reset(lost.reason)

    async def _opened(self, deadline: float) -> PullConsumer | None:
        """The consumer, opened if need be; None when that did not work before `deadline`."""
        loop = asyncio.get_running_loop()
        while self._consumer is None:
            if self._nc.is_closed:
                raise TransientError("the connection to NATS is closed")
            now = loop.time()
            if now >= deadline and self._retry_at > now:
                return None
            await asyncio.sleep(max(0.0, min(self._retry_at, deadline) - now))
            if loop.time() < self._retry_at:
                return None
            try:
                self._consumer = await PullConsumer.open(
                    self._nc,
                    self._stream,
                    by_start_sequence(self._filters, self.position + 1),
                    batch=self._batch,
                    heartbeat_s=self._heartbeat_s,
                    timeout_s=min(_OPEN_S[1], max(_OPEN_S[0], deadline - loop.time())),
                )
                self._ever_open = True
            except ApiConfigError:
                # A stream that was there may be missing for moments while a cluster restarts.
                if not self._ever_open:
                    raise
                self._open_failed("open_refused")
            except TransientError:
                self._open_failed("open_failed")
        return self._consumer

    def _open_failed(self, reason: str) -> None:
        self._count_reset(reason)
        self._failed()

    def _count_reset(self, reason: str) -> None:
        self.resets[reason] += 1
        if self._on_reset is not None:
            self._on_reset(self._stream, reason)

    def _failed(self) -> None:
        self._retry_at = asyncio.get_running_loop().time() + self._back_off.next_s()
