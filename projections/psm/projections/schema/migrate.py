"""Schema migrations: plain SQL files, applied in order, each in a transaction of its own.

An applied file never changes: its SHA-256 is kept and compared at every run. Any number of
migrators may start at once; they take turns.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from importlib.resources import files

import asyncpg
import msgspec

from psm.contracts.certificates import postgres_error
from psm.contracts.errors import ConfigError, TransientError
from psm.projections.sql import Connection

_LOCK_KEY = 0x50534D6D69677200  # "PSMmigr"
_LOCK_POLL_S = 0.1
_LOCK_WAIT_MAX_S = 300.0
_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")

_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name       text        NOT NULL PRIMARY KEY,
    sha256     text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One migration file.

    Attributes:
        name: file name, `NNNN_<what>.sql`.
        sql: its text.
        sha256: of its bytes, hex.
    """

    name: str
    sql: str
    sha256: str


class MigrationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where one migration stands in one database.

    Attributes:
        name: file name.
        state: `applied`, `pending`, `changed` (the file differs from what was applied) or
            `unknown` (applied by a newer release; this one has no such file).
        applied_at: when it was applied, or None.
    """

    name: str
    state: str
    applied_at: datetime | None = None


def packaged() -> list[Migration]:
    """Return the migrations of this release in order.

    Raises:
        ConfigError: a file is misnamed, or two have the same number.
    """
    found: list[Migration] = []
    for entry in sorted((files(__package__) / "migrations").iterdir(), key=lambda e: e.name):
        if not entry.name.endswith(".sql"):
            continue
        data = entry.read_bytes()
        if _FILE_NAME.fullmatch(entry.name) is None:
            raise ConfigError(f"migration {entry.name} is not named NNNN_<what>.sql")
        if found and found[-1].name[:4] == entry.name[:4]:
            raise ConfigError(f"migrations {found[-1].name} and {entry.name} share a number")
        digest = hashlib.sha256(data).hexdigest()
        found.append(Migration(name=entry.name, sql=data.decode(), sha256=digest))
    return found


async def migrate(
    dsn: str, *, dry_run: bool = False, migrations: Sequence[Migration] | None = None
) -> list[str]:
    """Apply what is missing and return the names, in order.

    Args:
        dsn: PostgreSQL address.
        dry_run: return what would be applied and change nothing.
        migrations: those of this release when None.

    Raises:
        ConfigError: an applied file has changed, or a file does not run.
        TransientError: PostgreSQL is away, or another migrator holds the lock too long.
    """
    wanted = packaged() if migrations is None else migrations
    async with connected(dsn) as connection:
        if dry_run:
            return _pending(wanted, await _applied(connection))
        async with _turn(connection):
            await connection.execute(_CREATE_TABLE)
            names = _pending(wanted, await _applied(connection))
            for migration in wanted:
                if migration.name in names:
                    await _apply(connection, migration)
            return names


async def status(
    dsn: str, *, migrations: Sequence[Migration] | None = None
) -> list[MigrationStatus]:
    """Return every known migration's state, in order; changes nothing.

    Raises:
        TransientError: PostgreSQL is away.
    """
    async with connected(dsn) as connection:
        return await status_on(connection, migrations=migrations)


async def status_on(
    connection: Connection, *, migrations: Sequence[Migration] | None = None
) -> list[MigrationStatus]:
    """Return the same of a connection that is there."""
    wanted = {m.name: m for m in (packaged() if migrations is None else migrations)}
    applied = await _applied(connection)
    result = []
    for name in sorted(wanted.keys() | applied.keys()):
        digest, applied_at = applied.get(name, (None, None))
        if name not in wanted:
            state = "unknown"
        elif digest is None:
            state = "pending"
        else:
            state = "applied" if digest == wanted[name].sha256 else "changed"
        result.append(MigrationStatus(name=name, state=state, applied_at=applied_at))
    return result


def _pending(wanted: Sequence[Migration], applied: dict[str, tuple[str, datetime]]) -> list[str]:
    for migration in wanted:
        if migration.name in applied and applied[migration.name][0] != migration.sha256:
            raise ConfigError(
                f"migration {migration.name} has changed since it was applied; "
                "restore the file and put the change into a new one"
            )
    return [m.name for m in wanted if m.name not in applied]


async def _applied(connection: Connection) -> dict[str, tuple[str, datetime]]:
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return {}
    rows = await connection.fetch("SELECT name, sha256, applied_at FROM schema_migrations")
    return {row["name"]: (row["sha256"], row["applied_at"]) for row in rows}


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            # A migration that waits for a lock makes every reader behind it wait too.
            await connection.execute("SET LOCAL lock_timeout = '10s'")
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (name, sha256) VALUES ($1, $2)",
                migration.name,
                migration.sha256,
            )
    except asyncpg.LockNotAvailableError as error:
        raise TransientError(
            f"migration {migration.name}: a table is in use; run `psm migrate up` again"
        ) from error
    except asyncpg.PostgresError as error:
        raise ConfigError(f"migration {migration.name} failed: {error}") from error


@asynccontextmanager
async def _turn(connection: Connection) -> AsyncIterator[None]:
    # Polled: a session that waits inside pg_advisory_lock holds a snapshot, and a migrator that
    # runs CREATE INDEX CONCURRENTLY would wait for that snapshot, a deadlock.
    deadline = asyncio.get_running_loop().time() + _LOCK_WAIT_MAX_S
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_KEY):
        if asyncio.get_running_loop().time() > deadline:
            raise TransientError("another migrator has been running for 5 minutes; try later")
        await asyncio.sleep(_LOCK_POLL_S)
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK_KEY)


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    """Yield a connection; its errors are ours.

    Raises:
        ConfigError: PostgreSQL refuses us, or we its certificate.
        TransientError: it is away.
    """
    try:
        connection = await asyncpg.connect(dsn, timeout=10)
    except (OSError, TimeoutError, asyncpg.CannotConnectNowError) as error:
        if (wrong := await postgres_error(error, dsn)) is not None:
            raise wrong from error
        raise TransientError("PostgreSQL is not reachable; check POSTGRES_DSN") from error
    except (asyncpg.PostgresError, ValueError) as error:
        if (wrong := await postgres_error(error, dsn)) is not None:
            raise wrong from error
        raise ConfigError(f"PostgreSQL refused the connection: {type(error).__name__}") from error
    try:
        yield connection
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigError(
            f"{error.args[0]}: POSTGRES_DSN must name the owner of the schema here"
        ) from error
    except (OSError, asyncpg.PostgresConnectionError) as error:
        raise TransientError("the connection to PostgreSQL was lost") from error
    finally:
        await connection.close(timeout=5)
