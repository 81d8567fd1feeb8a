"""The newest value of every subject of a small stream, such as a key-value bucket, in one request.

Answered by any replica, which may lag: for hints and browsing. See `last_per_subject` for reads
that must not be stale or have more than a thousand subjects.
"""

from __future__ import annotations

from nats.aio.client import Client
from nats.aio.msg import Msg

from psm.adapters.jetstream.api import REQUEST_TIMEOUT_S
from psm.adapters.jetstream.errors import UnknownOutcomeError, api_error
from psm.adapters.jetstream.messages import DESCRIPTION, STATUS, StoredMessage
from psm.adapters.jetstream.reads import direct_batch

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
        TransientError: no answer, or not all of it came in time.
        ApiConfigError: too many subjects match.
    """
    found, last = await direct_batch(nc, stream, {"multi_last": [subject]}, timeout_s=timeout_s)
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
