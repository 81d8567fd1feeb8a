"""A trace from who publishes to the row and to the decision, as a collector has it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.support.archiving import fetch
from tests.support.collector import collector
from tests.support.log import deposit
from tests.support.risk_bench import ACCOUNT, RiskBench, RiskProcess, open_risk_bench, order_event
from tests.support.running import psm, started
from tests.support.workbench import until_answer

from psm.contracts import subjects


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[RiskBench]:
    async with open_risk_bench(nats_url) as opened:
        yield opened


def producer_span() -> tuple[str, str, dict[str, str]]:
    """A trace and a span of a producer's, and the header that says so."""
    trace, span = os.urandom(16).hex(), os.urandom(8).hex()
    return trace, span, {"traceparent": f"00-{trace}-{span}-01"}


async def test_one_trace_from_publish_to_row_and_to_decision(
    bench: RiskBench, nats_url: str, postgres_dsn: str, tmp_path: Path
) -> None:
    """Commit and row are spans of the event's trace; the decision of the order's."""
    event_trace, event_span, of_event = producer_span()
    order_trace, order_span, of_order = producer_span()
    with collector() as found, ExitStack() as stack:
        environment = {
            "NATS_URL": nats_url,
            "POSTGRES_DSN": postgres_dsn,
            "PSM_PARTITIONS": str(bench.settings.partitions),
            "PSM_OTLP_ENDPOINT": found.url,
        }
        await asyncio.to_thread(psm, "streams", "apply", environment=environment)
        parts = [
            stack.enter_context(started(tmp_path, part, environment=environment))
            for part in ("worker", "projector")
        ]
        async with RiskProcess(nats_url, tmp_path, PSM_OTLP_ENDPOINT=found.url) as risk:
            js = bench.nc.jetstream()
            body = json.dumps(deposit("acc_1", 1)).encode()
            await js.publish("trades.acc_1", body, headers=of_event)
            subject, order = subjects.order_command(ACCOUNT), order_event("o1")
            await js.publish(subject, order, headers=of_order)
            row = "SELECT 1 FROM balances_view WHERE account_id = 'acc_1'"
            await until_answer(lambda: fetch(postgres_dsn, row), bool, "there is a row")
            await bench.decided(1)
            risk.terminate()
            assert await risk.ended() == 0, risk.text
        for part in parts:
            assert part.stop() == 0
    of_the_event = [span for span in found.spans if span.trace == event_trace]
    assert {(s.name, s.service, s.parent) for s in of_the_event} == {
        ("psm.commit", "psm-worker", event_span),
        ("psm.project", "psm-projector", event_span),
    }
    of_the_order = {(s.name, s.service, s.parent) for s in found.spans if s.trace == order_trace}
    assert of_the_order == {("psm.decide", "psm-risk", order_span)}
    assert {"psm.event.latency", "psm.commit.duration"} <= found.metrics["psm-worker"]
    assert "psm.row.latency" in found.metrics["psm-projector"]
    assert "psm.risk.decision.duration" in found.metrics["psm-risk"]
