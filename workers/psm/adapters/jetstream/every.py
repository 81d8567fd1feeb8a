"""Reading a stream by sequence, so that a message which is not there cannot go unnoticed.

A consumer on a damaged replica skips what it cannot read and numbers the rest without a gap. Here
every sequence is accounted for: shown, not shown but known to the leader, or gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from psm.adapters.jetstream.api import API, REQUEST_TIMEOUT_S, ask, call, decoded
from psm.adapters.jetstream.errors import UnknownOutcomeError
from psm.adapters.jetstream.messages import STATUS, StoredMessage, from_direct_get
from psm.adapters.jetstream.reads import get
from psm.contracts.errors import ConfigError, TransientError

_BATCH = 1000
_BATCH_BYTES = 8 * 1024 * 1024
_AT_ONCE = 200
_MOVE_S = 30.0
_POLL_S = 0.2


class Read(msgspec.Struct, frozen=True, gc=False):
    """One sequence of a stream.

    Attributes:
        sequence: its place.
        message: what is stored there, None if it is gone.
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
            shown = await _direct_batch(nc, stream, position)
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


async def _direct_batch(nc: Client, stream: str, start: int) -> dict[int, StoredMessage]:
    """Return up to 1 000 messages from `start` on, as one server shows them."""
    inbox = nc.new_inbox()
    shown: dict[int, StoredMessage] = {}
    ended = asyncio.Event()

    async def on_message(message: Msg) -> None:
        if (message.headers or {}).get(STATUS) is not None:
            ended.set()
        else:
            stored = from_direct_get(message.headers or {}, message.data)
            shown[stored.sequence] = stored

    body = {"seq": start, "batch": _BATCH, "max_bytes": _BATCH_BYTES}
    try:
        subscription = await nc.subscribe(
            inbox, cb=on_message, pending_msgs_limit=0, pending_bytes_limit=0
        )
        try:
            subject = f"{API}.DIRECT.GET.{stream}"
            await nc.publish(subject, msgspec.json.encode(body), reply=inbox)
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await ended.wait()
        finally:
            await subscription.unsubscribe()
    except TimeoutError as error:
        raise UnknownOutcomeError(f"{stream}: no answer to a direct get at {start}") from error
    except nats.errors.Error as error:
        raise UnknownOutcomeError(f"{stream}: {error}") from error
    return shown
