"""Who may be writing: nothing is recovered under the hands of a worker."""

from __future__ import annotations

from collections.abc import Collection

from nats.aio.client import Client

from psm.contracts.errors import ConfigError
from psm.workers.fleet.nats_fleet import NatsMembers


async def require_unheld(nc: Client, partitions: Collection[int]) -> None:
    """Make sure that no worker of the fleet runs one of these partitions.

    A worker that had to stop holds its partitions on, to be seen; it writes nothing.

    Raises:
        ConfigError: one does; the text names it.
        TransientError: the broker does not answer.
    """
    for entry in await NatsMembers(nc).entries():
        if entry.member is None:
            continue
        running = [
            holding
            for holding in entry.member.holdings
            if holding.partition in partitions and holding.state != "stopped"
        ]
        if running:
            first = running[0]
            raise ConfigError(
                f"partition {first.partition} is held by {entry.member.id} ({first.state}): stop "
                "that worker first; a key of one that died is gone after 10 s"
            )
