"""PostgreSQL: the pool, transactions, and asyncpg's errors as ours.

Nothing here retries: whether a lost connection means "try again" or "read back first" is known
only to the caller.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, urlsplit

import asyncpg

from psm.adapters.secret_files import FileSecret, Rotating
from psm.adapters.tls import expiry_of
from psm.contracts.certificates import postgres_error, refused
from psm.contracts.errors import ConfigError, TransientError
from psm.contracts.replay import is_replaying

if TYPE_CHECKING:
    # Generic for the type checker only.
    from asyncpg.pool import PoolConnectionProxy

    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 30.0
# A client that dies silently must not keep its row locks for the two hours of TCP's default.
_SERVER_SETTINGS = {
    "idle_in_transaction_session_timeout": "60000",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "TimeZone": "UTC",
}

_FILES = ("sslrootcert", "sslcert", "sslkey")

_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutdown, crash, still starting
    asyncpg.InsufficientResourcesError,  # disk full, too many connections
    asyncpg.TransactionRollbackError,  # deadlock, serialization
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # the old primary after a failover
    asyncpg.IdleInTransactionSessionTimeoutError,  # we slept too long, see _SERVER_SETTINGS
    asyncpg.TransactionTimeoutError,
    asyncpg.InternalClientError,
)
_CONFIG = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
)


async def open_pool(
    dsn: str,
    *,
    name: str,
    size_max: int = 10,
    command_timeout_s: float = COMMAND_TIMEOUT_S,
    on_certificate: Callable[[float], object] = lambda _expires: None,
) -> Pool:
    """Return a pool whose first connection works. In replay mode it cannot write.

    Args:
        dsn: `postgresql://user:password@host:5432/name`; never logged, never in an error. A
            `FileSecret` is read anew for each connection, as its certificates are.
        name: shown in `pg_stat_activity`, such as `psm-projector`.
        size_max: connections it opens at most.
        command_timeout_s: how long one statement may take.
        on_certificate: called with the Unix time at which the server's certificate expires, for
            each connection.

    Raises:
        ConfigError: the address, the password, the database or a certificate is wrong.
        TransientError: PostgreSQL does not answer.
    """
    read_only = {"default_transaction_read_only": "on"} if is_replaying() else {}
    address = Rotating(dsn)

    async def connect(_dsn: str, **options: Any) -> Connection:
        connection = await _opened(address, options)
        if (expires := expiry_of(getattr(connection, "_transport", None))) is not None:
            on_certificate(expires)
        return connection

    async with _dialled(dsn):
        pool: Pool = await asyncpg.create_pool(
            dsn,
            connect=cast("Any", connect),
            min_size=1,
            max_size=size_max,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=command_timeout_s,
            server_settings={**_SERVER_SETTINGS, **read_only, "application_name": name},
        )
    return pool


async def _opened(address: Rotating, options: dict[str, Any]) -> Connection:
    """Return a connection; where a file and the server differ, by what worked before."""
    tried = address.newest()
    try:
        connection: Connection = await asyncpg.connect(tried, **options)
    except (
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.ClientConfigurationError,
    ):
        if address.good is None or address.good == tried:
            raise
        tried = address.good
        connection = await asyncpg.connect(tried, **options)
    address.good = tried
    return connection


def files_of(dsn: str) -> list[Path]:
    """Return the file of an address, and those of certificates that it or the environment names."""
    query = dict(parse_qsl(urlsplit(dsn).query))
    named = [query.get(name) or os.environ.get(f"PG{name.upper()}") for name in _FILES]
    own = [dsn.path] if isinstance(dsn, FileSecret) else []
    return [*own, *(Path(file) for file in named if file)]


@asynccontextmanager
async def acquired(pool: Pool) -> AsyncIterator[Connection]:
    """Yield a connection of the pool; its errors are ours.

    Raises:
        TransientError: PostgreSQL is away, or too busy for `CONNECT_TIMEOUT_S`.
        ConfigError: it refuses us, or the schema is not there.
    """
    with translated("PostgreSQL"):
        async with pool.acquire(timeout=CONNECT_TIMEOUT_S) as connection:
            try:
                yield connection
            except TimeoutError:
                # Who does not answer a statement will not answer what tidies up after it either,
                # and each of those would wait as long. PostgreSQL rolls back what loses its client.
                connection.terminate()
                raise


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """Yield a connection inside a transaction that is committed at the end.

    Raises:
        TransientError: PostgreSQL went away; if that was during the commit, the outcome is
            unknown until it is read back.
    """
    async with acquired(pool) as connection:
        begun = connection.transaction()
        await begun.start()
        try:
            yield connection
        except TimeoutError:
            raise  # `acquired` gives the connection up
        except BaseException:
            await begun.rollback()
            raise
        await begun.commit()


@asynccontextmanager
async def _dialled(dsn: str) -> AsyncIterator[None]:
    """Translate the errors of a first connection: what is wrong with certificates is told at once.

    Raises:
        ConfigError: whoever set the address has to change it.
        TransientError: PostgreSQL is away.
    """
    with translated(f"connect to PostgreSQL{_place(dsn)}"):
        try:
            yield
        except (OSError, asyncpg.ClientConfigurationError) as error:
            if (wrong := await postgres_error(error, dsn)) is not None:
                raise wrong from error
            raise


def _place(dsn: str) -> str:
    """Return where an address leads; nothing of one in which a password may be mistaken for it."""
    try:
        where = urlsplit(dsn).netloc
    except ValueError:
        return ""
    host = where.rpartition("@")[2]
    return f" at {host}" if host and where.count("@") == dsn.count("@") else ""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Translate asyncpg's errors; their text may hold data, so only the kind is passed on."""
    try:
        yield
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
        raise ConfigError(f"{what}: the schema is not up to date; run `psm migrate up`") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigError(
            f"{what}: {error.args[0]}; the user in POSTGRES_DSN is not meant for this, see "
            "docs/security.md"
        ) from error
    except _CONFIG as error:
        raise ConfigError(f"{what}: {_kind(error)}; check POSTGRES_DSN") from error
    except _AWAY as error:
        raise TransientError(f"{what}: {_kind(error)}") from error


def _kind(error: BaseException) -> str:
    refusal = refused(error, ca="sslrootcert of POSTGRES_DSN", address="POSTGRES_DSN")
    if refusal is not None:
        return refusal.why
    state = getattr(error, "sqlstate", None)
    return type(error).__name__ + (f" (SQLSTATE {state})" if state else "")
