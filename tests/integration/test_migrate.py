"""Migrations against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import hashlib

import asyncpg
import pytest

from psm.contracts.errors import ConfigError, TransientError
from psm.projections.schema import migrate
from psm.projections.schema.migrate import Migration


def migration(name: str, sql: str) -> Migration:
    return Migration(name=name, sql=sql, sha256=hashlib.sha256(sql.encode()).hexdigest())


ONE = migration("0001_one.sql", "CREATE TABLE one (a int)")
TWO = migration("0002_two.sql", "CREATE TABLE two (a int); INSERT INTO two VALUES (2)")


async def test_everything_is_applied_once(empty_postgres_dsn: str) -> None:
    """A second run finds nothing to do."""
    applied = await migrate.migrate(empty_postgres_dsn)
    assert applied[0] == "0001_current_state.sql"
    assert await migrate.migrate(empty_postgres_dsn) == []
    assert {row.state for row in await migrate.status(empty_postgres_dsn)} == {"applied"}


async def test_dry_run_changes_nothing(empty_postgres_dsn: str) -> None:
    """A dry run names what is missing and leaves the database as it was."""
    assert await migrate.migrate(empty_postgres_dsn, dry_run=True, migrations=[ONE]) == [ONE.name]
    connection = await asyncpg.connect(empty_postgres_dsn)
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE tablename='one'") == 0
    assert await connection.fetchval("SELECT to_regclass('schema_migrations')") is None
    await connection.close()


async def test_changed_file_is_refused_by_name(empty_postgres_dsn: str) -> None:
    """A file that differs from what was applied stops everything and is named."""
    await migrate.migrate(empty_postgres_dsn, migrations=[ONE])
    changed = migration(ONE.name, "CREATE TABLE one (a bigint)")
    with pytest.raises(ConfigError, match=r"0001_one\.sql has changed"):
        await migrate.migrate(empty_postgres_dsn, migrations=[changed, TWO])
    states = await migrate.status(empty_postgres_dsn, migrations=[changed, TWO])
    assert [(row.name, row.state) for row in states] == [
        (ONE.name, "changed"),
        (TWO.name, "pending"),
    ]


async def test_failing_file_leaves_nothing_behind(empty_postgres_dsn: str) -> None:
    """A file that fails half-way is rolled back; the ones before it stay."""
    broken = migration("0002_broken.sql", "CREATE TABLE half (a int); SELECT nonsense")
    with pytest.raises(ConfigError, match=r"0002_broken\.sql failed"):
        await migrate.migrate(empty_postgres_dsn, migrations=[ONE, broken])
    connection = await asyncpg.connect(empty_postgres_dsn)
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    assert await connection.fetchval("SELECT to_regclass('one')") is not None
    await connection.close()


async def test_migrators_at_once_take_turns(empty_postgres_dsn: str) -> None:
    """Of five migrators started together each file is applied by exactly one."""
    results = await asyncio.gather(
        *(migrate.migrate(empty_postgres_dsn, migrations=[ONE, TWO]) for _ in range(5))
    )
    assert sorted(name for names in results for name in names) == [ONE.name, TWO.name]
    connection = await asyncpg.connect(empty_postgres_dsn)
    assert await connection.fetchval("SELECT count(*) FROM two") == 1
    await connection.close()


async def test_newer_release_s_migration_is_shown(empty_postgres_dsn: str) -> None:
    """A migration that this release does not have is reported, not an error."""
    await migrate.migrate(empty_postgres_dsn, migrations=[ONE, TWO])
    states = await migrate.status(empty_postgres_dsn, migrations=[ONE])
    assert [(row.name, row.state) for row in states] == [
        (ONE.name, "applied"),
        (TWO.name, "unknown"),
    ]


async def test_postgres_away_is_transient() -> None:
    """Nobody listening is an outage, and the password is not in the text."""
    with pytest.raises(TransientError) as caught:
        await migrate.migrate("postgresql://user:secret@127.0.0.1:1/none")
    assert "secret" not in str(caught.value)


def test_packaged_files_are_numbered_without_hole() -> None:
    """The files of this release are 0001, 0002, and so on."""
    numbers = [int(m.name[:4]) for m in migrate.packaged()]
    assert numbers == list(range(1, len(numbers) + 1))
