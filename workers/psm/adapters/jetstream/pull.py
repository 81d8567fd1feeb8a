"""One ephemeral consumer on the broker, read by raw pulls and without acknowledgements.

The building block of `OrderedReader`: whatever is irregular (a gap in the consumer's own
numbers, silence, deletion, a lost connection) ends it with `ConsumerLostError`. Nothing can
pile up: the broker sends only what was pulled, so the inbox needs no limit at which a client
library would drop messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Self

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from psm.adapters.jetstream.api import API, REQUEST_TIMEOUT_S, call
from psm.adapters.jetstream.direct import DirectParser
from psm.adapters.jetstream.messages import DESCRIPTION, STATUS, StoredMessage
from psm.contracts.errors import TransientError

PULL_WINDOWS = 2
PULL_EXPIRES_S = 30.0
PULL_BYTES = 8 * 1024 * 1024
"""Of one window: with large messages it ends before its number of them is reached."""

HEARTBEAT_S = 1.0
MISSED_HEARTBEATS = 2
INACTIVE_THRESHOLD_S = 60.0
NANOS = 1_000_000_000
_WINDOW_ENDS = frozenset({"Batch Completed", "Message Size Exceeds MaxBytes"})
_Arrived = tuple[str, str, dict[str, str] | None, bytes]  # subject, reply, headers, body
# Where the numbers start in `$JS.ACK.<stream>.<consumer>.<n>.<sseq>.<cseq>.<ts>.<pending>` and
# in the long form, which has domain and account before and a token after.
_SHORT_ACK = 9
_SHORT_BASE, _LONG_BASE = 5, 7


class ConsumerLostError(TransientError):
    """The consumer cannot be trusted any more; open a new one after the last position.

    Attributes:
        reason: stable code for counters, such as `gap` or `heartbeat_missed`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"consumer lost: {reason}")
        self.reason = reason


def by_start_sequence(filters: Sequence[str], start_sequence: int) -> dict[str, Any]:
    """Consumer settings: everything on `filters` from `start_sequence` on."""
    return {
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": max(1, start_sequence),
        "filter_subjects": list(filters),
    }


def by_last_per_subject(filters: Sequence[str]) -> dict[str, Any]:
    """Consumer settings: the newest message of every subject that matches, then what follows."""
    return {"deliver_policy": "last_per_subject", "filter_subjects": list(filters)}


class PullConsumer:
    """An open consumer.

    Attributes:
        pending: how many messages the stream still had after the last one taken.
    """

    def __init__(self, nc: Client, stream: str, *, batch: int, heartbeat_s: float) -> None:
        self.pending = 0
        self._nc = nc
        self._stream = stream
        self._name = f"psm-{secrets.token_hex(8)}"
        self._inbox = nc.new_inbox()
        self._batch = batch
        self._pull_body = msgspec.json.encode(
            {
                "batch": batch,
                "expires": int(PULL_EXPIRES_S * NANOS),
                "idle_heartbeat": int(heartbeat_s * NANOS),
                # One that is larger than a window would never come.
                "max_bytes": PULL_BYTES + nc.max_payload,
            }
        )
        self._reconnects = nc.stats["reconnects"]
        self._subscription: Subscription | None = None
        self._arrived: deque[_Arrived] = deque()
        parser = getattr(nc, "_ps", None)
        self._parser = parser if isinstance(parser, DirectParser) else None
        self._wake = asyncio.Event()
        self._silence_s = 0.0
        self._silence_max_s = heartbeat_s * (MISSED_HEARTBEATS + 0.5)
        self._credit = 0  # messages the broker may still send
        self._arrived_bytes = 0
        self._received = 0
        self._sent_at_last_heartbeat = 0
        self._taken = 0  # consumer sequence of the last message taken
        self._lost: str | None = None

    @classmethod
    async def open(
        cls,
        nc: Client,
        stream: str,
        settings: Mapping[str, Any],
        *,
        batch: int,
        heartbeat_s: float = HEARTBEAT_S,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Self:
        """Create the consumer on the broker and start to pull.

        Raises:
            ApiError: the broker refuses it, such as `StreamNotFoundError`.
            TransientError: the broker does not answer.
        """
        self = cls(nc, stream, batch=batch, heartbeat_s=heartbeat_s)
        config = {
            "name": self._name,
            "description": nc.options.get("name") or "",
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "replay_policy": "instant",
            "inactive_threshold": int(INACTIVE_THRESHOLD_S * NANOS),
            **settings,
        }
        operation = f"CONSUMER.CREATE.{stream}.{self._name}"
        answer = await call(
            nc, operation, {"stream_name": stream, "config": config}, timeout_s=timeout_s
        )
        self.pending = int(answer.get("num_pending", 0))
        try:
            self._subscription = await nc.subscribe(
                self._inbox, cb=self._on_message, pending_msgs_limit=0, pending_bytes_limit=0
            )
            if self._parser is not None:
                self._parser.attach(self._subscription, self)
            await self._pull()
        except nats.errors.Error as error:
            raise ConsumerLostError("connection") from error
        return self

    @property
    def arrived(self) -> int:
        """Messages that are here and not yet taken."""
        return len(self._arrived)

    def take(self, limit: int) -> list[StoredMessage]:
        """Return up to `limit` messages that have arrived, in order, without waiting.

        Raises:
            ConsumerLostError: the next message does not follow the last one (reason `gap`).
        """
        arrived = self._arrived
        taken: list[StoredMessage] = []
        for _ in range(min(limit, len(arrived))):
            subject, reply, headers, data = arrived[0]
            tokens = reply.split(".")
            base = _SHORT_BASE if len(tokens) == _SHORT_ACK else _LONG_BASE
            if int(tokens[base + 1]) != self._taken + 1:
                self._lost = "gap"
                arrived.clear()
                break
            arrived.popleft()
            self._arrived_bytes -= len(data)
            self._taken += 1
            self.pending = int(tokens[base + 3])
            taken.append(
                StoredMessage(
                    subject=subject,
                    sequence=int(tokens[base]),
                    time_ns=int(tokens[base + 2]),
                    data=data,
                    headers=headers,
                )
            )
        if self._lost == "gap" and not taken:
            raise ConsumerLostError("gap")
        return taken

    async def wait(self, timeout_s: float, more_than: int = 0) -> None:
        """Wait until more than `more_than` messages have arrived, at most `timeout_s`.

        Raises:
            ConsumerLostError: nothing has arrived, and nothing will from this consumer.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while len(self._arrived) <= more_than:
            self._wake.clear()
            await self.top_up()
            before = loop.time()
            if before >= deadline:
                return
            patience = max(0.001, self._silence_max_s - self._silence_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(deadline - before, patience)):
                    await self._wake.wait()
            if self._wake.is_set():
                continue
            # Only time spent listening counts as silence: an owner that computes for long, or
            # fetches in short turns, neither causes nor hides it.
            self._silence_s += loop.time() - before
            if not self._arrived and self._silence_s >= self._silence_max_s:
                self._lost = self._lost or "heartbeat_missed"

    async def top_up(self) -> None:
        """Pull again when half of what may be outstanding is used up.

        Raises:
            ConsumerLostError: the consumer has ended and everything that had arrived was taken.
        """
        if self._nc.stats["reconnects"] != self._reconnects:
            self._lost = self._lost or "reconnect"
        elif not self._nc.is_connected:
            self._lost = self._lost or "connection"
        if self._lost is not None:
            if self._arrived:
                return
            raise ConsumerLostError(self._lost)
        used = self._credit + len(self._arrived) <= self._batch * (PULL_WINDOWS - 1)
        if used and self._arrived_bytes < PULL_BYTES:
            try:
                await self._pull()
            except nats.errors.Error as error:
                raise ConsumerLostError("connection") from error

    async def close(self) -> None:
        """Stop listening and delete the consumer; what cannot be reached is left to time out."""
        subscription, self._subscription = self._subscription, None
        self._arrived.clear()
        if self._parser is not None and subscription is not None:
            self._parser.detach(subscription)
        if self._nc.is_closed:
            return
        with contextlib.suppress(nats.errors.Error):
            if subscription is not None:
                await subscription.unsubscribe()
            if self._nc.is_connected:
                # Not waited for: a consumer that survives ends by its inactive threshold.
                await self._nc.publish(f"{API}.CONSUMER.DELETE.{self._stream}.{self._name}")

    async def _pull(self) -> None:
        self._credit += self._batch
        subject = f"{API}.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
        await self._nc.publish(subject, self._pull_body, reply=self._inbox)

    def receive(
        self, subject: str, reply: str, headers: dict[str, str] | None, data: bytes
    ) -> None:
        """Keep a message of the stream until it is taken."""
        self._arrived.append((subject, reply, headers, data))
        self._arrived_bytes += len(data)
        self._received += 1
        self._credit -= 1
        self._silence_s = 0.0
        self._wake.set()

    async def _on_message(self, message: Msg) -> None:
        if message.subject == self._inbox:
            self._on_status(message.headers or {})
            self._silence_s = 0.0
            self._wake.set()
        else:
            self.receive(message.subject, message.reply, message.headers or None, message.data)

    def _on_status(self, headers: Mapping[str, str]) -> None:
        status = headers.get(STATUS)
        if status == "100":
            # What the broker had sent at the last heartbeat must be here by this one.
            if self._received < self._sent_at_last_heartbeat:
                self._lost = self._lost or "tail_gap"
            self._sent_at_last_heartbeat = int(headers.get("Nats-Last-Consumer", 0))
        elif status in {"404", "408"} or headers.get(DESCRIPTION) in _WINDOW_ENDS:
            # A pull ran out of time, or is used up; what it did not deliver is no longer owed.
            self._credit -= int(headers.get("Nats-Pending-Messages", 0))
        elif status == "503":
            self._lost = self._lost or "no_responders"
        else:
            text = headers.get(DESCRIPTION, f"status {status}").lower()
            self._lost = self._lost or re.sub(r"[^a-z0-9]+", "_", text).strip("_")
