"""Fixtures of the chaos suite, and the table of what it did."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from tests.support import chaos_report, servers
from tests.support.chaos_report import Row
from tests.support.nats_cluster import NatsCluster

from psm.adapters.jetstream import connect


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what belongs to the long form only, and say so as deselected."""
    if chaos_report.LONG:
        return
    long = [item for item in items if item.get_closest_marker("chaos_long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print which faults fired."""
    lines = chaos_report.lines()
    if lines:
        terminalreporter.section(f"chaos: {chaos_report.total()} faults fired")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Iterator[Row]:
    """The test's row of the table; the test fails if it counts no fault there."""
    with chaos_report.recorded(request.node.name) as own:
        yield own


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[NatsCluster]:
    """Three nodes for the whole session; use `cluster`, which is whole and clean."""
    with servers.server_folder("cluster") as folder:
        cluster = NatsCluster(folder)
        servers.run(cluster.start())
        yield cluster
        servers.run(cluster.stop())


@pytest.fixture
async def cluster(shared_cluster: NatsCluster) -> AsyncIterator[NatsCluster]:
    """Three nodes that run, without any stream."""
    await shared_cluster.start()
    nc = await connect(shared_cluster.url, name="test-cluster")
    try:
        await shared_cluster.clear(nc)
        yield shared_cluster
    finally:
        await nc.close()
