"""Reading what a follower of an account missed: from the stream PSM, or the account as a whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import StoredMessage, last_for, next_for
from psm.adapters.jetstream.api import ask
from psm.adapters.jetstream.reads import direct_batch
from psm.contracts.codec import encode
from psm.contracts.errors import TransientError
from psm.contracts.feed import POSITION_HEADER, PREVIOUS_HEADER, FeedInput, UpdateFeed
from psm.contracts.live import LIVE_SUBJECT, AsOf, LiveQuestion
from psm.contracts.subjects import PSM, TRADES, either_of_stream, update_place
from psm.workers.fleet.live_reads import Owners
from psm.workers.partition.live_reads import LiveRefusedError

MISSED_MAX = 2048
"""Updates of an account that are read one by one; where more are missing it is read as a whole."""

_BATCH = 256
_LIVE_MS = 2_000
_FOLDED_MS = 250  # it had a comparison's time already
_ANSWER_S = 3.0  # beyond what the question may wait
_CODE, _TEXT = "Nats-Service-Error-Code", "Nats-Service-Error"
_UNKNOWN = "404"

AskLive = Callable[[LiveQuestion], Awaitable[bytes | None]]
"""Returns a live document, None of an account that nobody knows; raises `TransientError`."""


class Newest(msgspec.Struct, frozen=True, kw_only=True):
    """The newest update of an account in the stream PSM, as its leader has it.

    Attributes:
        sequence: in that stream; 0 where there is none.
        log_sequence: of the input that it is of; 0 where there is none.
        partition: of the account; None where there is no update.
    """

    sequence: int
    log_sequence: int
    partition: int | None = None


class Missed(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of an account.

    Attributes:
        document: the whole account, where the inputs did not do; None else.
        inputs: what follows the last known input, without a hole; empty with a document.
        log_sequence: up to which the account is known with it.
        sequence: in the stream PSM, up to which nothing of it needs to be read again.
    """

    document: bytes | None
    inputs: tuple[FeedInput, ...]
    log_sequence: int
    sequence: int


class _AsOf(msgspec.Struct):
    as_of: AsOf


_as_of = msgspec.json.Decoder(_AsOf)


def live_service(nc: Client) -> AskLive:
    """Return what asks `psm.get.live`, the service of `psm serve`."""

    async def answer(question: LiveQuestion) -> bytes | None:
        waits_s = question.timeout_ms / 1000 + _ANSWER_S
        found = await ask(nc, LIVE_SUBJECT, encode(question), timeout_s=waits_s)
        headers = found.headers or {}
        code = headers.get(_CODE)
        if code == _UNKNOWN:
            return None
        if code is not None:
            raise TransientError(f"{question.account_id}: {headers.get(_TEXT, code)}")
        return found.data

    return answer


def live_owners(owners: Owners) -> AskLive:
    """Return what asks the owner of an account itself; needs no `psm serve`."""

    async def answer(question: LiveQuestion) -> bytes | None:
        try:
            return await owners.ask(question)
        except LiveRefusedError as error:
            if error.outcome == "unknown_account":
                return None
            raise TransientError(f"{question.account_id}: {error.detail}") from error

    return answer


async def newest_update(nc: Client, account_id: str) -> Newest:
    """Return the newest update of an account, from the leader.

    Raises:
        TransientError: no answer.
    """
    stored = await last_for(nc, PSM, _updates_of(account_id))
    if stored is None:
        return Newest(sequence=0, log_sequence=0)
    # Without the other header it is of no account: what came before anybody opened it.
    counts = stored.header(PREVIOUS_HEADER) is not None
    position = stored.header(POSITION_HEADER) or "0"
    at = int(position.partition("/")[0]) if counts else 0
    partition = update_place(stored.subject)[1]
    return Newest(sequence=stored.sequence, log_sequence=at, partition=partition)


async def first_behind(
    nc: Client, account_id: str, partition: int, log_sequence: int
) -> StoredMessage | None:
    """Return the first message of an account's log behind a place; None where there is none.

    Raises:
        TransientError: no answer.
    """
    subject = either_of_stream(account_id, partition)
    newest = await last_for(nc, TRADES, subject)
    if newest is None or newest.sequence <= log_sequence:
        return None
    return await next_for(nc, TRADES, subject, log_sequence + 1)


async def folded_place(live: AskLive, account_id: str, log_sequence: int) -> int | None:
    """Return up to where PSM has folded an account; None if not even up to this place."""
    question = LiveQuestion(
        account_id=account_id, min_log_sequence=log_sequence, timeout_ms=_FOLDED_MS
    )
    try:
        document = await live(question)
    except TransientError:
        return None
    return None if document is None else _as_of.decode(document).as_of.log_sequence


async def read_missed(
    nc: Client, live: AskLive, account_id: str, known: tuple[int, int] | None
) -> Missed | None:
    """Return what follows the last known input of an account, or the account as a whole.

    Args:
        nc: connection.
        live: who answers for whole accounts.
        account_id: whose.
        known: (log sequence, sequence in the stream PSM) up to which it is; None for nothing.

    Returns:
        What was read, at least as new as what PSM held when this was called; None where nobody
        knows the account yet.

    Raises:
        TransientError: it cannot be read now.
    """
    newest = await newest_update(nc, account_id)
    if known is not None:
        at, sequence = known
        if newest.log_sequence <= at:
            return Missed(document=None, inputs=(), log_sequence=at, sequence=sequence)
        found = await _inputs_behind(nc, account_id, at, sequence, newest)
        if found is not None:
            return found
    question = LiveQuestion(
        account_id=account_id, min_log_sequence=newest.log_sequence, timeout_ms=_LIVE_MS
    )
    document = await live(question)
    if document is None:
        return None
    place = _as_of.decode(document).as_of.log_sequence
    return Missed(document=document, inputs=(), log_sequence=place, sequence=newest.sequence)


async def _inputs_behind(
    nc: Client, account_id: str, at: int, sequence: int, newest: Newest
) -> Missed | None:
    """Return the inputs from PSM; None where they are too many, or there is a hole in them.

    Any replica may answer; the leader has said how far they go.
    """
    feed = UpdateFeed()
    feed.repaired(account_id, at)
    inputs: list[FeedInput] = []
    read = 0
    while (feed.last_input(account_id) or 0) < newest.log_sequence:
        body = {"seq": sequence + 1, "next_by_subj": _updates_of(account_id), "batch": _BATCH}
        found, _ = await direct_batch(nc, PSM, body)
        read += len(found)
        if not found:
            raise TransientError(f"{account_id}: a replica of {PSM} does not have all of it yet")
        if read > MISSED_MAX:
            return None
        for message in found:
            headers = {**(message.headers or {}), "Nats-Subject": message.subject}
            inputs += feed.take(headers, message.data)
            sequence = message.sequence
        if not feed.is_known(account_id):
            return None
    own = tuple(found for found in inputs if found.previous is not None)
    last = feed.last_input(account_id)
    assert last is not None
    return Missed(document=None, inputs=own, log_sequence=last, sequence=sequence)


def _updates_of(account_id: str) -> str:
    return f"psm.*.*.*.{account_id}"
