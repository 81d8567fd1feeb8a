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
from psm.contracts.errors import ConfigError
from psm.projections import remembered
from psm.workers.log_store import PSM
from psm.workers.settings import Settings


class UpdatesPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What would be created.

    Attributes:
        known: last sequence of the old PSM that PostgreSQL knows.
        first_sequence: of the new one.
    """

    known: int
    first_sequence: int


async def plan(nc: Client, pool: postgres.Pool) -> UpdatesPlan:
    """Return where the new stream begins.

    Raises:
        ConfigError: PSM exists; nothing here removes it.
    """
    try:
        info = await stream_info(nc, PSM)
    except StreamNotFoundError:
        pass
    else:
        raise ConfigError(
            f"PSM exists, with messages {info.first_sequence} to {info.last_sequence}. If it is to "
            "be made anew, stop the workers, save it and remove it with `nats stream rm PSM`, then "
            "run this again"
        )
    async with postgres.acquired(pool) as connection:
        known = await remembered.psm_end(connection)
    return UpdatesPlan(known=known, first_sequence=known + 1)


async def create(nc: Client, settings: Settings, wanted: UpdatesPlan) -> None:
    """Create the stream.

    Raises:
        ApiError: the broker refused.
    """
    (config,) = [config for config in desired(settings) if config["name"] == PSM]
    await call(nc, f"STREAM.CREATE.{PSM}", {**config, "first_seq": wanted.first_sequence})
