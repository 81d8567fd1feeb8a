"""What has a reference is booked once, whatever event id it comes with."""

from __future__ import annotations

import pytest
from tests.support.cases import (
    Figures,
    Step,
    act,
    buy,
    check,
    contract,
    deposit,
    marked,
    pair,
    refused,
    share,
    withdraw,
)

TWICE = "duplicate_reference"


def twice(event_type: str, **payload: str) -> list[Step]:
    """Return a fact, and the same one under another event id."""
    said = {**payload, "reference": "tx-1"}
    return [act(event_type, **said), refused(act(event_type, **said), TWICE)]


def moved_twice(event_type: str, **payload: str) -> list[Step]:
    """Return a transfer, and the same one under another event id."""
    said = {**payload, "transfer_id": "tx-1"}
    return [act(event_type, **said), refused(act(event_type, **said), "duplicate_transfer")]


COINS = [pair("BTC"), marked("BTCUSDT", "50000"), deposit("1000")]
SHARES = [share("ABC"), deposit("1000"), buy("10", "20", "ABC")]

CASES: dict[str, tuple[str, list[Step], Figures]] = {
    "a deposit": (
        "USDT", twice("CashDeposited", amount="2703997.45"),
        {"cash.USDT": "2703997.45", "deposits": "2703997.45"},
    ),
    "a deposit of another amount": (  # the reference says what it is, not the amount
        "USDT",
        [deposit("5", reference="r"), refused(deposit("6", reference="r"), TWICE)],
        {"cash.USDT": "5"},
    ),
    "two assets of one transaction": (
        "USDT",
        [*COINS, deposit("2", reference="r"), deposit("3", "BTC", reference="r"),
         refused(deposit("3", "BTC", reference="r"), TWICE)],
        {"cash.USDT": "1002", "cash.BTC": "3"},
    ),
    "in and out by one reference": (
        "USDT", [deposit("9", reference="r"), withdraw("4", reference="r")],
        {"cash.USDT": "5", "deposits": "9", "withdrawals": "4"},
    ),
    "a withdrawal of a coin": (
        "USDT",
        [*COINS, deposit("3", "BTC"), *twice("CashWithdrawn", amount="1", currency="BTC")],
        {"cash.BTC": "2", "withdrawals": "50000"},
    ),
    "interest": (
        "USDT", [deposit("100"), *twice("InterestAccrued", amount="-0.75")],
        {"cash.USDT": "99.25", "interest": "-0.75"},
    ),
    "a dividend": (
        "USD", [*SHARES, *twice("DividendPaid", symbol="ABC", amount="3.4", tax="0.6")],
        {"cash.USD": "803.4", "dividends": "4", "taxes": "0.6"},
    ),
    "a fee": (
        "USDT", [deposit("100"), *twice("FeeCharged", amount="1.5")],
        {"cash.USDT": "98.5", "fees": "1.5"},
    ),
    "funding": (
        "USDT",
        [contract("X-PERP"), deposit("100"), buy("1", "20", "X-PERP"),
         *twice("FundingApplied", symbol="X-PERP", funding_payment="-0.2")],
        {"cash.USDT": "99.8", "funding": "-0.2"},
    ),
    "a tax": (
        "USDT", [deposit("100"), *twice("TaxCharged", amount="7", kind="stamp")],
        {"cash.USDT": "93", "taxes": "7"},
    ),
    "a stock dividend": (  # 10 and 1 on top, not 12.1
        "USD",
        [*SHARES, *twice("StockDividend", symbol="ABC", numerator="1", denominator="10")],
        {"positions.ABC.size": "11", "cash.USD": "800"},
    ),
    "an exchange": (
        "USDT",
        [*COINS, *twice("AssetsExchanged", **{"from": "USDT", "from_amount": "500",
                                              "to": "BTC", "to_amount": "0.01"})],
        {"cash.USDT": "500", "cash.BTC": "0.01"},
    ),
    "a transfer": (
        "USDT", moved_twice("TransferredIn", amount="12.5"),
        {"cash.USDT": "12.5", "transfers": "12.5"},
    ),
    "shares that move": (
        "USD", [*SHARES, *moved_twice("PositionTransferredOut", symbol="ABC", quantity="4")],
        {"positions.ABC.size": "6", "transfers": "-80"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_reference_is_booked_once(case: tuple[str, list[Step], Figures]) -> None:
    """The second one is refused; another type, asset or name is another fact."""
    check(*case)
