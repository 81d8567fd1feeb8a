"""Records of the risk engine as entries of views: a pure function of each record's bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from psm.contracts import codec
from psm.contracts.errors import ContractError, InvariantError
from psm.contracts.subjects import is_risk_record
from psm.contracts.updates_read import ReadUpdate
from psm.projections.risk import DECISION, STATE
from psm.projections.risk.entries import DecisionEntry, StateEntry, update_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """A record of a slot's chain."""

    subject: str
    sequence: int
    hash: str
    event_id: str
    event_type: str
    timestamp: str
    payload: dict[str, Any]
    text: str

    def state(self, name: str, **more: Any) -> ReadUpdate:
        """Return a thing that the slot remembers, by kind and key."""
        entry = StateEntry(
            entry=f"{self.payload['slot']}/{name}",
            slot=self.payload["slot"],
            n=self.payload["n"],
            risk_sequence=self.sequence,
            **more,
        )
        return update_of(STATE, self.timestamp, entry)


def updates_of_record(subject: str, sequence: int, data: bytes) -> list[ReadUpdate]:
    """Return what a message of RISK changes in the views, one update per row.

    Owner records, and what others than PSM's engine say about risk, change nothing.

    Raises:
        InvariantError: a record is not what the engine writes.
    """
    if not is_risk_record(subject):
        return []
    try:
        fields = codec.decode_untyped(data)
        record = msgspec.convert(
            {
                **fields,
                "subject": subject,
                "sequence": sequence,
                "hash": hashlib.sha256(data).hexdigest(),
                "text": data.decode(),
            },
            _Record,
        )
        return [*_decided(record), *_remembered(record)]
    except (ContractError, msgspec.ValidationError, KeyError, TypeError, ValueError) as error:
        raise InvariantError(f"RISK {sequence}, {subject}, is no record: {error!r}") from error


def _decided(record: _Record) -> Iterator[ReadUpdate]:
    """Yield a decision, and the figures that it states."""
    if record.event_type != "risk_decision":
        return
    payload = record.payload
    entry = DecisionEntry(
        account_id=payload["account_id"],
        risk_sequence=record.sequence,
        slot=payload["slot"],
        n=payload["n"],
        event_id=record.event_id,
        decision_hash=record.hash,
        previous=payload["previous"],
        decision=payload["decision"],
        reason=payload["reason"],
        failed=tuple(
            dict.fromkeys(check["name"] for check in payload["checks"] if not check["passed"])
        ),
        record=record.text,
        risk_group=payload.get("group"),
        **{name: payload.get(name) for name in _AS_TOLD},
    )
    yield update_of(DECISION, record.timestamp, entry)
    yield from _figures(record)


_AS_TOLD = (
    *("command", "order_id", "order_hash", "strategy_id", "symbol", "side", "quantity"),
    *("approved_quantity", "max_quantity", "mode", "engine", "orders_sequence"),
    *("rulebook_sequence", "marks_log_sequence"),
)


def _figures(record: _Record) -> Iterator[ReadUpdate]:
    """Yield what account and group are worth, each under its scope."""
    figures = record.payload.get("figures", {})
    own = {name: text for name, text in figures.items() if not name.startswith("group_")}
    total = {name.removeprefix("group_"): text for name, text in figures.items() if name not in own}
    scopes = {
        f"account:{record.payload['account_id']}": own,
        f"group:{record.payload.get('group')}": total,
    }
    for scope, found in scopes.items():
        if found:
            yield record.state(
                f"figures/{scope}",
                kind="figures",
                scope=scope,
                since=record.timestamp,
                figures=found,
            )


def _remembered(record: _Record) -> Iterator[ReadUpdate]:
    """Yield the latches and near limits that a record tells of, as far as the memory says so."""
    payload = record.payload
    for name, value in payload.get("path", {}).items():
        kind, _, key = name.partition("/")
        if kind == "latch" and value is None:
            yield record.state(name, kind="latch", forgotten=True)
        elif kind == "latch" and value.get("hash"):
            # It came with an account from another group, whose record had set it.
            yield record.state(name, **_latch(value, value["hash"]))
        elif kind == "raised":
            yield _near(record, name, key, value)
    if record.event_type == "LatchSet":
        name = f"latch/{payload['group']}|{payload['scope']}|{payload['code']}"
        told = {**payload, "since": payload["clock"]}
        yield record.state(name, **_latch(told, record.hash))
    elif record.event_type == "AccountReleased":
        name = f"figures/account:{payload['account_id']}"
        yield record.state(name, kind="figures", forgotten=True)


def _latch(value: Mapping[str, Any], record_hash: str) -> dict[str, Any]:
    return {
        "kind": "latch",
        "scope": value["scope"],
        "code": value["code"],
        "mode": value["mode"],
        "risk_value": value["value"],
        "risk_limit": value["limit"],
        "since": _moment(value["since"]),
        "until": _moment(value.get("until")),
        "record_hash": record_hash,
    }


def _near(record: _Record, name: str, key: str, value: Mapping[str, Any] | None) -> ReadUpdate:
    if value is None:
        return record.state(name, kind="near_limit", forgotten=True)
    payload = record.payload
    scope, _, code = key.partition("|")
    # An alert is of one limit; its memory may tell of others, which have alerts of their own.
    own = payload.get("code") == "near_limit" and payload["message"].startswith(
        f"{code} of {scope} "
    )
    return record.state(
        name,
        kind="near_limit",
        scope=scope,
        code=code,
        since=_moment(value["clock"]),
        risk_value=payload.get("value") if own else None,
        risk_limit=payload.get("limit") if own else None,
    )


def _moment(clock: int | str | None) -> str | None:
    """Return a time as RFC 3339, from that or from microseconds since 1970."""
    if clock is None or isinstance(clock, str):
        return clock
    return f"{_EPOCH + timedelta(microseconds=clock):%Y-%m-%dT%H:%M:%S.%fZ}"
