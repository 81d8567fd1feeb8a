"""`psm explain`: why something happened, or why a number is that number."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from psm.workers.archive import decision as explanation
from psm.workers.cli.events import as_read, reading
from psm.workers.cli.output import DEFAULT_OUTPUT, Output
from psm.workers.cli.past import At, AtSequence, LogTime, show_figure
from psm.workers.config import load_settings

_CHECK_COLUMNS = ("name", "value", "limit", "passed", "detail")


def explain(
    subject: Annotated[
        str, Parameter(name="EVENT_ID|ACCOUNT", help="Any event, best the trade; or an account.")
    ],
    field: Annotated[
        str | None,
        Parameter(help="Of the account: equity, cash.USDT, positions.BTC-PERP.size ..."),
    ] = None,
    /,
    *,
    at_sequence: AtSequence = None,
    at: At = None,
    log_time: LogTime = False,
    events: Annotated[int, Parameter(help="How many events a table shows per figure.")] = 20,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Explain an event or a number.

    An event: decision, signal, market data, checks with their limits, causes; from the archive.
    A number of an account, now or in the past: the rule, the arithmetic and the events that add
    up to it, exactly; from the log.
    """
    if field is not None:
        show_figure(
            subject, field, at_sequence, at, log_time=log_time, events=events, output=output
        )
        return
    body = asyncio.run(_explain(subject))
    if output.format == "table":
        _print(as_read(body), output)
    else:
        output.document(msgspec.Raw(body))


async def _explain(event_id: str) -> bytes:
    async with reading(load_settings()) as archive:
        return await archive.explain(event_id)


def _print(document: dict[str, Any], output: Output) -> None:
    _write("", *explanation.lines(document), "")
    if checks := explanation.limits(document):
        _write("Checks of the decision")
        detail = any(check.get("detail") for check in checks)
        output.rows(checks, _CHECK_COLUMNS if detail else _CHECK_COLUMNS[:-1])
    _write("Causes and effects", "", *explanation.causes(document), "")
    output.document(explanation.proof(document))


def _write(*lines: str) -> None:
    # Not through rich: a pipe gets whole lines, and brackets are data.
    sys.stdout.write("".join(f"{line}\n" for line in lines))
