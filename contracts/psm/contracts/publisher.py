"""The port through which a producer appends events to the log.

`append` is idempotent by `event_id` and assigns the next `sequence_number` where the event has
none. What it numbers by is the head that the subject's owner gives (`psm.get.head`) and the
messages after it; while no owner answers, what the log itself tells, and never that a subject
without a message is a new one. Each append names the last message it knows on the subject, so the
broker refuses it when another producer was faster; then the publisher reads what came, finds its
own event or a new number, and tries again. So nothing is lost, doubled or skipped, however many
publishers share an account.

How far back a repeated `event_id` is found: `remember` events of the stream, by default the 256
that the fold remembers too. A gap in the numbers is never filled: an assigned number comes after
every number seen, because the missing event may only be late. The user of the connection needs
`$JS.API.DIRECT.GET.TRADES`, `$JS.API.STREAM.MSG.GET.TRADES` and `psm.get.head` besides the
subjects.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self, TypeVar

import msgspec
import nats
import nats.errors
from nats.aio.client import Client

from psm.contracts import codec, recorded
from psm.contracts.codec import decode_untyped
from psm.contracts.drafts import NUMBER, Draft, Event, draft_of
from psm.contracts.envelope import event_hash
from psm.contracts.errors import ConfigError, ConflictError, TransientError
from psm.contracts.heads import HEAD_SUBJECT
from psm.contracts.producer import log_client
from psm.contracts.producer.log_client import EXPECTED, AppendRefusedError
from psm.contracts.producer.numbering import REMEMBERED, NumberedPlace
from psm.contracts.producer.tail import MARK, Tail
from psm.contracts.replay import require_live
from psm.contracts.subjects import TRADES, check_subject, is_token

try:
    from opentelemetry.propagate import inject
except ImportError:  # a producer need not trace

    def inject(carrier: dict[str, str]) -> None:  # type: ignore[misc]
        """Add no trace context."""


T = TypeVar("T")
Vouch = Callable[[str, bytes], Mapping[str, str]]
"""(subject, SHA-256 of the bytes that are to be stored) -> headers."""

_RETRY_CODES = frozenset({10071, 10164, 10158, 10201, 10176, 10210})
_TAILS_MAX = 1000
_RETRY_S = (0.005, 0.05)
_AWAY_S = (0.2, 0.6)


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """Where an event is in the log.

    Attributes:
        stream_id: whose event it is.
        sequence_number: its place in the stream; None for an operator event.
        log_sequence: its position in the log.
        duplicate: it was there before this call.
        event_hash: SHA-256 of its bytes as stored, hex.
    """

    stream_id: str
    sequence_number: int | None
    log_sequence: int
    duplicate: bool
    event_hash: str


class Publisher:
    """Appends events to the log; one outstanding append per stream, many streams at once."""

    def __init__(
        self,
        connection: Client | str,
        *,
        validate: bool = True,
        allow_gaps: bool = False,
        remember: int = REMEMBERED,
        partitions: int | None = None,
        request_timeout_s: float = 5.0,
        give_up_s: float = 60.0,
        assume_new: bool = False,
    ) -> None:
        """Nothing is sent or connected yet.

        Args:
            connection: an open connection, or an address to connect to (then `close` it).
            validate: refuse payloads that the fold would refuse for their form.
            allow_gaps: let an event bring a number that is not the next one.
            remember: how many events back a repeated `event_id` is found, per stream.
            partitions: of the log, which an operator's event needs; None refuses such events.
            request_timeout_s: how long one request waits for its answer.
            give_up_s: how long an append is tried while the log is away.
            assume_new: number a subject without a message from 1 although no owner answers. Only
                for a log that is known to be whole, before its first worker runs.
        """
        self._nc = connection if isinstance(connection, Client) else None
        self._url = connection if isinstance(connection, str) else None
        self._validate = validate
        self._allow_gaps = allow_gaps
        self._timeout_s = request_timeout_s
        self._give_up_s = give_up_s
        self._remember = remember
        self._assume_new = assume_new
        self._partitions = partitions
        self._tails: OrderedDict[str, Tail] = OrderedDict()
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Connect, if an address was given."""
        await self._connected()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection, if this publisher opened it."""
        await self.close()

    async def close(self) -> None:
        """Close the connection, if this publisher opened it."""
        if self._url is not None and self._nc is not None:
            await self._nc.close()
            self._nc = None

    async def append(
        self,
        event: Event,
        *,
        sequence_number: int | None = None,
        headers: Mapping[str, str] | None = None,
        vouch: Vouch | None = None,
    ) -> Appended:
        """Append an event once, however often this is called with it.

        Args:
            event: envelope as dict, bytes or struct, or a flat 0.x draft.
            sequence_number: its place, where the event has none and none is to be assigned.
            headers: further ones; a `traceparent` gives way to the current span's.
            vouch: makes headers that sign what is stored, once its number is known.

        Raises:
            ReplayModeError: this is a replay.
            ContractError: it is no event, or its payload is not valid.
            ConflictError: its number or its `event_id` belongs to another event.
            TransientError: the log did not answer for `give_up_s`. The event may be stored:
                append the same event again.
            ConfigError: the log will not take it until an operator acts.
        """
        draft = draft_of(
            event,
            sequence_number=sequence_number,
            validate=self._validate,
            partitions=self._partitions,
        )
        require_live(f"append to {draft.subject}")
        nc = await self._connected()
        tail = self._tail(draft)
        async with tail.lock:
            return await self._persist(
                lambda: self._attempt(nc, tail, draft, headers or {}, vouch or _nobody)
            )

    async def record(
        self, subject: str, body: bytes, *, headers: Mapping[str, str] | None = None
    ) -> int:
        """Publish to a recorded subject (`signals.*` and so on); return its stream sequence.

        Repeated bytes are dropped by the broker within its duplicate window (two minutes).

        Args:
            subject: one of those that are recorded.
            body: the event; audit events are validated, other types kept as they are.
            headers: further ones; a `traceparent` gives way to the current span's.

        Raises:
            ReplayModeError: this is a replay.
            ContractError: the body is no event, or not one for this subject.
            TransientError: no answer for `give_up_s`; it may be recorded.
            ConfigError: the stream will not take it until an operator acts.
        """
        require_live(f"record on {subject}")
        check_subject(subject)
        if self._validate:
            recorded.check(subject, body)
        owner = decode_untyped(body).get("stream_id")
        named = isinstance(owner, str) and is_token(owner)
        nc = await self._connected()
        sent = _headers(str(owner) if named else subject, body, headers or {})

        async def attempt() -> int:
            return (await log_client.append(nc, subject, body, sent, self._timeout_s))[0]

        return await self._persist(attempt)

    async def _persist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try again until it works, is refused for good, or `give_up_s` have passed."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._give_up_s
        while True:
            wait = _RETRY_S
            try:
                return await attempt()
            except AppendRefusedError as error:
                if error.err_code not in _RETRY_CODES:
                    raise ConfigError(str(error)) from error
                failure: TransientError = TransientError(str(error))
            except TransientError as error:
                failure, wait = error, _AWAY_S
            if loop.time() >= give_up_at:
                raise failure
            await asyncio.sleep(random.uniform(*wait))  # noqa: S311 - spreads retries

    async def _attempt(
        self, nc: Client, tail: Tail, draft: Draft, further: Mapping[str, str], vouch: Vouch
    ) -> Appended:
        """Append unless it is there. After any failure the next attempt reads first."""
        await tail.refresh(nc, self._timeout_s)
        numbers = tail.numbers
        place = numbers.find(draft.envelope.event_id)
        if place is not None:
            return await self._found(nc, draft, place)
        number = self._number(draft, tail)
        body = draft.with_number(number)
        vouched = vouch(draft.subject, event_hash(body))
        headers = _headers(tail.stream_id, body, {**further, **vouched})
        headers[EXPECTED] = str(tail.expected)
        headers["Nats-Expected-Stream"] = TRADES
        if numbers.complete and number == numbers.last + 1:
            headers[MARK] = str(number)
        tail.current = False
        sequence, duplicate = await log_client.append(
            nc, draft.subject, body, headers, self._timeout_s
        )
        if not duplicate:
            # The expected sequence was right, so nothing lies between.
            tail.appended(sequence, draft.subject, body)
        return _appended(draft, number, sequence, event_hash(body), duplicate=duplicate)

    def _number(self, draft: Draft, tail: Tail) -> int | None:
        if not draft.numbered:
            return None
        numbers = tail.numbers
        if not tail.certain and not (draft.number == 1 or (draft.number and self._allow_gaps)):
            raise TransientError(
                f"no owner of {draft.subject} answers on {HEAD_SUBJECT}, and the log does not say "
                "where its numbers are: is a worker running?"
            )
        if draft.number is None:
            return numbers.next_number()
        numbers.check(draft.number, allow_gap=self._allow_gaps)
        return draft.number

    async def _found(self, nc: Client, draft: Draft, place: NumberedPlace) -> Appended:
        """The event id is in the log: is it the same event?"""
        if event_hash(draft.with_number(place.number)) != place.event_hash:
            entry = await log_client.at(nc, place.log_sequence, self._timeout_s)
            if entry is None:
                raise TransientError(f"log sequence {place.log_sequence} cannot be read back")
            if not _same_event(draft, entry.data):
                raise ConflictError(
                    f"event_id {place.event_id} belongs to another event, "
                    f"at log sequence {place.log_sequence}"
                )
        return _appended(draft, place.number, place.log_sequence, place.event_hash, duplicate=True)

    def _tail(self, draft: Draft) -> Tail:
        tail = self._tails.get(draft.subject)
        if tail is None:
            tail = Tail(
                draft.subject,
                draft.envelope.stream_id,
                self._remember,
                assume_new=self._assume_new,
            )
            self._tails[draft.subject] = tail
            if len(self._tails) > _TAILS_MAX:
                # One that is in use would lose its lock; it is kept until it is idle.
                idle = next((n for n, t in self._tails.items() if not t.lock.locked()), None)
                if idle is not None and idle != draft.subject:
                    del self._tails[idle]
        self._tails.move_to_end(draft.subject)
        return tail

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._nc is None:
                assert self._url is not None
                try:
                    self._nc = await nats.connect(
                        self._url, name="psm-publisher", max_reconnect_attempts=-1, ping_interval=10
                    )
                except (OSError, nats.errors.Error) as error:
                    raise TransientError(f"cannot connect to NATS: {error}") from None
            return self._nc


def _nobody(_subject: str, _event_hash: bytes) -> Mapping[str, str]:
    """Vouch for nothing."""
    return {}


def _same_event(draft: Draft, stored: bytes) -> bool:
    """Return whether two bodies are one event, apart from the number and the way it is written."""
    mine, theirs = decode_untyped(draft.body), decode_untyped(stored)
    if draft.number is None:
        mine.pop(NUMBER, None)
        theirs.pop(NUMBER, None)
    return codec.canonical_bytes(mine) == codec.canonical_bytes(theirs)


def _headers(stream_id: str, body: bytes, further: Mapping[str, str]) -> dict[str, str]:
    hashed = event_hash(body).hex()
    headers = {**further, "Nats-Msg-Id": f"{stream_id}:{hashed}", "Psm-Event-Hash": hashed}
    inject(headers)
    return headers


def _appended(
    draft: Draft, number: int | None, sequence: int, hashed: bytes, *, duplicate: bool
) -> Appended:
    return Appended(
        stream_id=draft.envelope.stream_id,
        sequence_number=number,
        log_sequence=sequence,
        duplicate=duplicate,
        event_hash=hashed.hex(),
    )
