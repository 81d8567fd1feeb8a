"""`psm reconcile`: somebody else's books against ours, and where they first may have parted."""

from __future__ import annotations

import asyncio
import sys
import uuid
from typing import Annotated, cast

import msgspec
from cyclopts import Parameter

from psm.contracts import codec, registry
from psm.contracts.errors import ConfigError, ContractError
from psm.contracts.payload_codec import PayloadCodec
from psm.contracts.reports import AccountReported
from psm.contracts.sequencing import ACCOUNT_REPORTED
from psm.domain.publication.update_ids import NAMESPACE
from psm.domain.reconciliation import check_report
from psm.workers.cli.read.diff import Account, At, AtSequence, LogTime, one_moment
from psm.workers.cli.shared.connections import check_account, checked_log
from psm.workers.cli.shared.lines import opened_lines
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output, say_json
from psm.workers.cli.shared.replayer import Actor
from psm.workers.explain.reconciliation import Examination, KnownReport, examine
from psm.workers.history.as_of import When
from psm.workers.log.shape import log_shape
from psm.workers.ops.principal import principal
from psm.workers.process.config import load_settings

_DIFFERS = 1
_COLUMNS = ("what", "expected", "reported", "difference")
_CAUSE_COLUMNS = ("kind", "sequence_number", "log_sequence", "event_type", "explains", "event_id")


def reconcile(
    account: Account,
    file: Annotated[
        str | None,
        Parameter(
            allow_leading_hyphen=True,
            help="An AccountReported, whole or its payload alone; - reads standard input.",
        ),
    ] = None,
    /,
    *,
    at_sequence: AtSequence = None,
    at: At = None,
    log_time: LogTime = False,
    repair: Annotated[
        bool, Parameter(negative="", help="Print only the events that repair, for `psm publish -`.")
    ] = False,
    actor: Actor = None,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Compare what others say an account has with its books, and look for the first cause.

    Without FILE it is the last report that the log has, against the state that it met; a report
    in FILE is compared with the present. A report that says `through` is compared with the state
    after that fact, and --at-sequence or --at name another one.

    Differences come with what may have caused them, as far as one fact explains them, and with the
    `CashAdjusted` and `PositionAdjusted` events that would repair the books. Nothing is booked:
    who agrees publishes these lines. Publishing them twice books them once.

    Exit codes: 0 it matches, 1 it differs or could not be compared, 2 usage or environment.
    """
    check_account(account)
    when = None
    if at_sequence is not None or at is not None:
        when = one_moment(at_sequence, at, log_time=log_time)
    given = None if file is None else _given(file, account)
    found = asyncio.run(_examine(account, given, when, actor or principal(), output))
    if repair:
        for line in found.repair:
            say_json(line, sys.stdout)
    elif output.format == "table":
        _print(found, output)
    else:
        output.document(msgspec.to_builtins(found))
    return 0 if found.matches else _DIFFERS


async def _examine(
    account: str, given: KnownReport | None, when: When | None, actor: str, output: Output
) -> Examination:
    settings = load_settings()
    async with checked_log(settings, "psm-cli") as nc:
        with output.following("read") as reached:
            return await examine(
                nc, log_shape(settings), account, given, when, actor=actor, progress=reached
            )


def _given(file: str, account: str) -> KnownReport:
    """Return the report in a file: an envelope, or a payload alone, whose id its bytes give."""
    with opened_lines(file) as lines:
        body = b"".join(lines).strip()
    try:
        codec.check_text(body)
        fields = codec.decode_untyped(body)
        if "payload" not in fields:
            event_id = str(uuid.uuid5(uuid.UUID(bytes=NAMESPACE), f"{account}/{body.decode()}"))
            return _report(body, event_id, None)
        if fields.get("event_type") != ACCOUNT_REPORTED:
            raise ContractError("unknown_event_type", f"it is no {ACCOUNT_REPORTED}", "event_type")
        envelope = codec.decode_envelope(body)
        if envelope.stream_id != account:
            raise ContractError(
                "stream_mismatch", f"it is about {envelope.stream_id}, not {account}", "stream_id"
            )
        registry.report_codec_for(envelope)
        return _report(envelope.payload, envelope.event_id, envelope.timestamp)
    except ContractError as error:
        raise ConfigError(f"{file}: {error}") from error


def _report(payload: bytes, event_id: str, timestamp: str | None) -> KnownReport:
    report = cast("AccountReported", PayloadCodec(AccountReported).decode(payload))
    check_report(report)
    said = report.as_of if codec.is_timestamp(report.as_of) else None
    return KnownReport(event_id=event_id, report=report, timestamp=timestamp or said)


def _print(found: Examination, output: Output) -> None:
    shown = ("as_of", "source", "through", "sequence_number", "log_sequence", "matches", "reason")
    head = msgspec.to_builtins(found)
    output.document({name: head[name] for name in shown})
    if found.not_compared:
        output.note(f"not compared: {', '.join(found.not_compared)}")
    if found.matches is None:
        output.note(f"{found.through} is not booked: nothing to compare with, ask again later")
        return
    if found.matches:
        return
    output.lines("", "Differences")
    output.rows(head["differences"], _COLUMNS)
    output.lines("", "Possible causes")
    if found.causes:
        output.lines(*(f"* {cause.text}" for cause in found.causes), "")
        output.rows(head["causes"], _CAUSE_COLUMNS)
    else:
        output.lines(_no_cause(found))
    output.lines("", "What would repair it; nothing is booked until somebody publishes it")
    for line in found.repair:
        say_json(line, sys.stdout)
    if not found.repaired:
        output.note(
            "these lines alone would not make it match: a price or the definition of an "
            "instrument is missing, or the stream waits"
        )


def _no_cause(found: Examination) -> str:
    since = "the beginning"
    if found.last_match is not None:
        since = f"log sequence {found.last_match}, where a report still matched"
    return f"no single fact explains it; look at what happened since {since}"
