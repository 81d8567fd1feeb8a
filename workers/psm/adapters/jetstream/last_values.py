"""The newest value of every subject of a small stream, such as a key-value bucket, in one request.

Answered by any replica, which may lag: for hints and browsing. See `last_per_subject` for reads
that must not be stale or have more than a thousand subjects.
"""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from psm.adapters.jetstream.api import API, REQUEST_TIMEOUT_S
from psm.adapters.jetstream.errors import UnknownOutcomeError, api_error
from psm.adapters.jetstream.messages import DESCRIPTION, STATUS, StoredMessage, from_direct_get
from psm.contracts.errors import TransientError

_END = "204"
_NOT_FOUND = "404"
_NO_RESPONDERS = "503"


async def last_values(
    nc: Client, stream: str, subject: str, *, timeout_s: float = REQUEST_TIMEOUT_S
) -> list[StoredMessage]:
    """Return the newest message of every subject that matches, by ascending sequence.

    Args:
        nc: connection.
        stream: with direct gets allowed.
        subject: wildcards allowed; at most 1 024 subjects may match.
        timeout_s: how long all of it may take.

    Raises:
        TransientError: nobody answers, or not all of it came in time.
        ApiConfigError: too many subjects match.
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

    inbox = nc.new_inbox()
    body = msgspec.json.encode({"multi_last": [subject]})
    subscription = await nc.subscribe(inbox, cb=receive)
    try:
        await nc.publish(f"{API}.DIRECT.GET.{stream}", body, reply=inbox)
        async with asyncio.timeout(timeout_s):
            last = await end
    except TimeoutError as error:
        raise UnknownOutcomeError(f"{stream}: no answer within {timeout_s:g} s") from error
    except nats.errors.Error as error:
        raise UnknownOutcomeError(f"{stream}: {error}") from error
    finally:
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()
    _check(last, stream)
    return sorted(found, key=lambda message: message.sequence)


def _check(last: Msg, stream: str) -> None:
    headers = last.headers or {}
    status = headers[STATUS]
    if status == _NO_RESPONDERS:
        raise UnknownOutcomeError(f"nobody answers for the stream {stream}")
    if status not in {_END, _NOT_FOUND}:
        error = {"code": int(status), "description": headers.get(DESCRIPTION, status)}
        raise api_error(error, f"reading {stream}")
