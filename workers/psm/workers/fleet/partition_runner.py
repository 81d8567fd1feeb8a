"""The keeper of one partition, and what it answers from the running one."""

from __future__ import annotations

from psm.adapters.logs import get_logger
from psm.contracts.heads import SubjectHead
from psm.contracts.live import LiveQuestion
from psm.workers.fleet.keeper import End, Keeper
from psm.workers.partition.live_reads import LiveRefusedError
from psm.workers.partition.loop import Partition
from psm.workers.partition.settings import PartitionStats

_log = get_logger()


class PartitionKeeper(Keeper[Partition]):
    """One partition of a worker."""

    def tell(self, end: End, error: Exception) -> None:
        """Write to the process's log how a try ended."""
        number, detail = self.number, str(error)
        match end:
            case "fenced":
                _log.warning("partition.fenced", partition=number, detail=detail)
            case "interrupted":
                _log.warning("partition.interrupted", partition=number, detail=detail)
            case "stopped":
                _log.critical("partition.stopped", partition=number, detail=detail)
            case "failed":
                _log.critical("partition.failed", partition=number, exc_info=error)

    @property
    def stats(self) -> PartitionStats | None:
        """What the running partition says; None between two tries."""
        return self.running.stats if self.running is not None else None

    async def head(self, subject: str) -> SubjectHead | None:
        """Return the head of a subject of this partition; None while it is not live."""
        return await self.running.head(subject) if self.running is not None else None

    async def live(self, question: LiveQuestion) -> bytes:
        """Return a document from the books, as JSON.

        Raises:
            LiveRefusedError: it cannot be answered here, or not now.
            PSMError: the log, or a snapshot, cannot be read.
        """
        if self.running is None:
            raise LiveRefusedError("handover", "the partition does not run here now")
        return await self.running.live(question)
