"""What PSM has of one partition, in step with a fold of the log."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import StoredMessage, read_range
from psm.contracts import subjects
from psm.contracts.subjects import PSM
from psm.workers.log.committed import psm_filters
from psm.workers.log.cursor import load_cursor
from psm.workers.proof.audit.findings import Finding, Findings


class _Place(msgspec.Struct):
    log_sequence: int


class _Update(msgspec.Struct):
    payload: _Place


_decoder = msgspec.json.Decoder(_Update)


class PublishedCursor(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a commit cursor says of the log, and where in PSM it stands."""

    sequence: int
    event_hash: str | None
    closed_through: str | None


class UpdateGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The updates that one input published, in order."""

    log_sequence: int
    updates: list[StoredMessage]


class PublishedUpdates:
    """Reads a partition's updates once, grouped by the input that caused them.

    Attributes:
        cursors: by log sequence, those read and not taken by the caller. Once `peek` gave a later
            input, all of a log sequence are here.
    """

    def __init__(
        self, nc: Client, partition: int, end: int, findings: Findings, *, whole: bool
    ) -> None:
        """Nothing is read before the first group is asked for.

        Args:
            nc: connection.
            partition: of the log.
            end: last sequence of PSM to read.
            findings: takes what breaks the pattern of commits.
            whole: whether PSM still begins with its first message; else the first commit that is
                left may lack its cursor.
        """
        self.cursors: dict[int, list[PublishedCursor]] = {}
        self._partition = partition
        self._cursor_subject = subjects.cursor(partition)
        self._findings = findings
        self._whole = whole
        self._groups = self._read(read_range(nc, PSM, psm_filters(partition), 1, end))
        self._next: UpdateGroup | None = None
        self._ended = False

    async def peek(self) -> UpdateGroup | None:
        """Return the next group without taking it; None at the end."""
        if self._next is None and not self._ended:
            self._next = await anext(self._groups, None)
            self._ended = self._next is None
        return self._next

    async def take(self) -> UpdateGroup | None:
        """Return the next group; None at the end."""
        group = await self.peek()
        self._next = None
        return group

    async def _read(
        self, batches: AsyncIterator[list[StoredMessage]]
    ) -> AsyncIterator[UpdateGroup]:
        waiting: list[StoredMessage] = []
        at = missing = 0
        started = self._whole
        async for batch in batches:
            for message in batch:
                if message.subject == self._cursor_subject:
                    if missing:
                        self._broken(message, f"{missing} updates before it are gone")
                    cursor = load_cursor(message.data)
                    missing = cursor.updates
                    started = True
                    # An input in parts, or an idle day, repeats the position before.
                    self.cursors.setdefault(cursor.log_sequence, []).append(
                        PublishedCursor(
                            sequence=message.sequence,
                            event_hash=cursor.event_hash,
                            closed_through=cursor.closed_through,
                        )
                    )
                    continue
                if not started:
                    continue
                missing -= 1
                if missing < 0:
                    missing = 0
                    self._broken(message, "no commit announced it")
                place = _decoder.decode(message.data).payload.log_sequence
                if waiting and place != at:
                    yield UpdateGroup(log_sequence=at, updates=waiting)
                    waiting = []
                at = place
                waiting.append(message)
        if waiting:
            yield UpdateGroup(log_sequence=at, updates=waiting)

    def _broken(self, message: StoredMessage, what: str) -> None:
        self._findings.add(
            Finding(
                code="commit_broken",
                stream=PSM,
                sequence=message.sequence,
                partition=self._partition,
                expected="whole commits, each opened by its cursor",
                found=what,
            )
        )
