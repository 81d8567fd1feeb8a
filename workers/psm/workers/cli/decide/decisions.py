"""`psm risk decisions` and `psm risk state`: what was decided, and what holds now."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from cyclopts import Parameter

from psm.contracts.errors import ConfigError
from psm.risk.limits import CATALOGUE
from psm.workers.api.risk_reads import (
    LIMIT_DEFAULT,
    LIMIT_MAX,
    DecisionFilter,
    DecisionPage,
    ListedDecision,
    ListedState,
    Outcome,
    RiskReads,
    ShownKind,
    StatePage,
)
from psm.workers.cli.shared.connections import database
from psm.workers.cli.shared.http import remote
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.process.config import load_settings
from psm.workers.process.times import utc_time

_COLUMNS = (
    "at", "account", "order", "decision", "reason", "symbol", "side", "quantity", "approved",
    "failed",
)  # fmt: skip
_STATE_COLUMNS = ("scope", "kind", "code", "mode", "value", "limit", "since", "until", "hash")
T = TypeVar("T")

Limit = Annotated[int, Parameter(help=f"How many at most, 1 to {LIMIT_MAX}.")]


def decisions(
    account: Annotated[str | None, Parameter(help="Only of this account.")] = None,
    /,
    *,
    order: Annotated[str | None, Parameter(help="Only of this order.")] = None,
    strategy: Annotated[str | None, Parameter(help="Only of this strategy.")] = None,
    symbol: Annotated[str | None, Parameter(help="Only of this symbol.")] = None,
    decision: Annotated[Outcome | None, Parameter(help="Only with this outcome.")] = None,
    check: Annotated[str | None, Parameter(help="Only where this check did not pass.")] = None,
    since: Annotated[
        str | None,
        Parameter(
            help="Only since then: 15m, 24h, 7d, a date or a time.", allow_leading_hyphen=True
        ),
    ] = None,
    before: Annotated[int | None, Parameter(help="Where the page before ended.")] = None,
    limit: Limit = LIMIT_DEFAULT,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """List the decisions of the risk engine, the newest first, with the checks that failed."""
    _require_limit(limit)
    if check is not None and check not in CATALOGUE:
        near = difflib.get_close_matches(check, CATALOGUE, n=1)
        hint = f"did you mean {near[0]}?" if near else "docs/risk.md lists them"
        raise ConfigError(f"--check {check}: there is no such check; {hint}")
    wanted = DecisionFilter(
        account_id=account,
        order_id=order,
        strategy_id=strategy,
        symbol=symbol,
        decision=decision,
        check=check,
        since=None if since is None else msgspec.convert(utc_time(since), datetime, strict=False),
        before=before,
        limit=limit,
    )
    page = _decisions(wanted)
    if output.format != "table":
        output.rows((msgspec.to_builtins(one) for one in page.decisions), ())
    elif page.decisions:
        output.rows(map(_decision_row, page.decisions), _COLUMNS)
    else:
        output.note("no such decisions")
    if page.next_before is not None:
        output.note(f"there are more: --before {page.next_before}")


def state(
    scope: Annotated[
        str | None, Parameter(help="Only of firm, group:x, account:x, strategy:x or symbol:x.")
    ] = None,
    /,
    *,
    kind: Annotated[ShownKind | None, Parameter(help="Only of this kind.")] = None,
    after: Annotated[str | None, Parameter(help="Where the page before ended.")] = None,
    limit: Limit = LIMIT_DEFAULT,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """List latches and halts that hold, limits that are near, and the last figures."""
    _require_limit(limit)
    there = remote()
    if there is not None:
        body = there.read("/psm/risk/state", scope=scope, kind=kind, after=after, limit=limit)
        page = msgspec.json.decode(body, type=StatePage)
    else:
        page = _read(lambda reads: reads.state(scope=scope, kind=kind, after=after, limit=limit))
    if output.format != "table":
        output.rows(map(_document, page.state), ())
    elif page.state:
        output.rows(map(_state_row, page.state), _STATE_COLUMNS)
    else:
        output.note("nothing holds there")
    if page.next is not None:
        output.note(f"there is more: --after '{page.next}'")


def _decisions(wanted: DecisionFilter) -> DecisionPage:
    there = remote()
    if there is None:
        return _read(lambda reads: reads.decisions(wanted))
    since = wanted.since
    body = there.read(
        "/psm/risk/decisions",
        account=wanted.account_id,
        order_id=wanted.order_id,
        strategy_id=wanted.strategy_id,
        symbol=wanted.symbol,
        decision=wanted.decision,
        check=wanted.check,
        since=None if since is None else since.isoformat().replace("+00:00", "Z"),
        before=wanted.before,
        limit=wanted.limit,
    )
    return msgspec.json.decode(body, type=DecisionPage)


def _read(read: Callable[[RiskReads], Awaitable[T]]) -> T:
    async def asked() -> T:
        async with database(load_settings()) as pool:
            return await read(RiskReads(pool))

    return asyncio.run(asked())


def _require_limit(limit: int) -> None:
    if not 1 <= limit <= LIMIT_MAX:
        raise ConfigError(f"--limit {limit}: choose 1 to {LIMIT_MAX}")


def _decision_row(one: ListedDecision) -> dict[str, Any]:
    return {
        "at": f"{one.decided_at:%m-%d %H:%M:%S}",
        "account": one.account_id,
        "order": one.order_id,
        "decision": one.decision,
        "reason": one.reason,
        "symbol": one.symbol,
        "side": one.side,
        "quantity": one.quantity,
        "approved": one.approved_quantity,
        "failed": ", ".join(one.failed),
    }


def _document(one: ListedState) -> dict[str, Any]:
    """Return it with its figures, which the view holds as JSON."""
    return msgspec.json.decode(msgspec.json.encode(one), type=dict[str, Any])


def _state_row(one: ListedState) -> dict[str, Any]:
    shown = _document(one)
    figures = shown["figures"]
    if figures:
        shown["value"] = ", ".join(f"{name} {text}" for name, text in figures.items())
    return shown
