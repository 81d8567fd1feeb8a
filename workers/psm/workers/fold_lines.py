"""The offline fold: JSON lines in, outcomes and updates out, by the very same domain code.

A line is `{"subject", "data"}`, optionally with `time` and `log_sequence`, or a bare envelope. The
body keeps its bytes: `data` is cut out of the line, and a field that is left out is put in front
of the others. No number passes through a binary float. A line of an export has `data_base64`, the
bytes exactly as a log stored them: nothing is put into those.
"""

from __future__ import annotations

import gzip
import re
import uuid
from base64 import b64decode
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from psm.contracts import codec, subjects, upcasters
from psm.contracts.errors import ConfigError, ContractError, PSMError
from psm.contracts.sequencing import OPERATOR_EVENTS
from psm.domain.account import Account
from psm.domain.books import VALUATION_INTERVAL_NS, Books
from psm.domain.messages import LogMessage
from psm.domain.outcomes import Folded, NeedHistory, Outcome
from psm.domain.publish import NAMESPACE, state_document
from psm.domain.valuation import state_hash
from psm.workers.history import fold_from_memory

_TOLD = ("log_sequence", "event_log_sequence", "cause", "flags")
DEFAULT_PARTITIONS = 16
FIRST_TIMESTAMP = "1970-01-01T00:00:00Z"
"""What an event without a time gets when no event before it has one."""

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEADS = {"MarkPriceUpdated": "marks", "InstrumentDefined": "instruments"}
_log_sequence = attrgetter("log_sequence")
_TAKEN = frozenset(
    {Outcome.APPLIED, Outcome.REFUSED, Outcome.PARKED, Outcome.HELD, Outcome.BLOCKED}
)


class LineError(PSMError):
    """A line that cannot be folded; the text names the line and what is wrong with it."""


class LineUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """One update as it would be published."""

    subject: str
    data: msgspec.Raw


class LineResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one line did. `state` and `states` only where states were asked for."""

    log_sequence: int
    subject: str
    stream_id: str
    sequence_number: int | None
    outcome: str
    reason: str | None
    updates: list[LineUpdate]
    ledger_hash: str | None
    state_hash: str | None
    state: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    states: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET


class LineFolder:
    """Folds lines one by one.

    Every message on `trades.*` is kept: a bust or an amendment reads its whole stream again, and
    nobody knows beforehand whether one comes. That costs the size of the event and about 0.3 KB;
    marks, instruments and rules are not kept.
    """

    def __init__(
        self,
        *,
        partitions: int = DEFAULT_PARTITIONS,
        with_state: bool = False,
        valuation_interval_ns: int = VALUATION_INTERVAL_NS,
    ) -> None:
        self.books = Books(partitions=partitions, valuation_interval_ns=valuation_interval_ns)
        self._published: dict[str, dict[str, Any]] = {}
        self._with_state = with_state
        self._line = 0
        self._timestamp = FIRST_TIMESTAMP
        self._time = 0
        self._numbers: dict[str, int] = {}
        self._streams: dict[str, list[LogMessage]] = {}

    def take(self, line: bytes) -> LineResult | None:
        """Fold the next line; None for a blank one.

        Raises:
            LineError: it is no event that could stand in a log; nothing changed.
            UnknownRulesError: it enables rules that this version does not know.
        """
        self._line += 1
        if not line.strip():
            return None
        try:
            subject, message = self._message(line)
        except ContractError as error:
            raise LineError(f"line {self._line}: {error}") from error
        self.books.dirty.clear()  # then it names the accounts this line touches
        result = self._fold(message)
        if result.outcome in _TAKEN and result.sequence_number is not None:
            known = self._numbers.get(message.subject, 0)
            self._numbers[message.subject] = max(known, result.sequence_number)
        if message.subject.startswith("trades."):
            account = self.books.accounts.get(result.stream_id)
            version = account.version if account else 0  # numbers may have been voided
            self._numbers[message.subject] = max(self._numbers.get(message.subject, 0), version)
        self._time = message.time
        for update in result.updates:
            if update.kind == "state.updated":
                self._published[update.stream_id] = codec.decode_untyped(update.data)["payload"]
        return self._result(subject, message, result)

    def read(self, line: bytes) -> LogMessage | None:
        """Return the message that the next line stands for, unfolded; None for a blank one.

        A number that is left out goes on from the highest of its stream so far. One folder either
        takes lines or reads them.

        Raises:
            LineError: it is no event that could stand in a log.
        """
        self._line += 1
        if not line.strip():
            return None
        try:
            _, message = self._message(line)
        except ContractError as error:
            raise LineError(f"line {self._line}: {error}") from error
        self.books.position, self._time = message.log_sequence, message.time
        number = _number_of(message.data)
        if number is not None:
            known = self._numbers.get(message.subject, 0)
            self._numbers[message.subject] = max(known, number)
        return message

    def final(self) -> Iterator[dict[str, Any]]:
        """Yield the state of every account, ascending by `account_id`."""
        for _, account in sorted(self.books.accounts.items()):
            yield self._document(account)

    # --- from a line to a message -------------------------------------------------------------

    def _message(self, line: bytes) -> tuple[str, LogMessage]:
        fields = codec.raw_fields(line.strip())
        if "data_base64" in fields:
            return self._stored_message(fields)
        if "data" in fields or "subject" in fields:
            body, given = _body(fields), _text(fields, "subject")
        else:
            body, given = line.strip(), None
            fields = {}
        body = self._completed(body, given)
        subject = given or _subject_of(body)
        stored = self._stored(subject)
        return subject, LogMessage(
            log_sequence=self._log_sequence(fields),
            subject=stored,
            time=self._log_time(fields, body),
            data=self._numbered(body, stored),
        )

    def _stored_message(self, fields: dict[str, msgspec.Raw]) -> tuple[str, LogMessage]:
        """Return a message that was taken from a log: its bytes are what they are."""
        subject, text = _text(fields, "subject"), _text(fields, "data_base64")
        if subject is None or "log_sequence" not in fields or "time" not in fields:
            raise ContractError(
                "missing_field", "data_base64 needs subject, log_sequence and time", "data_base64"
            )
        try:
            body = b64decode(text or "", validate=True)
        except ValueError as error:
            raise ContractError("malformed_field", "not base64", "data_base64") from error
        return subject, LogMessage(
            log_sequence=self._log_sequence(fields),
            subject=self._stored(subject),
            time=self._log_time(fields, body),
            data=body,
        )

    def _completed(self, body: bytes, subject: str | None) -> bytes:
        """Return the body with `event_id` and `timestamp`; a flat draft as a 1.0.0 event.

        A body that is no JSON object is left to the fold, where its line says a subject.
        """
        try:
            fields = codec.decode_untyped(body)
        except ContractError:
            if subject is None:
                raise
            return body
        if upcasters.is_flat(fields):
            fields = upcasters.upcast_flat(fields)
            body = codec.encode(fields)
        name = f"line/{self._line}"
        event_id = uuid.uuid5(uuid.UUID(bytes=NAMESPACE), name)
        timestamp = fields.get("timestamp")
        if isinstance(timestamp, str) and codec.is_timestamp(timestamp):
            self._timestamp = timestamp
        left_out = {"event_id": str(event_id), "timestamp": self._timestamp}
        return codec.with_fields(body, left_out)

    def _numbered(self, body: bytes, stored: str) -> bytes:
        """Return the body with the next number of its stream, if it has none."""
        if stored.startswith("control.") or _is_operators(body):
            return body
        number = self._numbers.get(stored, 0) + 1
        try:
            return codec.with_fields(body, {"sequence_number": number})
        except ContractError:
            return body

    def _stored(self, subject: str) -> str:
        """Return the subject as the log would store it."""
        head, *rest = subject.split(".")
        if head in ("marks", "instruments", "control") and len(rest) == 1 and rest[0]:
            return subject
        if head != "trades" or len(rest) not in (1, 2) or not rest[-1]:
            raise ContractError("malformed_field", f"{subject} is no subject of the log", "subject")
        stored = subjects.stored_trades(rest[-1], self.books.partitions)
        if len(rest) == 2 and subject != stored:
            raise ContractError(
                "malformed_field",
                f"{subject} would be {stored} with {self.books.partitions} partitions; "
                "give the log's own number with --partitions",
                "subject",
            )
        return stored

    def _log_sequence(self, fields: dict[str, msgspec.Raw]) -> int:
        after = self.books.position
        if "log_sequence" not in fields:
            return after + 1
        text = bytes(fields["log_sequence"])
        if not text.isdigit() or int(text) <= after:
            raise ContractError(
                "malformed_field", f"log_sequence must be an integer above {after}", "log_sequence"
            )
        return int(text)

    def _log_time(self, fields: dict[str, msgspec.Raw], body: bytes) -> int:
        """Return the log time: the line's, else the event's, else that of the line before.

        A line says it as RFC 3339 text, or as nanoseconds since the epoch.
        """
        if bytes(fields.get("time", b"")).isdigit():
            return int(bytes(fields["time"]))
        given = _text(fields, "time")
        if given is not None:
            if _TIME.fullmatch(given) is None:
                raise ContractError("malformed_field", "time must be RFC 3339 in UTC", "time")
            return nanoseconds(given)
        try:
            timestamp = codec.decode_untyped(body).get("timestamp")
        except ContractError:
            timestamp = None
        if isinstance(timestamp, str) and codec.is_timestamp(timestamp):
            return nanoseconds(timestamp)
        return self._time

    # --- folding ------------------------------------------------------------------------------

    def _fold(self, message: LogMessage) -> Folded:
        result = fold_from_memory(self.books, message, self._read_back)
        if message.subject.startswith("trades."):
            self._streams.setdefault(result.stream_id, []).append(message)
        return result

    def _read_back(self, wanted: NeedHistory) -> dict[int, LogMessage]:
        """Return the stream's messages in the range that the fold asked for."""
        stream = self._streams[wanted.stream_id]
        first = bisect_left(stream, wanted.from_log_sequence, key=_log_sequence)
        last = bisect_right(stream, wanted.to_log_sequence, key=_log_sequence)
        return {message.log_sequence: message for message in stream[first:last]}

    def _result(self, subject: str, message: LogMessage, result: Folded) -> LineResult:
        on_account = message.subject.startswith("trades.")
        account = self.books.accounts.get(result.stream_id) if on_account else None
        ledger_hash = None if account is None else account.ledger_hash()
        shown: dict[str, Any] = {}
        if self._with_state and on_account:
            shown["state"] = None if account is None else self._document(account)
        elif self._with_state:
            shown["states"] = [self._document(a) for a in self._touched()]
        return LineResult(
            log_sequence=message.log_sequence,
            subject=subject,
            stream_id=result.stream_id,
            sequence_number=result.sequence_number,
            outcome=result.outcome.value,
            reason=result.reason,
            updates=[
                LineUpdate(subject=u.subject, data=msgspec.Raw(u.data)) for u in result.updates
            ],
            ledger_hash=ledger_hash.hex() if ledger_hash else None,
            state_hash=self._state_hash(account, ledger_hash),
            **shown,
        )

    def _state_hash(self, account: Account | None, ledger_hash: bytes | None) -> str | None:
        if account is None or ledger_hash is None:
            return None
        return state_hash(account, ledger_hash, self.books.valuation(account)).hex()

    def _document(self, account: Account) -> dict[str, Any]:
        """Return the document of `GET /psm/state/{account_id}`.

        It says what the last `StateUpdated` said, cause and flags of the event included; with marks
        that are not published yet, it is as of now.
        """
        document = state_document(self.books, account)
        published = self._published.get(account.stream_id)
        if published is None:
            return document
        if account.unpublished:
            return {**document, "cause": "mark"}
        return {**document, **{name: published[name] for name in _TOLD if name in published}}

    def _touched(self) -> list[Account]:
        return [self.books.accounts[stream_id] for stream_id in sorted(self.books.dirty)]


def fold_lines(
    lines: Iterable[bytes], *, partitions: int = DEFAULT_PARTITIONS, with_state: bool = False
) -> Iterator[LineResult | LineError]:
    """Yield what each line did, or why it could not be folded; the others still fold."""
    folder = LineFolder(partitions=partitions, with_state=with_state)
    for line in lines:
        try:
            result = folder.take(line)
        except LineError as error:
            yield error
        else:
            if result is not None:
                yield result


@contextmanager
def opened(path: Path) -> Iterator[Iterable[bytes]]:
    """Open a file of lines, unpacking it where its name ends in .gz.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            if path.suffix == ".gz":
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield unpacked
            else:
                yield file
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error


def nanoseconds(text: str) -> int:
    """Return an RFC 3339 time in UTC, with up to nine decimals, as nanoseconds since the epoch."""
    match = _TIME.fullmatch(text)
    assert match is not None, f"{text!r} is no time"
    whole = datetime.fromisoformat(match[1]).replace(tzinfo=UTC) - _EPOCH
    return whole // timedelta(seconds=1) * 1_000_000_000 + int((match[2] or "0").ljust(9, "0"))


def _body(fields: dict[str, msgspec.Raw]) -> bytes:
    """Return the bytes of `data`: an object as it stands, or the text of a string."""
    if "data" not in fields:
        raise ContractError("missing_field", "data is required next to subject", "data")
    raw = bytes(fields["data"])
    text = _text(fields, "data") if raw.startswith(b'"') else None
    return raw if text is None else text.encode()


def _is_operators(body: bytes) -> bool:
    """Whether the body is an operator event: it has no number."""
    try:
        return codec.decode_untyped(body).get("event_type") in OPERATOR_EVENTS
    except ContractError:
        return False


def _number_of(body: bytes) -> int | None:
    try:
        number = codec.decode_untyped(body).get("sequence_number")
    except ContractError:
        return None
    return number if type(number) is int else None


def _text(fields: dict[str, msgspec.Raw], name: str) -> str | None:
    if name not in fields:
        return None
    value = codec.decode_untyped(b'{"value":%s}' % bytes(fields[name]))["value"]
    if not isinstance(value, str):
        raise ContractError("malformed_field", f"{name} must be a string", name)
    return value


def _subject_of(body: bytes) -> str:
    """Return the subject of a bare envelope, from its type and stream."""
    fields = codec.decode_untyped(body)
    for name in ("event_type", "stream_id"):
        if not isinstance(fields.get(name), str):
            raise ContractError("missing_field", f"{name} is required", name)
    if not codec.is_stream_token(fields["stream_id"]):
        raise ContractError("malformed_field", "stream_id names no stream", "stream_id")
    if fields["event_type"] == "RulesEnabled":
        return "control.rules"
    return f"{_HEADS.get(fields['event_type'], 'trades')}.{fields['stream_id']}"
