"""Audit events on a real broker: made, published once, traced, and linked across processes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from opentelemetry.sdk.trace import TracerProvider
from tests.support.log import LogSize, empty_log
from tests.support.owner import owning
from tests.support.running import run
from tests.support.workbench import WAIT_S

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import (
    Outgoing,
    connect,
    last_for,
    publish_atomic,
    publish_expected,
    read_range,
    stream_info,
)
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.errors import ContractError, ReplayModeError, TransientError
from psm.contracts.factory import EventFactory, Side
from psm.contracts.identity import traceparent
from psm.contracts.publisher import Appended, Publisher
from psm.contracts.replay import ReplayMode

ROOT = Path(__file__).parents[2]
RECORDED = ("MARKETDATA", "SIGNALS", "RISK", "ORDERS", "FILLS")


@pytest.fixture
async def nc(nats_url: str) -> AsyncIterator[Client]:
    async with empty_log(nats_url) as connection:
        yield connection


async def everything(nc: Client) -> list[dict[str, Any]]:
    """Every event in the log and on the recorded subjects."""
    found = []
    for stream, subject in (*((name, f"{name.lower()}.>") for name in RECORDED), ("TRADES", ">")):
        async for batch in read_range(nc, stream, [subject], 1, 2**62):
            found += [json.loads(message.data) for message in batch]
    return found


async def test_events_are_recorded_once_with_their_trace(nc: Client) -> None:
    """Publishing twice stores once; the trace context follows the correlation, or a live span."""
    factory = EventFactory("momentum", "1.0.0", publisher=Publisher(nc))
    seen = factory.create_market_data(symbol="BRK.B", price=431.25)
    signal = factory.caused_by(seen).create_signal(
        symbol="BRK.B", side=Side.BUY, confidence=0.9, reason="x"
    )
    assert await factory.publish(signal) == await factory.publish(signal) == 1
    stored = await last_for(nc, "SIGNALS", "signals.strategy.momentum.BRK%2EB")
    assert stored is not None
    assert stored.data == signal.body
    assert stored.header("traceparent") == traceparent(seen.event_id, signal.event_id)
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("decide") as span:
        await factory.publish(factory.create_alert(severity="info", message="x"))
        expected = format(span.get_span_context().trace_id, "032x")
    alert = await last_for(nc, "RISK", "risk.alert.info")
    assert alert is not None
    assert expected in (alert.header("traceparent") or "")


async def test_trade_goes_to_the_log_with_a_number(nc: Client) -> None:
    """An event of the log is numbered by the publisher, and carries its trace as well."""
    factory = EventFactory("venue", "1.0.0", publisher=Publisher(nc, assume_new=True))
    trade = factory.create_event(
        "TradeExecuted", "acc", {"symbol": "A", "side": "buy", "quantity": "1", "price": "2"}
    )
    appended = await factory.publish(trade)
    assert isinstance(appended, Appended)
    assert appended.sequence_number == 1
    stored = await last_for(nc, "TRADES", "trades.*.acc")
    assert stored is not None
    assert stored.header("traceparent") == traceparent(trade.correlation_id, trade.event_id)
    assert json.loads(stored.data)["correlation_id"] == trade.event_id


async def test_recording_waits_for_the_broker(nats_server: EmbeddedNats) -> None:
    """A broker that is away delays an event and does not double it; at last it is an error."""
    nc = await connect(nats_server.url, name="test")
    try:
        await apply(nc, LogSize())
        factory = EventFactory("s", "1", publisher=Publisher(nc, request_timeout_s=0.5))
        await nats_server.kill()
        hasty = Publisher(nc, request_timeout_s=0.2, give_up_s=0.5)
        event = factory.create_alert(severity="info", message="x")
        assert event.subject is not None
        with pytest.raises(TransientError):
            await hasty.record(event.subject, event.body)
        waiting = asyncio.create_task(factory.publish(event))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await nats_server.start()
        assert await asyncio.wait_for(waiting, WAIT_S) == 1
        assert (await stream_info(nc, "RISK")).messages == 1
    finally:
        await nc.close()


async def test_wrong_events_are_not_recorded(nc: Client) -> None:
    """A body whose payload is wrong never reaches the stream; without validation it does."""
    body = EventFactory("s", "1").create_alert(severity="info", message="x").body
    wrong = body.replace(b'"severity":"info"', b'"severity":"loud"')
    with pytest.raises(ContractError, match=r"payload\.severity"):
        await Publisher(nc).record("risk.alert.loud", wrong)
    assert (await stream_info(nc, "RISK")).messages == 0
    assert await Publisher(nc, validate=False).record("risk.alert.loud", wrong) == 1


async def test_replay_mode_stops_every_writer(nc: Client) -> None:
    """With a good connection and all rights, still nothing is written in replay mode."""
    factory = EventFactory("s", "1", publisher=Publisher(nc))
    event = factory.create_alert(severity="info", message="x")
    tries = 0
    with ReplayMode():
        for write in (
            lambda: factory.publish(event),
            lambda: Publisher(nc).record("risk.alert.info", event.body),
            lambda: publish_expected(nc, "RISK", "risk.alert.info", b"{}", expected=None),
            lambda: publish_atomic(nc, "PSM", [Outgoing("_psm.x.y.0.a", b"{}")], batch_id="b"),
        ):
            with pytest.raises(ReplayModeError, match="no effects"):
                await write()
            tries += 1
    assert tries == 4
    for stream in (*RECORDED, "TRADES", "PSM"):
        assert (await stream_info(nc, stream)).messages == 0


async def test_chain_of_six_processes(nc: Client, nats_url: str) -> None:
    """The example: seven events of six services, each caused by the one before."""
    async with owning(nc):
        done = await asyncio.to_thread(
            run, [sys.executable, str(ROOT / "examples/strategy_chain.py"), "--url", nats_url]
        )
    events = {event["event_type"]: event for event in await everything(nc)}
    order = [
        "market_data",
        "signal_generated",
        "risk_decision",
        "order_request",
        "order_result",
        "TradeExecuted",
        "position_update",
    ]
    assert sorted(events) == sorted(order)
    root = events["market_data"]
    assert "causation_id" not in root
    for before, after in pairwise(order):
        assert events[after]["causation_id"] == events[before]["event_id"]
        assert events[after]["correlation_id"] == root["event_id"]
    makers = {event["source_service"] for event in events.values()}
    assert makers == {"market", "strategy", "risk", "execution", "venue", "booking"}
    assert f"correlation id: {root['event_id']}" in done.stdout
    check = events["risk_decision"]["payload"]["checks"][0]
    assert check == {"name": "max_notional", "value": "21625.25", "limit": "50000", "passed": True}
