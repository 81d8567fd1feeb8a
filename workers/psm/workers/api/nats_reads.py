"""The same reads on NATS request-reply: a micro service, so `nats micro ls` shows it.

The body is the account id, the answer the document. An error has no body but the headers
`Nats-Service-Error-Code` (that of HTTP) and `Nats-Service-Error`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import version

from nats import micro
from nats.aio.client import Client
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, Service

from psm.adapters.logs import get_logger
from psm.contracts.errors import PSMError
from psm.workers.api.reads import (
    READS,
    Answer,
    MalformedAccountError,
    NoReportError,
    Reads,
    StaleViewError,
    UnknownAccountError,
)

_log = get_logger()


async def start_nats_reads(nc: Client, reads: Reads) -> Service:
    """Answer `psm.get.<read>` for every read of the HTTP API until stopped.

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
    return service


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
