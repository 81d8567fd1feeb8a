"""`psm replay`: fold what was logged again, or play back what was recorded; write nothing."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter
from nats.aio.client import Client

from psm.contracts.errors import ConfigError
from psm.contracts.replay import ReplayMode
from psm.domain.publication.log_times import log_time as at_log_time
from psm.workers.cli.shared.connections import broker, check_account, checked_log
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.cli.shared.recorded import as_document
from psm.workers.cli.shared.replayer import Actor, Approval, Reason, Replayer
from psm.workers.log.shape import log_shape
from psm.workers.ops.journal import RecordedRun
from psm.workers.process.config import Settings, load_settings
from psm.workers.process.times import utc_time
from psm.workers.replay.account import HASHES, Selection, Step, replay_account
from psm.workers.replay.bundle import reproduce
from psm.workers.replay.playback import (
    Recorded,
    Republisher,
    SimulatedClock,
    filters_of,
    play,
    recorded_messages,
    target_prefix,
)
from psm.workers.replay.whole_log import LogReplay, ShownRange

_DIFFERS = 1
_SPEED = (1.0, 1000.0)
_COLUMNS = (
    "sequence_number", "event_type", "outcome", "reason", "equity", "cash", "timestamp",
    "log_sequence", "unrealized_pnl", "realized_pnl", "fees", "funding", "open_positions",
)  # fmt: skip
_HEAD_COLUMNS = ("account_id", "sequence_number", "chain_hash", "ledger_hash", "state_hash")

Since = Annotated[
    str | None,
    Parameter(
        name="--from",
        help="Begin with the first not earlier than this: a time, a date, or -1h.",
        allow_leading_hyphen=True,
    ),
]
Until = Annotated[
    str | None,
    Parameter(
        name="--to", help="End before the first later than this time.", allow_leading_hyphen=True
    ),
]


def replay(
    account: Annotated[
        str | None, Parameter(help="Account to replay; or one of --all, --subjects, --file.")
    ] = None,
    /,
    *,
    whole: Annotated[
        bool, Parameter(name="--all", help="Fold the whole log.", negative="")
    ] = False,
    subjects: Annotated[
        str | None,
        Parameter(help="Play back recorded subjects, such as marketdata.>,signals.>"),
    ] = None,
    file: Annotated[
        Path | None, Parameter(help="Fold a bundle of `psm export`, without any server.")
    ] = None,
    sequence: Annotated[
        tuple[int, int] | None,
        Parameter(
            help="First and last to show: of an account its numbers, else the log's.", negative=""
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    log_time: Annotated[
        bool,
        Parameter(help="Times are the log's (what was known then), not the events'.", negative=""),
    ] = False,
    from_snapshot: Annotated[
        bool,
        Parameter(help="Begin at the account's newest snapshot in front of it.", negative=""),
    ] = False,
    speed: Annotated[
        float | None, Parameter(help="1 to 1000 times as fast as it was; default: at once.")
    ] = None,
    to_subject: Annotated[
        str | None, Parameter(help="Publish what is played back on replay.<run_id>.>")
    ] = None,
    reason: Reason = None,
    actor: Actor = None,
    approval: Approval = None,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Fold the log again and show states and hashes, or play back recorded subjects.

    An account: its state after each event. --all: every message's outcome, and each account's
    hashes at the end. --subjects: what other services published, on a simulated clock. --file:
    a bundle, offline, compared with the hashes it must give. Nothing is written, except the record
    of the replay itself, which production requires.
    """
    chosen = [name for name, given in (
        ("ACCOUNT", account), ("--all", whole), ("--subjects", subjects), ("--file", file),
    ) if given]  # fmt: skip
    if len(chosen) != 1:
        named = " and ".join(chosen) or "nothing"
        raise ConfigError(f"give one of ACCOUNT, --all, --subjects or --file, not {named}")
    since, until = _utc(since), _utc(until)
    if file is not None:
        return _file(file, output)
    settings = load_settings()
    who = Replayer(settings, actor, reason, approval)
    first, last = _numbers(sequence)
    if account is not None:
        selection = Selection(first=first, last=last, since=since, until=until, log_time=log_time)
        return _account(settings, who, account, selection, output, from_snapshot=from_snapshot)
    if whole:
        asked = ShownRange(first=first, last=last, since=since, until=until)
        return asyncio.run(_whole(settings, who, asked, output))
    assert subjects is not None
    if speed is not None and not _SPEED[0] <= speed <= _SPEED[1]:
        raise ConfigError(f"--speed {speed:g}: expected a number from 1 to 1000")
    patterns = [pattern.strip() for pattern in subjects.split(",") if pattern.strip()]
    filters_of(patterns)
    played = {"subjects": patterns, "from": since, "to": until, "speed": speed}
    return asyncio.run(_recorded(settings, who, played, to_subject, output))


# --- one account ------------------------------------------------------------------------------


def _account(
    settings: Settings,
    who: Replayer,
    account: str,
    selection: Selection,
    output: Output,
    *,
    from_snapshot: bool,
) -> int:
    check_account(account)
    what = {"account": account, **msgspec.to_builtins(selection), "from_snapshot": from_snapshot}

    async def fold(nc: Client, run: RecordedRun) -> list[Step]:
        with output.following(f"replaying {account}") as reached:
            steps = [
                step
                async for step in replay_account(
                    nc,
                    account,
                    partitions=settings.partitions,
                    slots=settings.valuation_slots,
                    selection=selection,
                    from_snapshot=from_snapshot,
                    progress=reached,
                )
            ]
        run.result_hash = hashlib.sha256(msgspec.json.encode(steps)).hexdigest()
        return steps

    steps = asyncio.run(_with_log(settings, who, what, fold))
    if not steps:
        output.note(f"{account}: the log has no such events; see `psm state {account}`")
        return 1
    _print(steps, output)
    return 0


async def _with_log(
    settings: Settings,
    who: Replayer,
    what: Mapping[str, Any],
    fold: Callable[[Client, RecordedRun], Awaitable[list[Step]]],
) -> list[Step]:
    async with checked_log(settings, "psm-replay") as nc, who.run(nc, what) as run:
        return await fold(nc, run)


def _print(steps: list[Step], output: Output) -> None:
    final = next((step.state for step in reversed(steps) if step.state), None)
    hashes = {name: final[name] for name in HASHES} if final else {}
    if output.format == "table":
        output.rows([_row(step) for step in steps], _COLUMNS)
        output.document({"events": len(steps), **hashes})
    elif output.format == "json":
        document = {"steps": [msgspec.to_builtins(step) for step in steps], **hashes}
        output.document(document)
    else:
        for step in steps:
            output.document(msgspec.to_builtins(step))
        output.document({"events": len(steps), **hashes})


def _row(step: Step) -> dict[str, Any]:
    row = {**(step.state or {}), **msgspec.to_builtins(step)}
    if step.state:
        row["cash"] = " ".join(f"{v} {c}" for c, v in step.state["cash"].items())
    return row


# --- everything -------------------------------------------------------------------------------


async def _whole(settings: Settings, who: Replayer, asked: ShownRange, output: Output) -> int:
    async with checked_log(settings, "psm-replay") as nc:
        log = LogReplay(nc, log_shape(settings))
        async with who.run(nc, {"all": True, **msgspec.to_builtins(asked)}) as run:
            with output.following("replaying the log") as reached:
                async for step in log.steps(asked, reached):
                    if output.format == "jsonl":
                        output.document(msgspec.to_builtins(step))
            heads = {name: msgspec.to_builtins(head) for name, head in log.heads().items()}
            run.result_hash = log.result_hash()
    rate = round(log.folded / log.seconds) if log.seconds else None
    summary = {
        "messages": log.folded,
        "seconds": round(log.seconds, 3),
        "messages_per_second": rate,
        "outcomes": dict(sorted(log.outcomes.items())),
        "result_hash": run.result_hash,
    }
    if output.format == "table":
        output.rows([{"account_id": name, **head} for name, head in heads.items()], _HEAD_COLUMNS)
        output.document(summary)
    else:
        output.document({**summary, "accounts": heads})
    return 0


# --- a file -----------------------------------------------------------------------------------


def _file(path: Path, output: Output) -> int:
    with output.following(f"replaying {path.name}") as reached, ReplayMode(process=True):
        found = reproduce(path, reached)
    heads = {name: msgspec.to_builtins(head) for name, head in found.heads.items()}
    summary = {"messages": found.messages, "accounts": len(heads), "differing": found.differing}
    if output.format == "table":
        output.rows([{"account_id": name, **head} for name, head in heads.items()], _HEAD_COLUMNS)
        output.document(summary)
    else:
        output.document({**summary, "heads": heads})
    for name in found.differing:
        output.note(f"{name}: the fold gives another result than the one exported")
    return _DIFFERS if found.differing else 0


# --- recorded subjects ------------------------------------------------------------------------


async def _recorded(
    settings: Settings, who: Replayer, played: Mapping[str, Any], target: str | None, output: Output
) -> int:
    clock = SimulatedClock(played["speed"])
    what = {**played, "to_subject": target}
    async with broker(settings, "psm-replay") as nc, who.run(nc, what) as run:
        messages = recorded_messages(
            nc, played["subjects"], since=played["from"], until=played["to"]
        )
        if target is None:
            rate, run.result_hash = await play(messages, clock, _Shown(output).deliver)
        else:
            prefix = target_prefix(target, run.run_id)
            output.note(f"publishing on {prefix}.>, the end on {prefix}.end")
            shadow = Republisher(nc, prefix, run.run_id)
            rate, run.result_hash = await play(messages, clock, shadow.deliver)
            await shadow.end(run.result_hash)
    summary = {
        "messages": rate.messages,
        "simulated_seconds": round(rate.simulated_s, 3),
        "seconds": round(rate.real_s, 3),
        "achieved_speed": round(rate.speed, 2),
        "messages_per_second": round(rate.messages / rate.real_s) if rate.real_s else None,
        "result_hash": run.result_hash,
    }
    if output.format == "table" or target is not None:
        output.document(summary)
    else:
        output.note(" ".join(f"{name}={value}" for name, value in summary.items()))
    return 0


class _Shown:
    """Prints played-back messages, one a line, while they come."""

    def __init__(self, output: Output) -> None:
        self._output = output

    async def deliver(self, one: Recorded) -> None:
        """Print one message."""
        if self._output.format == "table":
            # Line by line: a table would have to wait for the last message.
            message = one.message
            body = message.data.decode(errors="replace")
            at = at_log_time(message.time_ns)
            line = f"{at} {one.js_stream} {message.sequence} {message.subject} {body}"
            self._output.lines(line.replace("\n", "\\n"))
        else:
            self._output.line_document(as_document(one))
        sys.stdout.flush()


def _utc(text: str | None) -> str | None:
    return None if text is None else utc_time(text)


def _numbers(sequence: tuple[int, int] | None) -> tuple[int, int | None]:
    first, last = sequence or (1, None)
    if first < 1 or (last is not None and last < first):
        raise ConfigError(f"--sequence {first} {last}: expected two numbers from 1, ascending")
    return first, last
