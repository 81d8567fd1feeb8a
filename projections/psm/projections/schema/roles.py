"""Who may do what in PostgreSQL: roles per kind of access, and a login per part of PSM.

No migration makes them: the right to create roles is the cluster's, not the database's. What each
role may do stands in `roles.sql`; a login has no rights but those of its roles.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from importlib.resources import files
from urllib.parse import unquote, urlsplit

import asyncpg
import msgspec

from psm.contracts.errors import ConfigError
from psm.projections.schema.migrate import connected
from psm.projections.sql import Connection, load

LOGINS: dict[str, tuple[str, ...]] = {
    "worker": ("psm_heads_reader",),
    "projector": ("psm_views_writer",),
    "archiver": ("psm_archive_writer",),
    "api": ("psm_views_reader", "psm_archive_reader", "psm_access"),
    "importer": ("psm_people_writer", "psm_archive_reader"),
    "operator": ("psm_views_reader", "psm_heads_reader", "psm_archive_reader", "psm_jobs"),
}
"""Part of PSM -> the roles that its login has."""

_ITERATIONS = 4096
_LOGIN_S = 10
# Of tables as a whole; grants on columns and schemas come with them or not at all.
_GRANT = re.compile(r"^GRANT ([A-Z, ]+?)\s+ON (?!SCHEMA)([\w.,\s]+?)\s+TO (\w+);", re.MULTILINE)


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """A user of the database.

    Attributes:
        part: key of `LOGINS`.
        user: its name in the cluster.
        password: printable ASCII; never shown.
    """

    part: str
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login(part={self.part!r}, user={self.user!r})"


def roles_sql() -> str:
    """Return the statements that make the roles; the schema's owner runs them."""
    return (files(__package__) / "roles.sql").read_text("utf-8")


class MissingGrant(msgspec.Struct, frozen=True, kw_only=True):
    """What a role should be allowed, and is not.

    Attributes:
        role_missing: whether there is no such role at all.
    """

    role: str
    privilege: str
    relation: str
    role_missing: bool

    def __str__(self) -> str:
        lacks = "there is no such role" if self.role_missing else f"may not {self.privilege}"
        return f"{self.role}: {lacks}{'' if self.role_missing else f' {self.relation}'}"


def table_grants() -> list[tuple[str, str, str]]:
    """Return role, privilege and table of each grant in `roles.sql`."""
    return [
        (role, privilege.strip(), table.strip())
        for privileges, tables, role in _GRANT.findall(roles_sql())
        for privilege in privileges.split(",")
        for table in tables.split(",")
    ]


async def missing_tables(connection: Connection) -> list[str]:
    """Return which of their tables are not there, ascending; every user may ask."""
    tables = sorted({table for _, _, table in table_grants()})
    rows = await connection.fetch(load(__package__, "grants")["missing_tables"], tables)
    return [row["name"] for row in rows]


async def missing_grants(connection: Connection) -> list[MissingGrant]:
    """Return which of these grants a database lacks; every user may ask."""
    roles, privileges, tables = (list(column) for column in zip(*table_grants(), strict=True))
    query = load(__package__, "grants")["missing"]
    rows = await connection.fetch(query, roles, privileges, tables)
    return [MissingGrant(**row) for row in rows]


def login_of(part: str, dsn: str) -> Login:
    """Return the user with which a part connects, from the address that it is given.

    Raises:
        ConfigError: the address has no user or password, or one that is not printable ASCII.
    """
    try:
        address = urlsplit(dsn)
        user, password = unquote(address.username or ""), unquote(address.password or "")
    except ValueError:
        user = password = ""
    if not user or not password or not (user + password).isascii() or "\0" in user + password:
        raise ConfigError(
            f"the address of {part} must be postgresql://user:password@host:5432/name, with user "
            "and password in ASCII"
        )
    return Login(part=part, user=user, password=password)


async def apply_roles(dsn: str, logins: Mapping[str, Login]) -> list[str]:
    """Make roles and logins what they must be; any number of times.

    Args:
        dsn: of the schema's owner, who may create roles.
        logins: users to make, or to give their password and roles, by part.

    Returns:
        The users that were there and have another password now.

    Raises:
        ConfigError: the migrations are missing, the owner may not create roles, or a login is the
            owner's own.
        TransientError: PostgreSQL is away.
    """
    async with connected(dsn) as connection:
        replaced = sorted(
            {one.user for one in logins.values() if await _replaces(connection, dsn, one)}
        )
        try:
            async with connection.transaction():
                await connection.execute(roles_sql())
                for login in logins.values():
                    await _make(connection, login)
        except asyncpg.InsufficientPrivilegeError as error:
            raise ConfigError(
                f"POSTGRES_DSN may not make the roles of PSM: {error.args[0]}. It must own the "
                "schema and have CREATEROLE; or let a superuser run what `psm migrate roles` prints"
            ) from error
        except asyncpg.UndefinedTableError as error:
            raise ConfigError("the schema is not up to date; run `psm migrate up`") from error
    return replaced


async def _replaces(connection: Connection, dsn: str, login: Login) -> bool:
    """Return whether the server refuses this password to a user that is there.

    Asked by a login, as what it keeps of passwords is for superusers to read.
    """
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", login.user):
        return False
    try:
        with_it = await asyncpg.connect(
            dsn, user=login.user, password=login.password, timeout=_LOGIN_S
        )
    except asyncpg.InvalidPasswordError:
        return True
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return False  # it came past the password, or nobody can tell
    await with_it.close(timeout=_LOGIN_S)
    return False


async def _make(connection: Connection, login: Login) -> None:
    if login.user == await connection.fetchval("SELECT current_user::text"):
        raise ConfigError(
            f"the address of {login.part} is the owner's own: give it a user that owns nothing"
        )
    user = await connection.fetchval("SELECT quote_ident($1)", login.user)
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", login.user):
        await connection.execute(f"CREATE ROLE {user} LOGIN")
    # Hashed here: the server's log may show statements.
    await connection.execute(f"ALTER ROLE {user} LOGIN PASSWORD '{_verifier(login.password)}'")
    await connection.execute(f"GRANT {', '.join(LOGINS[login.part])} TO {user}")


def _verifier(password: str) -> str:
    """Return what PostgreSQL keeps of a password (RFC 5803), so that it never sees the password."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    told = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${_ITERATIONS}:{told[0]}${told[1]}:{told[2]}"
