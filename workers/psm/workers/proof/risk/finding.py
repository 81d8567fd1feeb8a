"""Finds a decision by what a person has of it, and the events behind it."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import StoredMessage, stream_info
from psm.contracts.errors import ConfigError
from psm.contracts.subjects import ORDERS, RISK, TRADES
from psm.risk.engine.proof_records import RecordRead, read_record
from psm.workers.proof.risk.streams import RecordedStreams


class FoundDecision(msgspec.Struct, frozen=True, kw_only=True):
    """Where a decision stands: slot, number, place in RISK, and whose it is."""

    slot: int
    n: int
    sequence: int
    group: str


async def find_decision(nc: Client, recorded: RecordedStreams, wanted: str) -> FoundDecision:
    """Return the newest decision that an order's id, a request's id, a hash or SLOT:N names.

    The archive is searched only for what RISK does not hold.

    Raises:
        ConfigError: there is none.
    """
    held = await stream_info(nc, RISK)
    for first, last in (
        (held.first_sequence, held.last_sequence),
        (1, held.first_sequence - 1),
    ):
        found = await _newest(recorded, wanted, first, last)
        if found is not None:
            return found
    raise ConfigError(f"no decision {wanted} in RISK, nor in the archive as far as it was asked")


async def _newest(
    recorded: RecordedStreams, wanted: str, first: int, last: int
) -> FoundDecision | None:
    found: FoundDecision | None = None
    async for messages in recorded.read(RISK, ["risk.decision.*.*"], first, last):
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


async def events_behind(
    recorded: RecordedStreams, document: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the events that a decision came from: request, newest of accounts and marks."""
    wanted = [("request", ORDERS, document["request"]["orders_sequence"])]
    wanted += [("mark", TRADES, one["log_sequence"]) for one in document["market"]]
    wanted += [("account", TRADES, one["log_sequence"]) for one in document["accounts"]]
    rows = []
    for what, stream, sequence in wanted:
        message = await recorded.get(stream, sequence) if sequence else None
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
