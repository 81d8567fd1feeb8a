"""One numbered subject of the log, and how its next event is appended exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

_WRONG_LAST = 10071  # somebody else appended first
_IN_FLIGHT = 10164  # ... or is just doing so
_LOOK_AGAIN_S = 0.05
_HEAD_S = 60.0
AWAY = (
    nats.errors.TimeoutError,
    nats.errors.NoRespondersError,
    nats.errors.ConnectionClosedError,
    nats.errors.OutboundBufferLimitError,
    ServiceUnavailableError,
)


class Line:
    """One subject of the log, whose events are numbered; only one task may use it."""

    def __init__(self, nc: Client, subject: str, stored: str) -> None:
        self._nc = nc
        self._js = nc.jetstream()
        self._subject = subject
        self._stored = stored
        self._last = 0
        self._taken: set[str] = set()
        self.number = 0
        self.last: dict[str, Any] = {}

    async def look(self) -> None:
        """Take number and position from the subject's owner, when it has taken every message."""
        give_up_at = time.monotonic() + _HEAD_S
        while True:
            with contextlib.suppress(*AWAY):
                with contextlib.suppress(NotFoundError):
                    message = await self._js.get_msg("TRADES", subject=self._stored)
                    self._last, self.last = message.seq or 0, decoded(message.data)
                answer = await self._nc.request("psm.get.head", self._subject.encode(), 2)
                head = decoded(answer.data)
                if head.get("log_sequence", -1) >= self._last:
                    self.number = max([head["last"], *head["parked"]])
                    self._taken = {event["event_id"] for event in head["events"]}
                    return
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"nobody answers for {self._subject}: does a worker run?")
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def publish(self, event_type: str, payload: Mapping[str, object]) -> None:
        """Append one event; returns once it is in the log, exactly once."""
        event_id = str(uuid7())
        while True:
            body = json.dumps(self._envelope(event_id, event_type, payload)).encode()
            digest = hashlib.sha256(body).hexdigest()
            headers = {
                "Nats-Msg-Id": f"{self._subject.partition('.')[2]}:{digest}",
                "Nats-Expected-Last-Subject-Sequence": str(self._last),
            }
            try:
                ack = await self._js.publish(self._subject, body, headers=headers)
            except APIError as error:
                if error.err_code not in (_WRONG_LAST, _IN_FLIGHT):
                    raise
            except AWAY:
                await asyncio.sleep(0.5)  # whether it was stored is unknown: look
            else:
                self._last, self.number = ack.seq, self.number + 1
                return
            await self.look()
            if event_id in {*self._taken, self.last.get("event_id")}:
                return

    def _envelope(
        self, event_id: str, event_type: str, payload: Mapping[str, object]
    ) -> dict[str, object]:
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        return {
            "event_id": event_id,
            "event_type": event_type,
            "stream_id": self._subject.partition(".")[2],
            "sequence_number": self.number + 1,
            "timestamp": now.replace("+00:00", "Z"),
            "schema_version": "1.0.0",
            "source_service": "demo-feed",
            "user_id": "demo",
            "payload": payload,
        }


def uuid7() -> uuid.UUID:
    """Return a time-ordered UUID (RFC 9562, version 7)."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | (7 << 76)
    return uuid.UUID(int=value & ~(3 << 62) | (2 << 62))


def decoded(data: bytes | None) -> dict[str, Any]:
    """Return a JSON object; anything else on the subject is not ours and counts as empty."""
    try:
        value = json.loads(data or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
