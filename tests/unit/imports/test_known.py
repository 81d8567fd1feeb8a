"""What an account has already: by id, by the venue's name of a fact."""

from __future__ import annotations

import pytest

from psm.projections.archive.keys import BusinessKey
from psm.workers.imports.known import Known


def fill(order: str = "", side: str = "buy", fill_id: str = "7", symbol: str = "X") -> BusinessKey:
    return BusinessKey(kind="fill", key=" ".join([fill_id, side, order]).strip(), symbol=symbol)


@pytest.mark.parametrize(
    ("there", "asked", "same"),
    [
        (fill("a"), fill("a"), True),
        (fill("a"), fill("b"), False),  # one trade that filled two of our orders
        (fill("a"), fill(), True),
        (fill(), fill("a"), True),
        (fill("a", "buy"), fill("a", "sell"), False),  # both legs of a self-trade
        (fill("a"), fill("a", fill_id="8"), False),
        (fill("a"), fill("a", symbol="Y"), False),
    ],
)
def test_a_fill_is_known_by_its_identity(
    there: BusinessKey, asked: BusinessKey, same: bool
) -> None:
    """Symbol, id, side and order; one without its order is any of them."""
    known = Known()
    known.add("event", there)
    assert known.already("other", asked) == ("business_key" if same else None)
    assert known.already("event", asked) == "event_id"


def test_a_reference_need_not_name_the_accounts_currency() -> None:
    """Money in the account's currency is the same fact whether it is named or not."""
    known = Known("USD")
    known.add("event", BusinessKey(kind="reference", key="CashDeposited r", symbol=""))
    named = BusinessKey(kind="reference", key="CashDeposited r", symbol="USD")
    assert known.already("other", named) == "business_key"
    foreign = BusinessKey(kind="reference", key="CashDeposited r", symbol="EUR")
    assert known.already("other", foreign) is None


def test_what_was_refused_is_known_by_its_id_alone() -> None:
    """An event that was not booked does not hide the fact that it wanted to tell."""
    known = Known()
    known.add("refused", None)
    assert known.already("refused", fill()) == "event_id"
    assert known.already("other", fill()) is None
