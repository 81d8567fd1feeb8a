"""`psm state`, `psm positions` and `psm orders` against a real PostgreSQL."""

from __future__ import annotations

import json

import asyncpg
import pytest
from tests.support.psm_stream import Account, OneWorker, mark, read
from tests.support.running import PSM, psm_here
from tests.support.screen import on_terminal
from tests.support.slots import even_slots

from psm.projections.current_state import CURRENT_STATE
from psm.projections.schema import migrate


@pytest.fixture
async def worker(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> OneWorker:
    """An account with cash, a position and a mark in the views of the settings' database."""
    monkeypatch.setenv("POSTGRES_DSN", postgres_dsn)
    await migrate.migrate(postgres_dsn)
    # The second mark moves the clock, and with it to a slot of every account.
    worker, account = OneWorker(slots=even_slots(1)), Account("acc_001")
    updates = []
    for message in (
        mark("BTC-PERP", "42000", 1),
        account.deposit("1000"),
        account.trade("buy", "0.5", "42000"),
        account.order("o-1", "2"),
        mark("BTC-PERP", "42500", 2),
    ):
        updates += worker.fold(*message)
    for message in (Account("acc_empty").deposit("5"),):
        updates += worker.fold(*message)
    connection = await asyncpg.connect(postgres_dsn)
    async with connection.transaction():
        await CURRENT_STATE.writer().apply(connection, read(updates))
    await connection.close()
    return worker


async def test_state_equals_the_account(
    worker: OneWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    """The JSON is the document of the domain, figure by figure."""
    assert await psm_here("state", "acc_001", "-o", "json") == 0
    document = json.loads(capsys.readouterr().out)
    expected = worker.document("acc_001")
    for name in ("cash", "equity", "realized_pnl", "fees", "ledger_hash", "state_hash"):
        assert document[name] == expected[name]
    assert document["positions"]["BTC-PERP"]["size"] == "0.5"
    assert await psm_here("positions", "acc_001", "-o", "jsonl") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["positions"] == document["positions"]


async def test_tables_show_money_and_positions(
    worker: OneWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person sees the figures and the hashes whole."""
    assert await psm_here("state", "acc_001") == 0
    shown = capsys.readouterr().out
    assert worker.document("acc_001")["state_hash"] in shown
    assert "BTC-PERP" in shown
    assert "42500" in shown
    assert await psm_here("positions", "acc_empty") == 0
    assert "no positions" in capsys.readouterr().err


async def test_orders_are_shown(worker: OneWorker, capsys: pytest.CaptureFixture[str]) -> None:
    """Each order with what is filled of it; an account without one says so."""
    assert await psm_here("orders", "acc_001", "-o", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["orders"]["o-1"]["status"] == "submitted"
    assert document["sequence_number"] == 3
    assert await psm_here("orders", "acc_001") == 0
    assert "o-1" in capsys.readouterr().out
    assert await psm_here("orders", "acc_empty") == 0
    assert "no orders" in capsys.readouterr().err


@pytest.mark.usefixtures("worker")
async def test_unknown_account_is_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    """An account nobody knows is exit 1, an id that cannot exist is exit 2."""
    assert await psm_here("state", "acc_404") == 1
    assert "acc_404" in capsys.readouterr().err
    assert await psm_here("positions", "acc 404") == 2
    assert "acc 404" in capsys.readouterr().err


async def test_missing_schema_names_the_next_command(
    empty_postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reading before migrating says what to run."""
    monkeypatch.setenv("POSTGRES_DSN", empty_postgres_dsn)
    assert await psm_here("state", "acc_001") == 2
    assert "psm migrate up" in capsys.readouterr().err


async def test_missing_database_is_said_without_the_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A database that does not answer is exit 2, and its password stays unsaid."""
    monkeypatch.setenv("POSTGRES_DSN", "postgresql://psm:hunter2@127.0.0.1:1/psm")
    assert await psm_here("state", "acc_001") == 2
    told = capsys.readouterr().err
    assert "PostgreSQL" in told
    assert "hunter2" not in told


@pytest.mark.usefixtures("worker")
def test_a_terminal_of_80x24_shows_what_matters() -> None:
    """Key and side of a position, and what is flagged with what it means; no line too long."""
    for command, wanted in (("positions", "position  side"), ("state", "status")):
        with on_terminal([*PSM, command, "acc_001"], size=(24, 80)) as screen:
            assert screen.await_end() == 0
        assert wanted in screen.text
        assert "BTC-PERP  long" in screen.text
        assert all(len(line) <= 80 for line in screen.text.splitlines())
    assert "instrument_undefined" in screen.text
    assert "a position or open order is in a symbol that nobody defined" in screen.text
