"""Reading a stream by sequence, so that a message which is not there cannot go unnoticed.

A consumer on a damaged replica skips what it cannot read and numbers the rest without a gap. Here
every sequence is accounted for: shown, not shown but known to the leader, or deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream.api import ask, call, decoded
from psm.adapters.jetstream.messages import StoredMessage
from psm.adapters.jetstream.reads import direct_batch, get
from psm.contracts.errors import ConfigError, TransientError

_BATCH = 1000
_BATCH_BYTES = 8 * 1024 * 1024
_AT_ONCE = 100  # a broker holds back 64 MiB for a client, no more
_MOVE_S = 30.0
_POLL_S = 0.2


class Read(msgspec.Struct, frozen=True, gc=False):
    """One sequence of a stream.

    Attributes:
        sequence: its place.
        message: what is stored there, None if it was deleted.
        hidden: whether only the leader has it; the server that was read did not show it.
    """

    sequence: int
    message: StoredMessage | None
    hidden: bool = False


async def read_every(
    nc: Client, stream: str, first: int, last: int, *, from_leader: bool = False
) -> AsyncIterator[list[Read]]:
    """Yield what stands at every sequence from `first` to `last`, both included, in order.

    Args:
        nc: connection.
        stream: name of the JetStream stream.
        first: sequence to begin at.
        last: sequence to end with.
        from_leader: ask the leader for each message, about three times slower; else any replica
            shows them, and the leader is asked for what was not shown.

    Raises:
        TransientError: the broker does not answer.
    """
    position = first
    while position <= last:
        if from_leader:
            end = min(last, position + _AT_ONCE - 1)
            shown: dict[int, StoredMessage] = {}
        else:
            body = {"seq": position, "batch": _BATCH, "max_bytes": _BATCH_BYTES}
            found, _ = await direct_batch(nc, stream, body)
            shown = {message.sequence: message for message in found}
            end = min(last, max(shown, default=position + _BATCH - 1))
        unseen = [place for place in range(position, end + 1) if place not in shown]
        known = await _from_leader(nc, stream, unseen)
        yield [
            Read(place, shown[place])
            if place in shown
            else Read(place, known[place], hidden=not from_leader and known[place] is not None)
            for place in range(position, end + 1)
        ]
        position = end + 1


async def replicas_of(nc: Client, stream: str) -> list[str]:
    """Return the names of the servers that keep a stream, the leader first; one without cluster."""
    cluster = (await call(nc, f"STREAM.INFO.{stream}")).get("cluster") or {}
    others = sorted(replica["name"] for replica in cluster.get("replicas") or [])
    return [name for name in (cluster.get("leader"), *others) if name]


async def replicas_behind(nc: Client, stream: str) -> list[str]:
    """Return the servers whose replica of a stream is not current, or which are away."""
    cluster = (await call(nc, f"STREAM.INFO.{stream}")).get("cluster") or {}
    replicas = cluster.get("replicas") or []
    behind = (r for r in replicas if not r.get("current") or r.get("offline"))
    return sorted(replica["name"] for replica in behind)


async def server_name(nc: Client) -> str:
    """Return the name of the server that a connection ends at."""
    answer = decoded((await ask(nc, "$SYS.REQ.USER.INFO")).data, "server information")
    return str(answer["server"]["name"])


async def _leads(nc: Client, stream: str) -> str | None:
    """Return the server that leads a stream; None while there is none, or without a cluster."""
    found = ((await call(nc, f"STREAM.INFO.{stream}")).get("cluster") or {}).get("leader")
    return str(found) if found else None


async def move_leader(nc: Client, stream: str, server: str) -> None:
    """Let another replica lead a stream; writers wait for moments.

    Raises:
        ConfigError: the server does not become the leader.
    """
    deadline = asyncio.get_running_loop().time() + _MOVE_S
    while asyncio.get_running_loop().time() < deadline:
        try:
            if await _leads(nc, stream) == server:
                return
            body = {"placement": {"preferred": server}}
            await call(nc, f"STREAM.LEADER.STEPDOWN.{stream}", body)
        except TransientError:
            pass  # an election is going on
        await asyncio.sleep(_POLL_S)
    raise ConfigError(f"{stream}: {server} did not become the leader within {_MOVE_S:.0f} s")


async def _from_leader(
    nc: Client, stream: str, sequences: list[int]
) -> dict[int, StoredMessage | None]:
    found: dict[int, StoredMessage | None] = {}
    for start in range(0, len(sequences), _AT_ONCE):
        part = sequences[start : start + _AT_ONCE]
        messages = await asyncio.gather(*(get(nc, stream, place) for place in part))
        found.update(zip(part, messages, strict=True))
    return found
