"""`psm explain EVENT_ID`: why something happened, down to the market data behind it."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from psm.workers import explanation
from psm.workers.cli.events import reading
from psm.workers.cli.output import DEFAULT_OUTPUT, Output
from psm.workers.config import load_settings

_CHECK_COLUMNS = ("name", "value", "limit", "passed", "detail")


def explain(
    event_id: Annotated[str, Parameter(help="Any event of the chain, best the trade.")],
    /,
    *,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Explain an event: decision, signal, market data, checks with their limits, causes.

    Exit 1 if the event is not in the archive.
    """
    document = asyncio.run(_explain(event_id))
    if output.format != "table":
        output.document(document)
        return
    _print(document, output)


async def _explain(event_id: str) -> dict[str, Any]:
    async with reading(load_settings()) as archive:
        document: dict[str, Any] = msgspec.json.decode(await archive.explain(event_id))
    return document


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
