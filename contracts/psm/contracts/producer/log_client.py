"""The few requests that a producer needs: append, read a subject back, ask its owner for its head.

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
from nats.errors import BadHeaderError, BadSubjectError, NoRespondersError

from psm.contracts.codec import decode_untyped, encode
from psm.contracts.errors import ConfigError, ContractError, PSMError, TransientError
from psm.contracts.heads import HEAD_SUBJECT, SubjectHead
from psm.contracts.limits import CONTROL_LINE_BYTES
from psm.contracts.subjects import TRADES

EXPECTED = "Nats-Expected-Last-Subject-Sequence"
PAGE = 256
_GET = f"$JS.API.DIRECT.GET.{TRADES}"
_ANY_OF_LOG = "trades.*"
_NAMES = "$JS.API.STREAM.NAMES"
_GET_OF_LEADER = f"$JS.API.STREAM.MSG.GET.{TRADES}"
_HEAD_WAIT_S = 2.0  # an owner answers in milliseconds; while a partition moves nobody does
_MISSING = "404"
_END = "204"
_NO_STREAM = 10059
_HEAD = len("NATS/1.0\r\n\r\n")
_head = msgspec.json.Decoder(SubjectHead)
SUBJECT_BYTES_MAX = CONTROL_LINE_BYTES - 256
"""The rest of the line is for the reply subject and the lengths."""


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
        AppendRefusedError: the broker said no, or no stream takes this subject.
        ContractError: it cannot be sent.
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
    return await _get(nc, {"last_by_subj": subject_filter}, timeout_s)


async def at(nc: Client, log_sequence: int, timeout_s: float) -> LogEntry | None:
    """Return one message, or None."""
    return await _get(nc, {"seq": log_sequence}, timeout_s)


async def subject_at(nc: Client, log_sequence: int, timeout_s: float) -> str | None:
    """Return the subject of a message that the leader has, whatever a replica says, or None."""
    answer = await _request(nc, _GET_OF_LEADER, encode({"seq": log_sequence}), timeout_s, None)
    message = decode_untyped(answer.data).get("message")
    return str(message.get("subject")) if isinstance(message, Mapping) else None


async def head(nc: Client, subject: str, timeout_s: float) -> SubjectHead | None:
    """Return what the subject's owner knows of it, or None if no owner answers now."""
    try:
        answer = await _request(
            nc, HEAD_SUBJECT, subject.encode(), min(timeout_s, _HEAD_WAIT_S), None
        )
        found = _head.decode(answer.data)
    except (TransientError, msgspec.MsgspecError):
        return None
    return found if found.subject == subject else None


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
        entry = _entry(message)
        if entry is not None:
            entries.append(entry)
        elif not done.done():
            done.set_result((message.headers or {}).get("Status", ""))

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


async def _no_stream(nc: Client, subject: str, timeout_s: float) -> bool:
    """Return whether the broker says that no stream takes a subject; else it may be an election."""
    try:
        answer = await nc.request(_NAMES, encode({"subject": subject}), timeout=timeout_s)
        found = decode_untyped(answer.data)
    except (nats.errors.Error, PSMError):  # away, or this user may not ask
        return False
    return "error" not in found and found.get("total") == 0


async def _get(nc: Client, body: Mapping[str, Any], timeout_s: float) -> LogEntry | None:
    answer = await _request(nc, _GET, encode(body), timeout_s, None)
    entry, status = _entry(answer), (answer.headers or {}).get("Status")
    if entry is None and status != _MISSING:
        raise TransientError(f"cannot read the log: status {status}")
    return entry


async def _request(
    nc: Client, subject: str, data: bytes, timeout_s: float, headers: Mapping[str, str] | None
) -> Msg:
    if nc.is_closed:
        raise ConfigError("the connection to NATS is closed")
    if not nc.is_connected:
        # nats-py would keep the message and send it late.
        raise TransientError("not connected to NATS")
    _check_sendable(nc, subject, data, headers or {})
    try:
        return await nc.request(
            subject, data, timeout=timeout_s, headers=dict(headers) if headers else None
        )
    except (BadSubjectError, BadHeaderError) as error:
        raise ContractError("malformed_field", f"NATS cannot send to {subject!r}") from error
    except NoRespondersError as error:
        needed = _ANY_OF_LOG if subject == _GET else subject
        if subject != HEAD_SUBJECT and await _no_stream(nc, needed, timeout_s):
            raise AppendRefusedError(_NO_STREAM, f"no stream takes {needed}") from error
        raise TransientError(f"nobody answers on {subject}") from error
    except nats.errors.Error as error:
        raise TransientError(f"no answer on {subject}: {error}") from error


def _check_sendable(nc: Client, subject: str, data: bytes, headers: Mapping[str, str]) -> None:
    """Make sure that the broker will not close the connection, which nats-py takes for the end.

    Raises:
        ContractError: it would.
    """
    line = len(subject.encode("utf-8", "surrogateescape"))
    if line > SUBJECT_BYTES_MAX:
        raise ContractError(
            "malformed_field", f"the subject has {line} bytes, at most {SUBJECT_BYTES_MAX} can be"
        )
    head = sum(len(name.encode()) + len(text.encode()) + 4 for name, text in headers.items())
    if len(data) + head + _HEAD > nc.max_payload:
        raise ContractError(
            "malformed_field",
            f"body and headers have {len(data) + head} bytes, the broker takes {nc.max_payload}",
        )


def _entry(message: Msg) -> LogEntry | None:
    """Return the message of the log in an answer; None for a status of the broker.

    A message has its place. Whatever else its producer wrote into its headers is no status.
    """
    headers = message.headers or {}
    if "Nats-Sequence" not in headers:
        return None
    return LogEntry(int(headers["Nats-Sequence"]), headers["Nats-Subject"], message.data, headers)
