"""Samples ticks into marks, so that a market data service need not know PSM.

Raw ticks on `marketdata.ticker.<symbol>` stay in MARKETDATA; the log gets at most one mark per
symbol and interval, or one at once when the price moves beyond a threshold. Only the newest tick
counts: after an outage the prices of meanwhile are not made up for. An unchanged price is no mark.

A mark's bytes follow from its tick alone, so a second instance, or the same one after a crash,
finds the mark it would append in the log. Numbers rise because the publisher assigns them.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import OrderedReader, StoredMessage, last_per_subject, stream_info
from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.contracts import codec
from psm.contracts.codec import canonical_decimal, is_timestamp
from psm.contracts.errors import ConflictError, ContractError, TransientError
from psm.contracts.payload_codec import PayloadCodec
from psm.contracts.publisher import Publisher
from psm.contracts.subjects import MARKETDATA, TRADES, decode_token, last_token
from psm.contracts.table_events import MarkPriceUpdated

FILTER = "marketdata.ticker.*"
SERVICE = "psm-marks"

_NAMESPACE = uuid.UUID("6d0c1f0e-0f0b-5d3a-9c41-6a7b0d5e7f21")
_PRICES = ("mark_price", "price", "last_price", "last", "close")
_FETCH = 2000
_WAIT_S = 0.5
_AT_ONCE = 32
_REQUEST_S = 2.0
_GIVE_UP_S = 5.0
_RETRY_S = 0.5
_BASIS_POINTS = 10_000
_NS = 1_000_000_000

_log = get_logger()
_payloads = PayloadCodec(MarkPriceUpdated)


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a tick that a mark is made of.

    Attributes:
        token: the symbol as it stands in subjects.
        payload: of the mark.
        timestamp: the tick's, else when the broker stored it.
        event_id: the tick's, where it is an event; then the mark's cause.
        sequence: in MARKETDATA.
        time_ns: when the broker stored it.
    """

    token: str
    payload: MarkPriceUpdated
    timestamp: str
    event_id: str | None
    correlation_id: str | None
    sequence: int
    time_ns: int

    def event(self) -> dict[str, Any]:
        """Return the mark, without its number; the same tick gives the same mark."""
        payload = {
            "symbol": self.payload.symbol,
            "price": canonical_decimal(self.payload.price),
            "index_price": _text(self.payload.index_price),
            "delta": _text(self.payload.delta),
            "source": self.payload.source,
        }
        fields = {
            "event_id": str(uuid.uuid5(_NAMESPACE, f"{MARKETDATA}/{self.sequence}/{self.time_ns}")),
            "event_type": "MarkPriceUpdated",
            "stream_id": self.token,
            "timestamp": self.timestamp,
            "schema_version": "1.0.0",
            "source_service": SERVICE,
            "user_id": SERVICE,
            "correlation_id": self.correlation_id,
            "causation_id": self.event_id,
            "metadata": {"service": SERVICE, "tick_sequence": self.sequence},
            "payload": {name: value for name, value in payload.items() if value is not None},
        }
        return {name: value for name, value in fields.items() if value is not None}


def tick_of(message: StoredMessage) -> Tick:
    """Return the tick in a message: a `market_data` event, or any JSON object with a price.

    The symbol is the subject's. The price is the first of `mark_price`, `price`, `last_price`,
    `last` and `close` that is there, else the middle of `bid` and `ask`.

    Raises:
        ContractError: no price, a wrong one, or another symbol than the subject's.
    """
    token = last_token(message.subject)
    try:
        symbol = decode_token(token)
    except ValueError:
        raise ContractError("malformed_field", f"{token} is no encoded symbol", "symbol") from None
    fields = codec.decode_untyped(message.data)
    inner = fields.get("payload")
    payload = inner if isinstance(inner, dict) else fields
    named = payload.get("symbol", symbol)
    if named != symbol:
        raise ContractError(
            "stream_mismatch", f"the tick is of {named}, its subject of {symbol}", "symbol"
        )
    mark = {
        "symbol": symbol,
        "price": _price(payload),
        "index_price": payload.get("index_price"),
        "delta": payload.get("delta"),
        "source": _named(payload, "source", "exchange") or _named(fields, "source_service"),
    }
    said = fields.get("timestamp")
    return Tick(
        token=token,
        payload=_payload_of(mark),
        timestamp=said if isinstance(said, str) and is_timestamp(said) else _rfc3339(message),
        event_id=_named(fields, "event_id"),
        correlation_id=_named(fields, "correlation_id"),
        sequence=message.sequence,
        time_ns=message.time_ns,
    )


class Sampler:
    """Decides which ticks become marks. Pure: times come in, in seconds of one clock."""

    def __init__(self, interval_s: float, move_bps: int) -> None:
        """Nothing is known yet.

        Args:
            interval_s: at most one mark per symbol in this time ...
            move_bps: ... unless the price moved by at least this many basis points; 0: never.
        """
        self._interval_s = interval_s
        self._move = Decimal(move_bps) / _BASIS_POINTS
        self._marked: dict[str, tuple[MarkPriceUpdated, float]] = {}
        self._waiting: dict[str, Tick] = {}

    @property
    def symbols(self) -> int:
        """How many symbols have a mark."""
        return len(self._marked)

    @property
    def waiting(self) -> int:
        """How many ticks wait to become a mark."""
        return len(self._waiting)

    def marked(self, token: str, mark: MarkPriceUpdated, at: float) -> None:
        """A mark is in the log since `at`; what waited and says the same no longer waits."""
        self._marked[token] = (mark, at)
        tick = self._waiting.get(token)
        if tick is not None and _same(tick.payload, mark):
            del self._waiting[token]

    def take(self, tick: Tick) -> None:
        """A tick came; it takes the place of an older one that waits."""
        known = self._marked.get(tick.token)
        if known is not None and _same(tick.payload, known[0]):
            self._waiting.pop(tick.token, None)
            return
        waiting = self._waiting.get(tick.token)
        if waiting is None or tick.sequence > waiting.sequence:
            self._waiting[tick.token] = tick

    def drop(self, tick: Tick) -> None:
        """A tick cannot become a mark."""
        if self._waiting.get(tick.token) is tick:
            del self._waiting[tick.token]

    def due(self, now: float) -> list[tuple[Tick, str]]:
        """Return the ticks to mark now, each with why: `first`, `interval` or `move`."""
        found = ((tick, self._reason(tick, now)) for tick in self._waiting.values())
        return [(tick, reason) for tick, reason in found if reason is not None]

    def next_due(self, now: float) -> float:
        """Return in how many seconds the next waiting tick is due; the interval if none waits."""
        ends = (self._marked[token][1] for token in self._waiting if token in self._marked)
        return max(0.0, min(ends, default=now) + self._interval_s - now)

    def _reason(self, tick: Tick, now: float) -> str | None:
        known = self._marked.get(tick.token)
        if known is None:
            return "first"
        mark, at = known
        if now - at >= self._interval_s:
            return "interval"
        moved = abs(tick.payload.price - mark.price)
        return "move" if self._move and moved >= mark.price * self._move else None


class Marks:
    """Follows the ticks and appends marks, until it is told to stop."""

    def __init__(self, nc: Client, metrics: Metrics, *, interval_s: float, move_bps: int) -> None:
        """Nothing is read yet; see `Sampler` for the arguments."""
        self._nc = nc
        self._metrics = metrics
        self._sampler = Sampler(interval_s, move_bps)
        self._publisher = Publisher(nc, request_timeout_s=_REQUEST_S, give_up_s=_GIVE_UP_S)
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._reader: OrderedReader | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Run until `stop`.

        Raises:
            ConfigError: a stream is missing, or the log will not take marks until somebody acts.
        """
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set() and self._reader is None:
            try:
                self._reader = await self._started()
            except TransientError as error:
                _log.warning("marks.start_delayed", detail=str(error))
                await asyncio.sleep(_RETRY_S)
        reader = self._reader
        if reader is None:
            return
        try:
            while not self._stopping.is_set():
                wait_s = min(_WAIT_S, self._sampler.next_due(loop.time()))
                self._take(await reader.fetch(_FETCH, wait_s))
                due = self._sampler.due(loop.time())
                appended = await asyncio.gather(*(self._append(*one) for one in due))
                self._metrics.marks_lag(reader.pending or 0)
                if not all(appended):
                    await asyncio.sleep(_RETRY_S)
        finally:
            await reader.close()

    def stop(self) -> None:
        """End soon; what waits is found again by the next start."""
        self._stopping.set()

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Return whether ticks are followed, and how many symbols there are."""
        following = self._reader is not None and self._reader.is_open
        return following and self._nc.is_connected, {
            "connected": self._nc.is_connected,
            "following": following,
            "symbols": self._sampler.symbols,
            "waiting": self._sampler.waiting,
        }

    async def _started(self) -> OrderedReader:
        """Learn the marks of the log and the newest ticks; then follow from there."""
        # Before the newest ticks are read: what comes meanwhile is read twice, not missed.
        position = (await stream_info(self._nc, MARKETDATA)).last_sequence
        marks = await last_per_subject(self._nc, TRADES, ["marks.*"])
        ticks = await last_per_subject(self._nc, MARKETDATA, [FILTER])
        now, now_ns = asyncio.get_running_loop().time(), time.time_ns()
        covered: dict[str, tuple[int, int]] = {}
        for message in marks:
            token = last_token(message.subject)
            if (found := _mark_of(message)) is not None:
                mark, sequence = found
                age_s = max(0.0, (now_ns - message.time_ns) / _NS)
                self._sampler.marked(token, mark, now - age_s)
                covered[token] = (sequence, message.time_ns)
        self._take([tick for tick in ticks if not _is_covered(tick, covered)])
        return OrderedReader(self._nc, MARKETDATA, [FILTER], position + 1)

    def _take(self, messages: Sequence[StoredMessage]) -> None:
        refused = 0
        for message in messages:
            try:
                self._sampler.take(tick_of(message))
            except ContractError as error:
                refused += 1
                _log.debug("tick.refused", sequence=message.sequence, detail=str(error))
        if refused:
            _log.warning("ticks.refused", count=refused, last_sequence=messages[-1].sequence)
        self._metrics.ticks_read(taken=len(messages) - refused, refused=refused)

    async def _append(self, tick: Tick, reason: str) -> bool:
        """Append a mark; return whether it is settled, one way or the other."""
        async with self._slots:
            try:
                appended = await self._publisher.append(tick.event())
            except TransientError as error:
                _log.warning("mark.delayed", symbol=tick.payload.symbol, detail=str(error))
                return False
            except (ContractError, ConflictError) as error:
                self._sampler.drop(tick)
                _log.error("mark.refused", symbol=tick.payload.symbol, detail=str(error))
                return True
        self._sampler.marked(tick.token, tick.payload, asyncio.get_running_loop().time())
        self._metrics.mark_appended("duplicate" if appended.duplicate else reason)
        return True


def _mark_of(message: StoredMessage) -> tuple[MarkPriceUpdated, int] | None:
    """The mark in a message, and the tick it was made of (0 for another producer's)."""
    try:
        envelope = codec.decode_envelope(message.data)
        mark = _payloads.decode(envelope.payload)
        metadata = codec.decode_untyped(message.data).get("metadata") or {}
    except ContractError:
        return None
    sequence = metadata.get("tick_sequence") if envelope.source_service == SERVICE else 0
    assert isinstance(mark, MarkPriceUpdated)
    return mark, sequence if isinstance(sequence, int) else 0


def _is_covered(tick: StoredMessage, covered: dict[str, tuple[int, int]]) -> bool:
    """Whether the log has a mark of this tick, or a younger one that somebody else made."""
    known = covered.get(last_token(tick.subject))
    if known is None:
        return False
    sequence, marked_ns = known
    return tick.time_ns <= marked_ns and (sequence == 0 or tick.sequence <= sequence)


def _payload_of(mark: dict[str, Any]) -> MarkPriceUpdated:
    """Return the payload of a mark; a feed's zero means that it has no price."""
    payload = _payloads.decode(codec.encode(mark))
    assert isinstance(payload, MarkPriceUpdated)
    if payload.price <= 0:
        raise ContractError("invalid_payload", "the tick has no price above zero", "payload.price")
    return payload


def _price(payload: dict[str, Any]) -> object:
    for name in _PRICES:
        if payload.get(name) is not None:
            return payload[name]
    bid, ask = (payload.get(name) for name in ("bid", "ask"))
    if bid is None or ask is None:
        wanted = ", ".join(_PRICES)
        raise ContractError("invalid_payload", f"the tick has none of {wanted}", "price")
    both = [_payloads.decode(codec.encode({"symbol": "-", "price": side})) for side in (bid, ask)]
    low, high = (mark.price for mark in both if isinstance(mark, MarkPriceUpdated))
    return canonical_decimal((low + high) / 2)


def _same(one: MarkPriceUpdated, other: MarkPriceUpdated) -> bool:
    ours = (one.price, one.index_price, one.delta)
    return ours == (other.price, other.index_price, other.delta)


def _named(fields: dict[str, Any], *names: str) -> str | None:
    return next((fields[name] for name in names if isinstance(fields.get(name), str)), None)


def _text(value: Decimal | None) -> str | None:
    return None if value is None else canonical_decimal(value)


def _rfc3339(message: StoredMessage) -> str:
    when = datetime.fromtimestamp(message.time_ns // _NS, UTC)
    micros = message.time_ns % _NS // 1000
    return (
        when.replace(microsecond=micros).isoformat(timespec="microseconds").replace("+00:00", "Z")
    )
