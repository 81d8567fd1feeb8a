"""The same reads on NATS request-reply: a micro service, so `nats micro ls` shows it.

The body is the account id, the answer the document. An error has no body but the headers
`Nats-Service-Error-Code` (that of HTTP) and `Nats-Service-Error`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import version

import nats.errors
from nats import micro
from nats.aio.client import Client
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, Service

from psm.adapters.logs import get_logger
from psm.contracts.errors import PSMError
from psm.contracts.live import LIVE_SUBJECT, MalformedQuestionError, question_of
from psm.workers.api.live_reads import LIVE_PROBLEMS, LiveReads
from psm.workers.api.problems import TITLES
from psm.workers.api.reads import (
    READS,
    Answer,
    MalformedAccountError,
    NoReportError,
    Reads,
    StaleViewError,
    UnknownAccountError,
)
from psm.workers.partition.live_reads import LiveRefusedError

TOO_LARGE = "too_large"
"""Beginning of the error of an answer that no message can hold; its code is 413."""

_MESSAGE_BYTES = 1024 * 1024
_HEADERS_BYTES = 256
_LIVE_MAX = 1000  # live reads at a time
_log = get_logger()


async def start_nats_reads(nc: Client, reads: Reads, live: LiveReads) -> Service:
    """Answer `psm.get.<read>` for every read of the HTTP API, and live ones, until stopped.

    Instances share the requests (queue group), so any number of them may run.
    """
    service = await micro.add_service(
        nc,
        name="psm",
        version=version("portfolio-state-manager"),
        description="Portfolio & State Manager: the state of an account",
    )
    for name in READS:
        await service.add_endpoint(
            EndpointConfig(
                name=name, subject=f"psm.get.{name}", handler=_handler(partial(reads.get, name))
            )
        )
    await service.add_endpoint(
        EndpointConfig(
            name="reconciliation",
            subject="psm.get.reconciliation",
            handler=_handler(reads.reconciliation),
        )
    )
    most = min(nc.max_payload, _MESSAGE_BYTES) - _HEADERS_BYTES
    handle = _live_handler(live, most)
    await service.add_endpoint(EndpointConfig(name="live", subject=LIVE_SUBJECT, handler=handle))
    return service


def _live_handler(live: LiveReads, most: int) -> Callable[[Request], Awaitable[None]]:
    tasks: set[asyncio.Task[None]] = set()

    async def answer(request: Request) -> None:
        try:
            answer = await live.get(question_of(request.data))
        except MalformedQuestionError as error:
            await request.respond_error("400", str(error))
        except LiveRefusedError as error:
            status, _ = TITLES[LIVE_PROBLEMS[error.outcome]]
            await request.respond_error(str(status), error.detail)
        except PSMError as error:
            _log.warning("nats_reads.unavailable", detail=str(error))
            await request.respond_error("503", str(error))
        else:
            if len(answer.body) > most:
                size = f"the document has {len(answer.body)} bytes, a message {most}"
                await request.respond_error("413", f"{TOO_LARGE}: {size}; ask over HTTP")
            else:
                await request.respond(answer.body, headers={"ETag": answer.etag})

    async def respond(request: Request) -> None:
        try:
            await answer(request)
        except nats.errors.Error as error:  # the connection was closed meanwhile
            _log.info("nats_reads.not_sent", detail=str(error))

    async def handle(request: Request) -> None:
        # Requests are handled one after the other, and one of these may wait for the log.
        if len(tasks) >= _LIVE_MAX:
            await request.respond_error("429", f"{_LIVE_MAX} live reads wait here already")
            return
        task = asyncio.create_task(respond(request))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return handle


def _handler(
    read: Callable[[str], Awaitable[Answer]],
) -> Callable[[Request], Awaitable[None]]:
    async def handle(request: Request) -> None:
        try:
            answer = await read(request.data.decode("ascii", "replace"))
        except MalformedAccountError as error:
            await request.respond_error("400", str(error))
        except (UnknownAccountError, NoReportError) as error:
            await request.respond_error("404", str(error))
        except StaleViewError as error:
            await request.respond_error("409", str(error))
        except PSMError as error:
            _log.warning("nats_reads.unavailable", detail=str(error))
            await request.respond_error("503", str(error))
        else:
            await request.respond(answer.body, headers={"ETag": answer.etag})

    return handle
