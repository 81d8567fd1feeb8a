"""Writes what a partition worker would write: committed batches in the stream PSM.

The updates come from the real fold of a small log, so views are compared with real documents.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
from nats.aio.client import Client
from tests.support.guarded import publish_guarded

from psm.adapters.jetstream import BatchAck, Outgoing, last_for
from psm.contracts import subjects
from psm.contracts.codec import encode
from psm.contracts.updates_read import ReadUpdate
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.market.slots import ValuationSlots
from psm.domain.messages import Folded, LogMessage, NeedHistory, Update
from psm.domain.publication.figures import state_document
from psm.workers.log.cursor import Cursor, dump_cursor

NAMESPACE = uuid.UUID("7d5a4f0e-0000-4000-8000-000000000000")
START_NS = 1_765_535_400_000_000_000
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def envelope(
    stream_id: str, event_type: str, payload: dict[str, Any], number: int, **extra: Any
) -> bytes:
    """Return an event's bytes; the same arguments give the same bytes."""
    name = f"{stream_id}/{event_type}/{number}/{payload}"
    return msgspec.json.encode(
        {
            "event_id": str(uuid.uuid5(NAMESPACE, name)),
            "event_type": event_type,
            "stream_id": stream_id,
            "sequence_number": number,
            "timestamp": "2025-12-12T10:30:00Z",
            "schema_version": "1.0.0",
            "payload": payload,
            **extra,
        }
    )


class Account:
    """Numbers the events of one account."""

    def __init__(self, stream_id: str) -> None:
        self.stream_id = stream_id
        self.number = 0

    def event(self, event_type: str, **payload: Any) -> tuple[str, bytes]:
        """Return the subject and the bytes of the next event."""
        self.number += 1
        data = envelope(self.stream_id, event_type, payload, self.number)
        return subjects.trades(self.stream_id), data

    def skip(self) -> None:
        """Leave a number out."""
        self.number += 1

    def deposit(self, amount: str = "1000") -> tuple[str, bytes]:
        """Return a deposit."""
        return self.event("CashDeposited", amount=amount)

    def trade(self, side: str, quantity: str, price: str, symbol: str = "BTC-PERP") -> Any:
        """Return a trade with a commission."""
        return self.event(
            "TradeExecuted",
            symbol=symbol,
            side=side,
            quantity=quantity,
            price=price,
            commission="0.1",
        )

    def order(self, order_id: str, quantity: str) -> tuple[str, bytes]:
        """Return a limit order to buy SOL-PERP at 3000."""
        return self.event(
            "OrderSubmitted",
            order_id=order_id,
            symbol="SOL-PERP",
            side="buy",
            type="limit",
            quantity=quantity,
            price="3000",
        )

    def fill(self, order_id: str, quantity: str, price: str) -> tuple[str, bytes]:
        """Return a fill of such an order."""
        return self.event(
            "TradeExecuted",
            symbol="SOL-PERP",
            side="buy",
            quantity=quantity,
            price=price,
            order_id=order_id,
            fill_id=f"fill-{self.number}",
        )


def mark(symbol: str, price: str, number: int) -> tuple[str, bytes]:
    """Return a mark's subject and bytes."""
    token = subjects.encode_token(symbol)
    payload = {"symbol": symbol, "price": price}
    return f"marks.{token}", envelope(token, "MarkPriceUpdated", payload, number)


class OneWorker:
    """Folds messages in memory as one worker of one partition (or of all) would."""

    def __init__(
        self,
        partitions: int = 1,
        partition: int | None = None,
        slots: ValuationSlots = ValuationSlots(),  # noqa: B008 - frozen
    ) -> None:
        self.books = Books(partitions=partitions, partition=partition, slots=slots)
        self.partitions = partitions
        self.log_sequence = 0
        self.event_hash: str | None = None
        self._history: dict[int, LogMessage] = {}

    def fold(self, subject: str, data: bytes) -> list[Update]:
        """Fold the next message of the log and return its updates."""
        self.log_sequence += 1
        self.event_hash = hashlib.sha256(data).hexdigest()
        kind, _, token = subject.partition(".")
        of_stream = kind in subjects.OF_STREAMS
        stored = subjects.stored(kind, token, self.partitions) if of_stream else subject
        message = LogMessage(
            log_sequence=self.log_sequence,
            subject=stored,
            time=START_NS + self.log_sequence * 400_000_000,
            data=data,
        )
        self._history[self.log_sequence] = message
        result = fold(self.books, message)
        if not isinstance(result, Folded):
            result = fold(self.books, message, self._read_back(result))
        assert isinstance(result, Folded)
        return result.updates

    def _read_back(self, wanted: NeedHistory) -> dict[int, LogMessage]:
        return {n: one for n, one in self._history.items() if wanted.holds(one, self.partitions)}

    def document(self, stream_id: str) -> dict[str, Any]:
        """Return the state document of an account as of now."""
        return state_document(self.books, self.books.accounts[stream_id])


def read(updates: Sequence[Update], traceparent: str | None = None) -> list[ReadUpdate]:
    """Return updates as a projection reads them."""
    return [ReadUpdate(kind=u.kind, data=u.data, traceparent=traceparent) for u in updates]


async def commit(
    nc: Client,
    partition: int,
    updates: Sequence[Update],
    *,
    log_sequence: int,
    part: int = 0,
    event_hash: str | None = None,
    announced: int | None = None,
    traceparent: str | None = TRACEPARENT,
) -> BatchAck:
    """Commit one batch as the partition's worker does: the cursor, then its updates."""
    cursor = Cursor(
        log_sequence=log_sequence,
        part=part,
        digest="0" * 64 if part else None,
        event_hash=event_hash,
        updates=len(updates) if announced is None else announced,
    )
    headers = {"traceparent": traceparent} if traceparent else None
    before = await last_for(nc, "PSM", subjects.cursor(partition))
    return await publish_guarded(
        nc,
        "PSM",
        [
            Outgoing(subjects.entrance(subjects.cursor(partition)), dump_cursor(cursor)),
            *(Outgoing(subjects.entrance(u.subject), u.data, headers) for u in updates),
        ],
        expected=before.sequence if before else 0,
        batch_id=uuid.uuid4().hex,
    )


def rows_of(document: object) -> Any:
    """Return a document as it is after a round through JSON."""
    return msgspec.json.decode(encode(document))
