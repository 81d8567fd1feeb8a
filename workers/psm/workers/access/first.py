"""The first token, before anybody could ask for one: of a new database, and of `psm up --auth`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from psm.contracts.errors import ConfigError
from psm.projections.schema.migrate import connected
from psm.workers.access.store import add_token, find_token, has_admin
from psm.workers.access.tokens import TOKEN_DAYS_MAX, hashed, parts_of, write_token
from psm.workers.ops.keys import generate

_BOOTSTRAP_LIFE = timedelta(hours=24)
_FILE = "admin.token"
_SIGNER = "principal.key"


async def take_bootstrap(dsn: str, file: Path) -> str | None:
    """Take the hash of the very first token into the database; return its id.

    None where it is there already, or an administrator has a token: then nobody needs it.

    Raises:
        ConfigError: the file holds no token.
        TransientError: PostgreSQL is away.
    """
    found = _parts_in(file)
    if found is None:
        raise ConfigError(
            f"PSM_HTTP_BOOTSTRAP_TOKEN_FILE: {file} holds no token; make it with "
            "`psm token bootstrap FILE`"
        )
    token_id, secret = found
    async with connected(dsn) as connection, connection.transaction():
        if await has_admin(connection) or await find_token(connection, token_id):
            return None
        await add_token(
            connection,
            principal="bootstrap",
            kind="service",
            roles=("bootstrap",),
            patterns=("*",),
            life=_BOOTSTRAP_LIFE,
            created_by="migrate",
            secret=(token_id, "", hashed(secret)),
        )
    return token_id


async def local_admin(dsn: str, data_dir: Path) -> str:
    """Return the administrator's token of a data folder, made anew where it holds no more.

    Raises:
        ConfigError: the folder cannot keep it.
        TransientError: PostgreSQL is away.
    """
    file = data_dir / _FILE
    kept = _kept(file)
    async with connected(dsn) as connection, connection.transaction():
        if kept is not None:
            record = await find_token(connection, kept[0])
            if record is not None and record.holds(datetime.now(UTC)):
                return kept[1]
        _, token = await add_token(
            connection,
            principal="local/admin",
            kind="person",
            roles=("admin",),
            patterns=("*",),
            life=timedelta(days=TOKEN_DAYS_MAX),
            created_by="psm up",
        )
        _keep(file, token)
    return token


def local_signer(data_dir: Path) -> dict[str, str]:
    """Return the settings of the key by which the API of a data folder vouches for its callers.

    Raises:
        ConfigError: the folder cannot keep it.
    """
    file = data_dir / _SIGNER
    public = file.with_name(f"{file.name}.pub")
    if not file.exists():
        generate(file)
    return {"PSM_HTTP_PRINCIPAL_KEY_FILE": str(file), "PSM_HTTP_PRINCIPAL_KEYS": str(public)}


def _parts_in(file: Path) -> tuple[str, str] | None:
    try:
        return parts_of(file.read_text("utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"PSM_HTTP_BOOTSTRAP_TOKEN_FILE: {file} cannot be read") from error


def _kept(file: Path) -> tuple[str, str] | None:
    """Return id and whole token of a folder; None where it has none."""
    if not file.exists():
        return None
    token = file.read_text("utf-8").strip()
    found = parts_of(token)
    return None if found is None else (found[0], token)


def _keep(file: Path, token: str) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from error
    write_token(file, token)
