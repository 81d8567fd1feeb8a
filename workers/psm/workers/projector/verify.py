"""Rows of a view computed again and compared bit by bit; the live view is never changed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import stream_info
from psm.analytics.market_books import DEFAULT_RULES, MarketRules
from psm.contracts.errors import ConfigError
from psm.contracts.subjects import PSM, last_token
from psm.domain.market.slots import ValuationSlots
from psm.projections.projection import Projection
from psm.projections.schema import shadow
from psm.projections.schema.shadow import RowDifference
from psm.workers.projector.making import Progress
from psm.workers.projector.one_account import AccountFold
from psm.workers.projector.rebuild import DIFFERENCES_SHOWN, Rebuild

_UPDATED = "psm.state.updated.*.*"

AccountProgress = Callable[[str, int, int], None]
"""Called with an account, which one of how many it is."""


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a verification.

    Attributes:
        projection: its name.
        accounts: those that were folded; None where all rows were made again.
        seed: chose them; None where nothing was chosen.
        updates: how many updates were made again.
        compared: False where the live view could not be brought to the same position.
        diverged: partitions whose live view was made from another log than this one, and where.
        rows_differ: rows in which live view and log differ.
        differences: the first of them.
    """

    projection: str
    accounts: list[str] | None
    seed: int | None
    updates: int
    compared: bool
    diverged: list[str]
    rows_differ: int
    differences: list[RowDifference]

    @property
    def agrees(self) -> bool:
        """Whether everything was compared, and nothing differs."""
        return self.compared and not self.diverged and not self.rows_differ


class ViewVerification:
    """ViewVerification of one projection; never beside a rebuild."""

    def __init__(
        self,
        nc: Client,
        pool: postgres.Pool,
        projection: Projection,
        *,
        partitions: int,
        slots: ValuationSlots,
        market: MarketRules = DEFAULT_RULES,
    ) -> None:
        self._nc = nc
        self._pool = pool
        self._projection = projection
        self._partitions = partitions
        self._slots = slots
        self._market = market

    async def everything(self, progress: Progress | None = None) -> VerifyReport:
        """Make all rows again and compare them.

        Raises:
            ConfigError, LogDamagedError, TransientError: as `Rebuild.run`.
        """
        rebuild = Rebuild(
            self._nc,
            self._pool,
            self._projection,
            partitions=self._partitions,
            slots=self._slots,
            market=self._market,
            progress=progress,
        )
        found = await rebuild.run(dry_run=True)
        return VerifyReport(
            projection=found.projection,
            accounts=None,
            seed=None,
            updates=found.updates,
            compared=found.compared,
            diverged=found.diverged,
            rows_differ=found.rows_differ,
            differences=found.differences,
        )

    async def sample(
        self, count: int, seed: int, progress: AccountProgress | None = None
    ) -> VerifyReport:
        """Do the same for some accounts, chosen by a seed of all that log and view know.

        Raises:
            ConfigError: the rows of this projection are not of accounts; as `AccountFold.folded`.
            LogDamagedError, TransientError: as `AccountFold.folded`.
        """
        if self._projection.source.rebuilt_from != "log":
            raise ConfigError(
                f"rows of {self._projection.name} are not of accounts: verify it with --all"
            )
        known = await self._accounts()
        chosen = sorted(random.Random(seed).sample(known, min(count, len(known))))  # noqa: S311
        return await self._compare(chosen, seed, progress)

    async def _compare(
        self, accounts: Sequence[str], seed: int, progress: AccountProgress | None
    ) -> VerifyReport:
        fold = AccountFold(
            self._nc, self._pool, self._projection, partitions=self._partitions, slots=self._slots
        )
        updates = rows_differ = 0
        differences: list[RowDifference] = []
        for place, stream_id in enumerate(accounts, 1):
            async with fold.folded(stream_id) as made:
                differ, found = await shadow.compare(
                    made.connection, self._projection, made.live, DIFFERENCES_SHOWN, stream_id
                )
            updates += made.updates
            rows_differ += differ
            differences += found
            if progress is not None:
                progress(stream_id, place, len(accounts))
        return VerifyReport(
            projection=self._projection.name,
            accounts=list(accounts),
            seed=seed,
            updates=updates,
            compared=True,
            diverged=[],
            rows_differ=rows_differ,
            differences=differences[:DIFFERENCES_SHOWN],
        )

    async def _accounts(self) -> list[str]:
        """Return the accounts of which there are updates or rows, ascending."""
        info = await stream_info(self._nc, PSM, subjects_filter=_UPDATED)
        found = dict.fromkeys(map(last_token, info.subjects))
        async with postgres.acquired(self._pool) as connection:
            for stream_id in await shadow.accounts(connection, self._projection):
                found[stream_id] = None
        return sorted(found)
