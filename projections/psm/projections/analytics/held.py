"""Timelines in memory, each as long as its row is the one that was written from it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from psm.analytics.rows import JournalRow
from psm.analytics.timeline import AccountTimeline
from psm.domain.publication.log_times import log_time
from psm.projections.analytics.standing import HeldTimeline, nanoseconds
from psm.projections.sql import Connection, load

HELD_MAX = 20_000
"""Timelines in memory; the one that was used longest ago goes first."""

_QUERIES = load(__package__, "writing")


class HeldTimelines:
    """Reads and writes states of accounts.

    What a transaction wrote that failed is in memory and nowhere else: then `clear`.
    """

    def __init__(self) -> None:
        self._held: dict[str, HeldTimeline] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()

    async def of(self, connection: Connection, accounts: Collection[str]) -> list[HeldTimeline]:
        """Return the timelines of accounts as their rows have them, in the given order."""
        records = await connection.fetch(_QUERIES["versions"], list(accounts))
        versions = {record["account_id"]: record["version"] for record in records}
        found, missing = {}, []
        for account, version in versions.items():
            held = self._held.pop(account, None)
            if held is not None and held.version == version:
                found[account] = held
            else:
                missing.append(account)
        if missing:
            for record in await connection.fetch(_QUERIES["states"], missing):
                found[record["account_id"]] = HeldTimeline(
                    timeline=AccountTimeline.restored(record["state"]),
                    version=record["version"],
                    sequence_number=record["sequence_number"],
                    log_sequence=record["log_sequence"],
                    log_time=_text(record["log_time"]),
                    told=nanoseconds(record["told"]),
                )
        return [
            found.get(account) or HeldTimeline(timeline=AccountTimeline(account))
            for account in accounts
        ]

    async def put(
        self, connection: Connection, partition: int, changed: Sequence[HeldTimeline]
    ) -> None:
        """Write states, and hold the timelines for the next batch."""
        records = await connection.fetch(
            _QUERIES["put_states"],
            partition,
            [held.timeline.account_id for held in changed],
            [held.sequence_number for held in changed],
            [held.log_sequence for held in changed],
            [held.log_time for held in changed],
            [None if held.told is None else log_time(held.told) for held in changed],
            [held.timeline.state() for held in changed],
        )
        versions = {record["account_id"]: record["version"] for record in records}
        for held in changed:
            held.version = versions[held.timeline.account_id]
            self._held[held.timeline.account_id] = held
        while len(self._held) > HELD_MAX:
            del self._held[next(iter(self._held))]

    async def journal(self, connection: Connection, account: str) -> list[JournalRow]:
        """Return what is written of an account's journal."""
        records = await connection.fetch(_QUERIES["journal"], account)
        return [JournalRow(**record) for record in records]


def _text(time: datetime) -> str:
    found = nanoseconds(time)
    assert found is not None
    return log_time(found)
