"""Trades that never stop, published as a user of the broker who waits for each acknowledgement."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

import nats.errors
from nats.aio.client import Client

from psm.adapters.jetstream import connect
from psm.adapters.jetstream.roles import role
from psm.adapters.tls import ClientTls
from psm.contracts.errors import PSMError

ACCOUNTS = tuple(f"acc_{number}" for number in range(8))
SERVERS = ("tls://127.0.0.1:4222", "tls://127.0.0.1:4223", "tls://127.0.0.1:4224")
_PACE_S = 0.02
_TRY_S = 3.0


class Load:
    """Each account in turn buys one unit of a symbol; what is not acknowledged is sent again.

    Attributes:
        sent: trades that were acknowledged, by account.
        slowest: seconds that the slowest of them took, since `rest`.
    """

    def __init__(self, ca: Path) -> None:
        self.sent = dict.fromkeys(ACCOUNTS, 0)
        self.slowest = 0.0
        self._ca = ca
        self._done = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._publish()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Publish no more; return when the last one is acknowledged."""
        self._done.set()
        self._thread.join()

    def rest(self) -> None:
        """Measure the slowest from now on."""
        self.slowest = 0.0

    async def _publish(self) -> None:
        # The connection of PSM: the plain one waits half a minute for a server that is frozen.
        client = await connect(
            SERVERS,
            name="test-load",
            user="publisher",
            password="psm-dev",
            tls=ClientTls(str(self._ca)),
            inbox_prefix=role("publisher").inbox_prefix,
        )
        try:
            while not self._done.is_set():
                for account in ACCOUNTS:
                    await self._buy(client, account)
                    await asyncio.sleep(_PACE_S)
        finally:
            await client.close()

    async def _buy(self, client: Client, account: str) -> None:
        number = self.sent[account] + 1
        event = _trade(account, number)
        start = time.monotonic()
        while True:
            try:
                await client.jetstream().publish(
                    f"trades.{account}",
                    json.dumps(event).encode(),
                    timeout=_TRY_S,
                    headers={"Nats-Msg-Id": str(event["event_id"])},
                )
            except (nats.errors.Error, PSMError, OSError):
                await asyncio.sleep(0.1)
            else:
                break
        self.slowest = max(self.slowest, time.monotonic() - start)
        self.sent[account] = number


def _trade(account: str, number: int) -> dict[str, object]:
    return {
        "event_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{account}/{number}")),
        "event_type": "TradeExecuted",
        "stream_id": account,
        "sequence_number": number,
        "timestamp": "2025-12-12T10:30:00Z",
        "schema_version": "1.0",
        "payload": {"symbol": "BTC-PERP", "side": "buy", "quantity": "1", "price": "100"},
    }
