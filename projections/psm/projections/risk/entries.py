"""What the views about risk are made of: one struct per row, as readers of the streams give it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from psm.contracts import codec
from psm.contracts.updates_read import Decoded, ReadUpdate
from psm.projections.rows import Row

StateKind = Literal["latch", "near_limit", "figures"]
LimitsStatus = Literal["proposed", "agreed", "superseded", "withdrawn", "revoked"]


class DecisionEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One decision.

    Attributes:
        risk_sequence: of its record in the stream RISK.
        slot, n: its place in the slot's chain of records; `previous` is the hash before it.
        decision_hash: SHA-256 of the record's bytes, hex.
        failed: names of the checks that did not pass, in the record's order.
        record: its bytes as text.
    """

    account_id: str
    risk_sequence: int
    slot: int
    n: int
    event_id: str
    decision_hash: str
    previous: str
    decision: str
    reason: str
    failed: tuple[str, ...]
    record: str
    command: str | None = None
    order_id: str | None = None
    order_hash: str | None = None
    strategy_id: str | None = None
    symbol: str | None = None
    side: str | None = None
    quantity: str | None = None
    approved_quantity: str | None = None
    max_quantity: str | None = None
    risk_group: str | None = None
    mode: str | None = None
    engine: str | None = None
    orders_sequence: int | None = None
    rulebook_sequence: int | None = None
    marks_log_sequence: int | None = None


class StateEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a slot remembers, or has forgotten.

    Attributes:
        entry: names it: slot, kind and key.
        code: check or reason; of figures empty.
        risk_value, risk_limit: as the record says, exact texts.
        since, until: RFC 3339.
        record_hash: of the record that set a latch, hex.
        figures: of a scope, exact texts by name.
        forgotten: it is so no more.
    """

    entry: str
    kind: StateKind
    slot: int
    n: int
    risk_sequence: int
    scope: str = ""
    code: str = ""
    mode: str | None = None
    risk_value: str | None = None
    risk_limit: str | None = None
    since: str | None = None
    until: str | None = None
    record_hash: str | None = None
    figures: dict[str, str] | None = None
    forgotten: bool = False


class LimitsEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a scope's limits.

    Attributes:
        limits: the proposal's, by the name of their check.
        proposed_sequence, agreed_sequence, rulebook_sequence: in the stream RULEBOOK, of the
            proposal, of what put it in force, of what changed its status last.
        approved_by: None where nobody had to.
    """

    scope: str
    version: int
    status: LimitsStatus
    limits: dict[str, Any]
    proposal_hash: str
    proposed_by: str
    proposed_because: str
    proposed_sequence: int
    rulebook_sequence: int
    valid_from: str | None = None
    valid_until: str | None = None
    approved_by: str | None = None
    agreed_sequence: int | None = None


class HaltEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One halt that a person set.

    Attributes:
        halt_hash: SHA-256 of its bytes, hex; by it it is lifted.
        since, until: RFC 3339; until None: until it is lifted.
        lifted_by: the second person.
    """

    scope: str
    halt_hash: str
    mode: str
    code: str
    set_by: str
    set_because: str
    set_sequence: int
    since: str
    rulebook_sequence: int
    until: str | None = None
    lifted_by: str | None = None
    lifted_sequence: int | None = None


class GroupEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A group as it is.

    Attributes:
        members: ascending; a parent has none of its own.
        rulebook_sequence: in the stream RULEBOOK, of what changed it last.
    """

    group_name: str
    members: list[str]
    currency: str
    parent: str | None
    rulebook_sequence: int


def update_of(kind: str, timestamp: str, entry: msgspec.Struct) -> ReadUpdate:
    """Return an entry as views read it."""
    data = codec.encode({"timestamp": timestamp, "payload": entry})
    return ReadUpdate(kind=kind, data=data)


def entry_row(_: ReadUpdate, decoded: Decoded[Any]) -> Row:
    """Return an entry's fields as columns, with its time."""
    return {**msgspec.structs.asdict(decoded.payload), "log_time": decoded.timestamp}


def columns_of_entry(entry: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the columns of the table of these entries."""
    return (*(name for name in entry.__struct_fields__ if name != "forgotten"), "log_time")
