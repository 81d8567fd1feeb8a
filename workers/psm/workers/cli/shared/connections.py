"""What commands share that ask the servers: the account id, and connections for one question."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import StreamNotFoundError, connect, stream_info
from psm.adapters.jetstream.streams_apply import check
from psm.contracts.errors import ConfigError, TransientError
from psm.contracts.subjects import STREAM_ID_RULE, is_stream_id
from psm.workers.cli.shared.output import Output
from psm.workers.process.config import Settings


def check_account(account: str) -> None:
    """Make sure that an argument can be an account.

    Raises:
        ConfigError: it cannot.
    """
    if not is_stream_id(account):
        raise ConfigError(f"{account!r} is no account id: {STREAM_ID_RULE}")


@asynccontextmanager
async def broker(settings: Settings, name: str) -> AsyncIterator[Client]:
    """Connect to NATS while the block runs; `name` is what the server shows."""
    try:
        nc = await connect(name=name, **settings.nats_options())
    except TransientError as error:
        if settings.nats_url != Settings().nats_url:
            raise
        raise TransientError(f"{error}; start `psm up`, or set NATS_URL") from error
    try:
        yield nc
    finally:
        await nc.close()


@asynccontextmanager
async def checked_log(settings: Settings, name: str) -> AsyncIterator[Client]:
    """The same, once the log is known to be configured as the settings say."""
    async with broker(settings, name) as nc:
        await check(nc, settings)
        yield nc


@asynccontextmanager
async def archive_behind(
    nc: Client, settings: Settings, output: Output, *streams: str
) -> AsyncIterator[postgres.Pool | None]:
    """Connect to the archive where one of the streams holds no more all that it ever had.

    Without an address of PostgreSQL it is None, and `output` says from where on there is something.
    """
    held = {stream: await _first_of(nc, stream) for stream in streams}
    aged = [f"{stream} from message {first} on" for stream, first in held.items() if first > 1]
    if aged and settings.postgres_dsn is not None:
        async with database(settings) as pool:
            yield pool
        return
    if aged:
        output.note(f"read: {', '.join(aged)}; with POSTGRES_DSN also what the archive has before")
    yield None


async def _first_of(nc: Client, stream: str) -> int:
    try:
        return (await stream_info(nc, stream)).first_sequence
    except StreamNotFoundError:
        return 0


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[postgres.Pool]:
    """Connect to PostgreSQL while the block runs: one connection."""
    pool = await postgres.open_pool(settings.require_postgres_dsn(), name="psm-cli", size_max=1)
    try:
        yield pool
    finally:
        await pool.close()
