"""SymbolChanged."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.support.domain import Log, given
from tests.support.events import Sent, deposit, event, instrument, mark, opened, trade
from tests.unit.ledger.actions import act, holder, share

from psm.domain.snapshot import dump_account, load_account


def change(number: int = 4, old: str = "OLD", new: str = "NEW", **more: Any) -> Sent:
    return act("SymbolChanged", number, symbol=old, new_symbol=new, **more)


def test_symbol_changed_is_booked() -> None:
    """The position goes on under the new symbol, at the old mark until there is one."""
    log = holder("10", "100")
    log.when(mark(1, "110", "OLD"))
    seen = log.when(change())
    assert seen.outcome == "applied"
    gone, here = seen.payloads("PositionUpdated")[1], seen.payloads("PositionUpdated")[0]
    assert (gone["symbol"], gone["size"], here["symbol"], here["size"]) == ("OLD", "0", "NEW", "10")
    position = log.position("NEW")
    assert (position["entry_price"], position["mark_price"], position["cycle"]) == ("100", "110", 1)
    assert (position["mark_source"], position["kind"]) == ("mark", "equity")
    assert log.state()["equity"] == "10100"
    log.when(mark(2, "50", "OLD"))
    assert log.state()["equity"] == "10100"
    log.when(mark(1, "120", "NEW"))
    assert (log.position("NEW")["mark_price"], log.state()["equity"]) == ("120", "10200")


def test_symbol_changed_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    log = holder("10", "100")
    seen = log.when(change(new=""))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == "payload.new_symbol"
    assert log.position("OLD")["size"] == "10"


def test_symbol_changed_repeated_is_a_duplicate_and_loud_under_another_id() -> None:
    """The same bytes change nothing; its reference is known under both symbols."""
    log = holder("10", "100")
    again = change(reference="ca-1")
    log.when(again)
    before = log.hashes()
    assert log.when(again).outcome == "duplicate"
    assert log.hashes() == before
    assert log.when(change(5, reference="ca-1")).reason == "duplicate_reference"
    assert log.when(event("PeakReset", {}, 4)).outcome == "conflict"


def test_later_events_may_say_either_name() -> None:
    """The old one is an alias of this account alone, for fills, orders, dividends and splits."""
    log = holder("10", "100")
    log.when(change(), trade(5, "sell", "4", "120", "OLD"), trade(6, "buy", "2", "90", "NEW"))
    assert (log.position("NEW")["size"], log.state()["realized_pnl"]) == ("8", "80")
    log.when(act("SplitApplied", 7, symbol="OLD", ratio="2"))
    assert (log.position("NEW")["size"], list(log.state()["positions"])) == ("16", ["NEW"])
    other = [opened(1, stream="acc_002"), trade(2, "buy", "1", "5", "OLD", stream="acc_002")]
    log.when(*other)
    assert list(log.state("acc_002")["positions"]) == ["OLD"]


def test_orders_leverage_and_sums_move() -> None:
    """Open and ended orders, the symbol's own leverage, lifetime sums."""
    log = holder("10", "100")
    order = {"order_id": "o", "symbol": "OLD", "side": "buy", "type": "limit"}
    log.when(
        event("OrderSubmitted", {**order, "quantity": "2", "price": "90"}, 4),
        event("LeverageChanged", {"symbol": "OLD", "leverage": "4"}, 5),
        trade(6, "sell", "10", "110", "OLD", commission="1", order_id="x"),
        change(7),
    )
    state = log.state()
    assert (state["orders"]["o"]["symbol"], log.position("NEW")["realized_pnl"]) == ("NEW", "100")
    assert log.account().ledger.leverages == {"NEW": 4}
    assert log.account().ledger.orders.by_id["x"].symbol == "NEW"
    log.when(trade(8, "buy", "2", "90", "OLD", order_id="o"))
    assert log.account().ledger.orders.by_id["o"].status == "filled"
    assert (log.position("NEW")["cycle"], log.position("NEW")["fees"]) == (2, "1")


def test_remembered_fills_and_references_are_known_under_both_names() -> None:
    """A repeat is one whichever name it says; another company under the old name is not."""
    log = holder("10", "100")
    log.when(act("DividendPaid", 4, symbol="OLD", amount="1", reference="d"), change(5))
    for number, symbol in ((6, "OLD"), (7, "NEW")):
        again = trade(number, "buy", "10", "100", symbol, fill_id="f3")
        assert log.when(again).reason == "duplicate_fill"
    repeated = act("DividendPaid", 8, symbol="NEW", amount="1", reference="d")
    assert log.when(repeated).reason == "duplicate_reference"
    log.when(change(9, "OLD", "OLD"))
    assert log.when(trade(10, "buy", "1", "7", "OLD", fill_id="f3")).outcome == "applied"
    assert (log.position("OLD")["size"], log.position("NEW")["size"]) == ("1", "10")
    assert log.when(trade(11, "buy", "1", "7", "OLD", fill_id="f3")).reason == "duplicate_fill"
    assert log.when(trade(12, "buy", "1", "7", "NEW", fill_id="f3")).reason == "duplicate_fill"


def test_chain_of_changes_leads_to_its_end() -> None:
    """There and back, and on: the alias of an alias, and a symbol that is new again is none."""
    log = holder("10", "100")
    log.when(change(4, "OLD", "MID"), change(5, "MID", "NEW"), trade(6, "sell", "1", "100", "OLD"))
    assert log.position("NEW")["size"] == "9"
    log.when(change(7, "NEW", "OLD"), trade(8, "sell", "1", "100", "MID"))
    assert (list(log.state()["positions"]), log.position("OLD")["size"]) == (["OLD"], "8")
    assert log.account().ledger.renames.aliases == {"MID": "OLD", "NEW": "OLD"}
    assert log.when(trade(9, "buy", "1", "1", "NEW", fill_id="f3")).reason == "duplicate_fill"
    before = log.hashes()["acc_001"]
    log.when(change(10, "MID", "OLD"))  # said again: it is so
    assert list(log.state()["positions"]) == ["OLD"]
    assert log.hashes()["acc_001"] != before  # of the version alone
    assert log.account().ledger.renames.aliases == {"MID": "OLD", "NEW": "OLD"}


def test_another_kind_or_multiplier_is_a_conflict() -> None:
    """What is defined otherwise cannot be the same thing."""
    log = holder("10", "100")
    log.when(instrument(1, "FUT", kind="linear_future", quote="USD", settle="USD"))
    log.when(share("TEN", multiplier="10"), instrument(1, "EUR", kind="equity", quote="EUR",
             settle="EUR"))  # fmt: skip
    for number, new in ((4, "FUT"), (5, "TEN"), (6, "EUR")):
        seen = log.when(change(number, "OLD", new))
        assert (seen.outcome, seen.reason) == ("refused", "instrument_conflict")
        assert seen.payload("EventRefused")["field"] == "payload.new_symbol"
    assert log.position("OLD")["size"] == "10"


def test_undefined_new_symbol_takes_the_old_definition_also_when_flat() -> None:
    """Nothing was ever held: what comes later is a share all the same."""
    log = given(share("OLD", multiplier="5"), opened(1, currency="USD"), deposit(2, "1000"))
    log.when(change(3), trade(4, "buy", "2", "10", "NEW"))
    assert (log.position("NEW")["kind"], log.position("NEW")["multiplier"]) == ("equity", "5")
    assert log.state()["cash"] == {"USD": "900"}
    log.when(change(5, "NEW", "NEWER"), trade(6, "sell", "2", "10", "NEW"))
    log.when(trade(7, "buy", "2", "10", "NEWER"))
    assert log.position("NEWER")["kind"] == "equity"


@pytest.mark.parametrize(
    ("held", "size", "cost", "realized", "cash"),
    [
        (("buy", "4", "120"), "14", "1480", "0", "8520"),
        # 4 short at 120 are covered by units that cost 100.
        (("sell", "4", "120"), "6", "600", "80", "9480"),
        (("sell", "25", "120"), "-15", "1800", "200", "12000"),
        (("sell", "10", "90"), "0", "0", "-100", "9900"),
    ],
)
def test_into_a_symbol_that_is_held_too(
    held: tuple[str, str, str], size: str, cost: str, realized: str, cash: str
) -> None:
    """The same side adds up; the other side is covered at what the units cost."""
    log = holder("10", "100")
    side, quantity, price = held
    log.when(share("NEW"), trade(4, side, quantity, price, "NEW"), change(5))
    position = log.account().ledger.positions["NEW"]
    assert (str(position.size), str(position.cost)) == (size, cost)
    assert (log.state()["realized_pnl"], log.state()["cash"]["USD"]) == (realized, cash)
    assert list(log.state()["positions"]) == ["NEW"]


def test_contracts_that_cover_each_other_pay() -> None:
    """A long of the old and a short of the new symbol: the gain is cash, equity stays."""
    log = given(opened(1), deposit(2, "1000"), trade(3, "buy", "2", "100", "X"))
    log.when(trade(4, "sell", "2", "130", "Y"), mark(1, "110", "X"), mark(1, "110", "Y"))
    before = log.state()["equity"]
    log.when(change(5, "X", "Y"))
    assert (log.state()["equity"], log.state()["cash"]) == (before, {"USDT": "1060"})


def test_mark_that_moved_is_split_with_its_symbol() -> None:
    """Units of after the split stand at a price of after it."""
    log = holder("10", "100")
    log.when(mark(1, "110", "OLD"), change(), act("SplitApplied", 5, symbol="NEW", ratio="10"))
    assert (log.position("NEW")["mark_price"], log.state()["equity"]) == ("11", "10100")
    log.when(change(6, "NEW", "NEWER"))
    assert (log.position("NEWER")["mark_price"], log.state()["equity"]) == ("11", "10100")


def test_split_mark_moves_in_new_units() -> None:
    """The correction of the old symbol's mark is part of what moves."""
    log = holder("10", "100")
    log.when(mark(1, "110", "OLD"), act("SplitApplied", 4, symbol="OLD", ratio="10"), change(5))
    assert (log.position("NEW")["mark_price"], log.state()["equity"]) == ("11", "10100")


def test_snapshot_holds_names_marks_and_keys() -> None:
    """An account that went to its snapshot and came back is the same."""
    log = holder("10", "100")
    log.when(mark(1, "110", "OLD"), change(), act("BorrowChanged", 5, asset="USD", amount="3"))
    account = log.account()
    again, _ = load_account(dump_account(account, log.books.position, b""))
    assert again.ledger.renames == account.ledger.renames
    assert dict(again.ledger.borrowed) == {"USD": 3}
    assert dump_account(again, log.books.position, b"") == dump_account(
        account, log.books.position, b""
    )


def test_bust_and_amendment_find_a_fill_by_either_name() -> None:
    """A fill before the change, named as the venue names it now; what follows is as without it."""
    for symbol in ("OLD", "NEW"):
        log = holder("10", "100")
        log.when(trade(4, "buy", "5", "50", "OLD", fill_id="f4"), change(5))
        named = {"fill_id": "f3", "symbol": symbol, "reason": "wrong"}
        assert log.when(event("TradeBusted", named, 6)).outcome == "applied"
        assert (log.position("NEW")["size"], log.state()["cash"]) == ("5", {"USD": "9750"})


def test_reversed_change_never_happened() -> None:
    """The old symbol is held again, and what came under the new one is another thing's."""
    log = holder("10", "100")
    sent = change()
    log.when(sent, trade(5, "buy", "1", "100", "OLD", fill_id="f5"))
    wrong = msgspec.json.decode(sent.data)["event_id"]
    said = {"event_id": wrong, "reason": "not yet", "actor": "ann"}
    assert log.when(event("EventReversed", said, 6)).outcome == "applied"
    assert (list(log.state()["positions"]), log.position("OLD")["size"]) == (["OLD"], "11")
    assert log.when(trade(7, "buy", "1", "100", "OLD", fill_id="f5")).reason == "duplicate_fill"


def _figures(log: Log, symbol: str) -> dict[str, Any]:
    state = log.state()
    for name in ("event_hash", "chain_hash", "ledger_hash", "state_hash", "sequence_number"):
        state.pop(name)
    state.pop("log_sequence")
    position = state["positions"].pop(symbol)
    position.pop("symbol")
    return {**state, "position": position}


def test_change_relabels() -> None:
    """A log in which the symbol never changed has the same figures, excursions included."""

    def events(first: str, second: str, changed: Sent) -> Log:
        log = holder("10", "100", first)
        log.when(
            mark(1, "140", first),
            trade(4, "sell", "3", "130", first, commission="2"),
            mark(2, "80", first),
            changed,
        )
        marks = 3 if first == second else 1
        log.when(trade(6, "buy", "2", "70", first), mark(marks, "150", second))
        log.when(act("FeeCharged", 7, amount="4", symbol=first), mark(marks + 1, "90", second))
        return log

    renamed = events("OLD", "NEW", change(5))
    never = events("OLD", "OLD", act("FeeCharged", 5, amount="0"))
    one, other = _figures(renamed, "NEW"), _figures(never, "OLD")
    for figures in (one, other):
        figures["position"].pop("mark_log_sequence")
    assert one == other


def test_coin_gets_another_name() -> None:
    """A holding goes on under the new one at its cost; later events may say either."""
    log = given(opened(1, currency="USD"), deposit(2, "1000"))
    log.when(
        event("CashDeposited", {"amount": "5", "currency": "MATIC", "cost": "40"}, 3),
        change(4, "MATIC", "POL"),
    )
    ledger = log.account().ledger
    assert ledger.holding("POL").quantity == 5
    assert ledger.holding("POL").cost.amount == 40
    assert ledger.holding("MATIC").quantity == 0
