"""Single messages and facts of a stream, from its leader; direct gets for browsing.

A read that decides something (cursor, expected sequence, "is it really missing?") asks the
leader: `get`, `last_for`, `next_for`. Direct gets may answer from a replica that lags.
"""

from __future__ import annotations

import asyncio
import contextlib
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import msgspec
import nats.errors
from msgspec import structs
from nats.aio.client import Client
from nats.aio.msg import Msg

from psm.adapters.jetstream.api import API, REQUEST_TIMEOUT_S, ask, call
from psm.adapters.jetstream.client import RobustClient
from psm.adapters.jetstream.errors import NO_MESSAGE, ApiError, UnknownOutcomeError, api_error
from psm.adapters.jetstream.messages import (
    DESCRIPTION,
    STATUS,
    StoredMessage,
    from_direct_get,
    parse_headers,
    time_ns,
)
from psm.contracts.errors import TransientError

_NOT_FOUND = "404"
_REPLACED = "\ufffd"


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """A follower of a stream, as its leader sees it.

    Attributes:
        server: its name.
        current: whether it holds everything that is committed.
        offline: whether it is not connected.
        lag: operations that it is behind.
    """

    server: str
    current: bool
    offline: bool = False
    lag: int = 0


class StreamInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A stream as its leader describes it.

    Attributes:
        config: the stream's configuration as the broker reports it.
        deleted: messages between first and last that were deleted; 0 on a log.
        leader: the server that leads, None on a single server.
        subjects: messages per subject, only when a filter was asked for.
        replicas: the followers; none on a single server.
    """

    name: str
    config: dict[str, Any]
    first_sequence: int
    last_sequence: int
    messages: int
    bytes_stored: int
    deleted: int
    leader: str | None
    subjects: dict[str, int]
    replicas: tuple[Replica, ...] = ()


async def get(
    nc: Client, stream: str, sequence: int, *, timeout_s: float = REQUEST_TIMEOUT_S
) -> StoredMessage | None:
    """Return the message at `sequence`, or None if the leader has none there."""
    return await _leader_get(nc, stream, {"seq": sequence}, timeout_s)


async def last_for(
    nc: Client, stream: str, subject: str, *, timeout_s: float = REQUEST_TIMEOUT_S
) -> StoredMessage | None:
    """Return the newest message on `subject` (wildcards allowed), or None."""
    return await _leader_get(nc, stream, {"last_by_subj": subject}, timeout_s)


async def next_for(
    nc: Client,
    stream: str,
    subject: str,
    start_sequence: int,
    *,
    timeout_s: float = REQUEST_TIMEOUT_S,
) -> StoredMessage | None:
    """Return the first message on `subject` at or after `start_sequence`, or None."""
    body = {"seq": max(1, start_sequence), "next_by_subj": subject}
    return await _leader_get(nc, stream, body, timeout_s)


async def direct_get(nc: Client, stream: str, sequence: int) -> StoredMessage | None:
    """Like `get`, from any replica: for browsing only."""
    return await _direct_get(nc, f"{API}.DIRECT.GET.{stream}", {"seq": sequence})


async def direct_last_for(nc: Client, stream: str, subject: str) -> StoredMessage | None:
    """Like `last_for` for one exact subject, from any replica: for browsing only."""
    return await _direct_get(nc, f"{API}.DIRECT.GET.{stream}.{subject}", None)


async def direct_next_for(
    nc: Client, stream: str, subject: str, start_sequence: int
) -> StoredMessage | None:
    """Like `next_for`, from any replica: for browsing only."""
    body = {"seq": max(1, start_sequence), "next_by_subj": subject}
    return await _direct_get(nc, f"{API}.DIRECT.GET.{stream}", body)


async def stream_info(nc: Client, stream: str, *, subjects_filter: str | None = None) -> StreamInfo:
    """Return configuration and state of a stream.

    Args:
        nc: connection.
        stream: name of the JetStream stream.
        subjects_filter: also count the messages of each subject that matches; the broker
            lists at most 100 000 subjects.

    Raises:
        StreamNotFoundError: there is no such stream.
    """
    body = {"subjects_filter": subjects_filter} if subjects_filter else None
    answer = await call(nc, f"STREAM.INFO.{stream}", body)
    state, cluster = answer["state"], answer.get("cluster") or {}
    return StreamInfo(
        name=stream,
        config=answer["config"],
        first_sequence=state["first_seq"],
        last_sequence=state["last_seq"],
        messages=state["messages"],
        bytes_stored=state["bytes"],
        deleted=state.get("num_deleted", 0),
        leader=cluster.get("leader"),
        subjects=state.get("subjects") or {},
        replicas=tuple(
            Replica(
                server=one["name"],
                current=bool(one.get("current")) and not one.get("offline"),
                offline=bool(one.get("offline")),
                lag=one.get("lag", 0),
            )
            for one in cluster.get("replicas") or ()
        ),
    )


async def direct_batch(
    nc: Client, stream: str, body: Mapping[str, Any], *, timeout_s: float = REQUEST_TIMEOUT_S
) -> tuple[list[StoredMessage], Msg]:
    """Return the messages that a direct get shows, in order, and the status behind them.

    Args:
        nc: connection.
        stream: with direct gets allowed.
        body: of the request, such as `{"multi_last": [...]}` or `{"seq": 1, "batch": 1000}`.
        timeout_s: how long all of it may take.

    Raises:
        TransientError: no answer, or not all of it came in time.
        PermissionRefusedError: this user may not ask.
    """
    if not nc.is_connected:
        raise TransientError(f"not connected to NATS: {stream} was not read")
    found: list[StoredMessage] = []
    end: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

    async def receive(message: Msg) -> None:
        if STATUS not in (message.headers or {}):
            found.append(from_direct_get(message.headers or {}, message.data))
        elif not end.done():
            end.set_result(message)

    inbox, subject = nc.new_inbox(), f"{API}.DIRECT.GET.{stream}"
    if isinstance(nc, RobustClient):
        nc.fail_if_refused(end, subject)
    try:
        subscription = await nc.subscribe(
            inbox, cb=receive, pending_msgs_limit=0, pending_bytes_limit=0
        )
        try:
            await nc.publish(subject, msgspec.json.encode(body), reply=inbox)
            async with asyncio.timeout(timeout_s):
                return found, await end
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()
    except TimeoutError as error:
        raise UnknownOutcomeError(
            f"{stream}: no answer to a direct get within {timeout_s:g} s"
        ) from error
    except nats.errors.Error as error:
        raise UnknownOutcomeError(f"{stream}: {error}") from error


async def _leader_get(
    nc: Client, stream: str, body: Mapping[str, Any], timeout_s: float
) -> StoredMessage | None:
    try:
        answer = await call(nc, f"STREAM.MSG.GET.{stream}", body, timeout_s=timeout_s)
    except ApiError as error:
        if error.err_code == NO_MESSAGE:
            return None
        raise
    message = answer["message"]
    headers = message.get("hdrs")
    stored = StoredMessage(
        subject=message["subject"],
        sequence=message["seq"],
        time_ns=time_ns(message["time"]),
        data=b64decode(message.get("data", "")),
        headers=parse_headers(b64decode(headers)) if headers else None,
    )
    if _REPLACED in stored.subject:
        return structs.replace(stored, subject=await _exact_subject(nc, stream, stored))
    return stored


async def _exact_subject(nc: Client, stream: str, stored: StoredMessage) -> str:
    """Return the subject of a message in whose leader's answer bytes that are no text are lost.

    That answer is JSON. A direct get has the subject as it is; the message it belongs to is known.
    """
    direct = await direct_get(nc, stream, stored.sequence)
    if direct is None or direct.data != stored.data:
        raise UnknownOutcomeError(
            f"{stream}: no replica has shown the exact subject of message {stored.sequence}"
        )
    return direct.subject


async def _direct_get(
    nc: Client, subject: str, body: Mapping[str, Any] | None
) -> StoredMessage | None:
    data = msgspec.json.encode(body) if body is not None else b""
    answer = await ask(nc, subject, data)
    headers = answer.headers or {}
    status = headers.get(STATUS)
    if status == _NOT_FOUND:
        return None
    if status is not None:
        error = {"code": int(status), "description": headers.get(DESCRIPTION, status)}
        raise api_error(error, subject)
    return from_direct_get(headers, answer.data)
