"""The structs of `contracts/updates.py` are the one table of figures, and nothing has another.

One more figure touches three files: its field in `contracts/psm/contracts/updates.py`, its value
in `workers/psm/domain/publication/figures.py`, its column in a new migration. Statements, rows,
documents and the OpenAPI document follow; `make schemas` writes the schemas.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from tests.support.psm_stream import Account, OneWorker, read

from psm.contracts.update_fields import Common, Decimal18
from psm.contracts.updates import (
    TOLD_ONCE,
    VERSION_FIELDS,
    AccountFigures,
    MarginUpdated,
    OrderUpdated,
    PositionUpdated,
    StateUpdated,
    figures_of,
)
from psm.contracts.updates_read import ReadUpdate
from psm.domain.publication.figures import (
    margin_figures,
    order_figures,
    position_figures,
    position_update,
    state_figures,
)
from psm.projections.current_state import CURRENT_STATE
from psm.projections.current_state.positions import POSITIONS_VIEW
from psm.projections.current_state.reads import READ_STATEMENTS, read_statements
from psm.projections.latest import LatestPerKey
from psm.projections.statements import ENVELOPE_COLUMNS
from psm.workers.api.documents import figures_document
from psm.workers.api.openapi import openapi

ROOT = Path(__file__).parents[2]
STREAM = "acc_001"
TABLES: dict[type[msgspec.Struct], str] = {
    StateUpdated: "balances_view",
    PositionUpdated: "positions_view",
    OrderUpdated: "orders_view",
    MarginUpdated: "margin_view",
}
OPTIONAL = "event_log_sequence"


class Carried(PositionUpdated, frozen=True, kw_only=True):
    """`PositionUpdated` with one more figure."""

    carry: Decimal18 | None


@pytest.fixture
async def connection(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


@pytest.fixture
def worker() -> OneWorker:
    return OneWorker()


@pytest.fixture
def updates(worker: OneWorker) -> list[ReadUpdate]:
    """Updates of an account that has everything: cash, margin, a position and an open order."""
    account = Account(STREAM)
    messages = (account.deposit(), account.trade("buy", "0.5", "42000"), account.order("o1", "1"))
    return read([update for message in messages for update in worker.fold(*message)])


async def columns(connection: asyncpg.Connection, table: str) -> set[str]:
    query = "SELECT column_name FROM information_schema.columns WHERE table_name = $1"
    return {row[0] for row in await connection.fetch(query, table)}


async def document(connection: asyncpg.Connection, statement: str) -> dict[str, Any]:
    text = await connection.fetchval(statement, STREAM)
    found: dict[str, Any] = msgspec.json.decode(text)
    return found


async def test_values_are_written_in_the_order_of_the_table(
    worker: OneWorker, updates: list[ReadUpdate]
) -> None:
    """Each figure has a value, and updates are written in the order of the structs' fields."""
    account = worker.books.accounts[STREAM]
    valuation, position = account.value(), account.ledger.positions["BTC-PERP"]
    order = account.ledger.orders.by_id["o1"]
    assert tuple(state_figures(account, valuation)) == figures_of(StateUpdated)
    assert tuple(position_figures(account, position)) == figures_of(PositionUpdated)
    assert tuple(order_figures(order)) == figures_of(OrderUpdated)
    assert tuple(margin_figures(valuation, None)) == figures_of(MarginUpdated)
    names = tuple(Common.__struct_fields__)
    whole = (*names, *position_update(account, position, "marked"))
    assert whole == tuple(
        name for name in PositionUpdated.__struct_encode_fields__ if name not in TOLD_ONCE
    )


@pytest.mark.parametrize(("payload", "table"), TABLES.items(), ids=TABLES.values())
async def test_columns_are_the_fields_and_those_of_the_envelope(
    connection: asyncpg.Connection, payload: type[msgspec.Struct], table: str
) -> None:
    """The migrated table has a column for each field, and the rendered statement writes each."""
    (view,) = (view for view in CURRENT_STATE.views if view.table == table)
    expected = {*payload.__struct_encode_fields__, *ENVELOPE_COLUMNS} - {*TOLD_ONCE}
    assert await columns(connection, table) == expected
    inserted = view.statements["upsert"].partition("(")[2].partition(")")[0]
    assert set(re.findall(r"\w+", inserted)) == expected


async def test_documents_have_the_figures_and_openapi_describes_them(
    connection: asyncpg.Connection, updates: list[ReadUpdate]
) -> None:
    """What PostgreSQL answers has the keys of the structs, and the description has them too."""
    await CURRENT_STATE.writer().apply(connection, updates)
    state = await document(connection, READ_STATEMENTS["state"])
    margin = await document(connection, READ_STATEMENTS["margin"])
    position, order = state["positions"]["BTC-PERP"], state["orders"]["o1"]
    schemas = msgspec.json.decode(openapi())["components"]["schemas"]

    whole = {*AccountFigures.__struct_fields__, "as_of", "assets", "positions", "orders"}
    assert set(state) == whole - {OPTIONAL}
    assert set(position) == {*figures_of(PositionUpdated), "as_of"}
    assert set(order) == set(figures_of(OrderUpdated))
    assert set(margin) == {*VERSION_FIELDS, *figures_of(MarginUpdated), "as_of"}
    for name in ("positions", "orders"):
        found = await document(connection, READ_STATEMENTS[name])
        assert set(found) == {*VERSION_FIELDS, "as_of", name}
        assert set(schemas[f"{name.capitalize()}Document"]["properties"]) == {*found, "flags"}
    assert set(schemas["StateDocument"]["properties"]) == whole
    assert set(schemas["StateDocument"]["required"]) == set(state)
    described = tuple(schemas["PositionFigures"]["properties"])
    assert described == (*figures_of(PositionUpdated), "as_of")
    assert tuple(schemas["OrderFigures"]["properties"]) == figures_of(OrderUpdated)
    assert set(schemas["MarginDocument"]["properties"]) == {*margin, "flags"}


async def test_one_more_figure_is_a_field_a_value_and_a_column(
    connection: asyncpg.Connection, updates: list[ReadUpdate]
) -> None:
    """Rows, reads and documents have a new figure as soon as these three have it."""
    await connection.execute("ALTER TABLE positions_view ADD COLUMN carry numeric")
    (update,) = (update for update in updates if update.kind == "position.updated")
    data = update.data.replace(b'"size":', b'"carry":"1.500000000000000001","size":')
    view = LatestPerKey("positions_view", "position.updated", Carried, key=POSITIONS_VIEW.key)
    views = [v for v in CURRENT_STATE.views if v.table != "positions_view"]
    projection = msgspec.structs.replace(CURRENT_STATE, views=(*views, view))
    carried = ReadUpdate(kind=update.kind, data=data)
    await projection.writer().apply(connection, [carried if u is update else u for u in updates])

    statements = read_statements(position=Carried)
    for name in ("state", "positions"):
        answer = await document(connection, statements[name])
        figures = answer["positions"]["BTC-PERP"]
        assert figures["carry"] == "1.500000000000000001"
        described = figures_document("PositionFigures", Carried, "One position.", valued=True)
        assert set(described.__struct_fields__) == set(figures)
        assert msgspec.convert(figures, described)


@pytest.mark.parametrize("payload", TABLES, ids=TABLES.values())
def test_no_other_file_names_all_figures(payload: type[msgspec.Struct]) -> None:
    """A list in the rooms of views and reads, beside fields, values and columns, would go stale."""
    places = (
        "contracts/psm/contracts/updates.py",
        "contracts/psm/contracts/updates_read.py",
        "workers/psm/domain/publication",
        "workers/psm/workers/api",
        "workers/psm/workers/history",
        "workers/psm/workers/projector",
        "projections",
    )
    files = [file for place in places for file in _sources(ROOT / place)]
    assert len(files) > 50
    naming = [file.name for file in files if _words(file) >= set(figures_of(payload))]
    assert naming == ["updates.py", "figures.py"]


def _sources(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    found = sorted(file for file in place.rglob("*") if file.suffix in (".py", ".sql"))
    return [file for file in found if file.parent.name != "migrations"]


def _words(file: Path) -> set[str]:
    return set(re.findall(r"\w+", file.read_text()))
