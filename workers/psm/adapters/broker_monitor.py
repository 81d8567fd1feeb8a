"""What NATS servers say of themselves on their monitoring ports: the disk, in their own words.

A client cannot ask for it: a server whose disk is full answers publishes with silence. It keeps
that state until it is started again, also after there is room.
"""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import msgspec

from psm.contracts.errors import TransientError

_TIMEOUT_S = 2.0
_BODY_BYTES_MAX = 64 * 1024
_CONNECTIONS_BYTES_MAX = 64 * 1024 * 1024
# A single server keeps the error with the stream; one of a cluster gives up JetStream as a whole,
# and says the same while it starts.
_WRITE_ERROR = ("write error", "no space left")
_DISABLED = "jetstream not enabled"


class BrokerSight(msgspec.Struct, frozen=True, kw_only=True):
    """What one server says.

    Attributes:
        server: host and port of its monitoring address.
        problem: its own words about what is wrong; None while it is well.
        store_failed: whether it cannot write, which only a new start of it heals.
        is_disabled: whether it has no JetStream: it gave up a store that failed, or still starts.
        stored: bytes in its store.
        limit: bytes that there may be; 0 where it says none.
        syncs_always: whether it writes to disk before it acknowledges.
    """

    server: str
    problem: str | None = None
    store_failed: bool = False
    is_disabled: bool = False
    stored: int = 0
    limit: int = 0
    syncs_always: bool = False

    @property
    def store_used(self) -> float:
        """Share of its limit that its store uses; 0 where it says none."""
        return round(self.stored / self.limit, 4) if self.limit else 0.0

    @property
    def takes_writes(self) -> bool:
        """Whether nothing is known against it."""
        return not (self.store_failed or self.is_disabled)


async def look_at(urls: str) -> list[BrokerSight]:
    """Return what the servers say that answer.

    Args:
        urls: monitoring addresses, separated by commas.
    """
    addresses = [url.strip().rstrip("/") for url in urls.split(",") if url.strip()]
    sights = await asyncio.gather(*(asyncio.to_thread(_look, url) for url in addresses))
    return [sight for sight in sights if sight is not None]


async def connections_of(urls: str, user: str) -> list[str]:
    """Return who is connected as a user, by a name, password's or public key's, on any server.

    Args:
        urls: monitoring addresses of all servers, separated by commas.
        user: as the broker calls it.

    Raises:
        TransientError: one of them does not answer, so nobody can tell.
    """
    addresses = [url.strip().rstrip("/") for url in urls.split(",") if url.strip()]
    found = await asyncio.gather(*(asyncio.to_thread(_connected, url) for url in addresses))
    return sorted(one["name"] for every in found for one in every if one["user"] == user)


def _connected(url: str) -> list[dict[str, str]]:
    try:
        document = _get(f"{url}/connz?auth=true&limit=100000", _CONNECTIONS_BYTES_MAX)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise TransientError(f"the monitoring port at {url} does not answer") from error
    return [
        {"name": one.get("name") or f"{one.get('ip')}", "user": one.get("authorized_user", "")}
        for one in document.get("connections") or []
    ]


def _look(url: str) -> BrokerSight | None:
    try:
        health, store = _get(f"{url}/healthz"), _get(f"{url}/jsz")
    except (OSError, ValueError, msgspec.DecodeError):
        return None
    problem = str(health["error"]) if health.get("error") else None
    said = (problem or "").lower()
    config = store.get("config") or {}
    limit = config.get("max_storage") or 0
    return BrokerSight(
        server=urlsplit(url).netloc.rpartition("@")[2],
        problem=problem,
        store_failed=any(words in said for words in _WRITE_ERROR),
        is_disabled=_DISABLED in said,
        stored=store.get("storage", 0),
        limit=max(limit, 0),
        syncs_always=bool(config.get("sync_always")),
    )


def _get(url: str, bytes_max: int = _BODY_BYTES_MAX) -> dict[str, Any]:
    """Return the JSON object there, whatever the status."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - operator's
            body = answer.read(bytes_max)
    except urllib.error.HTTPError as error:
        with error:
            body = error.read(bytes_max)
    return msgspec.json.decode(body, type=dict[str, Any])
