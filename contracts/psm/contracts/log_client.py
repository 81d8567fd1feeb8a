"""The few requests to the log that a producer needs: append, and read a subject back.

Reads are direct gets: any replica may answer, and one may lag. That costs at most a refused
append, because every append names the message it expects to be the last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from psm.contracts.codec import decode_untyped, encode
from psm.contracts.errors import ConfigError, ContractError, PSMError, TransientError

LOG = "TRADES"
EXPECTED = "Nats-Expected-Last-Subject-Sequence"
PAGE = 256
_GET = f"$JS.API.DIRECT.GET.{LOG}"
_MISSING = "404"
_END = "204"


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """One message of the log, as a producer reads it back."""

    log_sequence: int
    subject: str
    data: bytes
    headers: dict[str, str]


class AppendRefusedError(PSMError):
    """The broker refused an append; nothing was stored.

    Attributes:
        err_code: JetStream's code, such as 10071 (another message came first).
    """

    def __init__(self, err_code: int, description: str) -> None:
        super().__init__(f"the log refused the event: {description} ({err_code})")
        self.err_code = err_code


async def append(
    nc: Client, subject: str, data: bytes, headers: Mapping[str, str], timeout_s: float
) -> tuple[int, bool]:
    """Publish and return (log sequence, whether the broker knew the message id).

    Raises:
        AppendRefusedError: the broker said no.
        TransientError: no answer; it may be stored, now or later.
    """
    answer = await _request(nc, subject, data, timeout_s, headers)
    try:
        ack = decode_untyped(answer.data)
    except ContractError as error:
        raise TransientError(f"{subject}: the answer is no acknowledgement") from error
    refused = ack.get("error")
    if isinstance(refused, Mapping):
        raise AppendRefusedError(
            int(refused.get("err_code", 0)), str(refused.get("description", ""))
        )
    if type(ack.get("seq")) is not int:
        raise TransientError(f"{subject}: the answer is no acknowledgement")
    return ack["seq"], bool(ack.get("duplicate", False))


async def last(nc: Client, subject_filter: str, timeout_s: float) -> LogEntry | None:
    """Return the newest message that matches, or None."""
    return _entry(await _get(nc, {"last_by_subj": subject_filter}, timeout_s))


async def at(nc: Client, log_sequence: int, timeout_s: float) -> LogEntry | None:
    """Return one message, or None."""
    return _entry(await _get(nc, {"seq": log_sequence}, timeout_s))


async def page(
    nc: Client, subject_filter: str, start: int, timeout_s: float, limit: int = PAGE
) -> list[LogEntry]:
    """Return up to `limit` messages that match, from log sequence `start` on.

    Raises:
        TransientError: the answer did not come, or broke off.
    """
    inbox = nc.new_inbox()
    entries: list[LogEntry] = []
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def on_message(message: Msg) -> None:
        status = (message.headers or {}).get("Status")
        if status is None:
            entry = _entry(message)
            assert entry is not None
            entries.append(entry)
        elif not done.done():
            done.set_result(status)

    try:
        listening = await nc.subscribe(
            inbox, cb=on_message, pending_msgs_limit=0, pending_bytes_limit=0
        )
        try:
            body = {"seq": max(1, start), "next_by_subj": subject_filter, "batch": limit}
            await nc.publish(_GET, encode(body), reply=inbox)
            status = await asyncio.wait_for(done, timeout_s)
        finally:
            if not nc.is_closed:
                await listening.unsubscribe()
    except (nats.errors.Error, TimeoutError) as error:
        raise TransientError(f"cannot read {subject_filter} of the log: {error!r}") from error
    if status not in (_END, _MISSING):
        raise TransientError(f"cannot read {subject_filter} of the log: status {status}")
    return entries


async def _get(nc: Client, body: Mapping[str, Any], timeout_s: float) -> Msg:
    return await _request(nc, _GET, encode(body), timeout_s, None)


async def _request(
    nc: Client, subject: str, data: bytes, timeout_s: float, headers: Mapping[str, str] | None
) -> Msg:
    if nc.is_closed:
        raise ConfigError("the connection to NATS is closed")
    if not nc.is_connected:
        # nats-py would keep the message and send it late.
        raise TransientError("not connected to NATS")
    try:
        return await nc.request(
            subject, data, timeout=timeout_s, headers=dict(headers) if headers else None
        )
    except nats.errors.Error as error:
        raise TransientError(f"no answer on {subject}: {error}") from error


def _entry(message: Msg) -> LogEntry | None:
    headers = message.headers or {}
    status = headers.get("Status")
    if status == _MISSING:
        return None
    if status is not None:
        raise TransientError(f"cannot read the log: status {status}")
    return LogEntry(int(headers["Nats-Sequence"]), headers["Nats-Subject"], message.data, headers)
