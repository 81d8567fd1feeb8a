"""Where a validation takes its log from: the live log, or a file of exported lines.

Either is spooled to a temporary file first, so that both replays read the same bytes and need no
connection.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO

from msgspec.structs import replace
from nats.aio.client import Client

from psm.contracts import subjects
from psm.domain.delivery.rules import is_misplaced
from psm.workers.log.reader import log_message, read_stored
from psm.workers.proof.validation.run import MISPLACED, spooled
from psm.workers.replay.lines import LineFolder, opened

Reached = Callable[[int, int], None]
"""Told (log sequence reached, last log sequence)."""


def spool_file(path: Path, spool: IO[bytes], *, partitions: int) -> int:
    """Spool the lines of a file, gzipped or not; return how many messages there are.

    Raises:
        ConfigError: the file cannot be read.
        LineError: a line is no event that could stand in a log.
    """
    reader = LineFolder(partitions=partitions)
    count = 0
    with opened(path) as lines:
        for line in lines:
            message = reader.read(line)
            if message is not None:
                spooled(spool, message)
                count += 1
    spool.flush()
    return count


async def spool_log(
    nc: Client,
    spool: IO[bytes],
    last: int,
    *,
    partitions: int,
    account: str | None = None,
    reached: Reached | None = None,
) -> int:
    """Spool the log up to `last`, or what decides one account's state; return the count."""
    filters = [">"] if account is None else subjects.stream_filters(account, partitions)
    count = 0
    async for batch in read_stored(nc, filters, 1, last):
        for stored in batch:
            message = log_message(stored)
            if is_misplaced(message, partitions):  # whatever number of partitions it is folded in
                message = replace(message, subject=f"{MISPLACED}{message.token}")
            spooled(spool, message)
        count += len(batch)
        if reached is not None:
            reached(batch[-1].sequence, last)
    spool.flush()
    return count
