"""InstrumentDefined."""

from __future__ import annotations

from tests.support.domain import given
from tests.support.events import deposit, instrument, opened, trade


def test_instrument_defined_is_booked() -> None:
    """What is traded then is that: ten units a contract, 2 x (120 - 100) x 10 gained."""
    log = given(opened(1), deposit(2))
    assert log.when(instrument(1, multiplier="10")).outcome == "applied"
    log.when(trade(3, "buy", "2", "100"), trade(4, "sell", "2", "120"))
    assert (log.state()["cash"], log.state()["flags"]) == ({"USDT": "1400"}, [])


def test_instrument_defined_with_a_bad_payload_is_refused() -> None:
    """The definition before it stays; the refusal names the field."""
    log = given(opened(1), deposit(2), instrument(1, multiplier="10"))
    seen = log.when(instrument(2, multiplier="0"))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == "payload.multiplier"
    assert log.books.market.instruments["BTC-PERP"].multiplier == 10


def test_instrument_defined_repeated_is_stale() -> None:
    """The same bytes change nothing, and an old number defines nothing."""
    log = given(instrument(2, multiplier="10"))
    for again in (instrument(2, multiplier="10"), instrument(1, multiplier="7")):
        seen = log.when(again)
        assert (seen.outcome, seen.updates) == ("stale", [])
    assert log.books.market.instruments["BTC-PERP"].multiplier == 10
