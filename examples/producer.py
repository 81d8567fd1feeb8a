"""A trading service in fifty lines: publish a fill with nothing but nats-py.

    python examples/producer.py acc_001 buy BTC-PERP 0.5 42000 --commission 2.10

Events of an account are numbered 1, 2, 3 ... The next number follows the last message of the
account's subject, and the broker refuses the event if another producer was faster: then look again.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import nats
from nats.aio.client import Client
from nats.js.errors import APIError, NotFoundError

WRONG_LAST_SEQUENCE = 10071


async def append(nc: Client, account: str, event_type: str, payload: dict[str, Any]) -> int:
    """Append one event to an account's stream; return its number."""
    js = nc.jetstream()
    event_id = str(uuid.uuid4())
    while True:
        position, number = await last(nc, account)
        event = {
            "event_id": event_id,
            "event_type": event_type,
            "stream_id": account,
            "sequence_number": number + 1,
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
            await js.publish(f"trades.{account}", body, headers=headers)
        except APIError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
        else:
            return number + 1


async def last(nc: Client, account: str) -> tuple[int, int]:
    """Return position in the log and number of the account's last event; zeros for none."""
    try:
        message = await nc.jetstream().get_msg("TRADES", subject=f"trades.*.{account}")
    except NotFoundError:
        return 0, 0
    return message.seq or 0, json.loads(message.data or b"{}")["sequence_number"]


async def main() -> None:
    """Publish one fill, as the command line says."""
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
        print(f"{options.account}: event {number} is in the log")
    finally:
        await nc.close()


if __name__ == "__main__":
    asyncio.run(main())
