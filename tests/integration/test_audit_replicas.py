"""`psm audit` on a cluster of which one server's copy of the log is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support import feed, tamper
from tests.support.nats_cluster import NatsCluster, make_streams
from tests.support.running import psm

from psm.adapters.jetstream import connect, get, stream_info
from psm.adapters.jetstream.streams_apply import apply
from psm.workers.log_store import TRADES
from psm.workers.settings import Settings

EVENTS = 60


def audit(cluster: NatsCluster, *arguments: str) -> tuple[int, dict[str, Any]]:
    environment = {"NATS_URL": cluster.url, "PSM_PARTITIONS": "2", "PSM_REPLICAS": "3"}
    done = psm("audit", "-o", "json", *arguments, environment=environment, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


async def test_damaged_replica(tmp_path: Path) -> None:
    """The server with the flipped bit is named, and the event; the others have it."""
    cluster = NatsCluster(tmp_path)
    await cluster.start()
    try:
        nc = await connect(cluster.url, name="test")
        settings = Settings(nats_url=cluster.url, partitions=2, replicas=3)
        await make_streams(nc, lambda: apply(nc, settings))
        last = await feed.publish(nc, feed.traffic(1, accounts=3, events=EVENTS, trouble=False))
        await cluster.heal(nc)
        leader = await cluster.leader(nc, TRADES)
        node = next(node for node in cluster.nodes if node is not leader)
        victim = await get(nc, TRADES, last // 2)
        assert victim is not None

        await node.stop()
        assert tamper.flip_bit(tmp_path / node.server_name, TRADES, victim.data) == 1
        await cluster.heal(nc)
        assert (await stream_info(nc, TRADES)).messages == last

        code, report = audit(cluster, "--replica", "all")
        found = [(f["code"], f["server"], f["sequence"]) for f in report["findings"]]
        assert (code, ("missing", node.server_name, victim.sequence) in found) == (1, True)
        assert {server for _, server, _ in found if server != node.server_name} == set(), found

        code, report = audit(cluster, "--server", node.url)
        found = [(f["code"], f["server"], f["sequence"]) for f in report["findings"]]
        assert (code, found) == (1, [("missing", node.server_name, victim.sequence)])
        assert audit(cluster, "--server", leader.url)[0] == 0
        await nc.close()
    finally:
        await cluster.stop()
