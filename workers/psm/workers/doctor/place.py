"""What the checks look at: settings and connections, each there or the reason why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Literal

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import connect
from psm.adapters.jetstream.roles import EMBEDDED
from psm.contracts.errors import PSMError
from psm.workers.doctor.finding import Diagnosis
from psm.workers.doctor.given import Given
from psm.workers.process.settings import Settings

Need = Literal["settings", "broker", "database"]
_CONNECTIONS = 2
_CONNECT_S = 3.0
_NAME = "psm-doctor"


class MissingError(PSMError):
    """What a check needs is not there; the text says what."""


class Installation:
    """One installation, as far as it can be seen from here.

    Attributes:
        given: the settings as they were given.
        now: the wall clock of this machine, when the looks began.
    """

    def __init__(self, env: Mapping[str, str], now: datetime) -> None:
        self.given = Given(env)
        self.now = now
        self._nc: Client | None = None
        self._pool: postgres.Pool | None = None
        self.reasons: dict[Need, str] = {}

    @property
    def settings(self) -> Settings:
        """The settings; raises `MissingError` where they cannot be read."""
        if self.given.settings is None:
            raise MissingError("the settings cannot be read")
        return self.given.settings

    @property
    def connection(self) -> Client:
        """The connection to NATS, answers or not; raises `MissingError` without one."""
        if self._nc is None:
            raise MissingError(self.reasons.get("broker", "NATS is not reachable"))
        return self._nc

    @property
    def nc(self) -> Client:
        """The same to ask on; raises `MissingError` also where no answer would arrive."""
        if (hears := self.hears) is not None:
            raise MissingError(f"answers arrive below {hears} only, see inbox")
        return self.connection

    @property
    def hears(self) -> str | None:
        """The prefix below which our user hears answers, where the settings have another."""
        name = self.settings.nats_user or ""
        right = {role.name: role.inbox_prefix for role in EMBEDDED}.get(name)
        return None if right == self.settings.nats_inbox_prefix else right

    @property
    def pool(self) -> postgres.Pool:
        """Connections to PostgreSQL; raises `MissingError` without them."""
        if self._pool is None:
            raise MissingError(self.reasons.get("database", "PostgreSQL is not reachable"))
        return self._pool

    async def open(self, stack: AsyncExitStack, wanted: Collection[Need]) -> None:
        """Connect to what is wanted and answers; `reasons` says of the rest why it does not."""
        if self.given.settings is None:
            self.reasons = dict.fromkeys(("broker", "database"), "the settings cannot be read")
            return
        openings = {"broker": self._open_broker, "database": self._open_database}
        await asyncio.gather(*(opened(stack) for of, opened in openings.items() if of in wanted))

    async def _open_broker(self, stack: AsyncExitStack) -> None:
        try:
            self._nc = await connect(
                **self.settings.nats_options(), name=_NAME, connect_timeout_s=_CONNECT_S
            )
            stack.push_async_callback(self._nc.close)
        except PSMError as error:
            self.reasons["broker"] = str(error)

    async def _open_database(self, stack: AsyncExitStack) -> None:
        if self.settings.postgres_dsn is None:
            self.reasons["database"] = "POSTGRES_DSN is not set"
            return
        try:
            self._pool = await postgres.open_pool(
                self.settings.postgres_dsn, name=_NAME, size_max=_CONNECTIONS
            )
            stack.callback(self._pool.terminate)
        except PSMError as error:
            self.reasons["database"] = str(error)


Looking = Callable[[Installation], Awaitable[list[Diagnosis]]]


class Look(msgspec.Struct, frozen=True):
    """One look.

    Attributes:
        name: as findings, options and docs call it.
        about: what is well where it finds nothing, for docs and `--list`.
        look: returns what it finds; it may raise any `PSMError`.
        needs: what is not looked at without.
        asks: what it looks for, there or not.
    """

    name: str
    about: str
    look: Looking
    needs: tuple[Need, ...] = ("settings",)
    asks: tuple[Need, ...] = ()


@asynccontextmanager
async def here(
    env: Mapping[str, str], wanted: Collection[Need] = ("broker", "database")
) -> AsyncIterator[Installation]:
    """Give this installation, connected to what of the wanted answers."""
    async with AsyncExitStack() as stack:
        place = Installation(env, datetime.now(UTC))
        await place.open(stack, wanted)
        yield place
