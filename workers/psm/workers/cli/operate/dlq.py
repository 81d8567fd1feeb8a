"""`psm dlq`: streams that stopped, why, and the events by which an operator lets them go on."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter
from nats.aio.client import Client

from psm.adapters.jetstream import stream_info
from psm.contracts import codec
from psm.contracts.drafts import draft_of
from psm.contracts.errors import ConfigError, ContractError
from psm.contracts.publisher import Publisher
from psm.contracts.subjects import partition_of
from psm.workers.cli.shared.connections import check_account, checked_log
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.ops.principal import principal
from psm.workers.process.config import load_settings
from psm.workers.process.settings import Settings
from psm.workers.repair.blocked_streams import Case, Effects, Stopped, outcome_of, stopped_streams

app = App(name="dlq", help="Show the streams that stopped, and let them go on.")

_TIMEOUT_S = 30.0
_UNCHANGED = 1

Account = Annotated[str, Parameter(help="Account id, such as acc_001.")]
Actor = Annotated[
    str | None, Parameter(help="Who decides, by pseudonym; default PSM_ACTOR or your own.")
]
Reason = Annotated[str, Parameter(help="Why; it is kept in the log for ever.")]
DryRun = Annotated[bool, Parameter(negative="", help="Show what would happen; write nothing.")]
Timeout = Annotated[float, Parameter(help="Seconds to wait for the outcome.")]


@app.command(name="list")
def list_(*, output: Output = DEFAULT_OUTPUT) -> int:
    """List the streams that wait for a missing number or are blocked; exit 1 if there are any.

    Read from the stream PSM, so what stopped before its retention (30 days) is not listed.
    """
    stopped = asyncio.run(_list(load_settings()))
    output.rows([msgspec.structs.asdict(one) for one in stopped], Stopped.__struct_fields__)
    if not stopped:
        output.note("Every stream is open.")
    return int(bool(stopped))


@app.command
def show(account: Account, /, *, output: Output = DEFAULT_OUTPUT) -> int:
    """Show what a stream waits for: the message that blocks, what is parked and held.

    Folds the account's events from the log; exit 1 if the stream is not open.
    """
    return asyncio.run(_show(load_settings(), account, output))


@app.command
def dismiss(
    account: Account,
    /,
    *,
    reason: Reason,
    log_sequence: Annotated[
        int | None, Parameter(help="The message to dismiss; the one that blocks by default.")
    ] = None,
    actor: Actor = None,
    dry_run: DryRun = False,
    timeout: Timeout = _TIMEOUT_S,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Make the message that blocks a refused one: it keeps its number and has no effect."""

    def payload(case: Case) -> dict[str, Any]:
        blocked = case.account.delivery.blocked
        if log_sequence is None and (blocked is None or not blocked.is_next):
            raise ConfigError(f"{account}: no message blocks the stream; see `psm dlq show`")
        blocking = blocked.log_sequence if blocked else 0
        return {"log_sequence": blocking if log_sequence is None else log_sequence}

    return _operate("EventDismissed", account, payload, reason, actor, dry_run, timeout, output)


@app.command
def void(
    account: Account,
    /,
    *,
    reason: Reason,
    first: Annotated[
        int | None,
        Parameter(name="--from-sequence", help="First number; the one missing by default."),
    ] = None,
    last: Annotated[
        int | None,
        Parameter(
            name="--to-sequence", help="Last number; by default the last before those that came."
        ),
    ] = None,
    actor: Actor = None,
    dry_run: DryRun = False,
    timeout: Timeout = _TIMEOUT_S,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Declare numbers that will never come; what came behind them is folded.

    An event that comes for such a number later is a conflict and has no effect.
    """

    def payload(case: Case) -> dict[str, Any]:
        missing = case.missing()
        if missing is None and (first is None or last is None):
            raise ConfigError(f"{account}: no number is missing; see `psm dlq show`")
        start, end = missing or (0, 0)
        return {
            "from": start if first is None else first,
            "to": end if last is None else last,
        }

    return _operate("SequenceVoided", account, payload, reason, actor, dry_run, timeout, output)


@app.command
def retry(
    account: Account,
    /,
    *,
    reason: Reason,
    actor: Actor = None,
    dry_run: DryRun = False,
    timeout: Timeout = _TIMEOUT_S,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Judge the message that blocks again, by the rules enabled now."""
    return _operate("StreamRetried", account, lambda _: {}, reason, actor, dry_run, timeout, output)


def _operate(
    event_type: str,
    account: str,
    payload: Any,
    reason: str,
    actor: str | None,
    dry_run: bool,
    timeout_s: float,
    output: Output,
) -> int:
    """Publish an operator's event, wait for its outcome and print it; exit 1 if it did nothing.

    What would be refused is not published.
    """
    who = actor or principal()
    settings = load_settings()

    async def run() -> dict[str, Any]:
        async with checked_log(settings, "psm-dlq") as nc:
            case = await _case(nc, settings, account, output)
            who_and_why = {"actor": who, "reason": reason}
            body = _event(settings, event_type, account, {**payload(case), **who_and_why})
            document = {"account_id": account, "event_type": event_type}
            if dry_run:
                effects = await case.trial(body["event_id"], codec.encode(body))
                return {**document, "dry_run": True, **_told(effects)}
            return {**document, **await _publish(nc, settings, case, body, timeout_s)}

    document = asyncio.run(run())
    output.document(document)
    if dry_run:
        output.note("Nothing was written (--dry-run).")
    return 0 if document["outcome"] == "applied" else _UNCHANGED


async def _publish(
    nc: Client, settings: Settings, case: Case, body: dict[str, Any], timeout_s: float
) -> dict[str, Any]:
    data = codec.encode(body)
    case.check(data)
    since = (await stream_info(nc, "PSM")).last_sequence
    appended = await Publisher(nc, partitions=settings.partitions).append(data)
    effects = await outcome_of(
        nc,
        case.stream_id,
        partition_of(case.stream_id, settings.partitions),
        appended.log_sequence,
        body["event_id"],
        case.account.delivery.version,
        since=since,
        timeout_s=timeout_s,
    )
    return {
        "event_id": body["event_id"],
        "log_sequence": appended.log_sequence,
        **_told(effects),
    }


def _event(
    settings: Settings, event_type: str, account: str, payload: dict[str, Any]
) -> dict[str, Any]:
    """Return an operator's event; raises `ConfigError` where an argument does not fit."""
    body = {
        "event_id": str(uuid.uuid4()),
        "event_type": event_type,
        "stream_id": account,
        "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "schema_version": "1.0.0",
        "source_service": "psm-dlq",
        "user_id": payload["actor"],
        "payload": payload,
    }
    try:
        draft_of(body, partitions=settings.partitions)
    except ContractError as error:
        raise ConfigError(str(error)) from error
    return body


async def _list(settings: Settings) -> list[Stopped]:
    async with checked_log(settings, "psm-dlq") as nc:
        return await stopped_streams(nc)


async def _show(settings: Settings, account: str, output: Output) -> int:
    async with checked_log(settings, "psm-dlq") as nc:
        case = await _case(nc, settings, account, output)
        document = await case.describe()
    blocking = document["blocking"]
    if output.format == "table":
        document = {name: value for name, value in document.items() if name != "blocking"}
        if document["missing"]:
            document["missing"] = "{} to {}".format(*document["missing"])
        output.document(document)
        if blocking:
            output.note("\nThe message that blocks:")
            output.document(blocking)
    else:
        output.document(document)
    if document["status"] == "open":
        return 0
    output.note(_advice(account, blocking is not None))
    return 1


def _advice(account: str, blocking: bool) -> str:
    if blocking:
        return (
            f"\nA newer version that knows this event resumes the stream when its rules are "
            f"enabled.\nTo go on without the event: psm dlq dismiss {account} --reason … --dry-run"
        )
    return (
        "\nThe missing events resume the stream when they come.\n"
        f"If they never will: psm dlq void {account} --reason … --dry-run"
    )


async def _case(nc: Client, settings: Settings, account: str, output: Output) -> Case:
    check_account(account)
    case = Case(nc, account, settings.partitions)
    with output.following(f"folding {account}") as reached:
        await case.read(reached)
    return case


def _told(effects: Effects) -> dict[str, Any]:
    return msgspec.structs.asdict(effects)
