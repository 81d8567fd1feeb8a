"""`psm state`, `psm positions` and `psm orders`: what the views say of one account."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from cyclopts import Parameter

from psm.contracts.errors import ConfigError
from psm.contracts.live import LIVE_WAIT_MAX_MS, LiveQuestion
from psm.contracts.update_fields import Common
from psm.contracts.updates import StateUpdated
from psm.workers.api.reads import WAIT_MAX_S, MalformedAccountError, ReadName, Reads
from psm.workers.cli.read.diff import Account, At, AtSequence, LogTime, past_document
from psm.workers.cli.shared.connections import broker, check_account, database
from psm.workers.cli.shared.http import AskedService, remote
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.cli.shared.questions import ask, ask_live
from psm.workers.explain.flags import FLAGS
from psm.workers.process.config import load_settings
from psm.workers.process.times import utc_time

_POSITION_COLUMNS = (
    "position",
    "side",
    "size",
    "entry_price",
    "mark_price",
    "unrealized_pnl",
    "realized_pnl",
    "fees",
    "funding",
    "as_of",
)
_ORDER_COLUMNS = (
    "order_id",
    "symbol",
    "side",
    "type",
    "quantity",
    "filled_quantity",
    "average_price",
    "status",
)

# Of a state: what a person looks for first; hashes and positions in the log come last.
_FIRST = ("status", "flags", "sequence_number")
_LAST = frozenset({*Common.__struct_fields__, "ledger_hash", "state_hash"}) - {*_FIRST}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Moment:
    """Which state of an account a command shows: of the views, live, or of the past.

    Attributes:
        live: from the books of the worker that folds it, not from the views.
        min_sequence: version of the account to wait for.
        min_log_sequence: place in the log to wait for, live.
        at_sequence: after this number.
        at: before the first event later than this.
        log_time: `at` is compared with the log's times.
    """

    live: Annotated[
        bool,
        Parameter(
            negative="", help="As its worker has it now, at the marks of this moment; `as_of` says."
        ),
    ] = False
    min_sequence: Annotated[
        int | None,
        Parameter(help=f"Wait up to {WAIT_MAX_S:.0f} s for this version.", negative=""),
    ] = None
    min_log_sequence: Annotated[
        int | None,
        Parameter(help="With --live: wait likewise until this much of the log is in it."),
    ] = None
    at_sequence: AtSequence = None
    at: At = None
    log_time: LogTime = False

    @property
    def is_past(self) -> bool:
        """Whether a past state is asked for."""
        return self.at_sequence is not None or self.at is not None

    def check(self) -> None:
        """Make sure that the options fit together.

        Raises:
            ConfigError: they do not.
        """
        if self.live and self.is_past:
            raise ConfigError("--live is of now: leave it out with --at-sequence or --at")
        if self.min_log_sequence is not None and not self.live:
            raise ConfigError("--min-log-sequence has no effect without --live")


NOW = Moment()


def state(
    account: Account,
    /,
    *,
    moment: Moment = NOW,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Show the state of an account: cash, equity, margin, positions, orders, hashes.

    Now from the views, with --live from the worker that folds it; with --at-sequence or --at as it
    was, folded again from the log.
    """
    document = _document("state", account, moment)
    if output.format != "table":
        output.document(document)
        return
    positions, orders = document.pop("positions"), document.pop("orders")
    output.document(_flat(document))
    _print_flags(document["flags"], output)
    output.lines("")
    _print_positions(positions, document["as_of"], output)
    if orders:
        output.lines("")
        output.rows([{"order_id": name, **o} for name, o in orders.items()], _ORDER_COLUMNS)


def positions(
    account: Account,
    /,
    *,
    moment: Moment = NOW,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Show the positions of an account, now or as they were.

    Each says what it is as of: the time of the message of the log at which it was valued.
    """
    document = _document("positions", account, moment)
    if output.format == "table":
        _print_positions(document["positions"], document["as_of"], output)
    else:
        output.document(document)


def orders(
    account: Account,
    /,
    *,
    moment: Moment = NOW,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Show the orders of an account, now or as they were; of those that ended the last 256."""
    document = _document("orders", account, moment)
    if output.format != "table":
        output.document(document)
    elif document["orders"]:
        rows = [{"order_id": name, **order} for name, order in document["orders"].items()]
        output.rows(rows, _ORDER_COLUMNS)
    else:
        output.note("no orders")


def _document(name: ReadName, account: str, moment: Moment) -> dict[str, Any]:
    """Return a document of now, from the views or live, or of the past, from the log."""
    moment.check()
    there = remote()
    if there is not None:
        return _remote_document(there, name, account, moment)
    if moment.is_past:
        past = (name, account, moment.at_sequence, moment.at)
        return past_document(*past, log_time=moment.log_time)
    check_account(account)
    try:
        document: dict[str, Any] = msgspec.json.decode(asyncio.run(_read(name, account, moment)))
    except MalformedAccountError as error:
        raise ConfigError(f"{account!r}: {error}") from error
    return document


def _remote_document(
    there: AskedService, name: ReadName, account: str, moment: Moment
) -> dict[str, Any]:
    check_account(account)
    body = there.read(
        f"/psm/{name}/{quote(account, safe='')}",
        live="true" if moment.live else None,
        min_sequence=moment.min_sequence,
        min_log_sequence=moment.min_log_sequence,
        at_sequence=moment.at_sequence,
        at=None if moment.at is None else utc_time(moment.at),
        log_time="true" if moment.log_time else None,
    )
    document: dict[str, Any] = msgspec.json.decode(body)
    return document


async def _read(name: ReadName, account: str, moment: Moment) -> bytes:
    settings = load_settings()
    if moment.live:
        question = LiveQuestion(
            account_id=account,
            read=name,
            min_sequence=moment.min_sequence or 0,
            min_log_sequence=moment.min_log_sequence or 0,
            timeout_ms=LIVE_WAIT_MAX_MS,
        )
        async with broker(settings, "psm-cli") as nc:
            return await ask_live(nc, question)
    if settings.postgres_dsn is None:
        async with broker(settings, "psm-cli") as nc:
            return await ask(nc, name, account, min_sequence=moment.min_sequence or 0)
    async with database(settings) as pool:
        answer = await Reads(pool).get(
            name, account, min_sequence=moment.min_sequence, timeout_s=WAIT_MAX_S
        )
    return answer.body


def _print_flags(flags: Sequence[str], output: Output) -> None:
    if flags:
        output.lines("")
        rows = [{"flag": flag, "meaning": FLAGS[flag].meaning} for flag in flags if flag in FLAGS]
        output.rows(rows, ("flag", "meaning"))
        output.note("psm explain FLAG says where one comes from and what to do")


def _print_positions(
    positions: Mapping[str, Mapping[str, Any]], as_of: Mapping[str, Any], output: Output
) -> None:
    """Print positions; `as_of` is the account's, for those that have none of their own."""
    if positions:
        rows = [
            {"position": name, **p, "as_of": p.get("as_of", as_of)["time"]}
            for name, p in positions.items()
        ]
        output.rows(rows, _POSITION_COLUMNS)
    else:
        output.note("no positions")


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return `document` as a person reads it: amounts with their currency, flags as words."""
    cash = " ".join(f"{amount} {currency}" for currency, amount in document["cash"].items())
    flags = " ".join(document["flags"]) or None
    figures = [name for name in StateUpdated.__struct_fields__ if name not in _LAST]
    names = dict.fromkeys(("account_id", *_FIRST, *figures, *document))
    as_of = "{time}, log sequence {log_sequence}".format(**document["as_of"])
    shown = {**document, "cash": cash or None, "flags": flags, "as_of": as_of}
    return {name: shown[name] for name in names if name in shown}
