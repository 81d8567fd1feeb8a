"""The past on the command line: a moment of an account, two compared, one verified."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote

import msgspec
from cyclopts import Parameter
from nats.aio.client import Client

from psm.adapters.terminal import printable
from psm.contracts.errors import ConfigError
from psm.workers.api.reads import ReadName
from psm.workers.cli.shared.connections import check_account, checked_log
from psm.workers.cli.shared.http import not_over_http, remote
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.explain.figures import explain_field
from psm.workers.explain.tree import Node
from psm.workers.history.as_of import When, past_state, read_until
from psm.workers.history.diff import differences
from psm.workers.history.timeline import read_ledger
from psm.workers.history.verify import Verification, is_hash
from psm.workers.history.verify import verify as verify_ledger
from psm.workers.log.shape import LogShape, log_shape
from psm.workers.process.config import load_settings
from psm.workers.process.times import utc_time

if TYPE_CHECKING:
    from rich.tree import Tree

T = TypeVar("T")

_DEVIATES = 1

Account = Annotated[str, Parameter(help="Account id, such as acc_001.")]
AtSequence = Annotated[
    int | None, Parameter(help="The past: after the event of this number.", negative="")
]
At = Annotated[
    str | None,
    Parameter(
        help="The past: before the first event later than this: a time, a date, or -1h.",
        allow_leading_hyphen=True,
    ),
]
LogTime = Annotated[
    bool,
    Parameter(help="Times are the log's (what was known then), not the events'.", negative=""),
]
LedgerHash = Annotated[str, Parameter(help="The hash that you kept, 64 hex digits.")]


def diff(
    account: Account,
    before: Annotated[
        str, Parameter(help="A number, a time, a date, or -1h.", allow_leading_hyphen=True)
    ],
    after: Annotated[
        str,
        Parameter(help="Likewise; `now` for all that the log has.", allow_leading_hyphen=True),
    ] = "now",
    /,
    *,
    log_time: LogTime = False,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Show field by field what changed in an account between two moments.

    Both are folded from the log; nothing is written.
    """
    not_over_http("diff")
    moments = [
        None if text == "now" else _moment(text, log_time=log_time) for text in (before, after)
    ]

    async def compare(nc: Client, shape: LogShape) -> list[dict[str, Any]]:
        given = [moment for moment in moments if moment is not None]
        if len(given) == len(moments):
            ledger = await read_until(nc, shape, account, *given)
        else:
            ledger = await read_ledger(nc, shape, account)
        states = []
        for moment in moments:
            when = moment or When(sequence=ledger.last_number)
            states.append((await past_state(nc, shape, account, when, ledger=ledger)).state)
        return [msgspec.to_builtins(found) for found in differences(*states)]

    rows = _from_log(account, compare)
    output.rows(rows, ("field", "before", "after", "change"))
    if not rows:
        output.note("nothing differs")


def verify(
    account: Account,
    /,
    *,
    sequence: Annotated[int, Parameter(help="After the event of this number.")],
    ledger_hash: LedgerHash,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Prove that the log still gives the ledger hash that you kept; exit 1 if it does not."""
    if not is_hash(ledger_hash):
        raise ConfigError("--ledger-hash must be the 64 hex digits of a SHA-256")
    there = remote()
    if there is not None:
        check_account(account)
        path = f"/psm/verify/{quote(account, safe='')}"
        body = there.read(path, sequence=sequence, ledger_hash=ledger_hash)
        answer = msgspec.json.decode(body, type=Verification)
    else:
        answer = _from_log(
            account, lambda nc, shape: verify_ledger(nc, shape, account, sequence, ledger_hash)
        )
    output.document(msgspec.to_builtins(answer))
    return 0 if answer.agrees else _DEVIATES


def show_figure(
    account: str,
    field: str,
    sequence: int | None,
    at: str | None,
    *,
    log_time: bool,
    events: int,
    output: Output,
) -> None:
    """Print why a figure of an account is what it is; `events` limits a table, nothing else."""
    not_over_http("explain ACCOUNT FIELD")
    when = None
    if sequence is not None or at is not None:
        when = one_moment(sequence, at, log_time=log_time)
    found = _from_log(account, lambda nc, shape: explain_field(nc, shape, account, field, when))
    if output.format != "table":
        output.document(msgspec.to_builtins(found))
        return
    console = output.console(sys.stdout)
    console.print(_tree(found.tree, events), highlight=False)
    versions = msgspec.to_builtins(found)
    del versions["tree"]
    output.document(versions)


def _tree(node: Node, events: int) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    text = Text(printable(f"{node.figure} = {node.value or 'null'}"), style="bold")
    if node.arithmetic:
        text.append(printable(f" = {node.arithmetic}"), style="default")
    about = [node.rule]
    if node.event_id:
        about.append(f"{node.event_id} at log sequence {node.log_sequence}, {node.timestamp}")
    text.append(printable(f"\n{'; '.join(about)}"), style="dim")
    tree = Tree(text)
    shown = node.children[-events:]
    if len(shown) < len(node.children):
        tree.add(Text(f"... {len(node.children) - len(shown)} earlier; see -o json", style="dim"))
    for child in shown:
        tree.add(_tree(child, events))
    return tree


def past_document(
    name: ReadName, account: str, sequence: int | None, at: str | None, *, log_time: bool
) -> dict[str, Any]:
    """Return a document as it was at a number or a time.

    Raises:
        ConfigError: the moment is not given as it must be.
        UnknownStreamError, NoSuchPlaceError: there was no such state.
    """
    when = one_moment(sequence, at, log_time=log_time)

    async def read(nc: Client, shape: LogShape) -> dict[str, Any]:
        return (await past_state(nc, shape, account, when)).document(name)

    return _from_log(account, read)


def one_moment(sequence: int | None, at: str | None, *, log_time: bool) -> When:
    """Return the moment that one of the two options names.

    Raises:
        ConfigError: both are given, or what is given is no moment.
    """
    if sequence is not None and at is not None:
        raise ConfigError("give --at-sequence or --at, not both")
    text = str(sequence) if sequence is not None else at
    assert text is not None
    return _moment(text, log_time=log_time)


def _moment(text: str, *, log_time: bool) -> When:
    if text.isascii() and text.isdecimal() and int(text) > 0:
        return When(sequence=int(text))
    if text.isdecimal():
        raise ConfigError(f"{text}: numbers of events begin with 1")
    return When(at=utc_time(text), log_time=log_time)


def _from_log(account: str, ask: Callable[[Client, LogShape], Awaitable[T]]) -> T:
    """Connect, check that the log is as the settings say, ask."""
    check_account(account)
    settings = load_settings()

    async def asked() -> T:
        async with checked_log(settings, "psm-cli") as nc:
            return await ask(nc, log_shape(settings))

    return asyncio.run(asked())
