"""Finds a decision by what a person has of it, and the events behind it."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import StoredMessage, get, read_range, stream_info
from psm.contracts.errors import ConfigError
from psm.contracts.subjects import ORDERS, RISK, TRADES
from psm.risk.engine.proof_records import RecordRead, read_record


class FoundDecision(msgspec.Struct, frozen=True, kw_only=True):
    """Where a decision stands: slot, number, place in RISK, and whose it is."""

    slot: int
    n: int
    sequence: int
    group: str


async def find_decision(nc: Client, wanted: str) -> FoundDecision:
    """Return the newest decision that an order's id, a request's id, a hash or SLOT:N names.

    Raises:
        ConfigError: there is none.
    """
    last = (await stream_info(nc, RISK)).last_sequence
    found: FoundDecision | None = None
    async for messages in read_range(nc, RISK, ["risk.decision.*.*"], 1, last):
        for message in messages:
            record = read_record(message.sequence, message.data)
            if _is(record, wanted):
                payload = record.payload
                found = FoundDecision(
                    slot=payload["slot"],
                    n=payload["n"],
                    sequence=record.sequence,
                    group=payload["group"],
                )
    if found is None:
        raise ConfigError(f"no decision {wanted} in RISK; it may have been archived")
    return found


def _is(record: RecordRead, wanted: str) -> bool:
    payload = record.payload
    names = (
        payload.get("order_id"),
        payload.get("request_id"),
        f"{payload['slot']}:{payload['n']}",
    )
    return wanted in names or (
        len(wanted) == 64 and hashlib.sha256(record.data).hexdigest() == wanted
    )


async def events_behind(nc: Client, document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events that a decision came from: request, newest of accounts and marks."""
    wanted = [("request", ORDERS, document["request"]["orders_sequence"])]
    wanted += [("mark", TRADES, one["log_sequence"]) for one in document["market"]]
    wanted += [("account", TRADES, one["log_sequence"]) for one in document["accounts"]]
    rows = []
    for what, stream, sequence in wanted:
        message = await get(nc, stream, sequence) if sequence else None
        if message is not None:
            rows.append({"what": what, "stream": stream, "sequence": sequence, **_event(message)})
    return rows


def _event(message: StoredMessage) -> dict[str, Any]:
    try:
        fields = msgspec.json.decode(message.data)
    except msgspec.DecodeError:
        fields = {}
    own = fields if isinstance(fields, dict) else {}
    return {
        "subject": message.subject,
        "event_type": own.get("event_type"),
        "event_id": own.get("event_id"),
    }
