"""Pseudonyms of foreign identities: the one table that knows whom they stand for.

An importer writes pseudonyms in place of addresses, account numbers and names. They are random, so
that nobody finds the identity by trying; whoever may not read the table, and whoever reads after
the identity was erased from it, learns nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import asyncpg

from psm.contracts.errors import ConflictError
from psm.projections.sql import Connection, load

_QUERIES = load(__package__, "people")


async def owner_pseudonym(
    connection: Connection, venue: str, account: str, identity: str | None
) -> UUID:
    """Return the pseudonym of a venue's account, made when it is asked for the first time.

    Args:
        connection: inside a transaction.
        venue: where.
        account: of the log, that its facts go to.
        identity: number or address of the account, where the files say it.

    Raises:
        ConflictError: the account's facts came from another account of the venue before, or this
            one's go to another account.
    """
    own = await connection.fetchrow(_QUERIES["owner"], venue, account)
    known = None
    if identity is not None:
        known = await connection.fetchrow(_QUERIES["one"], venue, identity)
    if own is None and known is not None and known["account"] is not None:
        raise ConflictError(
            f"these files are of an account at {venue} whose records went to another account than "
            f"{account} before: import them there"
        )
    if own is not None and identity is not None and own["identity"] not in (None, identity):
        raise ConflictError(
            f"these files are of another account at {venue} than what was imported into {account} "
            "before"
        )
    try:
        return await _owner(connection, own or known, venue, account, identity)
    except asyncpg.UniqueViolationError as error:
        raise ConflictError(
            f"somebody else imports into {account} at this moment: do it again"
        ) from error


async def _owner(
    connection: Connection,
    row: asyncpg.Record | None,
    venue: str,
    account: str,
    identity: str | None,
) -> UUID:
    """Return the pseudonym of a row, made to say what is known by now."""
    if row is None:
        made: UUID = await connection.fetchval(_QUERIES["add"], venue, identity, account)
        return made
    pseudonym: UUID = row["pseudonym"]
    if (row["identity"], row["account"]) != (identity or row["identity"], account):
        await connection.execute(_QUERIES["name"], pseudonym, identity or row["identity"], account)
    return pseudonym


async def pseudonyms(
    connection: Connection, venue: str, identities: Iterable[str]
) -> dict[str, UUID]:
    """Return the pseudonym of each identity, made where there is none; inside a transaction."""
    wanted = sorted(set(identities))
    if not wanted:
        return {}
    await connection.execute(_QUERIES["add_all"], venue, wanted)
    rows = await connection.fetch(_QUERIES["all"], venue, wanted)
    return {row["identity"]: row["pseudonym"] for row in rows}
