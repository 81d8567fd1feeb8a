"""CSV files by mapping: what rows become, and what is said of a mapping that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.importing import folded, owner_of, planned, read, written

from psm.contracts.errors import ConfigError
from psm.workers.imports.mapping import read_mapping
from psm.workers.imports.reading import read_files

EXAMPLES = Path(__file__).parent.parent.parent.parent / "examples" / "imports"
LEAST = """
venue = "v"
time_column = "time"
[[event]]
type = "CashDeposited"
fields = { amount = "amount" }
"""


def test_a_statement_with_commas_and_local_times() -> None:
    """The example of a broker: signs, decimal comma, zone, rates, balances that agree."""
    mapping = read_mapping(EXAMPLES / "broker.toml")
    found = read("csv", EXAMPLES / "broker.csv", mapping=mapping)
    owner = owner_of("broker", "EUR")
    steps = planned(found, owner)
    assert steps.new[0].event["timestamp"] == "2026-01-02T08:00:00Z"
    bought = steps.new[3].event["payload"]
    assert bought == {
        "symbol": "AAPL",
        "side": "buy",
        "quantity": "10",
        "price": "240.1",
        "commission": "1",
        "commission_currency": "USD",
        "fill_id": "103",
        "rates": {"USD": "0.91"},
    }
    assert steps.new[2].event["payload"]["rates"] == {"USD": None}
    assert dict(found.skipped) == {"balance": 1}
    _, compared = folded(found, owner)
    assert (compared.matches, compared.differences) == (True, [])
    assert compared.compared == ["assets.EUR", "assets.USD"]
    assert compared.report is None


def test_equal_rows_without_a_name_are_as_many_as_there_are(tmp_path: Path) -> None:
    """Two equal rows are two facts; the next export, which has both again, adds none."""
    mapping = read_mapping(EXAMPLES / "exchange.toml")
    found = read("csv", EXAMPLES / "exchange.csv", mapping=mapping)
    steps = planned(found, owner_of("exchange", "USDT"))
    assert len({one.event["event_id"] for one in steps.new}) == len(steps.new) == 4
    copy = written(tmp_path, "copy.csv", (EXAMPLES / "exchange.csv").read_text())
    given = (EXAMPLES / "exchange.csv", copy, EXAMPLES / "exchange.csv")
    again = planned(read("csv", *given, mapping=mapping), owner_of("exchange", "USDT"))
    assert [one.event for one in again.new] == [one.event for one in steps.new]
    assert found.owners == {"4711"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("venue = ", "is no TOML"),
        (LEAST + "\nvenu = 1", "unknown field `venu`"),
        (LEAST.replace('"CashDeposited"', '"CashDeposit"'), "there is no event type CashDeposit"),
        (LEAST.replace("amount =", "amont ="), "CashDeposited has no field amont"),
        (LEAST.replace("amount =", "currency ="), "CashDeposited needs amount"),
        (LEAST.replace('"amount"', "{ sign = 'keep' }"), "needs either a column or a value"),
        (LEAST.replace("venue", "timezone = 'Mars'\nvenue"), "timezone Mars is not known"),
        (LEAST.replace("venue", "time = 'noon'\nvenue"), "time 'noon' must be"),
        (LEAST.replace("venue", "delimiter = ''\nvenue"), "delimiter must be one character"),
        (
            LEAST.replace("CashDeposited", "TradeExecuted").replace(
                'amount = "amount"',
                'symbol = "s", quantity = "q", price = "p", side = {column = "s", map = {B = "b"}}',
            ),
            "side may be buy, sell, not b",
        ),
    ],
)
def test_a_mapping_that_is_wrong_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """Before any row is read, with the place in the file."""
    with pytest.raises(ConfigError, match=said.replace("{", r"\{")):
        read_mapping(written(tmp_path, "m.toml", text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,amont\n", "a:1:1: the header has no column amount"),
        ("", "a:1:1: there is no header"),
        ("time,amount\n2026-01-01\n", "a:2:1: has 1 cells, the header 2"),
        ("time,amount\n2026-01-01,\n", "a:2:2: amount: is empty"),
        ("time,amount\n2026-01-01,one\n", "a:2:2: amount: 'one' is no number"),
        ("time,amount\n\nyesterday,1\n", "a:3:1: time: is no ISO 8601 time"),
        ('time,amount\n2026-01-01,"1\n', "a:2:1: no CSV"),
        ("time,amount\n2026-01-01,0\n", "a:2:1: no CashDeposited: "),
        ("time,amount\n2026-01-01,1e30\n", "a:2:1: no CashDeposited: "),
    ],
)
def test_a_row_that_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    """File, line, column and field."""
    mapping = read_mapping(written(tmp_path, "m.toml", LEAST))
    errors = read_files("csv", [written(tmp_path, "a", text)], mapping).errors
    assert said in str(errors[0]).replace(f"{tmp_path}/", "")


def test_a_counterparty_is_a_pseudonym(tmp_path: Path) -> None:
    """A field that names a person is never written as it stands."""
    text = """
venue = "v"
time_column = "time"
[[event]]
type = "TransferredIn"
fields = { amount = "amount", transfer_id = "id", counterparty = "from" }
"""
    mapping = read_mapping(written(tmp_path, "m.toml", text))
    file = written(tmp_path, "a.csv", "time,amount,id,from\n2026-01-01,1,7,Jane Doe\n")
    found = read("csv", file, mapping=mapping)
    (one,) = planned(found, owner_of("v", "USD")).new
    assert one.event["payload"]["counterparty"] == "<Jane Doe>"  # as the test's pseudonyms are
    assert one.fact.person == {"counterparty": "Jane Doe"}


def test_an_id_that_is_no_plain_one_is_replaced(tmp_path: Path) -> None:
    """A name with blanks, such as a person's, is published nowhere; the same one is the same id."""
    mapping = read_mapping(written(tmp_path, "m.toml", LEAST + 'id = "id"\n'))
    rows = "time,amount,id\n2026-01-01,1,Jane Doe 1\n2026-01-02,1,plain-2\n"
    found = read("csv", written(tmp_path, "a.csv", rows), mapping=mapping)
    first, second = (one.event for one in planned(found, owner_of("v", "USD")).new)
    assert "Jane" not in str(first)
    assert len(first["payload"]["reference"]) == 36
    assert second["payload"]["reference"] == "plain-2"
