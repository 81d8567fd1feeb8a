"""Streams that stopped: which they are, why, and what an operator's event would do or did.

A stream is folded again from the log, without marks: what blocks it follows from its own events,
the instruments and the rules. A trial is the same fold with one more message at the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import last_for, last_per_subject, read_range, stream_info
from psm.contracts import subjects
from psm.contracts.codec import decode_envelope, decode_untyped
from psm.contracts.errors import PSMError, TransientError
from psm.contracts.subjects import PSM
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.delivery.repairs import judge
from psm.domain.folding.rebooking import needs_rates, valuing_symbols
from psm.domain.messages import LogMessage, Outcome
from psm.domain.publication.log_times import log_time
from psm.workers.log.cursor import load_cursor
from psm.workers.log.need_history import fold_with_history
from psm.workers.log.reader import last_log_sequence, read_history, stored_at
from psm.workers.log.refold import Progress, refold_stream

_POLL_S = 0.1


class NoSuchStreamError(PSMError):
    """The log has no event of this stream."""


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """A stream that waits, as its last `StreamBlocked` said.

    Attributes:
        log_sequence: of the message that blocks or waits.
        since: log time at which it stopped for this reason.
    """

    account_id: str
    status: str
    reason: str
    expected_sequence: int
    log_sequence: int
    since: str
    detail: str


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator's event does, read from the updates it causes.

    Attributes:
        outcome: applied, refused, or blocked: a retry in vain.
        sequence_number: of the account afterwards.
        settled: numbers that are settled now and were not before.
        refused: events among them that were refused, the dismissed one included.
        status: of the stream afterwards; `reason` and `detail` say what it waits for, or why
            the event was refused.
    """

    outcome: str
    reason: str | None
    detail: str | None
    sequence_number: int
    settled: int
    refused: int
    status: str
    cash: dict[str, str]
    ledger_hash: str | None


async def stopped_streams(nc: Client) -> list[Stopped]:
    """Return every stream whose last word in PSM is that it stopped, ascending by account."""
    kinds = ["psm.stream.blocked.*.*", "psm.stream.resumed.*.*"]
    latest = {}
    for stored in await last_per_subject(nc, PSM, kinds):  # ascending: the later one wins
        latest[subjects.last_token(stored.subject)] = stored
    return [
        _stopped(decode_untyped(stored.data))
        for _, stored in sorted(latest.items())
        if stored.subject.startswith("psm.stream.blocked.")
    ]


def _stopped(update: dict[str, Any]) -> Stopped:
    payload = update["payload"]
    return Stopped(
        account_id=payload["account_id"],
        status="gap" if payload["reason"] == "sequence_gap" else "blocked",
        reason=payload["reason"],
        expected_sequence=payload["expected_sequence"],
        log_sequence=payload.get("event_log_sequence", payload["log_sequence"]),
        since=update["timestamp"],
        detail=payload["detail"],
    )


class Case:
    """One stream folded from the log, and its held messages."""

    def __init__(self, nc: Client, stream_id: str, partitions: int) -> None:
        self._nc = nc
        self._held: list[int] = []
        self.stream_id = stream_id
        self.books = Books(partitions=partitions)

    async def read(self, progress: Progress | None = None) -> None:
        """Fold what the log has of the stream by now.

        Raises:
            UnknownStreamError: nothing.
        """
        last = await last_log_sequence(self._nc)
        await self._fold(last, (), progress)
        found = self.books.accounts.get(self.stream_id)
        if found is not None and needs_rates(found):
            self._held.clear()
            self.books = Books(partitions=self.books.partitions)
            await self._fold(last, valuing_symbols(found), progress)
        self.books.advance(last)
        if self.stream_id not in self.books.accounts:
            raise NoSuchStreamError(f"{self.stream_id}: the log has no event of this account")

    async def _fold(self, last: int, marks: Sequence[str], progress: Progress | None) -> None:
        replay = refold_stream(
            self._nc, self.books, self.stream_id, last, marks=marks, progress=progress
        )
        async for replayed in replay:
            if replayed.result.outcome is Outcome.HELD:
                self._held.append(replayed.message.log_sequence)

    @property
    def account(self) -> Account:
        """The stream's account, its valuation apart."""
        return self.books.accounts[self.stream_id]

    @property
    def held(self) -> int:
        """How many messages are held now."""
        blocked = self.account.delivery.blocked
        start = blocked.held_from if blocked else None
        return 0 if start is None else sum(place >= start for place in self._held)

    def missing(self) -> tuple[int, int] | None:
        """Return the numbers that are missing next, first and last; None where none is known."""
        lowest = min(self.account.delivery.parked, default=None)
        blocked = self.account.delivery.blocked
        if lowest is None or (blocked is not None and blocked.is_next):
            return None
        return self.account.delivery.version + 1, lowest - 1

    async def describe(self) -> dict[str, Any]:
        """Return what a person needs to decide; the message that blocks as it stands in the log."""
        account, blocked, missing = self.account, self.account.delivery.blocked, self.missing()
        parked = sorted(account.delivery.parked)
        return {
            "account_id": self.stream_id,
            "status": account.delivery.status,
            "reason": blocked.reason if blocked else "sequence_gap" if parked else None,
            "sequence_number": account.delivery.version,
            "expected_sequence": account.delivery.version + 1,
            "missing": list(missing) if missing else None,
            "parked": len(parked),
            "parked_last": parked[-1] if parked else None,
            "held": self.held,
            "blocking": await self._blocking() if blocked and blocked.is_next else None,
            "ledger_hash": account.ledger_hash().hex(),
            "chain_hash": account.delivery.chain_hash.hex(),
        }

    async def _blocking(self) -> dict[str, Any]:
        blocked = self.account.delivery.blocked
        assert blocked is not None
        stored = await stored_at(self._nc, blocked.log_sequence)
        if stored is None:
            raise PSMError(f"log sequence {blocked.log_sequence} is gone: run `psm audit`")
        fields = decode_untyped(stored.data)
        return {
            "log_sequence": blocked.log_sequence,
            "time": log_time(stored.time_ns),
            "event_hash": blocked.event_hash.hex(),
            **{name: fields.get(name) for name in ("event_id", "event_type", "schema_version")},
            "body": stored.data.decode(errors="replace"),
        }

    def check(self, body: bytes) -> None:
        """Make sure that an operator's event would not be refused.

        Raises:
            ContractError: it would; the text says why.
        """
        judge(self.account.delivery, decode_envelope(body))

    async def trial(self, event_id: str, body: bytes) -> Effects:
        """Fold an event as if it came now; nothing is written. The case is used up."""
        before = self.account.delivery.version
        message = LogMessage(
            log_sequence=self.books.position + 1,
            subject=subjects.repair(self.stream_id, self.books.partitions),
            time=time.time_ns(),
            data=body,
        )
        read = partial(read_history, self._nc, self.books.partitions)
        result = await fold_with_history(self.books, message, read, "payloads")
        return _effects([(p.kind, p.payload) for p in result.payloads], event_id, before)


async def outcome_of(
    nc: Client,
    stream_id: str,
    partition: int,
    log_sequence: int,
    event_id: str,
    before: int,
    *,
    since: int,
    timeout_s: float,
) -> Effects:
    """Wait until the message at `log_sequence` is committed; return what it did.

    Args:
        nc: connection.
        stream_id: the account.
        partition: of the account.
        log_sequence: of the operator's event.
        event_id: of that event.
        before: the account's version before it.
        since: PSM sequence that its updates come after.
        timeout_s: how long to wait.

    Raises:
        TransientError: no worker has committed it by then.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        stored = await last_for(nc, PSM, subjects.cursor(partition))
        if stored is not None and load_cursor(stored.data).log_sequence >= log_sequence:
            break
        if time.monotonic() > deadline:
            raise TransientError(
                f"the event is in the log, at log sequence {log_sequence}, but no worker "
                f"committed it within {timeout_s:g} s; see `psm fleet`. It will be folded: "
                "do not send another"
            )
        await asyncio.sleep(_POLL_S)
    last = (await stream_info(nc, PSM)).last_sequence
    found: list[_Told] = []
    durable = f"psm.*.*.{partition}.{stream_id}"
    async for batch in read_range(nc, PSM, [durable], since + 1, last):
        for stored in batch:
            payload = decode_untyped(stored.data)["payload"]
            if payload["log_sequence"] == log_sequence:
                found.append((subjects.update_place(stored.subject)[0], payload))
    return _effects(found, event_id, before)


_Told = tuple[str, dict[str, Any]]
"""Kind and payload of an update."""


def _effects(updates: Sequence[_Told], event_id: str, before: int) -> Effects:
    """Return what an operator's event did, from every update that folding it caused, in order."""
    states = [payload for kind, payload in updates if kind == "state.updated"]
    refused = [payload for kind, payload in updates if kind == "event.refused"]
    own = next((r for r in refused if r.get("event_id") == event_id), None)
    waits = [(k, p) for k, p in updates if k in ("stream.blocked", "stream.resumed")]
    blocked = waits[-1][1] if waits and waits[-1][0] == "stream.blocked" else None
    why = own or blocked or {}
    state: dict[str, Any] = states[-1] if states else {}
    version = state.get("sequence_number", before)
    status = state.get("status", "unknown")
    if blocked is not None:
        status = "gap" if blocked["reason"] == "sequence_gap" else "blocked"
    moved = "applied" if version > before else "blocked"
    return Effects(
        outcome=own["outcome"] if own else moved,
        reason=why.get("reason"),
        detail=why.get("detail"),
        sequence_number=version,
        settled=version - before,
        refused=len([r for r in refused if r is not own and r["outcome"] == "refused"]),
        status=status,
        cash=state.get("cash", {}),
        ledger_hash=state.get("ledger_hash"),
    )
