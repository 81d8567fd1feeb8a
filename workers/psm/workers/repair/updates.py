"""`psm recover updates`: create a lost stream PSM behind everything that was read of the old one.

Views, heads and archive know messages of PSM by their sequence. A stream that began at 1 again
would give other messages the same sequences; one that begins behind them is only younger.
"""

from __future__ import annotations

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import StreamNotFoundError, stream_info
from psm.adapters.jetstream.api import call
from psm.adapters.jetstream.streams import desired
from psm.contracts.errors import ConfigError, ConflictError
from psm.contracts.subjects import PSM
from psm.projections.witness import remembered
from psm.workers.process.settings import Settings


class UpdatesPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What would be created.

    Attributes:
        known: last sequence of the old PSM that PostgreSQL knows.
        first_sequence: of the new one.
        replaces_empty: whether a PSM that never held a message is removed first, such as
            `psm streams apply` creates it.
    """

    known: int
    first_sequence: int
    replaces_empty: bool


async def plan(nc: Client, pool: postgres.Pool) -> UpdatesPlan:
    """Return where the new stream begins.

    Workers may run: where PSM is missing or empty, they have committed nothing to it.

    Raises:
        ConfigError: PSM held messages, and nothing here removes it.
    """
    last = await _last_sequence(nc)
    if last:
        raise ConfigError(
            f"PSM exists, its last sequence is {last}. If it is to be made anew, stop the "
            "workers, save it and remove it with `nats stream rm PSM`, then run this again"
        )
    async with postgres.acquired(pool) as connection:
        known = await remembered.psm_end(connection)
    return UpdatesPlan(known=known, first_sequence=known + 1, replaces_empty=last == 0)


async def create(nc: Client, settings: Settings, wanted: UpdatesPlan) -> None:
    """Create the stream.

    Raises:
        ConflictError: somebody wrote to PSM meanwhile.
        ApiError: the broker refused.
    """
    if await _last_sequence(nc) != (0 if wanted.replaces_empty else None):
        raise ConflictError("PSM is no longer as it was a moment ago; nothing was created")
    if wanted.replaces_empty:
        await call(nc, f"STREAM.DELETE.{PSM}")
    (config,) = [config for config in desired(settings) if config["name"] == PSM]
    await call(nc, f"STREAM.CREATE.{PSM}", {**config, "first_seq": wanted.first_sequence})


async def _last_sequence(nc: Client) -> int | None:
    """Return the last sequence that PSM ever gave; None if there is no such stream."""
    try:
        return (await stream_info(nc, PSM)).last_sequence
    except StreamNotFoundError:
        return None
