"""`psm.get.head`: the owner of a subject tells producers what to number by.

Every worker hears every request, and only the owner answers: of an account's subject the worker
that has its partition live, of any other subject each worker that has a partition live (the first
answer counts). Nobody answers while a partition moves; a producer then asks again.
"""

from __future__ import annotations

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from psm.adapters.logs import get_logger
from psm.contracts.codec import encode
from psm.contracts.errors import PSMError
from psm.contracts.heads import HEAD_SUBJECT
from psm.contracts.subjects import OF_ALL, decode_token, is_stream_id, log_subject
from psm.workers.fleet.worker import Worker

_log = get_logger()


async def answer_heads(nc: Client, worker: Worker) -> None:
    """Answer requests for heads from now on, as long as the connection lives."""

    async def asked(message: Msg) -> None:
        subject = message.data.decode("ascii", "replace")
        if not message.reply or not _may_be_asked(subject):
            return
        try:
            head = await worker.head(subject)
            if head is not None:
                await message.respond(encode(head))
        except (PSMError, nats.errors.Error) as error:
            _log.warning("head.unavailable", subject=subject, detail=str(error))

    await nc.subscribe(HEAD_SUBJECT, cb=asked)


def _may_be_asked(subject: str) -> bool:
    """Return whether it is a public subject of the log."""
    kind, token = log_subject(subject)
    if subject != f"{kind}.{token}":
        return False
    if kind == "trades":
        return is_stream_id(token)
    try:
        return kind in OF_ALL and bool(decode_token(token))
    except ValueError:
        return False
