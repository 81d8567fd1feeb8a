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

_TIMEOUT_S = 2.0
_BODY_BYTES_MAX = 64 * 1024
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
        store_used: share of its storage limit that is used; 0 where it says none.
        syncs_always: whether it writes to disk before it acknowledges.
    """

    server: str
    problem: str | None = None
    store_failed: bool = False
    is_disabled: bool = False
    store_used: float = 0.0
    syncs_always: bool = False

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
        store_used=round(store.get("storage", 0) / limit, 4) if limit > 0 else 0.0,
        syncs_always=bool(config.get("sync_always")),
    )


def _get(url: str) -> dict[str, Any]:
    """Return the JSON object there, whatever the status."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - operator's
            body = answer.read(_BODY_BYTES_MAX)
    except urllib.error.HTTPError as error:
        with error:
            body = error.read(_BODY_BYTES_MAX)
    return msgspec.json.decode(body, type=dict[str, Any])
