"""Daily closes off the log: of each symbol the last mark of each UTC day of log time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import StoredMessage, get, stream_info
from psm.adapters.jetstream.reads import direct_batch
from psm.contracts import registry
from psm.contracts.codec import decode_envelope
from psm.contracts.errors import ContractError, TransientError
from psm.contracts.subjects import TRADES, decode_token, encode_token, last_token
from psm.contracts.table_events import MarkPriceUpdated
from psm.risk.clusters import Closes

MARKS = "marks.*"
_SUBJECTS = 500  # in one request; the broker answers for 1 024
_ASKED = 8  # requests at a time
_NANOS = 1_000_000_000
_DAY = timedelta(days=1)


class _Mark(msgspec.Struct, frozen=True):
    number: int
    price: Decimal


async def last_complete_day(nc: Client) -> date | None:
    """Return the last UTC day that the log has passed the end of; None where it has none.

    Raises:
        TransientError: the log cannot be read now.
    """
    info = await stream_info(nc, TRADES)
    first = await get(nc, TRADES, info.first_sequence) if info.messages else None
    last = await get(nc, TRADES, info.last_sequence) if info.messages else None
    if first is None or last is None:
        return None
    day = _day_of(last.time_ns) - _DAY
    return day if day >= _day_of(first.time_ns) else None


async def read_closes_of_log(
    nc: Client, last_day: date, days: int, symbols: Sequence[str] | None = None
) -> Closes:
    """Return the closes of some days, the last one included.

    A mark that PSM would refuse is none. Days without a mark have no close.

    Args:
        nc: connection; only read.
        last_day: that the log has passed.
        days: how many.
        symbols: which; None for all that have marks.

    Raises:
        TransientError: the log cannot be read now.
    """
    info = await stream_info(nc, TRADES, subjects_filter=MARKS)
    subjects = [
        subject
        for subject, symbol in sorted(_symbols(info.subjects).items())
        if symbols is None or symbol in symbols
    ]
    calendar = [last_day - timedelta(days=back) for back in range(days - 1, -1, -1)]
    asking = asyncio.Semaphore(_ASKED)
    found = await asyncio.gather(
        *(_closes(nc, subjects, bounds_of(day), asking) for day in calendar)
    )
    prices: dict[str, list[Decimal | None]] = {symbol: [None] * days for symbol in symbols or ()}
    for subject, symbol in _symbols(subjects).items():
        prices[symbol] = [of_day.get(subject) for of_day in found]
    return Closes(tuple(day.isoformat() for day in calendar), dict(sorted(prices.items())))


def bounds_of(day: date) -> tuple[int, int]:
    """Return where a UTC day begins and where the next one does, ns since 1970."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return int(start.timestamp()) * _NANOS, int((start + _DAY).timestamp()) * _NANOS


async def _closes(
    nc: Client, subjects: Sequence[str], bounds: tuple[int, int], asking: asyncio.Semaphore
) -> Mapping[str, Decimal]:
    """Return the last price of each subject within bounds."""
    start, end = bounds
    prices: dict[str, Decimal] = {}
    for place in range(0, len(subjects), _SUBJECTS):
        part = list(subjects[place : place + _SUBJECTS])
        async with asking:
            for message in await _last(nc, {"multi_last": part, "up_to_time": _rfc3339(end)}):
                mark = await _applied(nc, message, start)
                if mark is not None:
                    prices[message.subject] = mark.price
    return prices


def _rfc3339(time_ns: int) -> str:
    seconds, nanos = divmod(time_ns, _NANOS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"


async def _applied(nc: Client, message: StoredMessage, starts_ns: int) -> _Mark | None:
    """Return the last mark up to a message, and not before a time, that did something."""
    while message.time_ns >= starts_ns:
        mark = _mark_in(message)
        body = {"multi_last": [message.subject], "up_to_seq": message.sequence - 1}
        before = await _last(nc, body) if message.sequence > 1 else []
        known = _mark_in(before[0]) if before else None
        if mark is not None and (known is None or mark.number > known.number):
            return mark
        if not before:
            return None
        message = before[0]
    return None


async def _last(nc: Client, body: Mapping[str, object]) -> list[StoredMessage]:
    found, end = await direct_batch(nc, TRADES, body)
    status = (end.headers or {}).get("Status")
    if status not in ("204", "404"):
        raise TransientError(f"{TRADES}: marks cannot be read: {status}")
    return found


def _mark_in(message: StoredMessage) -> _Mark | None:
    try:
        envelope = decode_envelope(message.data)
        payload = registry.codec_for(envelope).decode(envelope.payload)
    except ContractError:
        return None
    number = envelope.sequence_number
    if not isinstance(payload, MarkPriceUpdated) or number is None:
        return None
    # The price of the subject's own symbol, as the fold asks for.
    if encode_token(payload.symbol) != last_token(message.subject):
        return None
    return _Mark(number, payload.price)


def _symbols(subjects: Iterable[str]) -> dict[str, str]:
    """Return the symbol of each subject that has one."""
    found: dict[str, str] = {}
    for subject in subjects:
        try:
            found[subject] = decode_token(last_token(subject))
        except ValueError:
            continue
    return found


def _day_of(time_ns: int) -> date:
    return datetime.fromtimestamp(time_ns // _NANOS, UTC).date()
