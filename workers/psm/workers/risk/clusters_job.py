"""The daily clusters: computed from the log, said once in the rulebook, recomputed by anybody.

Any number of jobs may run. Each computes the same of the same day; the rulebook takes the next
version only, and a message only directly behind what its writer read: so each day is said once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.client import Client

from psm.analytics.documents import exact_document
from psm.contracts.errors import ContractError
from psm.contracts.rulebook_codec import decode_signed
from psm.contracts.rulebook_events import ClustersDefined
from psm.risk.cluster_event import CLOSES, CODE, Members, clusters_content
from psm.workers.risk.closes import last_complete_day, read_closes_of_log
from psm.workers.risk.rulebook import RulebookReader, Said, Saying, read_rulebook, say

_EVENT = "ClustersDefined"
_ONE = "1"


class NoSuchClustersError(ContractError):
    """The rulebook has no clusters, or none of a version."""

    def __init__(self, detail: str) -> None:
        super().__init__("unknown_version", detail)


class ClusterDifference(msgspec.Struct, frozen=True, kw_only=True):
    """A field of recorded clusters that the log does not give."""

    field: str
    recorded: Any
    computed: Any


async def publish_clusters(
    nc: Client, key: Ed25519PrivateKey, actor: str, reason: str, benchmark: str | None = None
) -> Said | None:
    """Say the clusters of the last complete day, unless that was done.

    Args:
        nc: connection of a user that may write the rulebook and read the log.
        key: that may publish.
        actor: its holder.
        reason: why.
        benchmark: to which betas are taken; None for the first symbol.

    Returns:
        What was said and what became of it; None where there is nothing new to say.

    Raises:
        TransientError: a stream cannot be read or written now.
    """
    day = await last_complete_day(nc)
    reader = await read_rulebook(nc)
    before = reader.rulebook.clusters
    if day is None or (before is not None and before.as_of_day >= day.isoformat()):
        return None
    closes = await read_closes_of_log(nc, day, CLOSES)
    version = 1 if before is None else before.version + 1
    content = clusters_content(closes, version, _members(before), benchmark)
    saying = Saying(event_type=_EVENT, content=content, actor=actor, reason=reason, key=key)
    said = await say(nc, reader, saying)
    if said.ruled.outcome == "refused" and said.ruled.reason == "wrong_version":
        return None  # another job was faster
    return said


async def recorded_clusters(
    nc: Client, version: int | None = None
) -> tuple[ClustersDefined, ClustersDefined | None]:
    """Return recorded clusters and those of the version before; the newest without a version.

    Raises:
        NoSuchClustersError: there are none.
    """
    known = applied_clusters(await read_rulebook(nc))
    wanted = max(known, default=0) if version is None else version
    if wanted not in known:
        raise NoSuchClustersError(
            f"the rulebook has no clusters of version {wanted}" if known else "there are none yet"
        )
    return known[wanted], known.get(wanted - 1)


def applied_clusters(found: RulebookReader) -> dict[int, ClustersDefined]:
    """Return the clusters that the rulebook took, by version."""
    applied: dict[int, ClustersDefined] = {}
    for said in found.said:
        if said.ruled.outcome == "applied" and said.stored.subject.startswith("rulebook.clusters."):
            event = decode_signed(said.stored.subject, said.stored.data).event
            if isinstance(event, ClustersDefined):
                applied[event.version] = event
    return applied


async def verify_clusters(
    nc: Client, event: ClustersDefined, before: ClustersDefined | None
) -> list[ClusterDifference]:
    """Compute recorded clusters again from the log; return what differs.

    Betas are compared with those to the symbol whose own is 1.
    """
    if event.code != CODE:
        return [ClusterDifference(field="code", recorded=event.code, computed=CODE)]
    day = date.fromisoformat(event.as_of_day)
    closes = await read_closes_of_log(nc, day, event.window + 1, event.symbols)
    recorded = _texts(event)
    found: list[ClusterDifference] = []
    for benchmark in _benchmarks(recorded):
        content = clusters_content(closes, event.version, _members(before), benchmark)
        found = [
            ClusterDifference(field=name, recorded=recorded.get(name), computed=figure)
            for name, figure in content.items()
            if figure != recorded.get(name)
        ]
        if not found:
            break
    return found


def _benchmarks(recorded: Mapping[str, Any]) -> list[str | None]:
    """Return the symbols to which the betas may be."""
    ones = [symbol for symbol, beta in recorded["beta"].items() if beta == _ONE]
    return [*ones] or [None]


def _members(event: ClustersDefined | None) -> Members:
    return {} if event is None else event.clusters


def _texts(event: ClustersDefined) -> dict[str, Any]:
    """Return an event's fields as they are written."""
    return exact_document(event)
