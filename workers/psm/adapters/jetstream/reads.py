"""Single messages and facts of a stream, from its leader; direct gets for browsing.

A read that decides something (cursor, expected sequence, "is it really missing?") asks the
leader: `get`, `last_for`, `next_for`. Direct gets may answer from a replica that lags.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream.api import API, REQUEST_TIMEOUT_S, ask, call
from psm.adapters.jetstream.errors import NO_MESSAGE, ApiError, api_error
from psm.adapters.jetstream.messages import (
    DESCRIPTION,
    STATUS,
    StoredMessage,
    from_direct_get,
    parse_headers,
    time_ns,
)

_NOT_FOUND = "404"


class StreamInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the leader says about a stream.

    Attributes:
        config: the stream's configuration as the broker reports it.
        deleted: messages between first and last that are gone; 0 on a log.
        leader: the server that leads, None on a single server.
        subjects: messages per subject, only when a filter was asked for.
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
    state = answer["state"]
    return StreamInfo(
        name=stream,
        config=answer["config"],
        first_sequence=state["first_seq"],
        last_sequence=state["last_seq"],
        messages=state["messages"],
        bytes_stored=state["bytes"],
        deleted=state.get("num_deleted", 0),
        leader=(answer.get("cluster") or {}).get("leader"),
        subjects=state.get("subjects") or {},
    )


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
    return StoredMessage(
        subject=message["subject"],
        sequence=message["seq"],
        time_ns=time_ns(message["time"]),
        data=b64decode(message.get("data", "")),
        headers=parse_headers(b64decode(headers)) if headers else None,
    )


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
