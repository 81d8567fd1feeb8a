"""What a real PostgreSQL answers when it is disturbed is an error of ours that says what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from tests.support.workbench import until_answer

from psm.adapters import postgres
from psm.contracts.errors import PSMError, TransientError


@pytest.fixture
async def pool(empty_postgres_dsn: str) -> AsyncIterator[postgres.Pool]:
    pool = await postgres.open_pool(empty_postgres_dsn, name="test")
    yield pool
    pool.terminate()


@pytest.mark.parametrize("password", ["secret", "s%40cret", "secret@secret", "secret@a/secret"])
async def test_nobody_there_is_told_with_the_address(password: str) -> None:
    """Where it was looked for; of the password nothing, however it was written."""
    with pytest.raises(PSMError, match="connect to PostgreSQL") as caught:
        await postgres.open_pool(f"postgresql://psm:{password}@127.0.0.1:1/psm", name="test")
    assert ("at 127.0.0.1:1:" in str(caught.value)) is ("/" not in password)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("setting", ["idle_in_transaction_session_timeout", "transaction_timeout"])
@pytest.mark.parametrize("statement", ["SELECT 1", None], ids=["statement", "commit"])
async def test_session_ended_while_its_owner_slept(
    pool: postgres.Pool, setting: str, statement: str | None
) -> None:
    """A process that slept inside a transaction starts over, whatever it does next."""

    async def sleep(connection: postgres.Connection) -> None:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        await connection.execute(f"SET LOCAL {setting} = '50ms'")
        there = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1"
        async with postgres.acquired(pool) as other:
            await until_answer(
                lambda: other.fetchval(there, pid), lambda count: count == 0, "it is ended"
            )

    with pytest.raises(TransientError):
        await _transact(pool, sleep, statement)
    async with postgres.acquired(pool) as connection:
        assert await connection.fetchval("SELECT 1") == 1


@pytest.mark.parametrize(
    "code",
    [
        "40001",
        "40P01",
        "53100",
        "53200",
        "53300",
        "55P03",
        "57014",
        "57P01",
        "25006",
        "25P03",
        "25P04",
    ],
)
async def test_what_passes_is_transient(pool: postgres.Pool, code: str) -> None:
    """Conflicts, a full disk, a shutdown, a failover: try again later."""
    raised = f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{code}'; END $$"
    with pytest.raises(TransientError, match=code):
        await _transact(pool, _nothing, raised)


@pytest.mark.parametrize("statement", ["SELECT 1", None], ids=["statement", "commit"])
async def test_terminated_in_the_middle_of_a_transaction(
    pool: postgres.Pool, empty_postgres_dsn: str, statement: str | None
) -> None:
    """`pg_terminate_backend` between two statements, and between the last one and the commit."""
    administrator = await postgres.open_pool(empty_postgres_dsn, name="administrator")
    terminated = []

    async def terminate(connection: postgres.Connection) -> None:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        async with postgres.acquired(administrator) as other:
            query = "SELECT pg_terminate_backend($1, 60000)"
            terminated.append(await other.fetchval(query, pid))

    try:
        with pytest.raises(TransientError):
            await _transact(pool, terminate, statement)
    finally:
        administrator.terminate()
    assert terminated == [True]


async def _transact(
    pool: postgres.Pool,
    disturb: Callable[[postgres.Connection], Awaitable[None]],
    statement: str | None,
) -> None:
    """Be disturbed inside a transaction, then go on with a statement or only with the commit."""
    async with postgres.transaction(pool) as connection:
        await disturb(connection)
        if statement is not None:
            await connection.execute(statement)


async def _nothing(_: postgres.Connection) -> None:
    return
