"""The reads of HTTP, NATS request-reply and the CLI: one statement, one snapshot, one answer.

Documents are JSON bytes made by PostgreSQL from the views (see `current_state/reads.sql`);
decimals are strings in canonical form. Every answer carries the account's versions and hashes.
"""

from __future__ import annotations

import asyncio
import re
from typing import Literal, get_args

import msgspec

from psm.adapters import postgres
from psm.contracts.errors import PSMError
from psm.contracts.flags import VIEW_STALE
from psm.contracts.subjects import STREAM_ID_RULE, is_stream_id
from psm.projections.current_state.accounts import ACCOUNT_STATEMENTS, AccountOrder
from psm.projections.current_state.reads import READ_STATEMENTS, READ_VIEWS
from psm.projections.names import ALL_NAMES, Names

WAIT_DEFAULT_S = 5.0
WAIT_MAX_S = 30.0
_POLL_FIRST_S = 0.01
_POLL_MAX_S = 0.1
_REACHED = READ_STATEMENTS["reached"]

ReadName = Literal["state", "positions", "margin", "orders"]
ACCOUNT_ORDERS: tuple[AccountOrder, ...] = get_args(AccountOrder)
ACCOUNTS_DEFAULT = 100
ACCOUNTS_MAX = 500
_FIRST = "-Infinity,"
_AFTER = re.compile(r"(-?[0-9]{1,60}(?:\.[0-9]{1,60})?|-?Infinity),([A-Za-z0-9_-]{0,64})")

READS: tuple[ReadName, ...] = ("state", "positions", "margin", "orders")


class MalformedAccountError(PSMError):
    """A text that cannot be the id of any account."""


class MalformedPlaceError(PSMError):
    """A text that is not where any page of accounts ends."""


class UnknownAccountError(PSMError):
    """An account of which no event is in the view."""


class NoReportError(PSMError):
    """An account about which nobody reported, as far as the view has it."""


class NotReachedError(PSMError):
    """A version that the view did not reach in time.

    Attributes:
        reached: the version it has; 0 for none.
    """

    def __init__(self, account_id: str, wanted: int, reached: int) -> None:
        super().__init__(f"{account_id}: the view has version {reached}, not yet {wanted}")
        self.reached = reached


class StaleViewError(PSMError):
    """A version that the view cannot have, because PostgreSQL cannot hold a row of it.

    Attributes:
        reached: the last version that it has whole.
    """

    def __init__(self, account_id: str, stale_from: int) -> None:
        super().__init__(
            f"{account_id}: the view is stale from version {stale_from} on, because a row cannot "
            "be stored; `psm views status` names it, and `psm state --at-sequence` folds the log"
        )
        self.reached = stale_from - 1


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One read's result.

    Attributes:
        body: the document's JSON bytes.
        etag: quoted; changes whenever the document's money or status does.
    """

    body: bytes
    etag: str


class AccountsPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some accounts.

    Attributes:
        accounts: a row of each.
        next: `after` of the next page; None at the end, as of now.
    """

    accounts: list[msgspec.Raw]
    next: str | None


class _Identity(msgspec.Struct, frozen=True):
    sequence_number: int
    state_hash: str | None
    status: str
    flags: tuple[str, ...] = ()


class _Answered(msgspec.Struct, frozen=True):
    log_sequence: int
    flags: tuple[str, ...]


_identity = msgspec.json.Decoder(_Identity)
_answered = msgspec.json.Decoder(_Answered)


class Reads:
    """Answers reads from the views of `current_state`."""

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool

    async def get(
        self,
        name: ReadName,
        account_id: str,
        *,
        min_sequence: int | None = None,
        timeout_s: float = WAIT_DEFAULT_S,
    ) -> Answer:
        """Return one document.

        Args:
            name: which one.
            account_id: whose.
            min_sequence: wait until the view has this version of the account.
            timeout_s: how long to wait at most; no more than `WAIT_MAX_S`.

        Raises:
            MalformedAccountError: `account_id` cannot exist.
            UnknownAccountError: the view has no such account.
            NotReachedError: the version did not come in time.
            StaleViewError: the view cannot have it, or nothing of the account, until a row of it
                is mended.
            TransientError: PostgreSQL is away.
        """
        if not is_stream_id(account_id):
            raise MalformedAccountError(f"an account id is {STREAM_ID_RULE}")
        if min_sequence is not None:
            await self._wait(name, account_id, min_sequence, min(timeout_s, WAIT_MAX_S))
        async with postgres.acquired(self._pool) as connection:
            text = await connection.fetchval(READ_STATEMENTS[name], account_id)
        if text is None:
            _, stale_from = await self._reached(name, account_id)
            if stale_from is not None:
                raise StaleViewError(account_id, stale_from)
            raise UnknownAccountError(f"no event of account {account_id} is known")
        body = _compact(text)
        return Answer(body=body, etag=_etag(_identity.decode(body)))

    async def reconciliation(
        self, account_id: str, *, min_log_sequence: int = 0, timeout_s: float = WAIT_DEFAULT_S
    ) -> Answer:
        """Return the answer to the last report about an account.

        Args:
            account_id: whose.
            min_log_sequence: wait until the view has the answer to the report there, or a later.
            timeout_s: how long to wait at most; no more than `WAIT_MAX_S`.

        Raises:
            MalformedAccountError: `account_id` cannot exist.
            NoReportError: nobody reported about it, or the view did not reach it in time.
            TransientError: PostgreSQL is away.
        """
        if not is_stream_id(account_id):
            raise MalformedAccountError(f"an account id is {STREAM_ID_RULE}")
        give_up_at = asyncio.get_running_loop().time() + min(timeout_s, WAIT_MAX_S)
        delay = _POLL_FIRST_S
        while (text := await self._reconciliation(account_id, min_log_sequence)) is None:
            left = give_up_at - asyncio.get_running_loop().time()
            if not min_log_sequence or left <= 0:
                since = f" at log sequence {min_log_sequence} or later" if min_log_sequence else ""
                raise NoReportError(f"no report about {account_id}{since} was answered")
            await asyncio.sleep(min(delay, left))
            delay = min(delay * 2, _POLL_MAX_S)
        body = _compact(text)
        answered = _answered.decode(body)
        stale = "-stale" if VIEW_STALE in answered.flags else ""
        return Answer(body=body, etag=f'"{answered.log_sequence}{stale}"')

    async def _reconciliation(self, account_id: str, min_log_sequence: int) -> str | None:
        async with postgres.acquired(self._pool) as connection:
            text: str | None = await connection.fetchval(
                READ_STATEMENTS["reconciliation"], account_id, min_log_sequence
            )
        return text

    async def accounts(
        self,
        order: AccountOrder = "account",
        *,
        flag: str | None = None,
        after: str | None = None,
        limit: int = ACCOUNTS_DEFAULT,
        visible: Names = ALL_NAMES,
    ) -> AccountsPage:
        """Return a page of accounts, each row from one snapshot, the most troubled first.

        An account whose figures move across the end of a page while somebody reads on may be seen
        twice, or not at all.

        Args:
            order: what they are sorted by.
            flag: only accounts that have it.
            after: `next` of the page before.
            limit: how many at most, 1 to `ACCOUNTS_MAX`.
            visible: accounts that the reader may know of.

        Raises:
            MalformedPlaceError: `after` is not what a page ended with.
            TransientError: PostgreSQL is away.
        """
        found = _AFTER.fullmatch(_FIRST if after is None else after)
        if found is None:
            raise MalformedPlaceError("after must be the `next` of the page before")
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(
                ACCOUNT_STATEMENTS[order], flag, found[1], found[2], limit + 1, visible.likes()
            )
        shown = rows[:limit]
        return AccountsPage(
            accounts=[msgspec.Raw(_compact(row["document"])) for row in shown],
            next=f"{shown[-1]['place']},{shown[-1]['account_id']}" if len(rows) > limit else None,
        )

    async def _reached(self, name: ReadName, account_id: str) -> tuple[int | None, int | None]:
        """Return the version of the account, and the first one that a key of it lacks."""
        async with postgres.acquired(self._pool) as connection:
            found = await connection.fetchrow(_REACHED, account_id, list(READ_VIEWS[name]))
        assert found is not None
        return found["sequence_number"], found["stale_from"]

    async def _wait(self, name: ReadName, account_id: str, wanted: int, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        delay = _POLL_FIRST_S
        while True:
            reached, stale_from = await self._reached(name, account_id)
            is_stale = stale_from is not None and stale_from <= wanted
            if reached is not None and reached >= wanted and not is_stale:
                return
            left = deadline - loop.time()
            if left <= 0:
                if stale_from is not None and is_stale:
                    raise StaleViewError(account_id, stale_from)
                raise NotReachedError(account_id, wanted, reached or 0)
            await asyncio.sleep(min(delay, left))
            delay = min(delay * 2, _POLL_MAX_S)


def _compact(text: str) -> bytes:
    """The same JSON without blanks; numbers keep their digits."""
    return msgspec.json.format(text.encode(), indent=-1)


def _etag(identity: _Identity) -> str:
    # A stream that is blocked keeps its version and hashes, but the document says so.
    status = "" if identity.status == "open" else f"-{identity.status}"
    status += "-stale" if VIEW_STALE in identity.flags else ""
    return f'"{identity.sequence_number}-{identity.state_hash or "none"}{status}"'
