"""Who acts, why, and with whose consent: asked by all that replays the live log or recovers it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from nats.aio.client import Client

from psm.contracts.errors import ConfigError
from psm.contracts.replay import ReplayMode
from psm.workers.ops.approval import Action, check_approval
from psm.workers.ops.journal import RecordedRun, recorded
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
        approvers = settings.replay_approvers_file
        if production and approvers is not None and approval is None:
            raise ConfigError(
                f"{action} in production needs a second person's --approval, made by "
                f"`psm ops approve --action {action}`"
            )
        if approvers is not None and approval is not None:
            self.approved_by = check_approval(
                approval,
                Path(approvers),
                actor=self.actor,
                reason=reason or "",
                action=action,
            )

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

    def recorded(
        self, nc: Client, what: Mapping[str, Any]
    ) -> AbstractAsyncContextManager[RecordedRun]:
        """Record what is done in the block, in this person's name."""
        return recorded(
            nc, what, actor=self.actor, reason=self.reason or "", approved_by=self.approved_by
        )
