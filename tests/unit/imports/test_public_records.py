"""Public records of venues end in a comparison that agrees, or names each difference.

`docs/importers.md` has the table of them, and where the records came from.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from tests.support.importing import folded, owner_of, read, record

BEFORE = "were there before the first record of these files"


def earlier(event_type: str, number: int, **payload: str) -> dict[str, Any]:
    """Return an event from before the records."""
    return {
        "event_id": f"00000000-0000-4000-8000-{number:012d}",
        "event_type": event_type,
        "stream_id": "acc",
        "timestamp": "2020-01-01T00:00:00Z",
        "schema_version": "1.0.0",
        "payload": payload,
    }


def held(number: int, symbol: str, quantity: str, **payload: str) -> dict[str, Any]:
    given = {"symbol": symbol, "quantity": quantity, "transfer_id": f"before-{number}"}
    return earlier("PositionTransferredIn", number, **given, **payload)


def compared(form: Any, name: str, currency: str, *first: dict[str, Any]) -> Any:
    found = read(form, record(name))
    return folded(found, owner_of(form.replace("-", "_"), currency), *first)


@pytest.mark.parametrize(
    ("form", "name", "currency", "differences"),
    [
        (
            "hyperliquid",
            "hyperliquid/fills.json",
            "USDC",
            {
                "positions.HYPE-PERP.size": f"6.2 {BEFORE}",
                "positions.flx:CRCL-PERP.size": f"0.13 {BEFORE}",
            },
        ),
        ("bybit", "bybit/transactions.json", "USDT", {"assets.USDT": f"5086.56192602 {BEFORE}"}),
        (
            "interactive-brokers",
            "interactive_brokers/year.xml",
            "USD",
            {
                "assets.USD": "the amount of one record, InterestAccrued",
                "positions.AAPL.size": f"5 {BEFORE}",
            },
        ),
        (
            "interactive-brokers",
            "interactive_brokers/transfer.xml",
            "CHF",
            {"positions.IWDA.entry_price": "the venue keeps the cost from before the transfer"},
        ),
    ],
)
def test_each_difference_is_named(
    form: Any, name: str, currency: str, differences: dict[str, str]
) -> None:
    """What the files alone lead to differs, and every difference has its cause."""
    _, found = compared(form, name, currency)
    assert found.matches is False
    assert {one.what for one in found.differences} == set(differences)
    for one in found.differences:
        assert one.cause.startswith(differences[one.what])


def test_hyperliquid_agrees_with_what_was_there_before() -> None:
    """With the positions from before, sizes agree, and so does every result that the venue names.

    Entry prices are those that the venue's own results follow from: 25.585 + 4.415 for the first.
    """
    log, found = compared(
        "hyperliquid",
        "hyperliquid/fills.json",
        "USDC",
        held(1, "HYPE-PERP", "6.2", side="long", entry_price="30"),
        held(2, "flx:CRCL-PERP", "0.13", side="long", entry_price="80.2618692307692308"),
    )
    assert (found.matches, found.differences) == (True, [])
    realized = {
        name: Decimal(log.position(name, "acc")["realized_pnl"])
        for name in ("HYPE-PERP", "flx:CRCL-PERP")
    }
    assert realized["HYPE-PERP"] == Decimal("-4.415") + Decimal("-46.0356")
    assert round(realized["flx:CRCL-PERP"], 12) == Decimal("-5.147253")
    assert log.position("HYPE-PERP", "acc")["entry_price"] == "33.209"


def test_bybit_agrees_with_what_was_there_before() -> None:
    """With the balance from before, the one behind the last record is the account's."""
    deposit = earlier("CashDeposited", 1, amount="5086.56192602", currency="USDT")
    _, found = compared("bybit", "bybit/transactions.json", "USDT", deposit)
    assert found.matches is True


def test_interactive_brokers_agrees_but_for_one_record() -> None:
    """With the shares from before, only the interest is left, which the statement left out."""
    shares = held(1, "AAPL", "5", cost="800")
    _, found = compared("interactive-brokers", "interactive_brokers/year.xml", "USD", shares)
    (one,) = found.differences
    assert (one.what, one.difference) == ("assets.USD", "-25.5")


def test_binance_adds_up_to_what_others_sum_up() -> None:
    """Spot fills move both assets, with the fee in one of them; nothing is a position."""
    log, found = compared("binance", "binance/trades.json", "USDT")
    assets = log.state("acc")["assets"]
    assert assets["NANO"]["quantity"] == "-4.993"
    assert Decimal(assets["ETH"]["quantity"]) == Decimal("-0.043443") + Decimal("0.07468409")
    assert log.state("acc")["positions"] == {}
    assert found.matches is None
