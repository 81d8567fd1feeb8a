"""Which ticks become marks, and what a mark says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from psm.adapters.jetstream import StoredMessage
from psm.contracts import codec, registry
from psm.contracts.drafts import draft_of
from psm.contracts.errors import ContractError
from psm.workers.bridges.marks_sampler import Sampler, tick_of

AT = 1_765_535_400_123_456_789


def tick(
    price: object = "100", sequence: int = 1, token: str = "BTCUSDT", **fields: Any
) -> StoredMessage:
    body = {"price": price, **fields}
    return StoredMessage(
        subject=f"marketdata.ticker.{token}",
        sequence=sequence,
        time_ns=AT,
        data=json.dumps({k: v for k, v in body.items() if v is not None}).encode(),
    )


def taken(sampler: Sampler, *messages: StoredMessage) -> None:
    for message in messages:
        sampler.take(tick_of(message))


def marked(sampler: Sampler, now: float) -> list[tuple[str, str]]:
    """Mark what is due; return price and reason of each."""
    due = sampler.due(now)
    for one, _ in due:
        sampler.marked(one.token, one.payload, now)
    return [(str(one.payload.price), reason) for one, reason in due]


def test_at_most_one_mark_per_interval_and_the_newest() -> None:
    """The first tick is marked at once, then the newest one when the interval ends."""
    sampler = Sampler(1.0, 0)
    taken(sampler, tick("100", 1))
    assert marked(sampler, 10.0) == [("100", "first")]
    taken(sampler, tick("101", 2), tick("105", 3), tick("102", 4))
    assert marked(sampler, 10.5) == []
    assert sampler.next_due(10.5) == pytest.approx(0.5)
    assert marked(sampler, 11.0) == [("102", "interval")]
    assert marked(sampler, 12.0) == []
    assert (sampler.waiting, sampler.symbols, sampler.next_due(12.0)) == (0, 1, 1.0)


def test_a_move_is_marked_at_once() -> None:
    """The threshold is met in both directions, against the last mark; below it ticks wait."""
    sampler = Sampler(60.0, 50)
    taken(sampler, tick("100", 1))
    marked(sampler, 0)
    taken(sampler, tick("100.49", 2))
    assert marked(sampler, 1) == []
    taken(sampler, tick("100.5", 3))
    assert marked(sampler, 1) == [("100.5", "move")]
    taken(sampler, tick("99.9", 4))
    assert marked(sampler, 1) == [("99.9", "move")]
    assert marked(sampler, 1) == []


def test_an_unchanged_price_is_no_mark() -> None:
    """A price that came back to the last mark's takes what waited away; an index change counts."""
    sampler = Sampler(1.0, 0)
    taken(sampler, tick("100", 1))
    marked(sampler, 0)
    taken(sampler, tick("101", 2), tick("100.0", 3))
    assert sampler.waiting == 0
    taken(sampler, tick("100", 4, index_price="99"))
    assert marked(sampler, 5) == [("100", "interval")]


def test_an_older_tick_never_replaces_a_newer_one() -> None:
    """What is read twice, or late, changes nothing; symbols do not touch each other."""
    sampler = Sampler(1.0, 0)
    taken(sampler, tick("102", 5), tick("101", 4), tick("7", 6, token="ETH"))
    assert sorted(marked(sampler, 0)) == [("102", "first"), ("7", "first")]


def test_what_waits_for_a_refused_tick_is_only_that_tick() -> None:
    """Dropping a tick keeps a newer one of the same symbol."""
    sampler = Sampler(1.0, 0)
    taken(sampler, tick("1", 1))
    ((first, _),) = sampler.due(0)
    taken(sampler, tick("2", 2))
    sampler.drop(first)
    assert marked(sampler, 0) == [("2", "first")]


@pytest.mark.parametrize(
    ("fields", "price"),
    [
        ({"price": "42.50"}, "42.5"),
        ({"price": 42.5}, "42.5"),
        ({"price": 1e-7}, "0.0000001"),
        ({"mark_price": "43", "price": "42"}, "43"),
        ({"price": None, "last_price": "42", "close": "41"}, "42"),
        ({"price": None, "last": 42}, "42"),
        ({"price": None, "close": "41"}, "41"),
        ({"price": None, "bid": "42", "ask": "42.1"}, "42.05"),
    ],
)
def test_price_of_a_tick(fields: dict[str, Any], price: str) -> None:
    """Mark, then last, then middle price; exact, and in canonical form."""
    assert tick_of(tick(**fields)).event()["payload"]["price"] == price


def test_a_mark_is_the_event_of_the_contract() -> None:
    """The mark of a `market_data` event: its payload, cause, correlation and subject."""
    event = {
        "event_id": "0192a4f0-0000-7000-8000-000000000001",
        "event_type": "market_data",
        "timestamp": "2026-02-14T13:05:00Z",
        "correlation_id": "session-1",
        "payload": {"symbol": "BRK.B", "price": "431.2", "index_price": "431", "exchange": "X"},
    }
    message = tick(None, 7, token="BRK%2EB", **event)
    made = tick_of(message).event()
    draft = draft_of({**made, "sequence_number": 1})
    assert draft.subject == "marks.BRK%2EB"
    payload = registry.codec_for(draft.envelope).decode(draft.envelope.payload)
    assert codec.canonical_bytes(made["payload"]) == (
        b'{"index_price":"431","price":"431.2","source":"X","symbol":"BRK.B"}'
    )
    assert type(payload).__name__ == "MarkPriceUpdated"
    assert (made["causation_id"], made["correlation_id"]) == (event["event_id"], "session-1")
    assert made["timestamp"] == event["timestamp"]
    assert made["source_service"] == made["user_id"] == "psm-marks"


def test_the_same_tick_gives_the_same_mark() -> None:
    """Bytes and id follow from the tick; a bare tick takes its time from the broker."""
    assert tick_of(tick()).event() == tick_of(tick()).event()
    assert tick_of(tick()).event()["timestamp"] == "2025-12-12T10:30:00.123456Z"
    ids = {tick_of(tick(sequence=n)).event()["event_id"] for n in (1, 2)}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (tick("0"), "payload.price"),
        (tick("-1"), "payload.price"),
        (tick("1e400"), "payload.price"),
        (tick("NaN"), "payload.price"),
        (tick(True), "payload.price"),
        (tick(None), "price"),
        (tick(None, bid="1"), "price"),
        (tick(None, bid="1", ask="x"), "payload.price"),
        (tick(index_price="x"), "payload.index_price"),
        (tick(symbol="B"), "symbol"),
    ],
)
def test_what_is_no_tick_is_refused(message: StoredMessage, field: str) -> None:
    """The error names the field."""
    with pytest.raises(ContractError) as caught:
        tick_of(message)
    assert caught.value.field == field


def test_junk_is_refused() -> None:
    """Not JSON, and a subject that is no symbol."""
    junk = StoredMessage(subject="marketdata.ticker.A", sequence=1, time_ns=1, data=b"x")
    with pytest.raises(ContractError, match="invalid_json"):
        tick_of(junk)
    wrong = StoredMessage(subject="marketdata.ticker.%zz", sequence=1, time_ns=1, data=b"{}")
    with pytest.raises(ContractError, match="no encoded symbol"):
        tick_of(wrong)
