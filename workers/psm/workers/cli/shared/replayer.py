"""Who acts, why, and with whose consent: asked by all that replays the live log or recovers it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from cyclopts import Parameter
from nats.aio.client import Client

from psm.contracts.errors import ConfigError
from psm.contracts.replay import ReplayMode
from psm.workers.access.issuers import people_of
from psm.workers.access.store import creators_of
from psm.workers.ops.approval import Action, check_approval
from psm.workers.ops.journal import RecordedRun, recorded
from psm.workers.ops.people import People
from psm.workers.ops.principal import principal
from psm.workers.process.config import Settings

Reason = Annotated[str | None, Parameter(help="Why; required in production.")]
Actor = Annotated[str | None, Parameter(help="Who, by pseudonym; default PSM_ACTOR or your own.")]
Approval = Annotated[str | None, Parameter(help="A second person's token; see `psm ops approve`.")]


class Replayer:
    """Who replays or recovers, and whether that must be and is allowed."""

    def __init__(
        self,
        settings: Settings,
        actor: str | None,
        reason: str | None,
        approval: str | None,
        action: Action = "replay",
    ) -> None:
        production = settings.env == "production"
        if production and not (reason or "").strip():
            raise ConfigError(f"{action} in production needs --reason; it is recorded in OPS")
        self.actor, self.reason = actor or principal(), reason
        self.approved_by: str | None = None
        self._dsn = settings.postgres_dsn
        people = people_of(settings.access_file)
        if production:
            self._require_two(people, action, approval)
        if people and approval is not None:
            self.approved_by = check_approval(
                approval, people, actor=self.actor, reason=reason or "", action=action
            )

    def _require_two(self, people: People, action: Action, approval: str | None) -> None:
        if not people:
            raise ConfigError(
                f"{action} in production needs a second person's approval, and PSM_ACCESS_FILE "
                "names nobody: list the people as [[person]]"
            )
        if approval is None:
            raise ConfigError(
                f"{action} in production needs a second person's --approval, made by "
                f"`psm ops approve --action {action}`"
            )
        if not people.knows(self.actor):
            raise ConfigError(f"{self.actor} is nobody of PSM_ACCESS_FILE: see `psm ops whoami`")

    @asynccontextmanager
    async def run(self, nc: Client, what: Mapping[str, Any]) -> AsyncIterator[RecordedRun]:
        """Record the replay if it has a reason, and make side effects impossible inside."""
        if self.reason is None:
            with ReplayMode(process=True):
                yield RecordedRun("unrecorded")
            return
        async with self.recorded(nc, what) as run:
            with ReplayMode(process=True):
                yield run

    @asynccontextmanager
    async def recorded(self, nc: Client, what: Mapping[str, Any]) -> AsyncIterator[RecordedRun]:
        """Record what is done in the block, in this person's name.

        Raises:
            ConfigError: who approved made the tokens that this person comes with.
            TransientError: PostgreSQL, which knows, is away.
        """
        creators: frozenset[str] = frozenset()
        if self.approved_by is not None and self._dsn is not None:
            creators = await creators_of(self._dsn, self.actor)
        if self.approved_by in creators:
            raise ConfigError(
                f"{self.approved_by} made a token of {self.actor}: another person must approve"
            )
        async with recorded(
            nc, what, actor=self.actor, reason=self.reason or "", approved_by=self.approved_by
        ) as run:
            yield run
