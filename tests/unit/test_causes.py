"""Causes of differences, and what would repair them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from tests.support.domain import Log, given
from tests.support.events import ACCOUNT, deposit, instrument, opened, report, trade

from psm.contracts.codec import decode_envelope
from psm.contracts.fields import PositionSide
from psm.contracts.reconciliation import Difference
from psm.contracts.registry import report_codec_for
from psm.contracts.reports import AccountReported
from psm.domain.reconciliation import Holdings, compare, holdings_of
from psm.workers.explain.causes import Cause, Happening, find_causes
from psm.workers.explain.reconciliation import KnownReport
from psm.workers.explain.repair_lines import repair_lines, repairs_all

CASH, SIZE = "assets.USDT", "positions.X.size"


def differs(what: str, difference: str) -> Difference:
    """Return a difference of so much."""
    symbol = what.split(".")[1]
    side: PositionSide | None = None if what.startswith("assets.") else "net"
    return Difference(
        what=what, symbol=symbol, position_side=side,
        expected="0", reported=difference, difference=difference,
    )  # fmt: skip


def happened(
    at: int, event_type: str = "FeeCharged", outcome: str = "applied", **more: Any
) -> Happening:
    """Return a message at a log sequence; its changes and payload by name."""
    changes = {what: Decimal(change) for what, change in more.pop("changes", {}).items()}
    return Happening(
        log_sequence=at, sequence_number=at if outcome == "applied" else None, event_id=f"id{at}",
        event_type=event_type, outcome=outcome, reason=None, changes=changes,
        payload=more.pop("payload", {}), **more,
    )  # fmt: skip


def found(
    differences: list[Difference], *history: Happening, place: int = 9, **more: Any
) -> list[Cause]:
    """Return the causes found."""
    return find_causes(differences, history, place=place, currency="USDT", **more)


def kinds(causes: list[Cause]) -> list[tuple[str, int]]:
    """Return kind and place of each."""
    return [(cause.kind, cause.log_sequence) for cause in causes]


def test_event_that_the_report_lacks_is_found_at_its_first_place() -> None:
    """What it added is what is too much; the earliest comes first."""
    causes = found(
        [differs(CASH, "-5")],
        happened(2, changes={CASH: "4"}),
        happened(3, "CashDeposited", changes={CASH: "5"}),
        happened(4, "InterestAccrued", changes={CASH: "5"}),
    )
    assert kinds(causes) == [("not_reported", 3), ("not_reported", 4)]
    assert causes[0].whole
    assert causes[0].text == (
        "CashDeposited at number 3: the report does not contain it, or it never happened"
    )


def test_equal_events_are_a_repeat_perhaps() -> None:
    """The second one is more suspicious than the first."""
    twice = [happened(at, "CashDeposited", changes={CASH: "5"}) for at in (2, 7)]
    assert kinds(found([differs(CASH, "-5")], *twice)) == [("booked_twice", 7), ("not_reported", 2)]


def test_one_fact_explains_all_before_one_that_explains_a_part() -> None:
    """A fill moves size and cash; a fee moves cash alone."""
    differences = [differs(CASH, "2"), differs(SIZE, "-1")]
    fill = happened(6, "TradeExecuted", changes={CASH: "-2", SIZE: "1"})
    causes = found(differences, happened(3, changes={CASH: "-2"}), fill)
    assert kinds(causes) == [("not_reported", 6), ("not_reported", 3)]
    assert [cause.explains for cause in causes] == [(CASH, SIZE), (CASH,)]


def test_event_that_moved_something_else_too_is_no_cause() -> None:
    """Without it another figure would differ."""
    fill = happened(6, "TradeExecuted", changes={CASH: "-2", SIZE: "1"})
    assert found([differs(CASH, "2")], fill) == []


def test_wrong_sign_is_half_of_the_difference() -> None:
    """A fee that was booked as a rebate."""
    causes = found([differs(CASH, "-6")], happened(4, changes={CASH: "3"}))
    assert kinds(causes) == [("wrong_sign", 4)]


def test_event_that_came_later_is_found() -> None:
    """The report was right, the books were late."""
    causes = found([differs(CASH, "5")], happened(12, "CashDeposited", changes={CASH: "5"}))
    assert kinds(causes) == [("booked_later", 12)]


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [("refused", "changed_nothing"), ("conflict", "changed_nothing"), ("parked", "waiting"),
     ("held", "waiting"), ("blocked", "waiting")],
)  # fmt: skip
def test_event_that_is_not_booked_is_found_by_what_it_says(outcome: str, kind: str) -> None:
    """A transfer of that amount, a fill of that size; of the named asset and symbol only."""
    transfer = {"amount": "5.0", "transfer_id": "t"}
    told = happened(4, "TransferredIn", outcome, payload=transfer)
    assert kinds(found([differs(CASH, "5")], told)) == [(kind, 4)]
    euro = happened(4, "TransferredIn", outcome, payload={**transfer, "currency": "EUR"})
    assert found([differs(CASH, "5")], euro) == []
    fill = {"symbol": "X", "side": "sell", "quantity": "3", "price": "1"}
    told = happened(5, "TradeExecuted", outcome, payload=fill)
    assert kinds(found([differs(SIZE, "-3")], told)) == [(kind, 5)]
    other = happened(5, "TradeExecuted", outcome, payload={**fill, "symbol": "Y"})
    assert found([differs(SIZE, "-3")], other) == []


def test_commission_of_a_fill_is_found() -> None:
    """The venue charged nothing, or twice as much; the fill itself is right."""
    fill = {"symbol": "X", "commission": "0.5"}
    told = happened(4, "TradeExecuted", changes={CASH: "-0.5", SIZE: "1"}, payload=fill)
    for difference in ("0.5", "-0.5"):
        assert kinds(found([differs(CASH, difference)], told)) == [("commission", 4)]


def test_nothing_before_a_report_that_matched_is_a_cause() -> None:
    """What both sides agreed on then is right."""
    history = [happened(at, changes={CASH: "5"}) for at in (2, 6)]
    assert kinds(found([differs(CASH, "-5")], *history, matched_at=4)) == [("booked_twice", 6)]


def test_voided_numbers_and_an_older_state_are_told() -> None:
    """One as the last resort, the other before all."""
    void = happened(3, "SequenceVoided", payload={"from": 2, "to": 2})
    assert kinds(found([differs(CASH, "5")], void)) == [("voided", 3)]
    older = happened(4)
    assert kinds(found([differs(CASH, "5")], void, older=older)) == [
        ("older_report", 4),
        ("voided", 3),
    ]


def test_words_of_others_that_are_no_numbers_are_no_cause() -> None:
    """A refused payload may hold anything."""
    odds: tuple[object, ...] = ("", "x", None, [], {}, "NaN", "Infinity", True, "5\0")
    for odd in odds:
        told = happened(4, "CashDeposited", "refused", payload={"amount": odd, "symbol": odd})
        assert found([differs(CASH, "5"), differs(SIZE, "1")], told) == []


def known(*args: Any, **fields: Any) -> KnownReport:
    """Return a report about the account."""
    envelope = decode_envelope(report(*args, **fields).data)
    said = report_codec_for(envelope).decode(envelope.payload)
    assert isinstance(said, AccountReported)
    return KnownReport(event_id=envelope.event_id, report=said, timestamp=envelope.timestamp)


def lines_for(log: Log, told: KnownReport) -> list[dict[str, Any]]:
    """Return what would repair the account."""
    holdings = holdings_of(log.account())
    comparison = compare(told.report, holdings, {})
    return repair_lines(
        ACCOUNT, told.report, comparison, holdings,
        report_id=told.event_id, timestamp="2026-01-01T00:00:00Z", actor="ann",
    )  # fmt: skip


def test_lines_make_the_books_say_what_the_report_says() -> None:
    """Tried on the books themselves, at the reported prices; once and not twice."""
    short = trade(4, "sell", "1", "9", "Y")
    known_symbols = [instrument(1, symbol) for symbol in ("BTC-PERP", "Y", "Z")]
    log = given(*known_symbols, opened(1), deposit(2, "100"), trade(3, "buy", "2", "30"), short)
    held = {"symbol": "BTC-PERP", "size": "3", "entry_price": "31"}
    other = {"symbol": "Z", "size": "-2", "entry_price": "7"}
    told = known({"USDT": "90", "BTC": "0.1"}, held, other, cost_method="average")
    lines = lines_for(log, told)
    assert [(one["event_type"], one["payload"].get("symbol")) for one in lines] == [
        ("CashAdjusted", None),
        ("CashAdjusted", None),
        ("PositionAdjusted", "BTC-PERP"),
        ("PositionAdjusted", "BTC-PERP"),
        ("PositionAdjusted", "Y"),
        ("PositionAdjusted", "Z"),
    ]
    assert lines == lines_for(log, told)
    assert len({one["payload"]["reference"] for one in lines}) == len(lines)
    assert repairs_all(log.books, ACCOUNT, lines, told.report)
    assert not repairs_all(log.books, ACCOUNT, lines, told.report)


def test_account_that_nobody_booked_for_is_opened_by_its_repair() -> None:
    """The first line opens it, in the currency that the line names."""
    told = known({"USDT": "5"})
    log, nothing = given(), Holdings(assets={}, positions={})
    lines = repair_lines(
        ACCOUNT,
        told.report,
        compare(told.report, nothing, {}),
        nothing,
        report_id=told.event_id,
        timestamp="2026-01-01T00:00:00Z",
        actor="ann",
    )
    assert repairs_all(log.books, ACCOUNT, lines, told.report)


def test_size_without_any_price_gets_no_line() -> None:
    """What it cost is for a person to say: then the lines do not repair all of it."""
    log = given(opened(1), deposit(2, "100"))
    told = known({"USDT": "100"}, {"symbol": "Z", "size": "1"})
    assert lines_for(log, told) == []
    assert not repairs_all(log.books, ACCOUNT, [], told.report)
