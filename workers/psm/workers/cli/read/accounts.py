"""`psm accounts`: which accounts there are, and who is in trouble."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from psm.contracts.errors import ConfigError
from psm.contracts.flags import FLAGS
from psm.projections.current_state.accounts import AccountOrder
from psm.workers.api.reads import (
    ACCOUNTS_DEFAULT,
    ACCOUNTS_MAX,
    AccountsPage,
    MalformedPlaceError,
    Reads,
)
from psm.workers.cli.shared.connections import database
from psm.workers.cli.shared.http import remote
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.process.config import load_settings

_COLUMNS = (
    "account_id", "equity", "drawdown", "margin_ratio", "flags", "currency", "open_positions",
    "status",
)  # fmt: skip


def accounts(
    *,
    sort: Annotated[
        AccountOrder,
        Parameter(
            help="drawdown, margin and equity show the most troubled first: the greatest drawdown, "
            "the greatest margin ratio, the least equity.",
        ),
    ] = "account",
    flag: Annotated[
        str | None, Parameter(help="Only accounts with this flag, such as liquidatable.")
    ] = None,
    limit: Annotated[
        int, Parameter(help=f"How many at most, 1 to {ACCOUNTS_MAX}.")
    ] = ACCOUNTS_DEFAULT,
    after: Annotated[str | None, Parameter(help="Where to go on, as the page before said.")] = None,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """List accounts with equity, drawdown, margin ratio and flags: who is in trouble?

    Figures are in the currency of each account.
    """
    if flag is not None and flag not in FLAGS:
        near = difflib.get_close_matches(flag, FLAGS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(FLAGS)}"
        raise ConfigError(f"--flag {flag}: no such flag; {hint}")
    if not 1 <= limit <= ACCOUNTS_MAX:
        raise ConfigError(f"--limit {limit}: choose 1 to {ACCOUNTS_MAX}")

    async def read() -> AccountsPage:
        there = remote()
        if there is not None:
            body = there.read("/psm/accounts", sort=sort, flag=flag, after=after, limit=limit)
            return msgspec.json.decode(body, type=AccountsPage)
        async with database(load_settings()) as pool:
            return await Reads(pool).accounts(sort, flag=flag, after=after, limit=limit)

    try:
        page = asyncio.run(read())
    except MalformedPlaceError as error:
        raise ConfigError(f"--after {after}: give what the page before ended with") from error
    if output.format != "table":
        output.rows(page.accounts, ())
    elif page.accounts:
        output.rows(map(_row, page.accounts), _COLUMNS)
    else:
        output.note("no such accounts" if flag else "no accounts")
    if page.next is not None:
        output.note(f"there are more: --after={page.next}")


def _row(account: msgspec.Raw) -> Mapping[str, Any]:
    row: dict[str, Any] = msgspec.json.decode(account)
    return {**row, "flags": " ".join(row["flags"]) or None}
