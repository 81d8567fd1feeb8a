"""The offline fold: JSON lines in, outcomes and updates out, by the very same domain code.

A line is `{"subject", "data"}`, optionally with `time` and `log_sequence`, or a bare envelope. The
body keeps its bytes: `data` is cut out of the line, and a field that is left out is put in front
of the others. No number passes through a binary float. A line of an export has `data_base64`, the
bytes exactly as a log stored them: nothing is put into those. What `redacted` adds is told there.
"""

from __future__ import annotations

import gzip
import re
import uuid
import zlib
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
from psm.contracts.control_events import CONTROL_SUBJECTS
from psm.contracts.errors import ConfigError, ContractError, PSMError
from psm.contracts.sequencing import OPERATOR_EVENTS, UNNUMBERED
from psm.contracts.table_events import TABLE_SUBJECTS
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.market.slots import ValuationSlots
from psm.domain.messages import Emit, Folded, LogMessage, NeedHistory, Outcome
from psm.domain.publication.figures import state_document
from psm.domain.publication.update_ids import NAMESPACE
from psm.workers.log.need_history import fold_from_memory
from psm.workers.replay.redacted import carried_hash

DEFAULT_PARTITIONS = 16
FIRST_TIMESTAMP = "1970-01-01T00:00:00Z"
"""What an event without a time gets when no event before it has one."""

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)", re.ASCII)
_LONGEST = len(str(codec.MAX_SEQUENCE_NUMBER))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_log_sequence = attrgetter("log_sequence")
_TAKEN = frozenset(
    {Outcome.APPLIED, Outcome.REFUSED, Outcome.PARKED, Outcome.HELD, Outcome.BLOCKED}
)


class LineError(PSMError):
    """A line that cannot be folded; the text names the line and what is wrong with it.

    Attributes:
        line: its number in the file, from 1.
        cause: what is wrong.
    """

    def __init__(self, line: int, cause: ContractError) -> None:
        super().__init__(f"line {line}: {cause}")
        self.line = line
        self.cause = cause


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

    Every message is kept: a bust or an amendment reads its whole stream and its marks again, and
    nobody knows beforehand whether one comes. That costs the size of the event and about 0.3 KB.
    """

    def __init__(
        self,
        *,
        partitions: int = DEFAULT_PARTITIONS,
        with_state: bool = False,
        slots: ValuationSlots = ValuationSlots(),  # noqa: B008 - frozen
        emit: Emit = "updates",
    ) -> None:
        self.books = Books(partitions=partitions, slots=slots)
        self._published: dict[str, dict[str, Any]] = {}  # fields of the last update, by account
        self._with_state = with_state
        self._emit: Emit = emit
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
            raise LineError(self._line, error) from error
        self.books.dirty.clear()  # then it names the accounts this line touches
        result = self._fold(message)
        if result.outcome in _TAKEN and result.sequence_number is not None:
            self._note_number(message.subject, result.sequence_number)
        if message.stream_id is not None:
            account = self.books.accounts.get(result.stream_id)
            version = account.delivery.version if account else 0  # numbers may have been voided
            self._note_number(message.subject, version)
        self._time = message.time
        self._note_published(message, result)
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
            raise LineError(self._line, error) from error
        self.books.position, self._time = message.log_sequence, message.time
        number = _number_of(message.data)
        if number is not None:
            self._note_number(message.subject, number)
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
        data = self._numbered(body, stored)
        return subject, LogMessage(
            log_sequence=self._log_sequence(fields),
            subject=stored,
            time=self._log_time(fields, body),
            data=data,
            carried_hash=_carried(fields, data),
        )

    def _stored_message(self, fields: dict[str, msgspec.Raw]) -> tuple[str, LogMessage]:
        """Return a message that was taken from a log: its bytes are what they are."""
        subject, text = _stored_subject(fields), _text(fields, "data_base64")
        if subject is None or "log_sequence" not in fields or "time" not in fields:
            raise ContractError(
                "missing_field", "data_base64 needs subject, log_sequence and time", "data_base64"
            )
        body = _from_base64(text or "", "data_base64")
        return subject, LogMessage(
            log_sequence=self._log_sequence(fields),
            subject=self._stored(subject),
            time=self._log_time(fields, body),
            data=body,
            carried_hash=_carried(fields, body),
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
        if stored.startswith("control.") or _is_unnumbered(body):
            return body
        number = self._numbers.get(_numbered_subject(stored), 0) + 1
        try:
            return codec.with_fields(body, {"sequence_number": number})
        except ContractError:
            return body

    def _note_number(self, stored: str, number: int) -> None:
        subject = _numbered_subject(stored)
        self._numbers[subject] = max(self._numbers.get(subject, 0), number)

    def _stored(self, subject: str) -> str:
        """Return the subject as the log would store it."""
        head, *rest = subject.split(".")
        if head in subjects.OF_ALL and len(rest) == 1 and rest[0]:
            return subject
        if head not in subjects.OF_STREAMS or len(rest) not in (1, 2) or not rest[-1]:
            raise ContractError("malformed_field", f"{subject} is no subject of the log", "subject")
        if head == "repair" and len(rest) == 2:
            return subject  # in no partition of its stream the fold rejects it
        stored = subjects.stored(head, rest[-1], self.books.partitions)
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
        if not text.isdigit() or len(text) > _LONGEST or int(text) <= after:
            raise ContractError(
                "malformed_field", f"log_sequence must be an integer above {after}", "log_sequence"
            )
        return int(text)

    def _log_time(self, fields: dict[str, msgspec.Raw], body: bytes) -> int:
        """Return the log time: the line's, else the event's, else that of the line before.

        A line says it as RFC 3339 text, or as nanoseconds since the epoch.
        """
        if (digits := bytes(fields.get("time", b""))).isdigit() and len(digits) <= _LONGEST:
            return int(digits)
        given = _text(fields, "time")
        if given is not None:
            if not _is_log_time(given):
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
        result = fold_from_memory(self.books, message, self._read_back, self._emit)
        self._streams.setdefault(message.history_name, []).append(message)
        return result

    def message_at(self, name: str, log_sequence: int) -> LogMessage:
        """Return the message of a stream that was folded with this log sequence."""
        stream = self._streams[name]
        return stream[bisect_left(stream, log_sequence, key=_log_sequence)]

    def _read_back(self, wanted: NeedHistory) -> dict[int, LogMessage]:
        """Return the messages of stream and market in the range that the fold asked for."""
        found: dict[int, LogMessage] = {}
        for name in (wanted.stream_id, *wanted.market_subjects()):
            stream = self._streams.get(name, [])
            first = bisect_left(stream, wanted.from_log_sequence, key=_log_sequence)
            last = bisect_right(stream, wanted.to_log_sequence, key=_log_sequence)
            found.update((message.log_sequence, message) for message in stream[first:last])
        return found

    def _result(self, subject: str, message: LogMessage, result: Folded) -> LineResult:
        on_account = message.stream_id is not None
        account = self.books.accounts.get(result.stream_id) if on_account else None
        ledger_hash = None if account is None else account.ledger_hash()
        shown: dict[str, Any] = {}
        if self._with_state and on_account:
            shown["state"] = None if account is None else self._document(account)
        elif self._with_state:
            shown["states"] = [self._document(a) for a in self._touched()]
        return LineResult(
            log_sequence=message.log_sequence,
            subject=subjects.printable(subject),
            stream_id=subjects.printable(result.stream_id),
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
        return account.valuation.hash(ledger_hash, account.value()).hex()

    def _document(self, account: Account) -> dict[str, Any]:
        """Return the document of `GET /psm/state/{account_id}`.

        It says what the last `StateUpdated` said, cause and flags of the event included; with marks
        that are not published yet, it is as of now.
        """
        document = state_document(self.books, account)
        published = self._published.get(account.stream_id)
        if published is None:
            return document
        if account.unpublished.changed:
            return {**document, "cause": "mark"}
        flags = sorted(dict.fromkeys((*document["flags"], *published["flags"])))
        return {**document, **published, "flags": flags}

    def _note_published(self, message: LogMessage, result: Folded) -> None:
        """Remember what updates said beside the state: position, cause, flags of the event."""
        cause = "mark" if message.kind == "marks" else "event"
        common = {"log_sequence": message.log_sequence, "cause": cause, "flags": ()}
        for update in result.updates:
            if update.kind == "state.updated":
                self._published[update.stream_id] = common
        for placement in result.placements:
            if placement.announced:
                own = {"event_log_sequence": placement.log_sequence}
                waited = placement.log_sequence != message.log_sequence
                self._published[placement.stream_id] = {
                    **common,
                    **(own if waited else {}),
                    "flags": placement.flags,
                }

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
        file = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    with file:
        yield _read(file, path)


def _read(file: Iterable[bytes], path: Path) -> Iterator[bytes]:
    """Yield the lines; only reading them can fail here, not what their reader does with them."""
    try:
        yield from file
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error


def nanoseconds(text: str) -> int:
    """Return an RFC 3339 time in UTC, with up to nine decimals, as nanoseconds since the epoch."""
    match = _TIME.fullmatch(text)
    assert match is not None, f"{text!r} is no time"
    whole = datetime.fromisoformat(match[1]).replace(tzinfo=UTC) - _EPOCH
    return whole // timedelta(seconds=1) * 1_000_000_000 + int((match[2] or "0").ljust(9, "0"))


def _stored_subject(fields: dict[str, msgspec.Raw]) -> str | None:
    """Return the subject of a message that was taken from a log; it may be no UTF-8."""
    encoded = _text(fields, "subject_base64")
    if encoded is None:
        return _text(fields, "subject")
    return _from_base64(encoded, "subject_base64").decode(errors="surrogateescape")


def _from_base64(text: str, field: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise ContractError("malformed_field", "not base64", field) from error


def _is_log_time(text: str) -> bool:
    match = _TIME.fullmatch(text)
    return match is not None and codec.is_timestamp(f"{match[1]}Z")


def _body(fields: dict[str, msgspec.Raw]) -> bytes:
    """Return the bytes of `data`: an object as it stands, or the text of a string."""
    if "data" not in fields:
        raise ContractError("missing_field", "data is required next to subject", "data")
    raw = bytes(fields["data"])
    text = _text(fields, "data") if raw.startswith(b'"') else None
    return raw if text is None else text.encode()


def _carried(fields: dict[str, msgspec.Raw], body: bytes) -> bytes | None:
    marked = bytes(fields.get("redacted", b"false"))
    return carried_hash(marked, _text(fields, "event_hash"), body)


def _numbered_subject(stored: str) -> str:
    """Return the subject whose numbers a message concerns: a repair may void some of its stream."""
    return "trades" + stored.removeprefix("repair") if stored.startswith("repair.") else stored


def _is_unnumbered(body: bytes) -> bool:
    """Whether the body is an event of a stream that has no number."""
    try:
        event_type = codec.decode_untyped(body).get("event_type")
        return isinstance(event_type, str) and event_type in UNNUMBERED
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
    codec.require_fields(fields)
    for name in ("event_type", "stream_id"):
        if not isinstance(fields[name], str):
            raise ContractError("malformed_field", f"{name} must be text", name)
    if not codec.is_stream_token(fields["stream_id"]):
        raise ContractError("malformed_field", "stream_id names no stream", "stream_id")
    control = CONTROL_SUBJECTS.get(fields["event_type"])
    if control is not None:
        return control
    if fields["event_type"] in OPERATOR_EVENTS:
        return f"repair.{fields['stream_id']}"
    return f"{TABLE_SUBJECTS.get(fields['event_type'], 'trades')}.{fields['stream_id']}"
