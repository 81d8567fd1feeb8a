"""The fold of whole messages: the sample events, marks, instruments, rules."""

from __future__ import annotations

import decimal
from collections.abc import Iterator

import pytest
from tests.support.domain import Log, given
from tests.support.events import (
    SAMPLES,
    SECOND,
    START,
    SYMBOL,
    Sent,
    changed,
    deposit,
    instrument,
    mark,
    opened,
    raw,
    rules,
    trade,
    withdrawal,
)
from tests.support.slots import even_slots

from psm.contracts.subjects import partition_of
from psm.domain.messages import Outcome
from psm.workers.replay.lines import LineFolder, LineResult


@pytest.fixture
def hostile_context() -> Iterator[None]:
    """A thread-wide decimal context under which any operator on decimals raises."""
    with decimal.localcontext() as context:
        context.prec = 1
        for signal in context.traps:
            context.traps[signal] = True
        yield


@pytest.mark.usefixtures("hostile_context")
def test_thread_context_does_not_matter() -> None:
    """Under one digit and all traps every kind of message gives the same bytes."""
    messages = [
        instrument(margin_tiers=[{"notional_floor": "0", "maintenance_rate": "0.004"}]),
        opened(1, leverage_limit="3"),
        deposit(2, "1234.5678"),
        trade(3, "buy", "0.123", "41234.56", commission="1.2345"),
        trade(4, "sell", "0.071", "42345.67", commission="-0.0123"),
        mark(1, "40321.987"),
        mark(2, "39876.5"),
        trade(5, "sell", "0.2", "39999.99", commission="0.7"),
        trade(8, "buy", "0.01", "39990.01", "ETH-PERP", fill_id="1"),
        trade(7, "buy", "0.3", "39990.02", liquidation_fee="0.123"),
        withdrawal(6, "2000.000000000000000001"),
        deposit(9, "1_0"),
        deposit(9, "1.5"),
        mark(3, "12.5"),
    ]
    hostile = given(*messages)
    with decimal.localcontext(decimal.Context()):
        calm = given(*messages)
        assert calm.end() == hostile.end()
        assert calm.updates == hostile.updates


def test_sample_events_give_the_expected_account() -> None:
    """The four events of the specification, two of them flat drafts."""
    folder = LineFolder()
    results = [folder.take(line) for line in SAMPLES]
    assert [r.outcome for r in results if isinstance(r, LineResult)] == ["applied"] * 4
    (state,) = folder.final()
    assert list(state["positions"]) == ["BTC-PERP"]
    position = state["positions"]["BTC-PERP"]
    assert (position["side"], position["size"], position["entry_price"]) == (
        "long",
        "0.3",
        "42000",
    )
    assert (position["mark_price"], position["mark_source"]) == ("42500", "fill")
    assert (state["realized_pnl"], state["fees"], state["funding"]) == ("100", "2.95", "-2.142")
    assert state["realized_pnl_net"] == "94.908"
    assert state["cash"] == {"USDT": "94.908"}
    assert (state["unrealized_pnl"], state["equity"]) == ("150", "244.908")


# --- marks ---------------------------------------------------------------------------------------


def held() -> Log:
    """Return a log where acc_001 is long one at 100, with 1 000 in cash; a slot each second."""
    return given(
        *(instrument(), opened(1), deposit(2), trade(3, "buy", "1", "100")), slots=even_slots(1000)
    )


def test_mark_that_reaches_a_slot_publishes_every_holder() -> None:
    """The first mark moves no clock; the next publishes: position, margin, state, cause mark."""
    log = held()
    assert log.when(mark(1, "105")).types == []
    seen = log.when(mark(2, "110"))
    assert seen.outcome is Outcome.APPLIED
    assert seen.types == ["PositionUpdated", "MarginUpdated", "StateUpdated"]
    position = seen.payload("PositionUpdated")
    assert (position["change"], position["mark_source"]) == ("marked", "mark")
    assert position["unrealized_pnl"] == "10"
    state = seen.payload("StateUpdated")
    assert (state["cause"], state["equity"], state["sequence_number"]) == ("mark", "1010", 3)


def test_mark_of_another_symbol_publishes_what_waits() -> None:
    """Whatever mark moves the clock publishes every account with changes, in order."""
    log = held()
    log.when(opened(1, stream="acc_000"), trade(2, "sell", "1", "100", stream="acc_000"))
    log.when(mark(1, "110", at=START))
    seen = log.when(mark(1, "5", "ETH-PERP", at=START + SECOND))
    assert [u["stream_id"] for u in seen.updates if u["event_type"] == "StateUpdated"] == [
        "acc_000",
        "acc_001",
    ]
    assert log.when(mark(2, "6", "ETH-PERP", at=START + 2 * SECOND)).updates == []


def test_account_event_publishes_what_it_touched() -> None:
    """An account's own event publishes margin and state; positions of marks keep their slot."""
    log = held()
    log.when(mark(1, "110", at=START), mark(2, "120", at=START + 1))
    seen = log.when(deposit(4).later(START + 2))
    assert seen.types == ["MarginUpdated", "StateUpdated"]
    assert seen.payload("StateUpdated")["equity"] == "2020"
    seen = log.when(mark(1, "1", "ETH-PERP", at=START + SECOND + 1))
    assert seen.payload("PositionUpdated")["mark_price"] == "120"
    assert log.when(mark(2, "1", "ETH-PERP", at=START + 2 * SECOND + 1)).updates == []


@pytest.mark.parametrize("number", [1, 2])
def test_mark_that_is_not_newer_is_stale(number: int) -> None:
    """A number that does not rise changes nothing, whatever its timestamp says."""
    log = held()
    log.when(mark(1, "105"), mark(2, "110"))
    seen = log.when(mark(number, "120", timestamp="2030-01-01T00:00:00Z", salt="x"))
    assert (seen.outcome, seen.updates) == (Outcome.STALE, [])
    assert log.position()["mark_price"] == "110"


@pytest.mark.parametrize(
    ("bad", "outcome", "reason"),
    [
        (mark(1, "-1"), Outcome.REFUSED, "invalid_payload"),
        (mark(1, "5", schema_version="2"), Outcome.REFUSED, "unknown_schema_version"),
        (changed(mark(1, "5"), event_type="Moved"), Outcome.REFUSED, "unknown_event_type"),
        (changed(mark(1, "5"), payload={"symbol": "X", "price": "5"}), Outcome.REFUSED, None),
        (changed(mark(1, "5"), sequence_number=None), Outcome.REJECTED, "sequence_missing"),
        (changed(mark(1, "5"), stream_id="X"), Outcome.REJECTED, "stream_mismatch"),
        (Sent(subject=f"marks.{SYMBOL}", data=b"junk"), Outcome.REJECTED, "invalid_json"),
    ],
)
def test_bad_mark_moves_no_mark(bad: Sent, outcome: Outcome, reason: str | None) -> None:
    """A refused or rejected mark is told once, and the mark stays."""
    log = held()
    seen = log.when(bad)
    assert seen.outcome is outcome
    assert reason in (None, seen.reason)
    assert seen.payload("EventRefused")["account_id"] == SYMBOL
    assert log.position()["mark_source"] == "fill"


def test_bad_mark_is_published_by_one_partition_only() -> None:
    """Every partition folds every mark; the symbol's own partition tells about a bad one."""
    told = [
        bool(given(partition=p).when(Sent(subject=f"marks.{SYMBOL}", data=b"junk")).updates)
        for p in range(16)
    ]
    assert told == [p == partition_of(SYMBOL, 16) for p in range(16)]


def test_symbol_with_a_dot_is_encoded() -> None:
    """The subject's token is the percent-encoded symbol."""
    log = given(opened(1), trade(2, "buy", "1", "100", "BRK.B"))
    sent = changed(mark(1, "110", "BRK.B"), stream_id="BRK%2EB")
    seen = log.when(Sent(subject="marks.BRK%2EB", data=sent.data))
    assert seen.outcome is Outcome.APPLIED
    assert log.position("BRK.B")["mark_price"] == "110"


def test_mark_before_a_position_values_it_at_once() -> None:
    """Once a symbol has a mark, a fill is valued at the mark and never becomes one."""
    log = given(mark(1, "110"), opened(1), trade(2, "buy", "1", "100"))
    assert (log.position()["mark_price"], log.position()["mark_source"]) == ("110", "mark")
    log.when(trade(3, "buy", "1", "105"))
    assert log.books.market.marks[SYMBOL].price == 110


def test_fill_price_of_another_account_is_no_mark() -> None:
    """Without a mark each account uses its own last fill."""
    log = held()
    log.when(opened(1, stream="b"), trade(2, "buy", "1", "500", stream="b"))
    assert log.position()["mark_price"] == "100"


def test_marks_never_change_the_ledger() -> None:
    """The ledger hash does not depend on marks, the state hash does."""
    log = held()
    before = log.state()
    log.when(mark(1, "110"))
    after = log.state()
    assert before["ledger_hash"] == after["ledger_hash"]
    assert before["state_hash"] != after["state_hash"]


# --- margin warnings -----------------------------------------------------------------------------

TIER = [{"notional_floor": "0", "maintenance_rate": "0.5"}]


def levered() -> Log:
    """Return a log: long 10 at 100, equity 1 100, maintenance half the notional."""
    log = given(instrument(margin_tiers=TIER), opened(1), deposit(2, "1100"))
    log.when(trade(3, "buy", "10", "100"))
    log.when(mark(1, "100", at=START))
    return log


def test_warning_is_published_when_a_level_is_crossed_upwards() -> None:
    """A warning names the level, and a level that was crossed before is not repeated."""
    log = levered()
    log.when(withdrawal(4, "200"))  # ratio 500 / 900
    seen = log.when(withdrawal(5, "300"))  # ratio 500 / 600
    assert [w["level"] for w in seen.payloads("MarginWarning")] == ["0.8"]
    assert seen.types == ["MarginUpdated", "MarginWarning", "StateUpdated"]
    assert seen.payload("StateUpdated")["flags"] == []


def test_warning_by_a_mark_is_never_throttled() -> None:
    """A mark between slots publishes its warnings with margin and state, and nothing else."""
    log = levered()
    log.when(withdrawal(4, "550"))  # equity 550, ratio 0.909: warned 0.5 and 0.8
    seen = log.when(mark(2, "94", at=START + 1))  # 470 / 490
    assert seen.types == []
    seen = log.when(mark(3, "80", at=START + 2))  # 400 / 350
    assert seen.types == ["MarginUpdated", "MarginWarning", "StateUpdated"]
    assert seen.payload("MarginWarning")["level"] == "1.0"
    assert "liquidatable" in seen.payload("MarginWarning")["flags"]
    assert log.when(mark(4, "70", at=START + 3)).types == []


def test_warning_is_armed_again_below_95_percent_of_its_level() -> None:
    """Falling back to just under the level does not re-arm it."""
    log = levered()
    seen = log.when(withdrawal(4, "100"))  # 500 / 1000
    assert [w["level"] for w in seen.payloads("MarginWarning")] == ["0.5"]
    log.when(deposit(5, "50"))  # 0.476: still disarmed
    assert log.when(withdrawal(6, "50")).payloads("MarginWarning") == []
    log.when(deposit(7, "60"))  # 0.4717: armed
    seen = log.when(withdrawal(8, "60"))
    assert [w["level"] for w in seen.payloads("MarginWarning")] == ["0.5"]


def test_several_levels_at_once_come_in_order() -> None:
    """One event may cross several levels: ascending."""
    seen = levered().when(withdrawal(4, "600"))  # 500 / 500
    assert [w["level"] for w in seen.payloads("MarginWarning")] == ["0.5", "0.8", "1.0"]


def test_equity_gone_has_no_ratio() -> None:
    """Equity of zero or less: ratio null, level 1.0, liquidatable."""
    log = levered()
    seen = log.when(withdrawal(4, "1100"))
    (warning,) = seen.payloads("MarginWarning")
    assert (warning["level"], warning["margin_ratio"], warning["leverage"]) == ("1.0", None, None)
    assert "liquidatable" in warning["flags"]
    assert log.state()["margin_available"] == "0"


def test_leverage_limit_warns_and_flags() -> None:
    """Beyond the limit the account is flagged; the warning comes on the crossing only."""
    log = given(opened(1, leverage_limit="2"), deposit(2, "100"))
    seen = log.when(trade(3, "buy", "2", "100"))
    assert seen.payloads("MarginWarning") == []
    seen = log.when(trade(4, "buy", "0.01", "100"))
    assert seen.payload("MarginWarning")["level"] == "leverage_limit"
    assert "leverage_limit_exceeded" in seen.payload("StateUpdated")["flags"]
    assert log.when(trade(5, "buy", "0.01", "100")).payloads("MarginWarning") == []
    ruined = log.when(withdrawal(6, "100"))
    assert [w["level"] for w in ruined.payloads("MarginWarning")] == ["1.0"]
    assert log.when(deposit(7, "90")).payloads("MarginWarning") == []


# --- instruments and rules -----------------------------------------------------------------------


def test_definition_is_fixed_by_the_first() -> None:
    """Kind, currencies and multiplier never change; tiers and increments may."""
    log = given(instrument(1))
    for name, value in [
        ("kind", "inverse_perp"),
        ("base", "XBT"),
        ("quote", "USD"),
        ("settle", "USDC"),
        ("multiplier", "2"),
    ]:
        seen = log.when(instrument(2, **{name: value}))
        assert (seen.outcome, seen.reason) == (Outcome.REFUSED, "instrument_conflict")
        assert seen.payload("EventRefused")["field"] == f"payload.{name}"
    assert log.when(instrument(2, multiplier="1.0", margin_tiers=TIER)).outcome is Outcome.APPLIED
    assert log.books.market.instruments[SYMBOL].margin_tiers


def test_definition_with_an_old_number_is_stale() -> None:
    """Numbers of a symbol's definitions only rise."""
    log = given(instrument(2))
    assert log.when(instrument(2, margin_tiers=TIER)).outcome is Outcome.STALE
    assert log.when(instrument(1, margin_tiers=TIER)).outcome is Outcome.STALE
    assert log.books.market.instruments[SYMBOL].margin_tiers == ()


def test_tier_errors_name_their_place() -> None:
    """A malformed tier is refused with its path."""
    seen = given().when(instrument(1, margin_tiers=[TIER[0], {"notional_floor": "-1"}]))
    assert seen.outcome is Outcome.REFUSED
    assert seen.payload("EventRefused")["field"] == "payload.margin_tiers[1].notional_floor"


def test_position_keeps_the_definition_it_opened_with() -> None:
    """A later definition counts from the next opening; until then the account is flagged."""
    log = given(opened(1), deposit(2), trade(3, "buy", "1", "100"))
    assert log.state()["flags"] == ["instrument_undefined"]
    log.when(instrument(1, multiplier="10"), trade(4, "buy", "1", "100"))
    assert log.position()["notional"] == "200"
    log.when(trade(5, "sell", "2", "100"), trade(6, "buy", "1", "100"))
    assert log.position()["notional"] == "1000"
    assert log.state()["flags"] == []


def test_rules_are_versioned() -> None:
    """The rules this code knows may be enabled; nonsense on the subject is refused."""
    log = given()
    assert log.when(rules(1)).outcome is Outcome.APPLIED
    assert log.when(rules(0)).reason == "invalid_payload"
    assert log.when(changed(rules(1), payload={"rules_version": 1})).reason == "invalid_payload"
    other = Sent(subject="control.other", data=changed(rules(1), stream_id="other").data)
    assert log.when(other).reason == "unknown_event_type"
    assert log.when(Sent(subject="control.rules", data=b"")).outcome is Outcome.REJECTED


def test_numbered_rules_are_applied_once() -> None:
    """A repeated number on control.rules is stale."""
    log = given(rules(1, number=3))
    assert log.when(rules(1, number=3)).outcome is Outcome.STALE


def test_refused_event_of_a_gap_keeps_neighbours_going() -> None:
    """One account's trouble never stops another's events."""
    log = given(raw(b"x", stream="a"), deposit(2, stream="a"), deposit(1, stream="b"))
    assert log.account("b").delivery.version == 1


def test_closed_position_is_not_marked() -> None:
    """Who holds a symbol no more is not touched by its marks."""
    log = held()
    log.when(trade(4, "sell", "1", "100"))
    assert log.when(mark(1, "110")).updates == []
    assert log.when(mark(1, "5", "ETH-PERP")).updates == []
