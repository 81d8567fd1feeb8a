"""What the live system published of each event, to compare a replay with."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import read_range, stream_info
from psm.adapters.jetstream.messages import StoredMessage
from psm.contracts.subjects import PSM
from psm.workers.proof.validation.run import Advance, Print, advance_of


class Wrong(msgspec.Struct, frozen=True):
    """A field in which an update and the replay differ."""

    field: str
    published: str | None
    replayed: str | None


class PublishedHashes:
    """The hashes of every published event that is still retained, about 0.4 KB each.

    The state hash is not compared while a stream is blocked: what was held is folded when it is
    released, at the marks of that moment.

    Attributes:
        matched: events whose hashes were the same.
        absent: events without a retained update: older than the stream PSM, or not yet committed.
    """

    def __init__(self, advances: Iterable[Advance]) -> None:
        self._advances = {advance.key: advance for advance in advances}
        self._highest: dict[str, int] = {}
        self._lowest: dict[str, int] = {}
        for stream_id, number, *_ in self._advances:
            self._highest[stream_id] = max(number, self._highest.get(stream_id, 0))
            self._lowest[stream_id] = min(number, self._lowest.get(stream_id, number))
        self._blocked: dict[str, None] = {}
        self.matched = 0
        self.absent = 0

    def skip(self, found: Print) -> None:
        """Take note of a message that is not compared."""
        for advance in found.advances:
            self._advances.pop(advance.key, None)
        self._note(found)

    def compare(self, found: Print) -> Wrong | None:
        """Return the first field of an event's update that is not as replayed."""
        blocked = {**self._blocked, **dict.fromkeys([*found.blocked, *found.resumed])}
        for advance in found.advances:
            update = self._advances.pop(advance.key, None)
            if update is None:
                if self._is_due(advance):
                    return Wrong("sequence_number", None, str(advance.sequence_number))
                self.absent += 1
                continue
            for name in ("chain_hash", "ledger_hash", "state_hash"):
                if name == "state_hash" and advance.stream_id in blocked:
                    continue
                was, now = getattr(update, name), getattr(advance, name)
                if was != now:
                    return Wrong(name, was, now)
            self.matched += 1
        self._note(found)
        return None

    def unexplained(self) -> Advance | None:
        """Return the first published event that no replayed one explains."""
        left = sorted(self._advances.values(), key=lambda advance: advance.log_sequence)
        return left[0] if left else None

    def _is_due(self, advance: Advance) -> bool:
        """Return whether its neighbours on both sides were published and retained."""
        lowest = self._lowest.get(advance.stream_id)
        return (
            lowest is not None
            and lowest < advance.sequence_number < self._highest[advance.stream_id]
        )

    def _note(self, found: Print) -> None:
        self._blocked.update(dict.fromkeys(found.blocked))
        for stream_id in found.resumed:
            self._blocked.pop(stream_id, None)


async def read_published(
    nc: Client, account: str | None, last_log_sequence: int
) -> PublishedHashes:
    """Return what the stream PSM retains of the events up to a log sequence."""
    subject = f"psm.state.updated.*.{account or '*'}"
    last = (await stream_info(nc, PSM)).last_sequence
    advances: list[Advance] = []
    async for batch in read_range(nc, PSM, [subject], 1, last):
        advances += _advances(batch, last_log_sequence)
    return PublishedHashes(advances)


def _advances(batch: list[StoredMessage], last_log_sequence: int) -> Iterable[Advance]:
    for message in batch:
        advance = advance_of(message.data)
        if advance is not None and advance.log_sequence <= last_log_sequence:
            yield advance
