"""Asking a running `psm serve` over NATS: what a command does that knows no PostgreSQL."""

from __future__ import annotations

import asyncio

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from psm.contracts.codec import encode
from psm.contracts.errors import ConfigError, PSMError, TransientError
from psm.contracts.live import LIVE_SUBJECT, LiveQuestion
from psm.workers.api.reads import WAIT_MAX_S, ReadName, UnknownAccountError

_ANSWER_S = 5.0
_AGAIN_S = 0.05
_CODE, _TEXT = "Nats-Service-Error-Code", "Nats-Service-Error"


class _Version(msgspec.Struct):
    sequence_number: int = 0


async def ask(nc: Client, name: ReadName, account: str, *, min_sequence: int = 0) -> bytes:
    """Return the document that `psm.get.<name>` answers, once it has the version.

    Raises:
        UnknownAccountError: there is no such account.
        TransientError: nobody answers, or not with that version in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + WAIT_MAX_S
    while True:
        try:
            body = await _asked(nc, f"psm.get.{name}", account.encode())
            if msgspec.json.decode(body, type=_Version).sequence_number >= min_sequence:
                return body
        except UnknownAccountError:
            if not min_sequence:
                raise
        if loop.time() > deadline:
            raise TransientError(f"{account} did not reach {min_sequence} in {WAIT_MAX_S:.0f} s")
        await asyncio.sleep(_AGAIN_S)


async def ask_live(nc: Client, question: LiveQuestion) -> bytes:
    """Return the document that `psm.get.live` answers.

    Raises:
        UnknownAccountError: there is no such account.
        TransientError: nobody answers from the books now, or not with what is waited for.
        ConfigError: no `psm serve` runs.
    """
    return await _asked(nc, LIVE_SUBJECT, encode(question), question.timeout_ms / 1000 + _ANSWER_S)


async def _asked(nc: Client, subject: str, body: bytes, answer_s: float = _ANSWER_S) -> bytes:
    try:
        answer = await nc.request(subject, body, timeout=answer_s)
    except nats.errors.NoRespondersError as error:
        raise ConfigError(
            f"nobody answers {subject}: start `psm serve`"
            + ("" if subject == LIVE_SUBJECT else ", or set POSTGRES_DSN to read the views")
        ) from error
    except nats.errors.TimeoutError as error:
        raise TransientError(f"no answer on {subject} in {answer_s:.0f} s") from error
    if answer.headers and _CODE in answer.headers:
        raise _refusal(answer)
    return answer.data


def _refusal(answer: Msg) -> PSMError:
    headers = answer.headers or {}
    text = headers.get(_TEXT, "no reason was given")
    return UnknownAccountError(text) if headers[_CODE] == "404" else TransientError(text)
