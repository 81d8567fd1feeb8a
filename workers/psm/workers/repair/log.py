"""`psm recover log --from-archive`: append what the log lost at its end, exactly as it was.

The archive has each message's bytes, subject, headers and log sequence. Every append expects the
sequence before it, so the message gets its old place or is not stored. Only the broker's own time
of storing is new, which no client can set: `docs/runbook.md` says what that means.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import (
    ApiConflictError,
    last_for,
    publish_expected,
)
from psm.contracts import subjects
from psm.contracts.errors import ConfigError, ConflictError, LogDamagedError, TransientError
from psm.contracts.subjects import PSM, TRADES, published
from psm.projections.witness import heads, remembered
from psm.projections.witness.remembered import ArchivedMessage
from psm.workers.log.cursor import load_cursor
from psm.workers.log.reader import last_log_sequence, log_info, read_stored, stored_at
from psm.workers.partition import damage
from psm.workers.process.settings import Settings
from psm.workers.repair.holders import require_unheld

_BATCH = 500
_COMPARED = 1000
_TRIES = 5
_QUIET_S = 1.0
_MESSAGE_ID = "Nats-Msg-Id"

Reached = Callable[[int], None]


class LogPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What would be appended.

    Attributes:
        log_ends: last log sequence there is.
        archive_ends: last one that is archived, behind the log's end or before it; 0 for none.
        messages: to be appended, the ones behind the log's end.
        compared: the last messages that both have, up to 1 000; their bytes are the same.
        committed: log sequence up to which PSM or PostgreSQL know updates.
        lost: of these, how many messages not even the archive has.
    """

    log_ends: int
    archive_ends: int
    messages: int
    compared: int
    committed: int
    lost: int


async def plan(nc: Client, pool: postgres.Pool, settings: Settings) -> LogPlan:
    """Look at the log's end, compare it with the archive, look for anything that contradicts.

    Raises:
        ConfigError: a worker runs.
        LogDamagedError: the log cannot be appended to, or archive and log differ.
        TransientError: a server is away, or somebody publishes.
    """
    hole = await damage.first_hole(nc)
    if hole is not None:
        raise LogDamagedError(
            f"the log has a hole at log sequence {hole}, and a message can only be appended at its "
            "end. If the archive is whole: save TRADES, remove it (`nats stream rm TRADES`), run "
            "`psm streams apply`, then this again, which appends every message from the archive"
        )
    info = await log_info(nc)
    end, begin = info.last_sequence, int(info.config.get("first_seq") or 1)
    await _require_quiet(nc, end)
    async with postgres.acquired(pool) as connection:
        count, last = await remembered.archived_behind(connection, end)
    known, behind = await _known(nc, pool, settings, end)
    # One that runs since before the loss has folded what is lost.
    await require_unheld(nc, behind)
    if count and last - end != count:
        raise LogDamagedError(
            f"the archive has {count} messages between log sequences {end + 1} and {last}, not "
            f"{last - end}: what it lacks must be appended first. Restore a backup of TRADES"
        )
    both = min(end, last)
    compared = await _compare(nc, pool, max(begin, both - _COMPARED + 1), both)
    await _require_agreeing(pool, known, end)
    committed = max((at for at in known), default=0)
    return LogPlan(
        log_ends=end,
        archive_ends=last,
        messages=count,
        compared=compared,
        committed=committed,
        lost=max(0, committed - max(end, last)),
    )


async def append(
    nc: Client, pool: postgres.Pool, wanted: LogPlan, reached: Reached = lambda _: None
) -> str:
    """Append what the plan names; return SHA-256 over the hashes of these messages, hex.

    Raises:
        ConflictError: somebody else appended; the text says where it stopped.
        LogDamagedError: what is in the log now is not what was archived.
        TransientError: a server went away; what was appended is right, run it again.
    """
    digest = hashlib.sha256()
    async for message in _archived(pool, wanted.log_ends + 1, wanted.archive_ends):
        await _append_one(nc, message)
        digest.update(bytes.fromhex(message.event_hash))
        reached(1)
    for start in range(wanted.log_ends + 1, wanted.archive_ends + 1, _COMPARED):
        await _compare(nc, pool, start, min(wanted.archive_ends, start + _COMPARED - 1))
    return digest.hexdigest()


async def _append_one(nc: Client, message: ArchivedMessage) -> None:
    at = message.log_sequence
    headers = {**_kept(message.headers), "Nats-Expected-Last-Sequence": str(at - 1)}
    subject = published(message.subject)
    for _ in range(_TRIES):
        try:
            ack = await publish_expected(
                nc, TRADES, subject, message.data, expected=None, headers=headers
            )
        except (ApiConflictError, TransientError) as error:
            # It may be stored all the same: by this attempt, or by an earlier one.
            stored = await _stored(nc, at)
            if stored is not None and (stored.subject, stored.data) == (
                message.subject,
                message.data,
            ):
                return
            if stored is not None:
                raise ConflictError(
                    f"somebody else published: log sequence {at} is another message now, and "
                    f"the lost one cannot have its place any more. Appended up to {at - 1}; stop "
                    "every publisher and make the log anew from the archive, see docs/runbook.md"
                ) from error
            await asyncio.sleep(0.1)
            continue
        if ack.sequence != at or ack.duplicate:
            raise ConflictError(
                f"the broker answered log sequence {ack.sequence} for the message of {at}: it "
                "knows its Nats-Msg-Id already. Wait until the duplicate window (10 minutes) has "
                f"passed. Appended up to {at - 1}"
            )
        return
    raise TransientError(f"log sequence {at} was not acknowledged; run the command again")


async def _stored(nc: Client, at: int) -> ArchivedMessage | None:
    stored = await stored_at(nc, at)
    if stored is None:
        return None
    return ArchivedMessage(
        log_sequence=at, subject=stored.subject, headers={}, data=stored.data, event_hash=""
    )


async def _archived(pool: postgres.Pool, first: int, last: int) -> AsyncIterator[ArchivedMessage]:
    """Yield archived messages, each checked against the hash it was archived with."""
    for start in range(first, last + 1, _BATCH):
        async with postgres.acquired(pool) as connection:
            batch = await remembered.archived_messages(
                connection, start, min(last, start + _BATCH - 1)
            )
        for message in batch:
            if hashlib.sha256(message.data).hexdigest() != message.event_hash:
                raise LogDamagedError(
                    f"the archive's bytes of log sequence {message.log_sequence} are not those "
                    "that were archived; nothing behind it is appended"
                )
            yield message


async def _compare(nc: Client, pool: postgres.Pool, first: int, last: int) -> int:
    """Compare a range of the log with the archive, subjects and bytes; return its length."""
    if last < first:
        return 0
    kept = {message.log_sequence: message async for message in _archived(pool, first, last)}
    count = 0
    async for batch in read_stored(nc, [">"], first, last):
        for stored in batch:
            message = kept.get(stored.sequence)
            if message is None or (message.subject, message.data) != (stored.subject, stored.data):
                what = "lacks" if message is None else "has other bytes for"
                raise LogDamagedError(
                    f"the archive {what} log sequence {stored.sequence}: it is not this log's"
                )
            count += 1
    if count != last - first + 1:
        raise LogDamagedError(
            f"{count} of {last - first + 1} messages between log sequences {first} and {last} "
            "could be read; run `psm audit`"
        )
    return count


async def _known(
    nc: Client, pool: postgres.Pool, settings: Settings, end: int
) -> tuple[dict[int, str], set[int]]:
    """Return what commit cursors and heads say of the log: log sequence -> SHA-256.

    And the partitions that know something behind its end.
    """
    known: dict[int, str] = {}
    behind: set[int] = set()
    for partition in range(settings.partitions):
        own: dict[int, str] = {}
        async with postgres.acquired(pool) as connection:
            for head in await heads.log_heads(connection, partition):
                own[head.log_sequence] = head.event_hash
        stored = await last_for(nc, PSM, subjects.cursor(partition))
        cursor = load_cursor(stored.data) if stored else None
        if cursor is not None and cursor.event_hash is not None:
            own[cursor.log_sequence] = cursor.event_hash
        if max(own, default=0) > end:
            behind.add(partition)
        known |= own
    return known, behind


async def _require_agreeing(pool: postgres.Pool, known: Mapping[int, str], end: int) -> None:
    """What was committed against must be what the archive would append."""
    async with postgres.acquired(pool) as connection:
        for at, expected in sorted(known.items()):
            if at <= end:
                continue
            for message in await remembered.archived_messages(connection, at, at):
                if message.event_hash != expected:
                    raise LogDamagedError(
                        f"the archive has another message at log sequence {at} than updates were "
                        "committed against; nothing may be appended from it"
                    )


async def _require_quiet(nc: Client, end: int) -> None:
    await asyncio.sleep(_QUIET_S)
    if await last_log_sequence(nc) != end:
        raise ConfigError(
            "somebody publishes to the log: stop every producer and `psm serve --ingest` first. "
            "Whatever is appended now takes the place of a lost message for ever"
        )


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers without those that once told the broker what to do."""
    return {
        name: value
        for name, value in headers.items()
        if name == _MESSAGE_ID or not name.lower().startswith("nats-")
    }
