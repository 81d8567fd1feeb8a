"""`psm replay`: fold the log of one account again and show the state after each event."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from psm.adapters.jetstream import connect
from psm.adapters.jetstream.streams_apply import check
from psm.contracts.codec import is_timestamp
from psm.contracts.errors import ConfigError
from psm.contracts.subjects import is_stream_id
from psm.workers.account_replay import HASHES, Selection, Step, replay_account
from psm.workers.cli.output import DEFAULT_OUTPUT, Output
from psm.workers.config import Settings, load_settings

_COLUMNS = (
    "sequence_number", "log_sequence", "timestamp", "event_type", "outcome", "reason",
    "cash", "equity", "unrealized_pnl", "realized_pnl", "fees", "funding", "open_positions",
)  # fmt: skip


def replay(
    account: Annotated[str, Parameter(help="Account to replay.")],
    /,
    *,
    sequence: Annotated[
        tuple[int, int] | None,
        Parameter(help="First and last sequence number to show.", negative=""),
    ] = None,
    since: Annotated[
        str | None,
        Parameter(name="--from", help="Begin with the first event not earlier than this time."),
    ] = None,
    until: Annotated[
        str | None, Parameter(name="--to", help="End before the first event later than this time.")
    ] = None,
    log_time: Annotated[
        bool, Parameter(help="Times are the log's (what was known then), not the events'.")
    ] = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Show the state of an account after each of its events, and end with the hashes.

    Reads the log only, and only what decides this account's state; writes nothing.
    """
    if not is_stream_id(account):
        raise ConfigError(f"{account!r} is no account id: 1 to 64 letters, digits, _ or -")
    for name, text in (("--from", since), ("--to", until)):
        if text is not None and not is_timestamp(text):
            raise ConfigError(f"{name} {text}: expected a UTC time such as 2025-12-12T10:30:00Z")
    first, last = sequence or (1, None)
    if first < 1 or (last is not None and last < first):
        raise ConfigError(f"--sequence {first} {last}: expected two numbers from 1, ascending")
    selection = Selection(first=first, last=last, since=since, until=until, log_time=log_time)
    steps = asyncio.run(_steps(load_settings(), account, selection, output))
    if not steps:
        output.note(f"{account}: the log has no such events; see `psm state {account}`")
        return 1
    _print(steps, output)
    return 0


async def _steps(
    settings: Settings, account: str, selection: Selection, output: Output
) -> list[Step]:
    nc = await connect(name="psm-replay", **settings.nats_options())
    try:
        await check(nc, settings)
        with output.progress(f"replaying {account}") as bar:
            reached = 0

            def progress(position: int, last: int) -> None:
                nonlocal reached
                bar.total(last)
                bar.advance(position - reached)
                reached = position

            return [
                step
                async for step in replay_account(
                    nc,
                    account,
                    partitions=settings.partitions,
                    valuation_interval_ns=settings.valuation_interval_ms * 1_000_000,
                    selection=selection,
                    progress=progress,
                )
            ]
    finally:
        await nc.close()


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
