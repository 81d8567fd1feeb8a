"""Requests to the JetStream API: one place that turns answers and silence into values or errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import BadHeaderError, BadSubjectError, MaxPayloadError

from psm.adapters.jetstream.errors import UnknownOutcomeError, UnsendableError, api_error
from psm.contracts.errors import TransientError

API = "$JS.API"
REQUEST_TIMEOUT_S = 5.0


async def ask(
    nc: Client,
    subject: str,
    data: bytes = b"",
    *,
    timeout_s: float = REQUEST_TIMEOUT_S,
    headers: Mapping[str, str] | None = None,
) -> Msg:
    """Send a request and return the raw answer.

    Raises:
        TransientError: no answer, no listener, or no connection.
        PermissionRefusedError: this user may not ask, or not hear the answer.
        UnsendableError: the broker would close the connection for it; it was not sent.
    """
    if not nc.is_connected:
        raise TransientError(f"not connected to NATS: {subject} was not sent")
    try:
        return await nc.request(
            subject, data, timeout=timeout_s, headers=dict(headers) if headers else None
        )
    except nats.errors.NoRespondersError as error:
        raise UnknownOutcomeError(f"nobody answers on {subject}") from error
    except (BadSubjectError, BadHeaderError, MaxPayloadError) as error:
        raise UnsendableError(f"{subject!r} cannot be sent to: {error}") from error
    except nats.errors.TimeoutError as error:
        raise UnknownOutcomeError(f"no answer on {subject} within {timeout_s:g} s") from error
    except nats.errors.Error as error:
        raise UnknownOutcomeError(f"{subject}: {error}") from error


async def call(
    nc: Client, operation: str, body: Any = None, *, timeout_s: float = REQUEST_TIMEOUT_S
) -> dict[str, Any]:
    """Call one operation of the JetStream API, such as `STREAM.INFO.TRADES`.

    Raises:
        ApiError: the broker refused; the subclass says what to do.
        TransientError: no answer.
    """
    data = msgspec.json.encode(body) if body is not None else b""
    answer = await ask(nc, f"{API}.{operation}", data, timeout_s=timeout_s)
    return decoded(answer.data, operation)


def decoded(data: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object of an answer.

    Raises:
        ApiError: the answer is an error object.
        TransientError: the answer is no JSON object (an interrupted proxy, another service).
    """
    try:
        answer = msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise UnknownOutcomeError(f"{what}: the answer is not JSON") from error
    if "error" in answer:
        raise api_error(answer["error"], what)
    return answer
