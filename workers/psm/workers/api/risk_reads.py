"""Reads of the views about risk: what was decided, which limits there are, what holds now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, get_args

import msgspec

from psm.adapters import postgres
from psm.contracts.errors import PSMError
from psm.projections.names import ALL_NAMES, Names
from psm.projections.risk.entries import LimitsStatus
from psm.projections.sql import Connection, load

LIMIT_DEFAULT = 100
LIMIT_MAX = 1000

Outcome = Literal["approved", "reduced", "rejected"]
ShownKind = Literal["latch", "near_limit", "figures", "halt"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
STATUSES: tuple[LimitsStatus, ...] = get_args(LimitsStatus)
KINDS: tuple[ShownKind, ...] = get_args(ShownKind)

_QUERIES = load("psm.projections.risk", "reads")
_HASH_DIGITS = 64


class UnknownDecisionError(PSMError):
    """The view has no decision of that hash."""


class DecisionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Choice of decisions to list; None does not restrict.

    Attributes:
        account_id, order_id, strategy_id, symbol: of the order.
        decision: outcome.
        check: one that did not pass.
        since: risk clock of the oldest.
        before: `risk_sequence` of the last one of the page before.
        limit: how many at most, 1 to `LIMIT_MAX`.
        accounts: those that the reader may know of.
    """

    account_id: str | None = None
    order_id: str | None = None
    strategy_id: str | None = None
    symbol: str | None = None
    decision: Outcome | None = None
    check: str | None = None
    since: datetime | None = None
    before: int | None = None
    limit: int = LIMIT_DEFAULT
    accounts: Names = ALL_NAMES


class ListedDecision(msgspec.Struct, frozen=True, kw_only=True):
    """One decision, without its checks.

    Attributes:
        decided_at: risk clock.
        command: order, replace or cancel.
        failed: names of the checks that did not pass.
        approved_quantity: what may be sent; `max_quantity` what could have been.
        group: whose loop decided.
        mode: active, reducing or halted.
        decision_hash: SHA-256 of the record's bytes, hex: by it the record is read.
        slot, n: number of the record in the slot's chain.
        risk_sequence: of the record in the stream RISK.
        orders_sequence: of the request in ORDERS.
        rulebook_sequence, marks_log_sequence: what the decision had seen.
    """

    decided_at: datetime
    account_id: str
    order_id: str | None
    command: str | None
    decision: str
    reason: str
    failed: list[str]
    symbol: str | None
    side: str | None
    quantity: str | None
    approved_quantity: str | None
    max_quantity: str | None
    strategy_id: str | None
    group: str | None
    mode: str | None
    decision_hash: str
    slot: int
    n: int
    risk_sequence: int
    orders_sequence: int | None
    rulebook_sequence: int | None
    marks_log_sequence: int | None


class DecisionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some decisions.

    Attributes:
        decisions: the newest first.
        next_before: `before` of the next page; None at the end.
    """

    decisions: list[ListedDecision]
    next_before: int | None


class DecisionDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One decision with all of its checks and figures.

    Attributes:
        risk_sequence: in the stream RISK.
        decision_hash: SHA-256 of `record`, hex.
        record: the event `risk_decision`, byte for byte as it was stored.
    """

    risk_sequence: int
    decision_hash: str
    record: msgspec.Raw


class ListedLimits(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a scope's limits.

    Attributes:
        status: `proposed` waits for a second person; `superseded` by a newer proposal.
        in_force: it is what holds now.
        limits: by the name of their check.
        proposal_hash: SHA-256 of the proposal's bytes, hex: by it another person approves.
        approved_by: None where it only tightened, and so held at once.
        proposed_sequence, agreed_sequence, rulebook_sequence: in the stream RULEBOOK, of the
            proposal, of what put it in force, of the last change.
        changed_at: time of that, by the stream.
    """

    scope: str
    version: int
    status: LimitsStatus
    in_force: bool
    limits: msgspec.Raw
    valid_from: datetime | None
    valid_until: datetime | None
    proposal_hash: str
    proposed_by: str
    proposed_because: str
    proposed_sequence: int
    approved_by: str | None
    agreed_sequence: int | None
    rulebook_sequence: int
    changed_at: datetime


class LimitsPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some versions of limits.

    Attributes:
        limits: by scope, then version.
        next: `after` of the next page; None at the end.
    """

    limits: list[ListedLimits]
    next: str | None


class ListedState(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that holds now.

    Attributes:
        entry: names it; `after` of the page behind it.
        kind: `latch` of the engine, `halt` of a person, `near_limit`: a figure is at 80 % of its
            limit and was not below 70 % since; `figures` of the last decision.
        code: check or reason.
        value, limit: when it began.
        hash: of a latch or halt: by it two persons lift it.
        figures: equity, profit of the day, of a group `nav` and `peak`.
        set_by, set_because: of a halt.
        risk_sequence, rulebook_sequence: of the message that says so.
    """

    entry: str
    kind: ShownKind
    scope: str
    code: str
    mode: str | None
    value: str | None
    limit: str | None
    since: datetime | None
    until: datetime | None
    hash: str | None
    figures: dict[str, str] | None
    set_by: str | None
    set_because: str | None
    slot: int | None
    risk_sequence: int | None
    rulebook_sequence: int | None


class StatePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some things that hold now.

    Attributes:
        state: by entry.
        next: `after` of the next page; None at the end.
    """

    state: list[ListedState]
    next: str | None


class RiskReads:
    """Answers reads from the views of `risk` and `rulebook`."""

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool

    async def decisions(self, wanted: DecisionFilter) -> DecisionPage:
        """Return a page of decisions, the newest first.

        Raises:
            TransientError: PostgreSQL is away.
        """
        *chosen, _limit, accounts = msgspec.structs.astuple(wanted)
        rows = await self._fetch("decisions", *chosen, wanted.limit + 1, accounts.likes())
        listed = []
        for row in rows[: wanted.limit]:
            row["group"] = row.pop("risk_group")
            listed.append(ListedDecision(**row))
        more = len(rows) > wanted.limit
        return DecisionPage(
            decisions=listed, next_before=listed[-1].risk_sequence if more else None
        )

    async def decision(self, decision_hash: str, accounts: Names = ALL_NAMES) -> DecisionDocument:
        """Return one decision by the hash of its record, of the accounts that may be known of.

        Raises:
            UnknownDecisionError: there is none.
            TransientError: PostgreSQL is away.
        """
        rows = await self._fetch("decision", decision_hash.lower()[: _HASH_DIGITS + 1])
        if not rows or not accounts.has(rows[0].pop("account_id")):
            raise UnknownDecisionError(f"no decision {decision_hash[:_HASH_DIGITS]} is known")
        (row,) = rows
        row["record"] = msgspec.Raw(row["record"])
        return DecisionDocument(**row)

    async def limits(
        self,
        *,
        scope: str | None = None,
        status: LimitsStatus | None = None,
        in_force: bool = False,
        after: tuple[str, int] | None = None,
        limit: int = LIMIT_DEFAULT,
        scopes: Names = ALL_NAMES,
    ) -> LimitsPage:
        """Return a page of limits.

        Args:
            scope: only of it: `firm`, `group:desk`, `account:a`, `strategy:s`, `symbol:x`.
            status: only versions with it.
            in_force: only what holds now.
            after: scope and version of the last one of the page before.
            limit: how many at most, 1 to `LIMIT_MAX`.
            scopes: those that the reader may know of.

        Raises:
            TransientError: PostgreSQL is away.
        """
        place = after or (None, None)
        rows = await self._fetch(
            "limits", scope, status, in_force, *place, limit + 1, scopes.likes()
        )
        listed = [
            ListedLimits(
                **{**row, "limits": _compact(row["limits"]), "in_force": bool(row["in_force"])}
            )
            for row in rows[:limit]
        ]
        more = len(rows) > limit
        return LimitsPage(
            limits=listed, next=f"{listed[-1].version},{listed[-1].scope}" if more else None
        )

    async def state(
        self,
        *,
        scope: str | None = None,
        kind: ShownKind | None = None,
        after: str | None = None,
        limit: int = LIMIT_DEFAULT,
        scopes: Names = ALL_NAMES,
    ) -> StatePage:
        """Return a page of what holds now.

        Args:
            scope: only of it.
            kind: only of this kind.
            after: `next` of the page before.
            limit: how many at most, 1 to `LIMIT_MAX`.
            scopes: those that the reader may know of.

        Raises:
            TransientError: PostgreSQL is away.
        """
        rows = await self._fetch("state", scope, kind, after, limit + 1, scopes.likes())
        listed = []
        for row in rows[:limit]:
            figures = row.pop("figures")
            listed.append(
                ListedState(
                    value=row.pop("risk_value"),
                    limit=row.pop("risk_limit"),
                    hash=row.pop("record_hash"),
                    figures=figures and msgspec.json.decode(figures, type=dict[str, str]),
                    **row,
                )
            )
        return StatePage(state=listed, next=listed[-1].entry if len(rows) > limit else None)

    async def _fetch(self, name: str, *values: object) -> list[dict[str, Any]]:
        async with postgres.acquired(self._pool) as connection:
            return await _rows(connection, _QUERIES[name], values)


async def _rows(
    connection: Connection, query: str, values: tuple[object, ...]
) -> list[dict[str, Any]]:
    """Return rows with their times in UTC."""
    found = await connection.fetch(query, *values)
    return [{name: _in_utc(value) for name, value in row.items()} for row in found]


def _in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def _compact(text: str) -> msgspec.Raw:
    """Return JSON without the spaces of PostgreSQL, with the digits of its numbers."""
    return msgspec.Raw(msgspec.json.format(text, indent=-1))
