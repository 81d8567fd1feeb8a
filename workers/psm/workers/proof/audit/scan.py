"""Reading a stream sequence by sequence: is everything there, and where it belongs?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import Read, StoredMessage, read_every, stream_info
from psm.contracts.subjects import (
    OF_STREAMS,
    TRADES,
    log_subject,
    partition_of,
    printable,
    published,
    token_bytes,
)
from psm.workers.access.vouched import HEADER, author_of, is_forged
from psm.workers.ops.keys import Keyring
from psm.workers.proof.audit.findings import Finding, Findings

DIGEST_EVERY = 1000
Progress = Callable[[str, int, int], None]
"""Told (what is done, reached, end)."""


class Tally(msgspec.Struct, kw_only=True):
    """What a scan saw.

    Attributes:
        first: sequence it began with.
        messages, events: all, and those of streams.
        shared: (count, sum of sequences) of what every partition reads.
        own: the same of each partition's own events.
        vouched, claimed: events whose `Psm-Principal` a service of ours signed, and others that
            have one.
        digests: per thousand sequences SHA-256 over places, subjects and bodies.
        missing: sequences that are gone.
    """

    first: int = 1
    messages: int = 0
    events: int = 0
    shared: tuple[int, int] = (0, 0)
    own: dict[int, tuple[int, int]] = msgspec.field(default_factory=dict)
    vouched: int = 0
    claimed: int = 0
    digests: dict[int, bytes] = msgspec.field(default_factory=dict)
    missing: list[tuple[int, int]] = msgspec.field(default_factory=list)

    def of(self, partition: int) -> tuple[int, int]:
        """Return what a reader of the partition must see."""
        count, total = self.own.get(partition, (0, 0))
        return count + self.shared[0], total + self.shared[1]


class Scan:
    """One pass over one stream as one server shows it."""

    def __init__(
        self,
        nc: Client,
        stream: str,
        findings: Findings,
        *,
        partitions: int,
        server: str | None = None,
        from_leader: bool = False,
        progress: Progress | None = None,
        principals: Keyring | None = None,
    ) -> None:
        self._nc = nc
        self._stream = stream
        self._findings = findings
        self._partitions = partitions
        self._readers = frozenset(map(str, range(partitions)))
        self._server = server
        self._from_leader = from_leader
        self._progress = progress
        self._principals = principals or Keyring(())
        self._tally = Tally()
        self._runs: dict[str, tuple[int, int]] = {}

    async def run(self, first: int, last: int) -> Tally:
        """Read from `first` to `last`, both included, and note what is not right."""
        self._tally.first = first
        digest = hashlib.sha256()
        async for batch in read_every(
            self._nc, self._stream, first, last, from_leader=self._from_leader
        ):
            for read in batch:
                self._place(read)
                if read.message is not None:
                    self._count(read.message)
                    place = f"{read.sequence} {read.message.subject} "
                    body = token_bytes(place) + read.message.data
                    digest.update(body)
                if read.sequence % DIGEST_EVERY == 0 or read.sequence == last:
                    self._tally.digests[read.sequence] = digest.digest()
                    digest = hashlib.sha256()
            if self._progress is not None:
                self._progress(f"{self._stream}: sequence", batch[-1].sequence, last)
        for code in list(self._runs):
            self._close(code)
        return self._tally

    def _place(self, read: Read) -> None:
        """Join neighbours of one kind to one finding."""
        code = "missing" if read.message is None else "hidden" if read.hidden else None
        for open_code, (_, end) in list(self._runs.items()):
            if open_code != code or end != read.sequence - 1:
                self._close(open_code)
        if code is not None:
            first, _ = self._runs.get(code, (read.sequence, 0))
            self._runs[code] = (first, read.sequence)

    def _close(self, code: str) -> None:
        first, last = self._runs.pop(code)
        if code == "missing":
            self._tally.missing.append((first, last))
        self._findings.add(
            Finding(
                code=code,
                stream=self._stream,
                sequence=first,
                last=last if last > first else None,
                server=self._server,
                expected="a message",
                found=None if code == "missing" else "only the leader has it",
            ),
            last - first + 1,
        )

    def _count(self, message: StoredMessage) -> None:
        tally = self._tally
        tally.messages += 1
        if self._stream != TRADES:
            return
        kind = log_subject(message.subject)[0]
        if kind not in OF_STREAMS:
            tally.shared = (tally.shared[0] + 1, tally.shared[1] + message.sequence)
            return
        tally.events += 1
        self._check_author(message)
        _, partition, stream_id = message.subject.split(".", 2)
        # An operator's tool computes the partition; if it errs, that event is rejected.
        if kind == "trades" and partition != str(partition_of(stream_id, self._partitions)):
            self._findings.add(
                Finding(
                    code="misplaced",
                    stream=self._stream,
                    sequence=message.sequence,
                    stream_id=printable(stream_id),
                    expected=str(partition_of(stream_id, self._partitions)),
                    found=printable(partition),
                )
            )
            return
        if partition in self._readers:
            count, total = tally.own.get(int(partition), (0, 0))
            tally.own[int(partition)] = (count + 1, total + message.sequence)

    def _check_author(self, message: StoredMessage) -> None:
        header = message.header(HEADER)
        if header is None:
            return
        subject, hashed = published(message.subject), hashlib.sha256(message.data).digest()
        if author_of(header, subject, hashed, self._principals).principal is not None:
            self._tally.vouched += 1
            return
        self._tally.claimed += 1
        if is_forged(header, self._principals):
            self._findings.add(
                Finding(
                    code="principal_forged",
                    stream=self._stream,
                    sequence=message.sequence,
                    stream_id=printable(log_subject(message.subject)[1]),
                    expected="a signature over this event, or no claim to one",
                    found=printable(header[:200]),
                )
            )


async def bounds(
    nc: Client, stream: str, findings: Findings, server: str | None = None
) -> tuple[int, int]:
    """Return first and last sequence of a stream; note a log whose beginning is gone."""
    info = await stream_info(nc, stream)
    begin = int(info.config.get("first_seq") or 1)
    if stream != TRADES or not info.last_sequence:
        return max(1, info.first_sequence), info.last_sequence
    if info.first_sequence > begin:
        findings.add(
            Finding(
                code="head_missing",
                stream=stream,
                sequence=begin,
                last=info.first_sequence - 1,
                server=server,
                expected=f"first sequence {begin}",
                found=f"first sequence {info.first_sequence}",
            ),
            info.first_sequence - begin,
        )
    return max(begin, info.first_sequence), info.last_sequence
