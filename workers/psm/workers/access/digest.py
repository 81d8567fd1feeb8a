"""Who did what over HTTP, kept for ever: a digest a minute in the stream OPS.

The log has each line; it is the process's, and goes. What a principal was refused, wrote, exported
and read of the past is counted here, and the counts enter a chain of `ops.access`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from nats.aio.client import Client

from psm.adapters.logs import get_logger
from psm.adapters.tasks import end_all
from psm.adapters.wall_clock import now_text
from psm.contracts.errors import PSMError
from psm.workers.ops.journal import ChainLink, append_record, read_chain

SUBJECT = "ops.access"
EVERY_S = 60.0
PRINCIPALS_MAX = 500
STRANGERS = "-"
"""Stands for who is not known here."""

OTHERS = "+"
"""Stands for all principals beyond `PRINCIPALS_MAX` of one digest."""

_log = get_logger()


class AccessDigest(ChainLink, frozen=True, kw_only=True, omit_defaults=True):
    """What was done since the digest before, at one replica.

    Attributes:
        since, until: RFC 3339, UTC.
        replica: that counted.
        counts: principal -> what was done, or why it was refused -> how often.
    """

    since: str
    until: str
    replica: str
    counts: dict[str, dict[str, int]]


class Digests:
    """Counts, and writes what it counted.

    Args:
        nc: connection; None: nothing is written.
        replica: name of this process.
    """

    def __init__(self, nc: Client | None = None, replica: str = "") -> None:
        self._nc, self._replica = nc, replica
        self._counts: dict[str, Counter[str]] = {}
        self._since = now_text()

    def add(self, principal: str | None, what: str) -> None:
        """Count one thing that somebody did, or was refused."""
        who = principal or STRANGERS
        if who not in self._counts and len(self._counts) >= PRINCIPALS_MAX:
            who = OTHERS
        self._counts.setdefault(who, Counter())[what] += 1

    async def write(self) -> None:
        """Write what was counted, if anything; while that cannot be done, it is counted on."""
        if self._nc is None or not self._counts:
            return
        counts, self._counts = self._counts, {}
        until = now_text()

        def make(previous: str) -> AccessDigest:
            told = {who: dict(sorted(done.items())) for who, done in sorted(counts.items())}
            return AccessDigest(
                previous=previous,
                since=self._since,
                until=until,
                replica=self._replica,
                counts=told,
            )

        try:
            await append_record(self._nc, SUBJECT, make)
        except PSMError as error:
            _log.warning("access.digest_not_written", detail=str(error))
            for who, done in counts.items():
                self._counts.setdefault(who, Counter()).update(done)
        else:
            self._since = until

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Write every minute while the context is open, and at its end."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            await end_all([task])
            await self.write()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self.write()


async def read_digests(nc: Client) -> list[AccessDigest]:
    """Return every digest, verified; raises as `read_records`."""
    return [digest async for _, digest, _ in read_chain(nc, SUBJECT, AccessDigest)]
