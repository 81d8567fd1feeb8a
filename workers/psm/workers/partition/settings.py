"""How a partition's loop is set up, and what it shows of itself."""

from __future__ import annotations

import time

import msgspec

from psm.domain.market.slots import ValuationSlots
from psm.workers.partition.eviction import ACCOUNTS_IN_MEMORY

SILENCE_S = 5.0
"""A partition that hears nothing of its log's leader for so long is not live, whatever it holds."""


class PartitionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the loop may be tuned by.

    Attributes:
        partitions: of the log.
        batch_messages: folded into one commit at most.
        snapshot_interval_s: changed accounts are saved this often ...
        snapshot_events: ... or after this many events of one account, but not more often than
            a twelfth of the interval.
        quiet_messages: after this many messages without updates a cursor is committed, after this
            many that changed no account a checkpoint is written.
        quiet_s: a cursor is committed this long after the last one if messages came.
        idle_s: a cursor is committed this long after the last one, before it ages out.
        accounts_in_memory: of a worker; beyond it, idle accounts wait in their snapshots.
    """

    partitions: int
    slots: ValuationSlots = ValuationSlots()
    batch_messages: int = 300
    snapshot_interval_s: float = 60.0
    snapshot_events: int = 100
    quiet_messages: int = 10_000
    quiet_s: float = 60.0
    idle_s: float = 86_400.0
    accounts_in_memory: int = ACCOUNTS_IN_MEMORY


class PartitionStats:
    """What an observer may read at any time.

    Attributes:
        live: whether everything up to the cursor at the start was folded again.
        position: log sequence of the last message folded.
        last_known: of the partition's last message, as the leader told a second ago.
        last_time_ns: log time of the last message folded.
        accounts: in memory.
        answered_at: when a leader last answered a read or acknowledged a commit, monotonic.
        committing_since: when the commit in flight was sent, None without one.
    """

    def __init__(self) -> None:
        self.live = False
        self.answered_at = time.monotonic()
        self.committing_since: float | None = None
        self.position = 0
        self.last_known = 0
        self.last_time_ns = 0
        self.accounts = 0
        self.commits = 0
        self.updates = 0
        self.checkpoints = 0

    def is_serving(self) -> bool:
        """Whether it is live, and the log and the commit answer."""
        answered = time.monotonic() - self.answered_at < SILENCE_S
        return self.live and answered and not self._is_stuck()

    def progress(self) -> tuple[int, int]:
        """Where it is, and where the leader was: what is folded counts unless a commit is stuck."""
        return 0 if self._is_stuck() else self.position, self.last_known

    def _is_stuck(self) -> bool:
        sent = self.committing_since
        return sent is not None and time.monotonic() - sent >= SILENCE_S
