"""One account's past as the read side tells it: buckets, trades and lots, out of its updates.

Fed by committed updates in the order of the log and by nothing else: live, rebuilt and folded from
a file give the same rows, however the updates are cut into batches.
"""

from __future__ import annotations

from psm.analytics.rows import JournalRow, TimelineChanges
from psm.contracts.updates_read import ReadUpdate


class AccountTimeline:
    """Buckets, trades and lots of one account.

    Args:
        account_id: whose updates it takes.
    """

    def __init__(self, account_id: str) -> None:
        self.account_id = account_id

    @staticmethod
    def needs_journal(update: ReadUpdate) -> bool:
        """Return whether an update is of a correction: `recall` the journal before taking it."""
        data = update.data
        return update.kind == "state.updated" and (
            b'"applied":{"event_type":"TradeBusted"' in data
            or b'"applied":{"event_type":"TradeAmended"' in data
        )

    def recall(self, journal: list[JournalRow]) -> None:
        """Take in the journal as it was written, for the correction that comes next.

        Rows of `changes` that are not written yet may be among them or not.
        """
        raise NotImplementedError

    def take(self, update: ReadUpdate) -> None:
        """Take the account's next update; kinds that say nothing here are passed over.

        Raises:
            InvariantError: PSM published something that is not its own contract.
        """
        raise NotImplementedError

    def pass_to(self, closed_through: int) -> None:
        """Take notice that minutes up to this log time, in nanoseconds, are complete.

        A bucket is complete where its end is at or below it, which no row says. Rows of a minute
        are told once it is complete, those of longer buckets grow with each of their minutes.
        """
        raise NotImplementedError

    def changes(self) -> TimelineChanges:
        """Return rows that are new or changed since the last call."""
        raise NotImplementedError

    def state(self) -> bytes:
        """Return all that `restored` needs, canonically; call `changes` before it."""
        raise NotImplementedError

    @classmethod
    def restored(cls, state: bytes) -> AccountTimeline:
        """Return the timeline that goes on where `state` was taken."""
        raise NotImplementedError
