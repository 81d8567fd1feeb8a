"""Tokens in PostgreSQL, and the copy in memory by which requests are judged.

The copy is read anew every `POLL_S`, and at once when the database says that something changed, so
a revocation holds within seconds although nobody listens any more. While PostgreSQL is away the
copy goes on for a while; then nobody is let in, because nobody could be shut out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from psm.adapters import postgres
from psm.adapters.logs import get_logger
from psm.adapters.tasks import end_all
from psm.contracts.errors import PSMError, TransientError
from psm.projections.schema.migrate import connected
from psm.projections.sql import Connection, load
from psm.workers.access.policy import PolicyError, checked
from psm.workers.access.tokens import TOKEN_DAYS_MAX, TokenRecord, new_token

POLL_S = 3.0
_QUERIES = load("psm.projections.access", "access")
_CHANNEL = "psm_access"
_log = get_logger()


class StaleAccessError(TransientError):
    """Tokens that have not been read for too long."""


class UnknownTokenError(PSMError):
    """An id of no token."""


class TokenTable:
    """The tokens that hold, in memory.

    Args:
        pool: of the login that may read them.
        stale_s: how long the copy counts while PostgreSQL is away.
        now: the wall clock.
    """

    def __init__(
        self,
        pool: postgres.Pool,
        *,
        stale_s: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pool, self._stale_s, self._now = pool, stale_s, now
        self._tokens: dict[str, TokenRecord] = {}
        self._used: set[str] = set()
        self._read_at: float | None = None
        self._changed = asyncio.Event()
        self._read = asyncio.Event()
        self._turn = asyncio.Lock()

    async def reading(self) -> None:
        """Return when the tokens have been read once more."""
        await self._read.wait()

    def find(self, token_id: str) -> TokenRecord | None:
        """Return the token of an id that holds now.

        Raises:
            StaleAccessError: nobody knows any more which do.
        """
        if self._read_at is None or time.monotonic() - self._read_at > self._stale_s:
            raise StaleAccessError(
                "the tokens could not be read from PostgreSQL for too long: nobody is let in"
            )
        record = self._tokens.get(token_id)
        return record if record is not None and record.holds(self._now()) else None

    def use(self, token_id: str) -> None:
        """Note that a token was used; it is written with the next reading."""
        self._used.add(token_id)

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep the copy up to date while the context is open.

        Raises:
            ConfigError: the table is missing, or may not be read.
            TransientError: PostgreSQL is away; then it begins empty and nobody is let in.
        """
        with contextlib.suppress(TransientError):
            await self.read()
        tasks = [asyncio.create_task(self._poll()), asyncio.create_task(self._listen())]
        try:
            yield
        finally:
            await end_all(tasks)

    async def read(self) -> None:
        """Read the tokens that hold, and write which were used."""
        async with self._turn:  # else an earlier reading could be the last one to be taken in
            await self._take()

    async def _take(self) -> None:
        used, self._used = sorted(self._used), set()
        try:
            async with postgres.acquired(self._pool) as connection:
                rows = await connection.fetch(_QUERIES["holding"])
                if used:
                    await connection.execute(_QUERIES["used"], used)
        except BaseException:
            self._used.update(used)
            raise
        self._tokens = {row["id"]: _record(row) for row in rows}
        self._read_at = time.monotonic()
        self._read.set()  # wakes whoever waits now; the next ones wait for the next reading
        self._read = asyncio.Event()

    async def _poll(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), POLL_S)
            self._changed.clear()
            try:
                await self.read()
            except PSMError as error:
                _log.warning("access.tokens_not_read", detail=str(error))
                await asyncio.sleep(POLL_S)

    async def _listen(self) -> None:
        """Hear of changes; whatever ends this, the poll goes on."""
        while True:
            with contextlib.suppress(PSMError, OSError, asyncpg.PostgresError):
                async with postgres.acquired(self._pool) as connection:
                    await connection.add_listener(_CHANNEL, self._told)
                    self._changed.set()
                    while not connection.is_closed():
                        await asyncio.sleep(POLL_S)
                        await connection.execute("SELECT 1")
            await asyncio.sleep(POLL_S)

    def _told(self, *_: Any) -> None:
        self._changed.set()


class Tokens:
    """Makes tokens and ends them."""

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool

    async def create(
        self,
        *,
        principal: str,
        kind: str,
        roles: tuple[str, ...],
        patterns: tuple[str, ...],
        life: timedelta,
        created_by: str,
    ) -> tuple[TokenRecord, str]:
        """Make a token; return what is kept of it, and the token itself, this once.

        Raises:
            PolicyError: there can be no such principal, role, pattern or life.
            TransientError: PostgreSQL is away; also below.
        """
        async with postgres.acquired(self._pool) as connection:
            return await add_token(
                connection,
                principal=principal,
                kind=kind,
                roles=roles,
                patterns=patterns,
                life=life,
                created_by=created_by,
            )

    async def listed(self, *, every: bool) -> list[TokenRecord]:
        """Return the tokens that hold; `every`: those that ended, too."""
        async with postgres.acquired(self._pool) as connection:
            return [_record(row) for row in await connection.fetch(_QUERIES["listed"], every)]

    async def one(self, token_id: str) -> TokenRecord:
        """Return one.

        Raises:
            UnknownTokenError: there is none of that id.
        """
        async with postgres.acquired(self._pool) as connection:
            return _found(await connection.fetchrow(_QUERIES["one"], token_id), token_id)

    async def revoke(self, token_id: str, at: datetime | None = None) -> TokenRecord:
        """End a token, now or later; it stays in the list.

        Raises:
            UnknownTokenError: there is none of that id.
        """
        async with postgres.acquired(self._pool) as connection:
            row = await connection.fetchrow(_QUERIES["revoke"], token_id, at or datetime.now(UTC))
        return _found(row, token_id)

    async def rotate(
        self, token_id: str, *, overlap: timedelta, created_by: str
    ) -> tuple[TokenRecord, str]:
        """Make another token with the same rights and life; the old one ends after `overlap`.

        Raises:
            UnknownTokenError: there is none of that id, or it holds no more.
        """
        old = await self.one(token_id)
        if not old.holds(datetime.now(UTC)):
            raise UnknownTokenError(f"token {token_id} holds no more: make a new one")
        async with postgres.acquired(self._pool) as connection, connection.transaction():
            made = await add_token(
                connection,
                principal=old.principal,
                kind=old.kind,
                roles=old.roles,
                patterns=old.patterns,
                life=old.expires_at - old.created_at,
                created_by=created_by,
            )
            await connection.fetchrow(_QUERIES["revoke"], token_id, datetime.now(UTC) + overlap)
        return made


async def add_token(
    connection: Connection,
    *,
    principal: str,
    kind: str,
    roles: tuple[str, ...],
    patterns: tuple[str, ...],
    life: timedelta,
    created_by: str,
    secret: tuple[str, str, bytes] | None = None,
) -> tuple[TokenRecord, str]:
    """Make a token in the caller's transaction; an administrator's ends all bootstrap tokens."""
    principal, known, wanted = checked(principal, roles, patterns)
    if not timedelta(0) < life <= timedelta(days=TOKEN_DAYS_MAX):
        raise PolicyError(f"a token holds for at most {TOKEN_DAYS_MAX} days, and for some time")
    token_id, token, digest = secret or new_token()
    row = await connection.fetchrow(
        _QUERIES["add"],
        token_id,
        digest,
        principal,
        kind,
        list(known),
        list(wanted),
        created_by,
        datetime.now(UTC) + life,
    )
    if "admin" in known:
        await connection.execute(_QUERIES["revoke_bootstraps"])
    return _found(row, token_id), token


async def find_token(connection: Connection, token_id: str) -> TokenRecord | None:
    """Return the token of an id, whether it holds or not; None without one."""
    row = await connection.fetchrow(_QUERIES["one"], token_id)
    return None if row is None else _record(row)


async def creators_of(dsn: str, principal: str) -> frozenset[str]:
    """Return who made the tokens of a principal, whether they hold or not; a lost table has none.

    Raises:
        ConfigError: the login may not read that.
        TransientError: PostgreSQL is away.
    """
    async with connected(dsn) as connection:
        try:
            rows = await connection.fetch(_QUERIES["creators"], principal)
        except asyncpg.UndefinedTableError:
            rows = []
    return frozenset(row["created_by"] for row in rows)


async def has_admin(connection: Connection) -> bool:
    """Return whether any administrator's token holds."""
    found: bool = await connection.fetchval(_QUERIES["has_admin"])
    return found


def _found(row: asyncpg.Record | None, token_id: str) -> TokenRecord:
    if row is None:
        raise UnknownTokenError(f"there is no token {token_id[:16]!r}; psm token list")
    return _record(row)


def _record(row: asyncpg.Record) -> TokenRecord:
    columns = dict(row)
    columns["roles"], columns["patterns"] = tuple(columns["roles"]), tuple(columns["patterns"])
    return TokenRecord(**columns)
