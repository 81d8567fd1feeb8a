"""Corporate actions that happened, with terms as announced and numbers reckoned by hand.

Holdings and prices of the accounts are made up; ratios, cash and shares of cost are the issuers'.
"""

from __future__ import annotations

import pytest
from tests.support.domain import Log, given
from tests.support.events import Sent, deposit, event, opened, trade
from tests.unit.ledger.actions import act, costs, share


def bought(symbol: str, quantity: str, price: str) -> Log:
    """Return an account of 100 000 USD that bought a share once."""
    first = [share(symbol), opened(1, currency="USD"), deposit(2, "100000")]
    return given(*first, trade(3, "buy", quantity, price, symbol))


Held = dict[str, tuple[str, str]]
CASES: list[tuple[str, Log, list[Sent], Held, str, str]] = [
    (
        "Facebook, 2022: FB is META; 30 shares of 210, a third sold under the old name",
        bought("FB", "30", "210"),
        [act("SymbolChanged", symbol="FB", new_symbol="META"), trade(5, "sell", "10", "180", "FB")],
        {"META": ("20", "4200")},
        "-300",
        "95500",
    ),
    (
        "Alphabet, 2022: 20 for 1",
        bought("GOOGL", "7", "2200"),
        [act("SplitApplied", symbol="GOOGL", numerator="20", denominator="1")],
        {"GOOGL": ("140", "15400")},
        "0",
        "84600",
    ),
    (
        "General Electric, 2021: 1 for 8; of 100 shares 12.5, the half paid with 52.18",
        bought("GE", "100", "13"),
        [
            act(
                "SplitApplied",
                symbol="GE",
                numerator="1",
                denominator="8",
                quantity_after="12",
                cash_in_lieu="52.18",
            )
        ],
        # 1300 x 12 / 12.5 = 1248 stay, 52 leave against 52.18.
        {"GE": ("12", "1248")},
        "0.18",
        "98752.18",
    ),
    (
        "eBay, 2015: one PayPal for each eBay, 60.14 % of the cost with it",
        bought("EBAY", "50", "60"),
        [
            act(
                "SpinOff",
                symbol="EBAY",
                new_symbol="PYPL",
                numerator="1",
                denominator="1",
                cost_share="0.6014",
            )
        ],
        # 3000 x 0.6014 = 1804.2
        {"EBAY": ("50", "1195.8"), "PYPL": ("50", "1804.2")},
        "0",
        "97000",
    ),
    (
        "AT&T, 2022: 0.241917 Warner Bros. Discovery a share; of 100 24.1917, 24 came",
        bought("T", "100", "25"),
        [
            act(
                "SpinOff",
                symbol="T",
                new_symbol="WBD",
                numerator="0.241917",
                denominator="1",
                cost="600",
                quantity_after="24",
                cash_in_lieu="4.7",
            )
        ],
        {"T": ("100", "1900"), "WBD": ("24", "595.245476754424038")},
        # 600 x 0.1917 / 24.1917 = 4.754523245575962 left against 4.7.
        "-0.054523245575962",
        "97504.7",
    ),
    (
        "Twitter, 2022: 54.20 a share in cash",
        bought("TWTR", "40", "45"),
        [act("Merged", symbol="TWTR", cash="2168")],
        {},
        "368",
        "100368",
    ),
    (
        "Activision, 2023: 95.00 a share in cash, below what they cost",
        bought("ATVI", "10", "101.5"),
        [act("Merged", symbol="ATVI", cash="950")],
        {},
        "-65",
        "99935",
    ),
    (
        "Xilinx, 2022: 1.7234 AMD a share; of 15 25.851, 25 came and 97.41 for the rest",
        bought("XLNX", "15", "120"),
        [
            act(
                "Merged",
                symbol="XLNX",
                new_symbol="AMD",
                numerator="1.7234",
                denominator="1",
                quantity_after="25",
                cash_in_lieu="97.41",
            )
        ],
        # 1800 x 25 / 25.851 = 1740.7450388766392...
        {"AMD": ("25", "1740.745038876639201")},
        # 97.41 - 59.254961123360798...
        "38.155038876639201",
        "98297.41",
    ),
    (
        "Broadcom and VMware, 2023, as elected half: 71.25 in cash and 0.126 shares a share",
        bought("VMW", "200", "120"),
        [
            act(
                "Merged",
                symbol="VMW",
                new_symbol="AVGO",
                numerator="0.126",
                denominator="1",
                cash="14250",
                quantity_after="25",
                cash_in_lieu="196",
            )
        ],
        # 24000 - 14250 = 9750 for 25.2 units; 9750 x 25 / 25.2 = 9672.619047619047619...
        {"AVGO": ("25", "9672.619047619047619")},
        "118.619047619047619",
        "90446",
    ),
    (
        "Costco, 2024: 15.00 a share of special dividend, 15 % withheld",
        bought("COST", "12", "600"),
        [
            act(
                "DividendPaid",
                symbol="COST",
                amount="153",
                gross="180",
                tax="27",
                per_share="15",
                kind="special",
                ex_date="2023-12-27",
            )
        ],
        {"COST": ("12", "7200")},
        "0",
        "92953",
    ),
    (
        "Pfizer and Viatris, 2020: 0.124079 a share, 5.9 % of the cost",
        bought("PFE", "80", "36"),
        [
            act(
                "SpinOff",
                symbol="PFE",
                new_symbol="VTRS",
                numerator="0.124079",
                denominator="1",
                cost_share="0.059",
            )
        ],
        {"PFE": ("80", "2710.08"), "VTRS": ("9.92632", "169.92")},
        "0",
        "97120",
    ),
]


@pytest.mark.parametrize(
    ("log", "actions", "held", "realized", "cash"),
    [case[1:] for case in CASES],
    ids=[case[0].partition(":")[0] for case in CASES],
)
def test_action_is_booked_as_by_hand(
    log: Log, actions: list[Sent], held: Held, realized: str, cash: str
) -> None:
    """Units, cost to 15 decimals, what is realized, and the cash."""
    for sent in actions:
        assert log.when(sent).outcome == "applied"
    found = costs(log)
    assert {s: q for s, (q, _) in found.items()} == {s: q for s, (q, _) in held.items()}
    for symbol, (_, cost) in held.items():
        assert _near(found[symbol][1], cost), symbol
    assert _near(log.state()["realized_pnl"], realized)
    assert log.state()["cash"] == {"USD": cash}


def _near(found: str, expected: str) -> bool:
    """Whether a number agrees with one that was written with 15 decimals or more."""
    size = max(len(expected.partition(".")[2]) - 1, 0)
    if size < 14:
        return found == expected
    return found[: found.index(".") + size] == expected[: expected.index(".") + size]


def test_tesla_twice() -> None:
    """5 for 1 in 2020 and 3 for 1 in 2022: 4 shares of 450 are 60 of 30, to the cent."""
    log = bought("TSLA", "4", "450")
    log.when(act("SplitApplied", 4, symbol="TSLA", ratio="5"))
    log.when(event("SplitApplied", {"symbol": "TSLA", "ratio": "3"}, 5))
    assert log.position("TSLA")["entry_price"] == "30"
