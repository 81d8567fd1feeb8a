"""`psm tail`: what is published, while it is published."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack, aclosing
from typing import Annotated

from cyclopts import Parameter, validators

from psm.contracts.subjects import is_stream_id
from psm.workers.cli.shared.connections import broker
from psm.workers.cli.shared.http import not_over_http
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.cli.shared.recorded import as_document, as_line
from psm.workers.process.config import Settings, load_settings
from psm.workers.replay.live import live_messages


def tail(
    what: Annotated[
        str,
        Parameter(
            name="SUBJECT|ACCOUNT",
            help="An account; or subjects, such as marks.BTC-PERP, psm.position.updated or "
            "signals.>, separated by commas.",
        ),
    ] = "trades.>",
    /,
    *,
    count: Annotated[
        int | None, Parameter(help="End after so many.", validator=validators.Number(gte=1))
    ] = None,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Print what is published from now on, until Ctrl-C: by default all events of accounts.

    Of an account: its events, and all that PSM says of it. With -o json or jsonl a document a line.
    """
    not_over_http("tail")
    asyncio.run(_run(load_settings(), _patterns(what), count, output))


def _patterns(what: str) -> list[str]:
    if is_stream_id(what):
        return [f"trades.*.{what}", f"psm.*.*.*.{what}"]
    return [pattern.strip() for pattern in what.split(",") if pattern.strip()]


async def _run(settings: Settings, patterns: list[str], count: int | None, output: Output) -> None:
    async with AsyncExitStack() as stack:
        nc = await stack.enter_async_context(broker(settings, "psm-tail"))
        seen = 0
        messages = await stack.enter_async_context(aclosing(live_messages(nc, patterns)))
        async for one in messages:
            if output.format == "table":
                output.lines(as_line(one).replace("\n", "\\n"))
            else:
                output.line_document(as_document(one))
            sys.stdout.flush()
            seen += 1
            if seen == count:
                return
