"""Folding one partition again, compared with PSM and with the heads in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import StoredMessage
from psm.contracts import subjects
from psm.contracts.codec import decode_untyped
from psm.contracts.envelope import event_hash
from psm.contracts.subjects import PSM, TRADES
from psm.contracts.updates import StateUpdated
from psm.contracts.updates_read import Decoded
from psm.domain.books import Books
from psm.domain.messages import Outcome, Update
from psm.domain.publication.log_times import log_time
from psm.projections.witness.heads import ChainHead, LogHead
from psm.workers.log.reader import read_stored
from psm.workers.log.refold import Replayed, refold_partition
from psm.workers.proof.audit.findings import AuditReport, Finding, Findings, short
from psm.workers.proof.audit.published import PublishedUpdates

_STATE = msgspec.json.Decoder(Decoded[StateUpdated])


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What a partition's fold is compared with.

    Attributes:
        committed: log sequence up to which updates are committed.
        psm_begins: whether PSM still has the first update; else the oldest are gone by age.
        first, last: only inputs in this range of log sequences are compared.
        chain_heads, log_heads: of PostgreSQL.
    """

    committed: int
    psm_begins: bool
    first: int
    last: int | None
    chain_heads: list[ChainHead]
    log_heads: list[LogHead]


class Refold:
    """One partition's fold. Holds that partition's accounts and heads in memory."""

    def __init__(
        self,
        nc: Client,
        books: Books,
        published: PublishedUpdates,
        evidence: Evidence,
        findings: Findings,
        report: AuditReport,
        scanned_to: int,
    ) -> None:
        """`scanned_to`: log sequence up to which `seen` counts."""
        assert books.partition is not None
        self._nc = nc
        self._books = books
        self._partition = books.partition
        self._published = published
        self._evidence = evidence
        self._findings = findings
        self._report = report
        self._heads = {head.stream_id: head for head in evidence.chain_heads}
        self._log_heads = {head.log_sequence: head for head in evidence.log_heads}
        self._first_group: int | None = None
        self._scanned_to = scanned_to
        self._stale: dict[str, dict[bytes, list[int]]] = {}
        self.seen = (0, 0)  # count and sum of the sequences that the consumer showed

    async def run(self, last: int, reached: Callable[[int, int], None] | None = None) -> None:
        """Fold up to log sequence `last`; note whatever disagrees."""
        if not self._evidence.psm_begins:
            group = await self._published.take()  # may have lost its first updates to age
            self._first_group = group.log_sequence if group else None
        batches = refold_partition(self._nc, self._books, self._partition, last, progress=reached)
        async for batch in batches:
            for replayed in batch:
                await self._take(replayed)
        await self._confirm_stale()
        await self._left_over(last)
        self._report.accounts += len(self._books.accounts)

    async def _take(self, replayed: Replayed) -> None:
        message = replayed.message
        at = message.log_sequence
        self._report.folded += 1
        if at <= self._scanned_to:
            self.seen = (self.seen[0] + 1, self.seen[1] + at)
        hashed = event_hash(message.data).hex()
        await self._compare_updates(at, replayed.result.updates)
        self._compare_cursors(at, hashed, replayed.closed_through)
        head = self._log_heads.pop(at, None)
        if head is not None:
            self._compare_message(at, head.event_hash, hashed, "log_head_differs")
            self._report.heads += head.event_hash == hashed
        if replayed.result.updates and self._heads:
            self._compare_heads(replayed.result.updates)
        if replayed.result.outcome is Outcome.STALE and message.stream_id is not None:
            same = self._stale.setdefault(message.token, {}).setdefault(message.data, [])
            same.append(at)

    async def _compare_updates(self, at: int, updates: list[Update]) -> None:
        """Compare what an input folds to with what PSM has of it, byte for byte."""
        group = await self._published.peek()
        while group is not None and group.log_sequence < at:
            self._unexplained(group.updates, group.log_sequence)
            await self._published.take()
            group = await self._published.peek()
        stored: list[StoredMessage] = []
        if group is not None and group.log_sequence == at:
            await self._published.take()
            stored = group.updates
        if not self._is_due(at):
            return
        if not self._evidence.psm_begins and at <= (self._first_group or at):
            self._report.older_updates += len(updates)
            return
        for index in range(max(len(updates), len(stored))):
            mine = updates[index] if index < len(updates) else None
            theirs = stored[index] if index < len(stored) else None
            if mine is None or theirs is None:
                self._one_side(at, mine, theirs)
                return
            if not _same(mine, theirs):
                self._differs(at, mine, theirs)
                return
            self._report.updates += 1

    def _one_side(self, at: int, mine: Update | None, theirs: StoredMessage | None) -> None:
        if theirs is not None:
            self._unexplained([theirs], at)
            return
        assert mine is not None
        self._add("update_missing", PSM, at, stream_id=mine.stream_id, expected=mine.subject)

    def _unexplained(self, updates: list[StoredMessage], at: int) -> None:
        if not self._is_due(at):
            return
        states = [update for update in updates if update.subject.startswith("psm.state.updated.")]
        update = states[0] if states else updates[0]
        number = _STATE.decode(update.data).payload.sequence_number if states else None
        self._add(
            "update_unexplained",
            TRADES,
            at,
            stream_id=subjects.last_token(update.subject),
            sequence_number=number,
            expected=f"the event behind PSM sequence {update.sequence}, {update.subject}",
        )

    def _differs(self, at: int, mine: Update, theirs: StoredMessage) -> None:
        expected, found, name = mine.subject, theirs.subject, "subject"
        if mine.subject == theirs.subject and mine.data == theirs.data:
            name, expected = "headers", str(mine.headers)
            found = str({header: theirs.header(header) for header in mine.headers})
        elif mine.subject == theirs.subject:
            name, expected, found = _first_difference(mine.data, theirs.data)
        self._add(
            "update_altered",
            PSM,
            at,
            stream_id=mine.stream_id,
            expected=f"{name} {expected} (folded from the log)",
            found=f"{name} {found} (PSM sequence {theirs.sequence})",
        )

    def _compare_message(self, at: int, kept: str | None, hashed: str | None, code: str) -> None:
        if kept is not None and kept != hashed and self._is_asked(at):
            self._add(code, TRADES, at, expected=short(kept), found=short(hashed))

    def _compare_cursors(self, at: int, hashed: str | None, closed_through: int | None) -> None:
        """Compare what commits say of a place with the log: its message, and the minutes over."""
        cursors = self._published.cursors.pop(at, [])
        for kept in dict.fromkeys(cursor.event_hash for cursor in cursors):
            self._compare_message(at, kept, hashed, "message_altered")
        expected = None if closed_through is None else log_time(closed_through)
        for cursor in cursors:
            if cursor.closed_through != expected and self._is_due(at):
                self._add(
                    "closes_differ",
                    PSM,
                    cursor.sequence,
                    expected=f"closed_through {expected} (folded from the log up to {at})",
                    found=f"closed_through {cursor.closed_through} "
                    f"({subjects.cursor(self._partition)})",
                )

    def _compare_heads(self, updates: list[Update]) -> None:
        for update in updates:
            head = self._heads.get(update.stream_id)
            if head is None or update.kind != "state.updated":
                continue
            if update.log_sequence != head.log_sequence:
                continue
            state = _STATE.decode(update.data).payload
            if state.cause != "event" or state.sequence_number != head.sequence_number:
                continue
            del self._heads[update.stream_id]
            if self._head_agrees(head, state):
                self._report.heads += 1

    def _head_agrees(self, head: ChainHead, state: StateUpdated) -> bool:
        for name in ("event_hash", "chain_hash", "ledger_hash"):
            kept, folded = getattr(head, name), getattr(state, name)
            if kept != folded:
                self._add(
                    "chain_head_differs",
                    "chain_heads",
                    head.log_sequence,
                    stream_id=head.stream_id,
                    sequence_number=head.sequence_number,
                    expected=f"{name} {kept} (PostgreSQL)",
                    found=f"{name} {folded} (folded from the log)",
                )
                return False
        return True

    async def _confirm_stale(self) -> None:
        """Are numbers older than the fold remembers the same events again? One reading a stream."""
        for token, wanted in self._stale.items():
            newest = max(at for places in wanted.values() for at in places)
            subject = subjects.stored_trades(token, self._books.partitions)
            async for batch in read_stored(self._nc, [subject], 1, newest - 1):
                for stored in batch:
                    # All later ones with these bytes repeat this one.
                    places = wanted.get(stored.data, [])
                    later = [at for at in places if at > stored.sequence]
                    self._report.stale_confirmed += len(later)
                    places[:] = [at for at in places if at <= stored.sequence]
            for at in (at for places in wanted.values() for at in places):
                self._add(
                    "stale_differs",
                    TRADES,
                    at,
                    stream_id=token,
                    expected="an earlier message with the same bytes",
                )

    async def _left_over(self, last: int) -> None:
        """Note what the log no longer explains: it lies behind the end of what is there."""
        while (group := await self._published.take()) is not None:
            self._unexplained(group.updates, group.log_sequence)
        self._compare_cursors(0, None, None)  # before the first input
        for at, cursors in sorted(self._published.cursors.items()):
            if self._is_due(at):
                self._compare_message(at, cursors[0].event_hash, None, "message_altered")
        for at, log_head in sorted(self._log_heads.items()):
            self._compare_message(at, log_head.event_hash, None, "log_head_differs")
        for head in sorted(self._heads.values(), key=lambda h: h.log_sequence):
            if self._is_asked(head.log_sequence):
                self._add(
                    "chain_head_ahead",
                    "chain_heads",
                    head.log_sequence,
                    stream_id=head.stream_id,
                    sequence_number=head.sequence_number,
                    expected=f"event {head.sequence_number} at log sequence {head.log_sequence}",
                    found=f"no such event there; the log ends at {last}",
                )

    def _is_asked(self, at: int) -> bool:
        evidence = self._evidence
        return evidence.first <= at and (evidence.last is None or at <= evidence.last)

    def _is_due(self, at: int) -> bool:
        """Whether a place is asked for, and was committed before this began."""
        return self._is_asked(at) and at <= self._evidence.committed

    def _add(self, code: str, stream: str, at: int, **more: str | int | None) -> None:
        fields = {"code": code, "stream": stream, "sequence": at, "partition": self._partition}
        self._findings.add(msgspec.convert({**fields, **more}, Finding))


def _first_difference(mine: bytes, theirs: bytes) -> tuple[str, str, str]:
    """Return (field, folded, published) of the first field in which two updates differ."""
    folded, published = decode_untyped(mine), decode_untyped(theirs)
    for ours, other in ((folded["payload"], published["payload"]), (folded, published)):
        for name in ours:
            if name != "payload" and ours[name] != other.get(name):
                return name, str(ours[name]), str(other.get(name))
    return "bytes", f"{len(mine)} bytes", f"{len(theirs)} bytes"


def _same(mine: Update, theirs: StoredMessage) -> bool:
    """Return whether a stored update is the one that was folded again, its place included."""
    placed = all(theirs.header(name) == text for name, text in mine.headers.items())
    return placed and (mine.subject, mine.data) == (theirs.subject, theirs.data)
