"""`psm explain`: why something happened, or why a number is that number."""

from __future__ import annotations

import asyncio
import difflib
import re
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from cyclopts import Parameter

from psm.contracts.errors import ConfigError
from psm.workers.api.risk_reads import (
    DecisionDocument,
    DecisionFilter,
    DecisionPage,
    RiskReads,
)
from psm.workers.archive.reads import NotArchivedError
from psm.workers.cli.read.diff import At, AtSequence, LogTime, show_figure
from psm.workers.cli.read.events import as_read, reading
from psm.workers.cli.shared.connections import database
from psm.workers.cli.shared.http import AskedService, ServiceRefusedError, remote
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.explain import event as explanation
from psm.workers.explain.flags import FLAGS
from psm.workers.process.config import Settings, load_settings

_CHECK_COLUMNS = ("name", "scope", "value", "limit", "unit", "passed", "detail")
_SOMETIMES = ("scope", "unit", "detail")


class _Recorded(msgspec.Struct):
    event_id: str


_WORD = re.compile("[a-z]+(_[a-z]+)*")  # an event id has digits or capitals


def explain(
    subject: Annotated[
        str,
        Parameter(
            name="EVENT_ID|ORDER_ID|ACCOUNT|FLAG",
            help="Any event, best the trade; an order that risk decided on; an account; or a flag.",
        ),
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
    """Explain an event, an order, a number or a flag.

    An event, or the newest decision on an order: decision, signal, market data, checks with their
    limits, causes; from the archive.
    A number of an account, now or in the past: the rule, the arithmetic and the events that add
    up to it, exactly; from the log.
    A flag, such as overdraft: what it means, what causes it, what to do; without any server.
    """
    if field is not None:
        show_figure(
            subject, field, at_sequence, at, log_time=log_time, events=events, output=output
        )
        return
    if _WORD.fullmatch(subject):
        _explain_flag(subject, output)
        return
    body = asyncio.run(_explain(subject))
    if output.format == "table":
        _print(as_read(body), output)
    else:
        output.document(msgspec.Raw(body))


def _explain_flag(flag: str, output: Output) -> None:
    if flag in FLAGS:
        output.document({"flag": flag, **msgspec.structs.asdict(FLAGS[flag])})
        return
    near = difflib.get_close_matches(flag, FLAGS, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(FLAGS)}"
    raise ConfigError(f"{flag} is no flag and no event id; {hint}")


async def _explain(wanted: str) -> bytes:
    there = remote()
    if there is not None:
        return _explained_by(there, wanted)
    settings = load_settings()
    async with reading(settings) as archive:
        try:
            return await archive.explain(wanted)
        except NotArchivedError:
            event_id = await _decision_on(settings, wanted)
            if event_id is None:
                raise
            return await archive.explain(event_id)


def _explained_by(there: AskedService, wanted: str) -> bytes:
    """Return what a service says of an event, or of the newest decision on an order."""
    try:
        return there.read(f"/events/{quote(wanted, safe='')}/explain")
    except ServiceRefusedError as error:
        if error.kind != "unknown-event":
            raise
        body = there.read("/psm/risk/decisions", order_id=wanted, limit=1)
        page = msgspec.json.decode(body, type=DecisionPage)
        if not page.decisions:
            raise
    found = msgspec.json.decode(
        there.read(f"/psm/risk/decisions/{page.decisions[0].decision_hash}"), type=DecisionDocument
    )
    event_id = msgspec.json.decode(found.record, type=_Recorded).event_id
    return there.read(f"/events/{quote(event_id, safe='')}/explain")


async def _decision_on(settings: Settings, order_id: str) -> str | None:
    """Return the event of the newest decision on an order; None if there is none to be read."""
    try:
        async with database(settings) as pool:
            reads = RiskReads(pool)
            page = await reads.decisions(DecisionFilter(order_id=order_id, limit=1))
            if not page.decisions:
                return None
            found = await reads.decision(page.decisions[0].decision_hash)
    except ConfigError:  # who may read the archive alone
        return None
    return msgspec.json.decode(found.record, type=_Recorded).event_id


def _print(document: dict[str, Any], output: Output) -> None:
    output.lines("", *explanation.lines(document), "")
    if checks := explanation.limits(document):
        output.lines("Checks of the decision")
        said = [
            name
            for name in _CHECK_COLUMNS
            if name not in _SOMETIMES or any(check.get(name) for check in checks)
        ]
        output.rows(checks, said)
    output.lines("Causes and effects", "", *explanation.causes(document), "")
    output.document(explanation.proof(document))
