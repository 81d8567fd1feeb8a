"""Shadow tables: a projection's views built again beside the live ones, compared, swapped.

They live in a schema of their own under the same names, so that the very same queries write
them; the connection's `search_path` says which. Swapping moves tables between schemas.
"""

from __future__ import annotations

from typing import Any

import msgspec

from psm.contracts.errors import ConfigError
from psm.projections.projection import Projection
from psm.projections.sql import Connection

SCHEMA = "psm_shadow"
_NOT_COMPARED = ("trace_id", "found_at")
_LOCK_KEY = 0x50534D72656275  # "PSMrebu"


class RowDifference(msgspec.Struct, frozen=True, kw_only=True):
    """Difference in one column of one row between the live view and the log.

    Attributes:
        table: of the view.
        key: of the row.
        column: name, or None where the whole row is on one side only.
        live: value in the live view; `absent` if it has no such row.
        rebuilt: value that follows from the log; `absent` if it gives no such row.
    """

    table: str
    key: dict[str, str]
    column: str | None
    live: str | None
    rebuilt: str | None


class TableHash(msgspec.Struct, frozen=True, kw_only=True):
    """What a table holds, in one number.

    Attributes:
        table: of the view.
        rows: how many there are.
        sha256: over the SHA-256 of each row as JSON, ascending; see docs/projections.md.
    """

    table: str
    rows: int
    sha256: str


async def claim(connection: Connection) -> None:
    """Make this connection the only one that rebuilds, until it is closed.

    Raises:
        ConfigError: a rebuild is running.
    """
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_KEY):
        raise ConfigError("another rebuild is running; wait for it, or end it")


async def live_schema(connection: Connection) -> str:
    """Return the schema of the live views; to be asked before `use_shadow`.

    Raises:
        ConfigError: there are none.
    """
    found = await connection.fetchval(
        "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.oid = to_regclass('projection_checkpoints')"
    )
    if found is None:
        raise ConfigError("the views do not exist; run `psm migrate up`")
    return str(found)


async def create(connection: Connection, projection: Projection, live: str) -> None:
    """Make empty shadow tables; those of an earlier rebuild are dropped."""
    async with connection.transaction():
        await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        await connection.execute(f"CREATE SCHEMA {SCHEMA}")
        for table in projection.tables:
            await connection.execute(
                f'CREATE TABLE {SCHEMA}.{table} (LIKE "{live}".{table} INCLUDING ALL)'
            )


async def drop(connection: Connection) -> None:
    """Drop the shadow tables."""
    await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


async def use_shadow(connection: Connection, live: str) -> None:
    """Let the rest of this transaction read and write the shadow tables."""
    await connection.execute(f'SET LOCAL search_path TO {SCHEMA}, "{live}"')


async def use_live(connection: Connection, live: str) -> None:
    """Let the rest of this transaction read and write the live tables."""
    await connection.execute(f'SET LOCAL search_path TO "{live}"')


async def compare(
    connection: Connection,
    projection: Projection,
    live: str,
    limit: int,
    stream_id: str | None = None,
) -> tuple[int, list[RowDifference]]:
    """Return how many rows differ, and the first `limit` differences by key.

    Args:
        connection: of a transaction.
        projection: of which both sides are there.
        live: schema of the live views.
        limit: of the differences.
        stream_id: compare the rows of this account alone.
    """
    count = 0
    found: list[RowDifference] = []
    owners = dict(_of_accounts(projection))
    given = () if stream_id is None else (stream_id,)
    tables = [(view.table, view.key) for view in projection.views]
    for table, key in (*tables, (projection.quarantine.table, ("view", "key"))):
        if stream_id is not None and table not in owners:
            continue
        owner = None if stream_id is None else owners[table]
        query = await _comparison(connection, table, key, live, owner)
        # Names in it are the views' own and the catalogue's, never a caller's.
        counting = f"SELECT count(*) FROM ({query}) AS rows"  # noqa: S608
        count += await connection.fetchval(counting, *given)
        if len(found) < limit:
            ordered = f"{query} ORDER BY {', '.join(key)} LIMIT {limit}"
            for row in await connection.fetch(ordered, *given):
                found += _differences(table, key, dict(row))
    return count, found[:limit]


async def accounts(connection: Connection, projection: Projection) -> list[str]:
    """Return the accounts that have rows in a live view, ascending."""
    found: dict[str, None] = {}
    for table, account in _of_accounts(projection):
        # Names are the views' own.
        query = f"SELECT DISTINCT {account} FROM {table}"  # noqa: S608
        found |= dict.fromkeys(row[0] for row in await connection.fetch(query))
    return sorted(found)


async def hashes(connection: Connection, projection: Projection, schema: str) -> list[TableHash]:
    """Return what the tables of a projection hold in a schema; inside a transaction."""
    # A time is written in the session's zone.
    await connection.execute("SET LOCAL TimeZone TO 'UTC'")
    found = []
    for table in projection.tables:
        columns = ", ".join(await _compared_columns(connection, table, schema))
        record = await connection.fetchrow(
            "SELECT count(*) AS rows, encode(sha256(coalesce("  # noqa: S608
            "string_agg(hash, ''::bytea ORDER BY hash), ''::bytea)), 'hex') AS sha256 FROM ("
            "SELECT sha256(convert_to(to_jsonb(a)::text, 'UTF8')) AS hash "
            f'FROM (SELECT {columns} FROM "{schema}".{table}) AS a) AS hashed'
        )
        assert record is not None  # of no rows, too
        found.append(TableHash(table=table, **record))
    return found


async def swap(connection: Connection, projection: Projection, live: str) -> None:
    """Put the shadow tables in the place of the live ones; privileges are kept."""
    for table in projection.tables:
        grants = await connection.fetch(
            "SELECT DISTINCT grantee, privilege_type FROM information_schema.role_table_grants "
            "WHERE table_schema = $1 AND table_name = $2 AND grantee <> current_user",
            live,
            table,
        )
        owner = await connection.fetchval(
            "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = to_regclass($1)",
            f'"{live}".{table}',
        )
        await connection.execute(f'DROP TABLE "{live}".{table}')
        await connection.execute(f'ALTER TABLE {SCHEMA}.{table} SET SCHEMA "{live}"')
        for grant in grants:
            grantee = "PUBLIC" if grant["grantee"] == "PUBLIC" else f'"{grant["grantee"]}"'
            await connection.execute(
                f'GRANT {grant["privilege_type"]} ON "{live}".{table} TO {grantee}'
            )
        await connection.execute(f'ALTER TABLE "{live}".{table} OWNER TO "{owner}"')


async def replace_stream(
    connection: Connection, projection: Projection, live: str, stream_id: str
) -> None:
    """Put the shadow rows of one account in the place of its live ones, its quarantine too."""
    for table, account in _of_accounts(projection):
        # Names are the views' own.
        await connection.execute(
            f'DELETE FROM "{live}".{table} WHERE {account} = $1',  # noqa: S608
            stream_id,
        )
        await connection.execute(
            f'INSERT INTO "{live}".{table} '  # noqa: S608
            f"SELECT * FROM {SCHEMA}.{table} WHERE {account} = $1",
            stream_id,
        )


def _of_accounts(projection: Projection) -> list[tuple[str, str]]:
    """Return the tables that have rows of accounts, and the column that names the account."""
    # A table without accounts is about all of them.
    tables = [(view.table, view.key[0]) for view in projection.views if view.key[0] != "partition"]
    return [*tables, (projection.quarantine.table, "stream_id")]


async def _comparison(
    connection: Connection, table: str, key: tuple[str, ...], live: str, owner: str | None
) -> str:
    """Return the query of rows that differ, both sides as JSON; null where there is no row.

    With a column that names the owner it takes an account as its argument.
    """
    keys = ", ".join(key)
    selected = ", ".join(await _compared_columns(connection, table, live))
    where = "" if owner is None else f" WHERE {owner} = $1"
    return (
        f"SELECT {keys}, to_jsonb(a)::text AS live, to_jsonb(b)::text AS rebuilt "  # noqa: S608
        f'FROM (SELECT {selected} FROM "{live}".{table}{where}) AS a '
        f"FULL JOIN (SELECT {selected} FROM {SCHEMA}.{table}{where}) AS b "
        f"USING ({keys}) WHERE a IS DISTINCT FROM b"
    )


async def _compared_columns(connection: Connection, table: str, schema: str) -> list[str]:
    columns = await connection.fetch(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = $1 AND table_name = $2 ORDER BY ordinal_position",
        schema,
        table,
    )
    return [f'"{row[0]}"' for row in columns if row[0] not in _NOT_COMPARED]


def _differences(table: str, columns: tuple[str, ...], row: dict[str, Any]) -> list[RowDifference]:
    key = {name: _text(row[name]) for name in columns}
    live, rebuilt = _columns(row["live"]), _columns(row["rebuilt"])
    if live is None or rebuilt is None:
        return [
            RowDifference(
                table=table,
                key=key,
                column=None,
                live="absent" if live is None else "present",
                rebuilt="absent" if rebuilt is None else "present",
            )
        ]
    return [
        RowDifference(table=table, key=key, column=name, live=value, rebuilt=rebuilt[name])
        for name, value in live.items()
        if value != rebuilt[name]
    ]


def _text(value: Any) -> str:
    return "/".join(value) if isinstance(value, list) else str(value)


def _columns(text: str | None) -> dict[str, str] | None:
    """Return the columns as JSON text, so that a number keeps its digits."""
    if text is None:
        return None
    raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    return {name: bytes(value).decode() for name, value in raw.items()}
