"""`psm audit` on a cluster of which one server's copy of the log is damaged."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from tests.support import feed, tamper
from tests.support.events import Sent
from tests.support.nats_cluster import NatsCluster, Node, make_streams
from tests.support.running import psm

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import connect, get, stream_info
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.subjects import TRADES
from psm.domain.market.slots import ValuationSlots
from psm.workers.process.settings import Settings
from psm.workers.proof.audit.findings import AuditReport
from psm.workers.proof.audit.run import Audit, AuditRange

ACCOUNTS = 3
EVENTS = 60
PARTITIONS = 8
TRIES = 10


class Scene(msgspec.Struct, frozen=True):
    """A log on three servers, and the one of them whose copy is to be damaged: no leader."""

    cluster: NatsCluster
    folder: Path
    nc: Client
    sent: list[Sent]
    node: Node
    last: int

    async def everything(self) -> AuditReport:
        """Audit as without `--replica`: by sequence, and folded again by consumers."""
        work = Audit(
            self.nc,
            partitions=PARTITIONS,
            slots=ValuationSlots(),
            asked=AuditRange(),
            chosen=tuple(range(PARTITIONS)),
        )
        return await work.everything(None)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A cluster with some events, all of its replicas current."""
    cluster = NatsCluster(tmp_path)
    await cluster.start()
    try:
        nc = await connect(cluster.url, name="test")
        settings = Settings(nats_url=cluster.url, partitions=PARTITIONS, replicas=3)
        await make_streams(nc, lambda: apply(nc, settings))
        sent = feed.traffic(1, accounts=ACCOUNTS, events=EVENTS, trouble=False)
        last = await feed.publish(nc, sent)
        await cluster.heal(nc)
        leader = await cluster.leader(nc, TRADES)
        node = next(node for node in cluster.nodes if node is not leader)
        yield Scene(cluster, tmp_path, nc, sent, node, last)
        await nc.close()
    finally:
        await cluster.stop()


def audit(cluster: NatsCluster, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit code and the findings."""
    environment = {"NATS_URL": cluster.url, "PSM_REPLICAS": "3"}
    environment["PSM_PARTITIONS"] = str(PARTITIONS)
    done = psm("audit", "-o", "json", *arguments, environment=environment, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["findings"]


def places(findings: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    """Return what was found, by code: on which server, at which sequence."""
    return sorted((f["code"], f["server"], f["sequence"]) for f in findings)


async def test_damaged_replica(scene: Scene) -> None:
    """The server with the flipped bit is named, and the event; the others have it.

    A consumer that this server happens to serve does not show the event. The audit finds that,
    too, and folds again with another: what the log says is not wrong because one copy is.
    """
    cluster, node, nc = scene.cluster, scene.node, scene.nc
    marks = [n for n, sent in enumerate(scene.sent, 1) if sent.subject.startswith("marks.")]
    victim = await get(nc, TRADES, marks[len(marks) // 2])  # every partition reads it
    assert victim is not None
    await node.stop()
    assert tamper.flip_bit(scene.folder / node.server_name, TRADES, victim.data) == 1
    await cluster.heal(nc)
    assert (await stream_info(nc, TRADES)).messages == scene.last

    missing = ("missing", node.server_name, victim.sequence)
    code, findings = audit(cluster, "--replica", "all")
    assert code == 1
    assert places(findings) == [missing, ("replicas_differ", node.server_name, 1)]
    code, findings = audit(cluster, "--server", node.url)
    assert (code, places(findings)) == (1, [missing])
    leader = await cluster.leader(nc, TRADES)
    assert audit(cluster, "--server", leader.url)[0] == 0

    # Nobody folds here, so nothing is committed. Which server serves a consumer is chance.
    for _ in range(TRIES):
        report = await scene.everything()
        assert set(report.counts) <= {"consumer_hides", "hidden", "not_committed"}
        assert (report.partitions, report.accounts) == (PARTITIONS, ACCOUNTS)
        named = [f for f in report.findings if f.code == "consumer_hides" and f.sequence]
        if named:
            break
    assert {f.sequence for f in named} == {victim.sequence}


async def test_altered_replica(scene: Scene) -> None:
    """Other bytes with a right checksum are no damage to a server; only comparing tells."""
    cluster, node = scene.cluster, scene.node
    forged = [*scene.sent]
    place = scene.last // 2
    forged[place - 1] = msgspec.structs.replace(forged[place - 1], data=b"forged")
    other = EmbeddedNats(scene.folder / "other", name="other")
    await other.start()
    nc = await connect(other.url, name="test")
    await apply(nc, Settings(nats_url=other.url, partitions=PARTITIONS))
    assert await feed.publish(nc, forged) == scene.last
    await nc.close()
    await other.stop()

    await node.stop()
    tamper.replace_messages(scene.folder / "other", scene.folder / node.server_name, TRADES)
    await cluster.heal(scene.nc)
    code, findings = audit(cluster, "--replica", "all")
    assert (code, places(findings)) == (1, [("replicas_differ", node.server_name, 1)])
