"""A trading service in a hundred lines: publish a fill with nothing but nats-py.

    python examples/producer.py acc_001 buy BTC-PERP 0.5 42000 --commission 2.10

Events of an account are numbered 1, 2, 3 ... The next number is a question for PSM
(`psm.get.head`), never for the account's last message: that may be a repeat, a conflict, junk or
an operator's event, and none of these has a number. The broker refuses the event if another
producer was faster: then ask again. What counts in the end is the event's place, so that is asked
for, too: an event that is in the log may still be none.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import nats
from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import APIError, NotFoundError

WRONG_LAST_SEQUENCE = 10071
GIVE_UP_S = 30.0


class NotAppendedError(Exception):
    """The event did not take its place, or nobody can say whether it did."""


async def append(nc: Client, account: str, event_type: str, payload: dict[str, Any]) -> int:
    """Append one event to an account's stream; return its number when it took its place.

    Raises:
        NotAppendedError: it did not.
    """
    event_id, acknowledged = str(uuid.uuid4()), 0
    while True:
        head, position = await settled_head(nc, account)
        for taken in head["events"]:
            if taken["event_id"] == event_id and not taken["refused"]:
                return int(taken["number"])
            if taken["event_id"] == event_id:
                raise NotAppendedError(f"it was refused: `psm refusals {account}` says why")
        if head["status"] == "blocked":
            raise NotAppendedError(f"{account} is blocked: `psm dlq list` says why")
        if acknowledged and head["parked"]:
            raise NotAppendedError(f"it waits: number {head['last'] + 1} of {account} is missing")
        if acknowledged:
            raise NotAppendedError(f"it took no place: `psm refusals {account}` says why")
        event = {
            "event_id": event_id,
            "event_type": event_type,
            "stream_id": account,
            "sequence_number": max([head["last"], *head["parked"]]) + 1,  # never fills a gap
            "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "schema_version": "1.0.0",
            "source_service": "example-producer",
            "payload": payload,  # money as strings, never as floats
        }
        body = json.dumps(event).encode()
        headers = {
            "Nats-Msg-Id": f"{account}:{hashlib.sha256(body).hexdigest()}",
            "Nats-Expected-Last-Subject-Sequence": str(position),
        }
        try:
            ack = await nc.jetstream().publish(f"trades.{account}", body, headers=headers)
            acknowledged = ack.seq
        except APIError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
        except NatsTimeoutError:
            continue  # it may be there or not: the head tells


async def settled_head(nc: Client, account: str) -> tuple[dict[str, Any], int]:
    """Return the account's head when all its messages are in it, and the last one's position."""
    give_up_at = time.monotonic() + GIVE_UP_S
    while time.monotonic() < give_up_at:
        position = await last_position(nc, account)
        try:
            answer = await nc.request("psm.get.head", f"trades.{account}".encode(), timeout=2)
        except (NoRespondersError, NatsTimeoutError):
            await asyncio.sleep(0.5)  # the account moves to another worker: a moment
            continue
        head: dict[str, Any] = json.loads(answer.data)
        # A stream that is blocked holds what came since; that will be judged when it goes on.
        if head["log_sequence"] >= position or head["status"] == "blocked":
            return head, position
        await asyncio.sleep(0.01)
    raise NotAppendedError(f"nobody can say what {account} is numbered by: does a worker run?")


async def last_position(nc: Client, account: str) -> int:
    """Return the position of the account's last message in the log; 0 for none."""
    try:
        message = await nc.jetstream().get_msg("TRADES", subject=f"trades.*.{account}")
    except NotFoundError:
        return 0
    return message.seq or 0


async def main() -> int:
    """Publish one fill, as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    for name in ("account", "side", "symbol", "quantity", "price"):
        parser.add_argument(name)
    parser.add_argument("--commission", default="0")
    parser.add_argument("--url", default="nats://127.0.0.1:4222")
    options = parser.parse_args()
    names = ("symbol", "side", "quantity", "price", "commission")
    nc = await nats.connect(options.url)
    try:
        payload = {name: getattr(options, name) for name in names}
        number = await append(nc, options.account, "TradeExecuted", payload)
    except NotAppendedError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        await nc.close()
    print(f"{options.account}: event {number} took its place")
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
