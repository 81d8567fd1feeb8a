"""What a proof reads and says: records, the evidence of decisions, what differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from psm.contracts import codec
from psm.risk.engine.member import microseconds
from psm.risk.engine.records import encoded, fitting
from psm.risk.engine.results import OrderEnd
from psm.risk.messages import Stored
from psm.risk.rulebook import Rulebook


class Deviation(msgspec.Struct, frozen=True, kw_only=True):
    """A record is not what its inputs give.

    Attributes:
        slot, n: which record; `sequence` of it in RISK.
        field: first one that differs.
        recorded: what it says.
        recomputed: what its inputs give.
        account_id, order_id: of a decision.
    """

    slot: int
    n: int
    sequence: int
    field: str
    recorded: Any
    recomputed: Any
    account_id: str | None = None
    order_id: str | None = None


Entry = tuple[int, int, str]
"""Of a vector: number, log sequence, state hash."""


class UnfoldedInput(msgspec.Struct, frozen=True, kw_only=True):
    """What the log has where PSM was said to be behind it.

    Attributes:
        message: of the log; None where there is none.
        document: of the account after it; None where nobody asked in time.
    """

    message: Stored | None
    document: bytes | None


class DecisionEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision was made from, as the logs hold it.

    Attributes:
        rulebook: folded up to the sequence that the decision names.
        market: messages of marks and instruments after `SlotProof.market_position`; all of them
            from the start where the decision's place is before that.
        documents: of the accounts that its vector names, at their places; None: there was none.
        command: the request; None where ORDERS does not hold it any more.
        shown: log sequence of the first event of an account that names an order; None: there is
            none.
        ends: what ORDERS tells of the end of an account's order.
        unfolded: inputs that PSM was said not to have folded, by account and log sequence.
    """

    rulebook: Rulebook
    market: Sequence[Stored]
    documents: Mapping[str, bytes | None]
    command: Stored | None
    shown: Callable[[str, str], int | None]
    ends: Callable[[str, str], Sequence[OrderEnd]]
    unfolded: Mapping[tuple[str, int], UnfoldedInput] = {}


class RecordRead(msgspec.Struct, frozen=True, kw_only=True):
    """A record of a slot as it was read."""

    sequence: int
    data: bytes
    event_type: str
    payload: Mapping[str, Any]
    timestamp: str

    @property
    def is_decision(self) -> bool:
        """Whether it answers a request."""
        return self.event_type == "risk_decision"


def read_record(sequence: int, data: bytes) -> RecordRead:
    """Return the record in a message of RISK."""
    fields = codec.decode_untyped(data)
    return RecordRead(
        sequence=sequence,
        data=data,
        event_type=fields["event_type"],
        payload=fields["payload"],
        timestamp=fields["timestamp"],
    )


def first_difference(recorded: Any, made: Any, place: str = "") -> tuple[str, Any, Any] | None:
    """Return path and values of the first field that differs, names ascending; None if none."""
    if isinstance(recorded, Mapping) and isinstance(made, Mapping):
        pairs = [(str(name), recorded.get(name), made.get(name)) for name in _names(recorded, made)]
    elif isinstance(recorded, list) and isinstance(made, list):
        most = max(len(recorded), len(made))
        pairs = [
            (_label(recorded, made, at), _at(recorded, at), _at(made, at)) for at in range(most)
        ]
    else:
        return None if recorded == made else (place, recorded, made)
    for name, one, other in pairs:
        found = first_difference(one, other, f"{place}.{name}" if place else name)
        if found is not None:
            return found
    return None


def _names(recorded: Mapping[str, Any], made: Mapping[str, Any]) -> list[str]:
    return sorted({**recorded, **made})


def _at(values: Sequence[Any], at: int) -> Any:
    return values[at] if at < len(values) else None


def _label(recorded: Sequence[Any], made: Sequence[Any], at: int) -> str:
    """Return what a row is called: a check by its name and scope, others by their place."""
    row = _at(recorded, at) or _at(made, at)
    if isinstance(row, Mapping) and "name" in row and "scope" in row:
        return f"{row['name']}@{row['scope']}"
    return str(at)


def vector_of(record: RecordRead) -> dict[str, tuple[int, int, str]]:
    """Return the entries that a record tells: account -> number, log sequence, state hash."""
    vector = record.payload.get("vector") or {}
    return {name: entry_of(value) for name, value in vector.items()}


def unfolded_in(record: RecordRead) -> list[tuple[str, int]]:
    """Return the inputs that a record says PSM has not folded: account, log sequence."""
    told = record.payload.get("path") or {}
    return [
        (name.removeprefix("stale/"), int(entry["log_sequence"]))
        for name, entry in told.items()
        if name.startswith("stale/") and entry is not None
    ]


def entry_of(value: Sequence[Any]) -> tuple[int, int, str]:
    """Return an entry of a vector from JSON values."""
    return int(value[0]), int(value[1]), str(value[2])


def plain(value: Any) -> Any:
    """Return JSON values as they are read back."""
    return msgspec.json.decode(msgspec.json.encode(value))


def difference_of(
    record: RecordRead,
    made: Mapping[str, Any],
    vector_hash: str,
    slot: int,
    links: Mapping[str, str],
) -> tuple[str, Any, Any] | None:
    """Return the first field of a decision that is not as it was made again; None if none is.

    Args:
        record: as recorded; what it states of memory, vector and chain is taken from it.
        made: payload of the decision made again.
        vector_hash: over the accounts of its group.
        slot: whose.
        links: of the request that it answers.
    """
    payload = record.payload
    fields = fitting({**made, "vector": payload.get("vector"), "vector_hash": vector_hash})
    stated = {name: payload[name] for name in ("path", "n", "previous") if name in payload}
    clock = microseconds(payload["clock"])
    whole = {**fields, **stated, "slot": slot}
    data = encoded("risk_decision", whole, clock, payload["n"], slot, links)
    if data == record.data:
        return None
    recorded, found = codec.decode_untyped(record.data), codec.decode_untyped(data)
    differs = first_difference(recorded["payload"], found["payload"])
    return differs or first_difference(recorded, found) or ("bytes", None, None)


def deviation_of(
    payload: Mapping[str, Any], sequence: int, differs: tuple[str, Any, Any]
) -> Deviation:
    """Return a deviation of a record, or of a checkpoint with its slot and `n`, at a place."""
    field, recorded, made = differs
    return Deviation(
        slot=payload["slot"],
        n=payload["n"],
        sequence=sequence,
        field=field,
        recorded=recorded,
        recomputed=made,
        account_id=payload.get("account_id"),
        order_id=payload.get("order_id"),
    )
