"""SQL that is rendered from the fields of updates."""

from __future__ import annotations

from importlib.resources import files

import pytest
from tests.support.make_rendered_sql import FILE, rendered

from psm.contracts.update_fields import Common
from psm.contracts.updates import OrderUpdated, is_decimal
from psm.projections.sql import load
from psm.projections.statements import columns_of, delete, json_pairs, upsert


class Small(Common, frozen=True, kw_only=True):
    """An update with one figure."""

    symbol: str
    price: str


def test_every_rendered_statement_is_on_record() -> None:
    """What `grep` finds in `rendered.sql` is what runs; a change of a statement shows in a diff."""
    assert rendered() == FILE.read_text(), "run `python -m tests.support.make_rendered_sql`"


def test_key_comes_first_and_is_not_replaced() -> None:
    """The key identifies a row; everything else is taken from the new one."""
    columns = columns_of(Small, ("account_id", "symbol"))
    assert columns[:3] == ("account_id", "symbol", "sequence_number")
    assert columns[-5:] == ("price", "log_time", "correlation_id", "causation_id", "trace_id")
    statement = upsert("small_view", columns, ("account_id", "symbol"))
    inserted, _, changed = statement.partition("ON CONFLICT (account_id, symbol) DO UPDATE SET")
    assert inserted.count(" symbol,") == 2
    assert "symbol" not in changed
    assert "excluded.price" in changed
    assert "excluded.log_time" in changed


def test_delete_names_the_whole_key() -> None:
    """A row goes only where all columns of its key are the same."""
    assert delete("small_view", ("account_id", "symbol")) == (
        "DELETE FROM small_view\n"
        "USING json_to_recordset($1::json) AS gone (account_id text, symbol text)\n"
        "WHERE small_view.account_id = gone.account_id AND small_view.symbol = gone.symbol"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("quantity", True), ("average_price", True), ("event_hash", False), ("log_sequence", False)],
)
def test_decimals_are_read_as_exact_texts(name: str, expected: bool) -> None:
    """Numbers that may be large or long leave PostgreSQL as the text they came as."""
    assert is_decimal(OrderUpdated, name) is expected
    cast = "::text" if expected else ""
    assert json_pairs(OrderUpdated, [name], "o") == f"'{name}', o.{name}{cast}"


@pytest.mark.parametrize(
    ("package", "file"),
    [
        ("psm.projections", "checkpoints"),
        ("psm.projections.archive", "reads"),
        ("psm.projections.archive", "writer"),
        ("psm.projections.current_state", "accounts"),
        ("psm.projections.current_state", "balances"),
        ("psm.projections.current_state", "reads"),
        ("psm.projections.witness", "heads"),
        ("psm.projections.witness", "remembered"),
    ],
)
def test_files_lie_in_the_package_that_runs_them(package: str, file: str) -> None:
    """SQL is package data: an installed PSM has it beside the code."""
    assert (files(package) / f"{file}.sql").is_file()
    assert all(load(package, file).values())
