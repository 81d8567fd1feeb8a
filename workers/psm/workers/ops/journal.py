"""The record of operations: who replayed or rotated what, why, with which code and which result.

Records are messages on `ops.replay` in the stream OPS, which has another chain on `ops.access`.
Each names the chain hash of the one before it, `SHA-256(previous chain hash + SHA-256(record))`, so
that none can be altered, taken out or put in without breaking all that follow. A replay is recorded
before it begins and when it ends: one that was killed has a beginning only.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Literal, TypeVar

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import (
    ApiConflictError,
    StoredMessage,
    UnknownOutcomeError,
    last_for,
    publish_expected,
    read_range,
    stream_info,
)
from psm.adapters.wall_clock import now_text
from psm.contracts import envelope
from psm.contracts.errors import ConfigError, LogDamagedError, PSMError, TransientError
from psm.contracts.subjects import OPS
from psm.domain.books import RULES_VERSION

SUBJECT = "ops.replay"
CHAIN_START = hashlib.sha256(b"psm:ops").hexdigest()
_ATTEMPTS = 20
_CHAIN_HEADER = "Psm-Chain-Hash"
R = TypeVar("R", bound="ChainLink")


class ChainLink(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of a chain.

    Attributes:
        previous: chain hash of the record before it; `CHAIN_START` for the first.
    """

    previous: str


class Record(ChainLink, frozen=True, kw_only=True, omit_defaults=True):
    """One message of the chain of what was done.

    Attributes:
        kind: begun or ended.
        run_id: the same in the two records of a replay.
        at: wall-clock time, UTC.
        actor: who asked for it, by pseudonym.
        reason: why.
        what: the kind of replay and its range, as asked for.
        code_version: of this software.
        rules_version: the newest rules it knows.
        approved_by: the second person, by pseudonym, where one was asked for.
        outcome: completed, failed or interrupted; of an ended one.
        result_hash: of what the replay gave; of a completed one.
        result: what is said of it, where that is said here.
        detail: why it failed.
    """

    kind: Literal["begun", "ended"]
    run_id: str
    at: str
    actor: str
    reason: str
    what: dict[str, Any]
    code_version: str
    rules_version: int
    approved_by: str | None = None
    outcome: str | None = None
    result_hash: str | None = None
    result: dict[str, Any] | None = None
    detail: str | None = None


class StoredRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record as the stream has it."""

    sequence: int
    chain_hash: str
    record: Record


class RecordedRun:
    """A replay that is being recorded.

    Attributes:
        run_id: its name, also in subjects it publishes to.
        result_hash, result: to be set by the caller when it knows them.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.result_hash: str | None = None
        self.result: dict[str, Any] | None = None


def chain_next(previous: str, data: bytes) -> str:
    """Return the chain hash behind a record."""
    return envelope.chain_next(bytes.fromhex(previous), envelope.event_hash(data)).hex()


@asynccontextmanager
async def recorded(
    nc: Client,
    what: Mapping[str, Any],
    *,
    actor: str,
    reason: str,
    approved_by: str | None = None,
) -> AsyncIterator[RecordedRun]:
    """Record a replay around the block that runs it.

    Raises:
        ConfigError: the stream OPS does not exist.
        TransientError: the beginning could not be recorded; the block is not run.
    """
    run = RecordedRun(uuid.uuid4().hex[:12])
    known: dict[str, Any] = {"run_id": run.run_id, "what": dict(what), "actor": actor}
    known |= {"reason": reason, "approved_by": approved_by}
    await append_record(nc, SUBJECT, lambda previous: _record("begun", previous, **known))
    ended: dict[str, Any] = {"outcome": "interrupted"}
    try:
        yield run
        ended = {
            "outcome": "completed",
            "result_hash": run.result_hash,
            "result": run.result,
        }
    except PSMError as error:
        ended = {"outcome": "failed", "detail": str(error)}
        raise
    finally:
        known |= ended
        await append_record(nc, SUBJECT, lambda previous: _record("ended", previous, **known))


async def record_done(nc: Client, what: Mapping[str, Any], *, actor: str, reason: str) -> None:
    """Record what was done where it could not wait for a record of its beginning.

    Raises:
        As `append_record`.
    """
    known: dict[str, Any] = {"run_id": uuid.uuid4().hex[:12], "what": dict(what), "actor": actor}
    known |= {"reason": reason, "outcome": "completed"}
    await append_record(nc, SUBJECT, lambda previous: _record("ended", previous, **known))


def _record(kind: Literal["begun", "ended"], previous: str, **known: Any) -> Record:
    return Record(
        previous=previous,
        kind=kind,
        at=now_text(),
        code_version=version("portfolio-state-manager"),
        rules_version=RULES_VERSION,
        **known,
    )


async def read_records(nc: Client) -> list[StoredRecord]:
    """Return every record, verified.

    Raises:
        LogDamagedError: one was altered, taken out or put in; the text names the first.
    """
    return [
        StoredRecord(sequence=message.sequence, chain_hash=chain, record=record)
        async for message, record, chain in read_chain(nc, SUBJECT, Record)
    ]


async def read_chain(
    nc: Client, subject: str, form: type[R]
) -> AsyncIterator[tuple[StoredMessage, R, str]]:
    """Yield every record of a chain, verified: message, record, and chain hash behind it.

    Raises:
        As `read_records`.
    """
    info = await stream_info(nc, OPS)
    if info.first_sequence > 1:
        raise LogDamagedError(f"OPS begins at {info.first_sequence}: older records were taken out")
    if info.messages < info.last_sequence:
        raise LogDamagedError(f"OPS: record {await _first_missing(nc)} is missing")
    chain = CHAIN_START
    async for batch in read_range(nc, OPS, [subject], 1, info.last_sequence):
        for message in batch:
            record, chain = _verified(message, chain, form)
            yield message, record, chain


async def _first_missing(nc: Client) -> int:
    expected, last = 1, (await stream_info(nc, OPS)).last_sequence
    async for batch in read_range(nc, OPS, ["ops.*"], 1, last):
        for message in batch:
            if message.sequence != expected:
                return expected
            expected += 1
    return expected


def _verified(message: StoredMessage, chain: str, form: type[R]) -> tuple[R, str]:
    try:
        record = msgspec.json.decode(message.data, type=form)
    except msgspec.MsgspecError as error:
        raise LogDamagedError(f"OPS: record {message.sequence} cannot be read: {error}") from error
    if record.previous != chain:
        raise LogDamagedError(
            f"OPS: record {message.sequence} does not follow the one before it: that one, or this "
            "one, was altered"
        )
    chain = chain_next(chain, message.data)
    if message.header(_CHAIN_HEADER) != chain:
        raise LogDamagedError(f"OPS: record {message.sequence} was altered")
    return record, chain


async def append_record(nc: Client, subject: str, make: Callable[[str], ChainLink]) -> None:
    """Append a record to its chain; `make` is given the chain hash of the one before it.

    Raises:
        ConfigError: the chain is broken.
        TransientError: others append so much that this found no place, or the broker is away.
    """
    for _ in range(_ATTEMPTS):
        last = await last_for(nc, OPS, subject)
        previous = CHAIN_START if last is None else last.header(_CHAIN_HEADER)
        if previous is None:
            raise ConfigError("OPS: the last record has no chain hash; see `psm ops verify`")
        data = msgspec.json.encode(make(previous))
        headers = {_CHAIN_HEADER: chain_next(previous, data)}
        expected = 0 if last is None else last.sequence
        try:
            await publish_expected(nc, OPS, subject, data, expected=expected, headers=headers)
        except UnknownOutcomeError:
            stored = await last_for(nc, OPS, subject)
            if stored is not None and stored.data == data:
                return
        except ApiConflictError:
            continue  # somebody else recorded meanwhile
        else:
            return
    raise TransientError("the record could not be written to OPS; try again")
