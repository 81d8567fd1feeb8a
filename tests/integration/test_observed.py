"""What can be seen from outside: traces to the decision, jobs that were done, lag, signals."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from tests.support.risk_bench import ACCOUNT, SLOT, RiskBench, open_risk_bench, order_event
from tests.support.workbench import until

from psm.adapters import logs, postgres, telemetry
from psm.adapters.jetstream import ConnectionCounters, connect, publish_expected, read_range
from psm.adapters.logs import get_logger
from psm.contracts import subjects
from psm.contracts.subjects import ORDERS, RISK
from psm.projections import jobs
from psm.workers.process.inspection import Inspection
from psm.workers.projector.view_counts import ViewCounts
from psm.workers.risk.order_lag import OrderLag

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[RiskBench]:
    async with open_risk_bench(nats_url) as opened:
        yield opened


def value_of(registry: CollectorRegistry, name: str) -> float:
    """The value of a series without further labels."""
    found = [
        line.rpartition(" ")[2]
        for line in generate_latest(registry).decode().splitlines()
        if line.startswith(name)
    ]
    assert len(found) == 1, (name, found)
    return float(found[0])


async def test_a_decision_has_the_trace_of_its_order(bench: RiskBench) -> None:
    """The context of whoever asked stands at the record, so that both are one trace."""
    async with bench.worker() as worker:
        await worker.owning()
        await publish_expected(
            bench.nc,
            ORDERS,
            subjects.order_command(ACCOUNT),
            order_event("traced", ACCOUNT),
            expected=None,
            headers={"traceparent": TRACEPARENT},
        )
        await bench.order("untraced")
        await bench.decided(2)
    found = read_range(bench.nc, RISK, [f"risk.decision.{SLOT}.*"], 1, 10_000)
    traces = [m.header("traceparent") async for batch in found for m in batch]
    assert traces == [TRACEPARENT, None]


async def test_lag_of_decisions_is_since_it_was_seen(bench: RiskBench) -> None:
    """Nothing waits: 0. Something does: how much, and for how long; taken: 0 again."""
    made = telemetry.setup("test")
    try:
        lag = OrderLag(made.risk_metrics)
        assert await lag.look(bench.nc, 0) == 0
        first = await bench.order()
        assert await lag.look(bench.nc, 0) == first
        assert value_of(made.registry, "psm_risk_lag_events") == first
        await bench.order()
        await asyncio.sleep(0.01)
        await lag.look(bench.nc, first - 1)
        assert value_of(made.registry, "psm_risk_lag_seconds") >= 0.01
        await lag.look(bench.nc, first + 1)
        assert value_of(made.registry, "psm_risk_lag_seconds") == 0
        assert value_of(made.registry, "psm_risk_lag_events") == 0
    finally:
        made.shutdown()


async def test_jobs_and_sizes_are_told(postgres_dsn: str) -> None:
    """A job with findings keeps the time of its last good end; waiting accounts are counted."""
    made = telemetry.setup("test")
    pool = await postgres.open_pool(postgres_dsn, name="test", size_max=2)
    made.process_metrics.pool(pool)
    try:
        counts = ViewCounts(pool, made)
        async with postgres.acquired(pool) as connection:
            await jobs.record(connection, "audit", 0)
            await counts.count()
            good = value_of(made.registry, "psm_job_last_success_timestamp_seconds")
            await jobs.record(connection, "audit", 3)
        await counts.count()
        assert value_of(made.registry, "psm_job_last_success_timestamp_seconds") == good > 0
        assert value_of(made.registry, "psm_job_findings") == 3
        assert value_of(made.registry, "psm_database_size_bytes") > 1_000_000
        assert value_of(made.registry, 'psm_accounts_waiting{status="blocked"}') == 0
        assert value_of(made.registry, 'psm_postgres_connections{state="max"}') == 2
    finally:
        pool.terminate()
        made.shutdown()


async def test_incidents_of_a_connection_are_counted(nats_url: str) -> None:
    """Each kind is there from the start, as 0: the first one is an increase."""
    made, counters = telemetry.setup("test"), ConnectionCounters()
    made.process_metrics.connection(counters.as_mapping())
    nc = await connect(nats_url, name="test", counters=counters)
    try:
        name = 'psm_nats_incidents_total{kind="reconnects"}'
        assert value_of(made.registry, name) == 0
        await nc._process_op_err(ConnectionError("cut"))  # as when the line is cut
        await until(lambda: value_of(made.registry, name) == 1, "the reconnect")
    finally:
        await nc.close()
        made.shutdown()


async def test_signals_switch_the_log_and_tell_stacks(capfd: pytest.CaptureFixture[str]) -> None:
    """SIGUSR2 turns debug on and off, also for loggers that are there; SIGUSR1 writes stacks."""
    file = io.BytesIO()
    logs.configure("warning", "json", file=file)
    bound = get_logger().bind(partition=1)

    def events() -> list[str]:
        return [json.loads(line)["event"] for line in file.getvalue().splitlines()]

    async def told(name: str, times: int) -> None:
        await until(lambda: events().count(name) == times, name)

    with Inspection("warning"):
        bound.debug("x.unseen")
        os.kill(os.getpid(), signal.SIGUSR2)
        await told("process.log_level_set", 1)
        bound.debug("x.seen")
        os.kill(os.getpid(), signal.SIGUSR2)
        await told("process.log_level_set", 2)
        bound.debug("x.unseen")
        os.kill(os.getpid(), signal.SIGUSR1)
        await told("process.stacks_written", 1)
    assert "x.seen" in events()
    assert "x.unseen" not in events()
    written = capfd.readouterr().err
    assert "most recent call first" in written
    assert "test_signals_switch_the_log" in written
