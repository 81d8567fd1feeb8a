"""EventFactory: complete, valid, linked events; the same from the same clock and ids."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import jsonschema_rs
import pytest
from scripts.make_schemas import FOLDER

import psm.contracts
from psm.contracts import EventFactory, Severity, Side, deprecations, recorded, registry
from psm.contracts.audit_events import AUDIT_EVENTS
from psm.contracts.deprecations import Deprecation
from psm.contracts.errors import ConfigError, ContractError
from psm.contracts.factory import NewEvent
from psm.contracts.identity import TimeOrderedIds, traceparent
from psm.contracts.subjects import decode_token

NOW = datetime(2026, 2, 14, 13, 5, 0, 250_000, tzinfo=UTC)
STATE = {"equity": "10000", "ledger_hash": "ab" * 32}
CHECKS = [
    {"name": "max_leverage", "passed": True, "value": 2.5, "limit": 10},
    {"name": "max_position", "passed": False, "value": "0.7", "limit": "0.5", "detail": "cut"},
]


def factory(**changes: Any) -> EventFactory:
    ids = TimeOrderedIds(random=lambda count: bytes(count))
    return EventFactory("momentum", "1.4.0", clock=lambda: NOW, ids=ids, **changes)


def every(make: EventFactory) -> dict[str, NewEvent]:
    """One event of each type, with the context that it is made for."""
    order: dict[str, Any] = {"account_id": "acc_001", "order_id": "o.1", "symbol": "BTCUSDT"}
    return {
        "market_data": make.create_market_data(
            symbol="BTCUSDT", price=43250.5, bid="43250", ask="43251", volume=12
        ),
        "signal_generated": make.create_signal(
            symbol="BTCUSDT",
            side=Side.BUY,
            confidence=0.82,
            reason="breakout",
            price=43250.5,
            strategy_params={"window": 20, "factor": 0.1, "levels": [1.5, Decimal("2.50")]},
        ),
        "risk_decision": make.create_risk_decision(
            account_id="acc_001",
            decision="reduced",
            reason="position limit",
            checks=CHECKS,
            risk_state=STATE,
            approved_quantity="0.5",
        ),
        "order_request": make.create_order_request(
            **order, side=Side.BUY, quantity=Decimal("0.50"), order_type="limit", price=1e-7
        ),
        "replace_request": make.create_replace_request(
            account_id="acc_001", order_id="o.1", quantity=0.25
        ),
        "cancel_request": make.create_cancel_request(account_id="acc_001", order_id="o.1"),
        "order_result": make.create_order_result(
            order_id="o.1", status="filled", filled_quantity=0.5, commission=-0.1
        ),
        "position_update": make.create_position_update(**order, side="long", size="0.5"),
        "alert": make.create_alert(severity=Severity.WARNING, message="margin", value=0.81),
        "state_snapshot": make.create_state_snapshot(account_id="acc_001", state=STATE),
    }


SUBJECTS = {
    "market_data": "marketdata.ticker.BTCUSDT",
    "signal_generated": "signals.strategy.momentum.BTCUSDT",
    "risk_decision": "risk.decision.acc_001",
    "order_request": "orders.command.acc_001",
    "replace_request": "orders.command.acc_001",
    "cancel_request": "orders.command.acc_001",
    "order_result": "orders.status.o%2E1",
    "position_update": "fills.internal.o%2E1",
    "alert": "risk.alert.warning",
    "state_snapshot": None,
}


def test_every_audit_event_is_complete_and_valid() -> None:
    """Each type passes its published schema, has its subject, and says who made it."""
    made = every(factory(user_id="desk-7", environment="production"))
    assert made.keys() == AUDIT_EVENTS.keys() - {"LatchSet", "cancel_all", "AccountReleased"}, (
        "those only the risk engine says"
    )
    for event_type, event in made.items():
        wire = json.loads(event.body)
        path = FOLDER / event_type / f"{registry.version_of(event_type)}.json"
        jsonschema_rs.validate(json.loads(path.read_text()), wire["payload"])
        assert event.subject == SUBJECTS[event_type]
        assert (wire["event_type"], wire["schema_version"]) == (event_type, path.stem)
        assert (wire["source_service"], wire["user_id"]) == ("momentum", "desk-7")
        assert wire["timestamp"] == "2026-02-14T13:05:00.250000Z"
        assert wire["correlation_id"] == wire["event_id"]
        assert wire["metadata"] == {
            "service": "momentum",
            "version": "1.4.0",
            "environment": "production",
        }
        assert "causation_id" not in wire
        assert event.to_dict() == wire
    # An account's events say whose they are; others belong to no stream.
    assert made["risk_decision"].stream_id == "acc_001"
    assert made["signal_generated"].stream_id is None


def test_numbers_are_exact() -> None:
    """Floats become the shortest decimal that is them, at any depth; the rest stays as given."""
    made = every(factory())
    assert made["market_data"].payload["price"] == "43250.5"
    assert made["market_data"].payload["volume"] == 12
    assert made["order_request"].payload["price"] == "0.0000001"
    assert made["order_request"].payload["quantity"] == "0.50"
    assert made["signal_generated"].payload["strategy_params"] == {
        "window": 20,
        "factor": "0.1",
        "levels": ["1.5", "2.50"],
    }
    huge = factory().create_alert(severity="info", message="x", context={"n": 10**30})
    assert huge.payload["context"] == {"n": "1" + "0" * 30}


def test_strategy_is_the_service_unless_named() -> None:
    """`strategy_id` defaults to the service name."""
    signal: dict[str, Any] = {"symbol": "BRK.B", "side": "sell", "confidence": 1, "reason": "x"}
    assert factory().create_signal(**signal).payload["strategy_id"] == "momentum"
    other = factory().create_signal(**signal, strategy_id="mean.reversion")
    assert other.subject == "signals.strategy.mean%2Ereversion.BRK%2EB"
    assert decode_token("mean%2Ereversion") == "mean.reversion"


def test_book_and_changes_of_it_are_market_data() -> None:
    """On a subject of their own, with the venue's digits, and as the schema says."""
    make = factory()
    levels = [["43250.10", "0.500"], ["43250.00", Decimal("2.0")]]
    book: dict[str, Any] = {"symbol": "BTC/USDT", "exchange": "kraken", "bids": levels, "asks": []}
    for event in (
        make.create_market_data(**book, kind="snapshot", last_id=10, depth=10, checksum=974947235),
        make.create_market_data(**book, kind="delta", first_id=11, last_id=12, prev_id=10),
    ):
        payload = json.loads(event.body)["payload"]
        schema = json.loads((FOLDER / "market_data" / "1.1.0.json").read_text())
        jsonschema_rs.validate(schema, payload)
        assert event.subject == "marketdata.depth.kraken.BTC%2FUSDT"
        recorded.check(event.subject, event.body)
        assert payload["bids"] == [["43250.10", "0.500"], ["43250.00", "2.0"]]
        with pytest.raises(ContractError, match="belongs on"):
            recorded.check("marketdata.ticker.BTC%2FUSDT", event.body)


def test_unknown_fields_are_kept_and_archived() -> None:
    """What the schema does not name travels along, and is there when the payload is read."""
    event = factory().create_order_result(
        order_id="1", status="filled", venue_says={"code": 7}, latency_ms=1.5
    )
    envelope = recorded.decode_recorded(event.body)
    assert envelope.stream_id == ""
    payload = recorded.decode_audit(envelope)
    assert payload["venue_says"] == {"code": 7}
    assert payload["latency_ms"] == "1.5"


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda f: f.create_market_data(symbol="", price=1), "payload.symbol"),
        (lambda f: f.create_market_data(symbol="A", price=0), "payload.price"),
        (lambda f: f.create_market_data(symbol="A"), "payload.price"),
        (lambda f: f.create_market_data(symbol="A", kind="delta"), "payload.exchange"),
        (lambda f: f.create_market_data(symbol="A", kind="all", exchange="x"), "payload.kind"),
        (
            lambda f: f.create_market_data(symbol="A", kind="delta", exchange="x", bids=[["1"]]),
            "payload.bids[0]",
        ),
        (
            lambda f: f.create_market_data(
                symbol="A", kind="delta", exchange="x", asks=[["1", "2"], ["1", "-2"]]
            ),
            "payload.asks[1][1]",
        ),
        (lambda f: f.create_market_data(symbol="A", price=float("nan")), "payload.price"),
        (lambda f: f.create_market_data(symbol="A", price=Decimal("inf")), "payload.price"),
        (lambda f: f.create_market_data(symbol="A", price=1, data=[1]), "payload.data"),
        (lambda f: f.create_alert(severity="loud", message="x"), "payload.severity"),
        (lambda f: f.create_alert(severity="info", message="x", value={}), "payload.value"),
        (lambda f: f.create_alert(severity="info", message="x", value=[1]), "payload.value"),
        (lambda f: f.create_alert(severity="info", message="x", context=f), "payload.context"),
        (
            lambda f: f.create_risk_decision(
                account_id="a", decision="approved", reason="x", checks=[{"name": "n"}]
            ),
            "payload.checks[0].passed",
        ),
        (
            lambda f: f.create_signal(symbol="A", side="long", confidence=1, reason="x"),
            "payload.side",
        ),
        (lambda f: f.create_event("TradeExecuted", "a", {"price": 0.1}), "price"),
        (lambda f: f.create_event("CashDeposited", "a", {"amount": "-1"}), "payload.amount"),
        (lambda f: f.create_event("Nothing", "a", {}), "event_type"),
        (lambda f: f.create_event("alert", "a", {}), "event_type"),
    ],
)
def test_what_is_not_valid_is_not_made(
    make: Callable[[EventFactory], NewEvent], field: str
) -> None:
    """The error names the field, before anything is published."""
    with pytest.raises(ContractError) as caught:
        make(factory())
    assert caught.value.field == field


def test_causation_is_carried() -> None:
    """Each event names the one before; all share the correlation of the first."""
    make = factory()
    seen = make.create_market_data(symbol="BTCUSDT", price=1)
    signal = make.caused_by(seen).create_signal(
        symbol="BTCUSDT", side=Side.BUY, confidence=1, reason="x"
    )
    assert (signal.causation_id, signal.correlation_id) == (seen.event_id, seen.event_id)
    # Another service knows the event as bytes, envelope, dict or id only.
    for cause in (signal, signal.body, signal.to_dict(), recorded.decode_recorded(signal.body)):
        alert = make.caused_by(cause).create_alert(severity="info", message="x")
        assert (alert.causation_id, alert.correlation_id) == (signal.event_id, seen.event_id)
    by_id = make.caused_by(signal.event_id, correlation_id="session-1")
    assert by_id.create_alert(severity="info", message="x").correlation_id == "session-1"
    told = by_id.create_alert(severity="info", message="x", correlation_id="c", causation_id="d")
    assert (told.correlation_id, told.causation_id) == ("c", "d")
    assert make.create_alert(severity="info", message="x").causation_id is None
    with pytest.raises(ContractError, match="event_id"):
        make.caused_by({})


def test_trade_of_the_log_is_linked_too() -> None:
    """An event of the log has its subject, its cause, and no number yet."""
    make = factory()
    result = make.create_order_result(order_id="1", status="filled")
    trade = make.caused_by(result).create_event(
        "TradeExecuted",
        "acc_001",
        {"symbol": "BTCUSDT", "side": Side.BUY, "quantity": Decimal("0.5"), "price": "43250.5"},
    )
    assert (trade.subject, trade.causation_id) == ("trades.acc_001", result.event_id)
    assert "sequence_number" not in trade.to_dict()


def test_ids_are_version_7_and_rise() -> None:
    """Ids carry the clock's time and rise, also when it stands still or goes back."""
    times = [NOW, NOW, NOW - timedelta(hours=1), NOW + timedelta(milliseconds=1)]
    clock = iter(times * 50)
    make = EventFactory("s", "1", clock=lambda: next(clock))
    ids = [UUID(make.create_alert(severity="info", message="x").event_id) for _ in range(200)]
    assert {made.version for made in ids} == {7}
    assert {made.variant for made in ids} == {"specified in RFC 4122"}
    assert ids == sorted(set(ids))
    assert ids[0].int >> 80 == int(NOW.timestamp() * 1000)
    full = TimeOrderedIds(random=lambda count: b"\xff" * count)
    first, second = full.make(1), full.make(1)
    assert (first.int >> 80, second.int >> 80) == (1, 2)
    assert second.version == 7


def test_same_clock_and_ids_make_the_same_bytes() -> None:
    """Nothing in an event comes from anywhere but the arguments."""
    first = [event.body for event in every(factory()).values()]
    assert [event.body for event in every(factory()).values()] == first


def test_trace_follows_the_correlation() -> None:
    """One trace per correlation id, one span per event; ids that are no UUIDs do as well."""
    trace, span = "0192a4f0-0000-7000-8000-000000000001", "0192a4f0-0000-7000-8000-0000000000ff"
    assert traceparent(trace, span) == f"00-{UUID(trace).hex}-80000000000000ff-01"
    for text in ("session-1", "00000000-0000-0000-0000-000000000000"):
        version, hexed, _, flags = traceparent(text, span).split("-")
        assert (version, len(hexed), flags) == ("00", 32, "01")
        assert hexed.strip("0")


def test_deprecation_is_said_in_the_envelope(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version with a notice says since when, until when and what instead; others say nothing."""
    given = Deprecation(
        event_type="alert",
        major=1,
        since=date(2026, 3, 1),
        ends=date(2027, 3, 1),
        instead="alert 2.0.0, whose code is required",
    )
    monkeypatch.setattr(deprecations, "DEPRECATIONS", (given,))
    made = every(factory())
    assert made["alert"].to_dict()["metadata"]["deprecated"] == {
        "since": "2026-03-01",
        "ends": "2027-03-01",
        "instead": "alert 2.0.0, whose code is required",
    }
    assert "deprecated" not in made["market_data"].metadata
    assert deprecations.notice("alert", "2.0.0") is None


async def test_misuse_is_named() -> None:
    """No name, no publisher, a naive clock, a snapshot without subject: each says what to do."""
    with pytest.raises(ConfigError, match="name and the version"):
        EventFactory("", "1")
    naive = EventFactory("s", "1", clock=lambda: NOW.replace(tzinfo=None))
    with pytest.raises(ConfigError, match="aware"):
        naive.create_alert(severity="info", message="x")
    with pytest.raises(ConfigError, match="no publisher"):
        await factory().publish(factory().create_alert(severity="info", message="x"))
    snapshot = factory().create_state_snapshot(account_id="a", state={})
    with pytest.raises(ConfigError, match="pass subject="):
        await factory(publisher=psm.contracts.Publisher("nats://127.0.0.1:1")).publish(snapshot)
    with pytest.raises(ContractError, match="larger"):
        factory().create_alert(severity="info", message="x", context={"x": "y" * 70_000})


def test_recorded_bodies_are_judged_as_far_as_they_are_known() -> None:
    """A wrong payload or subject is refused; what is unknown is kept as it is."""
    made = every(factory())
    recorded.check("risk.alert.warning", made["alert"].body)
    recorded.check("risk.state.acc_001", made["state_snapshot"].body)
    unknown = made["alert"].body.replace(b'"alert"', b'"venue_note"')
    recorded.check("signals.anything", unknown)
    newer = made["alert"].body.replace(b'"schema_version":"1.0.0"', b'"schema_version":"9.0.0"')
    recorded.check("risk.alert.warning", newer)
    with pytest.raises(registry.UnknownEventError, match="no schema version"):
        recorded.decode_audit(recorded.decode_recorded(newer))
    with pytest.raises(ContractError, match=r"belongs on risk\.alert\.warning"):
        recorded.check("orders.status.1", made["alert"].body)
    with pytest.raises(ContractError, match="not recorded"):
        recorded.check("snapshots.1", made["alert"].body)
    with pytest.raises(ContractError, match=r"payload\.message"):
        recorded.check("risk.alert.info", made["alert"].body.replace(b'"message"', b'"massage"'))
    for number in (b"1", b"1.5"):
        body = made["alert"].body.replace(b'"message":"margin"', b'"message":' + number)
        with pytest.raises(ContractError, match=r"payload\.message"):
            recorded.check("risk.alert.warning", body)
    with pytest.raises(ContractError, match="event_id"):
        recorded.check("risk.alert.info", b"{}")
    with pytest.raises(ContractError, match="larger"):
        recorded.decode_recorded(b" " * 70_000)


def test_a_producer_needs_nats_and_the_contracts_only() -> None:
    """Factory and publisher load and work without anything else of PSM, tracing included."""
    code = """
import sys
for name in ("psm.workers", "psm.adapters", "psm.domain", "psm.projections", "opentelemetry",
             "structlog", "asyncpg", "cyclopts", "rich", "starlette", "uuid_utils", "stamina"):
    sys.modules[name] = None
from psm.contracts import EventFactory, Publisher, Side
factory = EventFactory("s", "1", publisher=Publisher("nats://127.0.0.1:1"))
print(factory.create_signal(symbol="A", side=Side.BUY, confidence=1, reason="x").subject)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "signals.strategy.s.A\n"


def test_package_offers_what_producers_need() -> None:
    """`from psm.contracts import EventFactory` works; a wrong name is an AttributeError."""
    assert {name for name in psm.contracts.__all__ if getattr(psm.contracts, name)} == set(
        psm.contracts.__all__
    )
    with pytest.raises(AttributeError, match="Nothing"):
        _ = psm.contracts.Nothing
