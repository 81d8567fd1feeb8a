"""PostgreSQL that falls silent without closing anything: given up once, not once per statement."""

from __future__ import annotations

import time

import pytest
from tests.support.tcp_proxy import TcpProxy, proxied, through

from psm.adapters import postgres
from psm.contracts.errors import TransientError

ANSWER_S = 3.0


@pytest.mark.parametrize("last", ["statement", "commit"])
async def test_silence_in_a_transaction_costs_one_timeout(
    empty_postgres_dsn: str, last: str
) -> None:
    """Neither the rollback nor the return to the pool waits for an answer again."""
    async with proxied(empty_postgres_dsn) as proxy:
        pool = await postgres.open_pool(
            through(empty_postgres_dsn, proxy), name="test", command_timeout_s=ANSWER_S
        )
        try:
            began = time.monotonic()
            with pytest.raises(TransientError, match="TimeoutError"):
                await _fall_silent(pool, proxy, last)
            assert ANSWER_S * 0.9 < time.monotonic() - began < 2 * ANSWER_S
            proxy.refuse(refuses=False)
            async with postgres.acquired(pool) as connection:  # a new one
                assert await connection.fetchval("SELECT to_regclass('silent')") is None
        finally:
            pool.terminate()


async def _fall_silent(pool: postgres.Pool, proxy: TcpProxy, last: str) -> None:
    """Hear nothing any more in the middle of a transaction; the last answer is waited for."""
    async with postgres.transaction(pool) as connection:
        await connection.execute("CREATE TABLE silent (n int)")
        assert proxy.silence()
        proxy.refuse(refuses=True)  # nor can the statement be cancelled
        if last == "statement":
            await connection.execute("SELECT 1")
