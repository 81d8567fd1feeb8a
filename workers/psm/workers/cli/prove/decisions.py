"""`psm risk explain` and `psm risk shadow`: recorded decisions looked at again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from psm.contracts.errors import ConfigError
from psm.contracts.subjects import ORDERS, RISK
from psm.risk.engine.member import microseconds
from psm.workers.cli.prove.risk import proved
from psm.workers.cli.shared.connections import archive_behind, checked_log
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.log.shape import log_shape
from psm.workers.process.config import Settings, load_settings
from psm.workers.proof.risk.explanation import DecisionStory
from psm.workers.proof.risk.finding import events_behind, find_decision
from psm.workers.proof.risk.live import Range, prove_risk
from psm.workers.proof.risk.prover import Prover
from psm.workers.proof.risk.shadow import Shadow, candidates_of
from psm.workers.proof.risk.streams import RecordedStreams

_PROBLEM = 1
_CHECKS = ("name", "scope", "passed", "value", "limit", "unit", "binding", "rederived", "detail")
_ORDERS = ("verdict", "order_id", "symbol", "approved", "would_approve", "would_reason", "notional")


def explain(
    decision: Annotated[
        str, Parameter(help="Order id, id of the request, hash of the record, or SLOT:N.")
    ],
    /,
    *,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Explain a decision: each value made again, and the events that it came from.

    Exit 1 if a value does not come out again.
    """
    document, prover = asyncio.run(_explained(load_settings(), decision, output))
    document["deviations"] = [msgspec.to_builtins(one) for one in prover.deviations]
    if output.format != "table":
        output.document(document)
        return _PROBLEM if prover.deviating else 0
    output.document(document["decision"])
    output.rows(document["checks"], _CHECKS)
    for name in ("events", "market", "accounts", "rules"):
        rows = document[name]
        if rows:
            output.rows(rows, tuple(rows[0]))
    if prover.deviating:
        output.rows(document["deviations"], ("field", "recorded", "recomputed"))
        return _PROBLEM
    output.note("every value comes out again")
    return 0


async def _explained(
    settings: Settings, wanted: str, output: Output
) -> tuple[dict[str, Any], Prover]:
    """Return the explanation of a decision, and what proved it."""
    async with (
        checked_log(settings, "psm-risk-explain") as nc,
        archive_behind(nc, settings, output, RISK, ORDERS) as archive,
    ):
        recorded = RecordedStreams(nc, archive)
        found = await find_decision(nc, recorded, wanted)
        explanation = DecisionStory(found.n)
        chosen = Range(group=found.group, first=found.n, last=found.n)
        shape, judge = log_shape(settings), explanation.judge
        prover = await prove_risk(nc, shape, chosen, archive=archive, judge=judge)
        document = explanation.document
        if document is None:
            raise ConfigError(
                f"{found.slot}:{found.n} cannot be made again: its checkpoint is gone"
            )
        document["events"] = await events_behind(recorded, document)
        return document, prover


def shadow(
    *,
    limits: Annotated[Path, Parameter(help='JSON: {"scope": "group:desk", "limits": {...}}.')],
    group: Annotated[str | None, Parameter(help="Only the slot of this group.")] = None,
    from_: Annotated[
        str | None, Parameter(name="--from", help="First time of the risk clock, UTC.")
    ] = None,
    to: Annotated[str | None, Parameter(help="Last one.")] = None,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Decide recorded orders again under other limits, each in the state that it was made in.

    What the other decisions would have changed later is not followed: each order stands alone.
    """
    try:
        document = msgspec.json.decode(limits.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"--limits {limits}: {error}") from error
    shadowed = Shadow(candidates_of(document), _time(from_), _time(to))
    prover = asyncio.run(_shadowed(load_settings(), Range(group=group), shadowed, output))
    summary = msgspec.to_builtins(shadowed.summary())
    rows = [msgspec.to_builtins(one) for one in shadowed.orders if one.verdict != "same"]
    if output.format == "table":
        output.document(summary)
        if rows:
            output.rows(rows, _ORDERS)
    else:
        output.document({**summary, "deviations": prover.deviating, "changed": rows})
    if prover.deviating:
        output.note(f"{prover.deviating} records deviate: see psm validate --risk")
    return _PROBLEM if prover.deviating else 0


async def _shadowed(settings: Settings, chosen: Range, shadowed: Shadow, output: Output) -> Prover:
    async with checked_log(settings, "psm-risk-shadow") as nc:
        return await proved(nc, settings, chosen, output, shadowed.judge)


def _time(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return microseconds(text if "T" in text else f"{text}T00:00:00+00:00")
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{text} is no UTC time, as 2026-12-01T08:00:00Z") from error
