"""The updates of one message: ids, order, envelopes, documents."""

from __future__ import annotations

import uuid
from typing import get_args

import msgspec
import pytest
from tests.support.domain import given
from tests.support.events import (
    START,
    deposit,
    event,
    instrument,
    mark,
    opened,
    trade,
)
from tests.support.slots import even_slots

from psm.contracts import updates
from psm.contracts.update_fields import Common
from psm.contracts.updates import TOLD_ONCE, StateUpdated
from psm.domain.messages import Emit
from psm.domain.publication.log_times import log_time
from psm.domain.publication.update_ids import NAMESPACE, update_id


def test_update_ids_are_uuid_version_5() -> None:
    """The standard library agrees."""
    name = "17/acc_001/2"
    assert update_id(17, "acc_001", 2) == str(uuid.uuid5(uuid.UUID(bytes=NAMESPACE), name))


def test_ordinals_count_per_stream() -> None:
    """Within one message each stream counts its own updates from 0."""
    log = given(instrument(), deposit(1), trade(2, "buy", "1", "100"), slots=even_slots(1000))
    log.when(deposit(1, stream="b"), trade(2, "buy", "1", "100", stream="b"))
    seen = log.when(mark(1, "95"), mark(2, "90"))
    ids = [update["event_id"] for update in seen.updates]
    names = [update_id(log.books.position, s, n) for s in ("acc_001", "b") for n in range(3)]
    assert ids == names


def test_envelope_of_an_update() -> None:
    """Cause and correlation are the input's, the time is the log's."""
    sent = deposit(1, correlation_id="session-1", at=None)
    log = given()
    seen = log.when(sent)
    (envelope,) = [u for u in seen.updates if u["event_type"] == "StateUpdated"]
    cause = msgspec.json.decode(sent.data)
    assert envelope["causation_id"] == cause["event_id"]
    assert envelope["correlation_id"] == "session-1"
    assert envelope["timestamp"] == "2025-12-12T10:30:01.000000Z"
    assert envelope["schema_version"] == "1.0.0"
    assert (envelope["stream_id"], envelope["sequence_number"]) == ("acc_001", 1)
    assert (envelope["source_service"], envelope["user_id"]) == ("psm", "psm")
    assert log.updates[-1].subject == "psm.state.updated.2.acc_001"


@pytest.mark.parametrize("emit", get_args(Emit))
def test_margin_is_compared_with_what_was_published(emit: Emit) -> None:
    """A limit that comes with the opening changes nothing in what was published before it.

    The first event is folded by an owner that recovers, the others by one that publishes: its
    updates must be those of a fold that always published.
    """
    log = given()
    log.take(log.message(event("CashDeposited", {"amount": "-1"}, 1)), emit)
    assert "MarginUpdated" in log.when(opened(2, leverage_limit="3")).types


def test_log_time_is_cut_to_microseconds() -> None:
    """Nanoseconds have no place in RFC 3339 as others read it."""
    assert log_time(START) == "2025-12-12T10:30:00.000000Z"
    assert log_time(START + 1_999) == "2025-12-12T10:30:00.000001Z"
    assert log_time(0) == "1970-01-01T00:00:00.000000Z"


def test_positions_come_in_the_order_of_their_symbols() -> None:
    """A publication sorts, whatever the order of the marks was."""
    log = given(opened(1), *(trade(n, "buy", "1", "1", s) for n, s in ((2, "B"), (3, "A"))))
    log.when(trade(4, "buy", "1", "1", "C"), mark(1, "2", "C"), mark(1, "2", "B"))
    log.when(mark(1, "2", "A"))
    slow = [
        u["payload"]["symbol"] for u in log.let_pass(60) if u["event_type"] == "PositionUpdated"
    ]
    assert slow == ["A", "B", "C"]
    seen = log.when(trade(5, "sell", "3", "2", "B"))
    changes = [(p["symbol"], p["change"]) for p in seen.payloads("PositionUpdated")]
    assert changes == [("B", "closed"), ("B", "opened")]


def test_margin_is_published_only_when_it_changed() -> None:
    """A refused event changes none of it."""
    log = given(deposit(1))
    assert log.when(deposit(2, "-1")).types == ["EventRefused", "StateUpdated"]
    assert log.when(deposit(3, "0.01")).types == ["MarginUpdated", "StateUpdated"]


def test_figures_have_at_most_18_decimals() -> None:
    """Rounded half-even for publication only: the books keep every digit."""
    log = given(deposit(1, "100"), trade(2, "buy", "3", "1"), trade(3, "buy", "4", "2"))
    seen = log.when(trade(4, "sell", "1", "1.3"))
    realized = seen.payload("StateUpdated")["realized_pnl"]
    assert realized == "-0.271428571428571429"
    exact = log.account().ledger.positions["BTC-PERP"].realized_pnl
    assert len(str(exact)) > len(realized)


def test_state_document_and_update_agree() -> None:
    """What is read is what was published, plus the positions."""
    log = given(opened(1), deposit(2))
    published = log.when(trade(3, "buy", "1", "100")).payload("StateUpdated")
    document = log.state()
    for name in StateUpdated.__struct_fields__:
        if name not in ("event_log_sequence", "cause", *TOLD_ONCE):
            assert document[name] == published[name]
    figures = document["positions"]["BTC-PERP"]
    assert tuple(figures) == updates.POSITION_FIGURES
    assert document["orders"] == {}


def test_common_fields_are_in_every_update_of_an_account() -> None:
    """Only `event_log_sequence` may be absent."""
    names = [n for n in Common.__struct_fields__ if n != "event_log_sequence"]
    log = given(deposit(1), trade(2, "buy", "1", "1"), deposit(4), deposit(3))
    for update in log.updates:
        payload = msgspec.json.decode(update.data)["payload"]
        assert [n for n in names if n not in payload] == []
